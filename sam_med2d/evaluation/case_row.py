"""The result of one mask under one prompt mode: a line of cases.csv, and an entry of an unfinished run's journal."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

CEILING = "ceiling"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """Scores of a predicted mask against the true one, at the photograph's original size, and what they belong to."""

    mask: str  # name of the mask file, unique within its data set
    image: str  # path of the photograph
    data_set: str  # name of the data set
    structure: str  # name of the mask's structure
    prompt: str  # name of the prompt mode: "box", "structure", or a number of clicks
    scores: Mapping[str, float]  # value of each metric, NaN where it is undefined
    predicted_iou: float  # IoU that the model predicts of its mask; NaN where there was no prompt
    area: int  # pixels of the true mask
    vanished: bool  # whether the true mask has no pixel in the model frame, so that it had neither box nor clicks
    predicted_area: int  # pixels of the predicted mask
    presence: float  # probability that the structure is there; NaN for weights that know no structures
    absent: bool  # whether the photograph is known to be without the structure; then the scores are NaN
    ceiling: float | None = None  # best Dice that the model's grid of logits can hold; None where it was not computed
    missed: bool  # whether the predicted mask is empty and the true one is not
    seconds: float | None = None  # the prediction's share of its batch's time; None where no time was taken

    def score(self, metric: str) -> float:
        """The value of one of the scores, or of CEILING; NaN where it is undefined, KeyError where the row lacks it."""
        if metric == CEILING and self.ceiling is not None:
            return self.ceiling
        return self.scores[metric]

    def as_columns(self) -> dict[str, Any]:
        """{column: value}, a column for each metric, in the order of cases.csv; also the row's form as JSON.

        `ceiling` and `seconds` are there only where they are not None.
        """
        columns: dict[str, Any] = {}
        for name in _NAMES:
            value = getattr(self, name)
            columns |= value if name == "scores" else {name: value}
        return {name: value for name, value in columns.items() if value is not None}

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Self:
        """The row that `as_columns` made this of: names that are no attribute are metrics."""
        scores = {name: value for name, value in columns.items() if name not in _NAMES}
        return cls(scores=scores, **{name: value for name, value in columns.items() if name in _NAMES})


_NAMES = tuple(field.name for field in fields(CaseRow))
