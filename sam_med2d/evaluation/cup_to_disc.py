"""Error of the vertical cup-to-disc ratio, collected mask by mask."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam_med2d.choices import CUP, DISC
from sam_med2d.evaluation.case_row import CaseRow
from sam_med2d.evaluation.metrics import vertical_cup_to_disc_ratio

VCDR = "vcdr"


class CupToDisc:
    """Error of the vertical cup-to-disc ratio of one photograph, for each prompt mode.

    |ratio of the predictions - ratio of the truth|, where a disc that was not found counts as ratio 0 and a cup larger
    than the disc as 1. Photographs without a true disc and cup have none.
    """

    def __init__(self) -> None:
        self._masks: dict[tuple[str, str], list[np.ndarray]] = {}  # union of predictions and of truths

    def add(self, structure: str, prompt: str, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Take in a mask; several of one structure are joined, other structures than disc and cup are left out.

        Args:
            structure: the mask's structure.
            prompt: name of the prompt mode.
            predicted: bool [H, W].
            truth: bool [H, W].
        """
        if structure in (CUP, DISC):
            known = self._masks.get((structure, prompt), (False, False))
            self._masks[structure, prompt] = [a | b for a, b in zip(known, (predicted, truth), strict=True)]

    def added_to(self, rows: Sequence[CaseRow]) -> list[CaseRow]:
        """All rows of the photograph, of which the first one of a cup has the error, for each prompt mode."""
        added = list(rows)
        for structure, prompt in self._masks:
            if structure == CUP and (DISC, prompt) in self._masks:
                at = next(i for i, row in enumerate(rows) if (row.structure, row.prompt) == (CUP, prompt))
                added[at] = replace(rows[at], scores={**rows[at].scores, VCDR: self._error(prompt)})
        return added

    def _error(self, prompt: str) -> float:
        """Absolute difference of the ratios of predictions and truth."""
        pairs = zip(self._masks[CUP, prompt], self._masks[DISC, prompt], strict=True)
        predicted, truth = (vertical_cup_to_disc_ratio(cup, disc) for cup, disc in pairs)
        return abs((0.0 if math.isnan(predicted) else min(1.0, predicted)) - truth)
