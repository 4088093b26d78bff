"""Error of the vertical cup-to-disc ratio, collected mask by mask."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sam_med2d.evaluation.metrics import vertical_cup_to_disc_ratio

VCDR, CUP, DISC = "vcdr", "optic_cup", "optic_disc"


class CupToDisc:
    """Error of the vertical cup-to-disc ratio of one photograph, for each prompt mode.

    |ratio of the predictions - ratio of the truth|, where a disc that was not found counts as ratio 0 and a cup larger
    than the disc as 1. It stands in the row of the photograph's first cup; photographs without a true disc and cup have
    none.
    """

    def __init__(self) -> None:
        self._masks: dict[tuple[str, str], list[np.ndarray]] = {}

    def add(self, structure: str, prompt: str, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Take in a mask and its truth, bool [H, W]; several of one structure are joined."""
        if structure in (CUP, DISC):
            known = self._masks.get((structure, prompt), (False, False))
            self._masks[structure, prompt] = [a | b for a, b in zip(known, (predicted, truth), strict=True)]

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Put the errors into the rows of the photograph."""
        for structure, prompt in self._masks:
            if structure == CUP and (DISC, prompt) in self._masks:
                row = next(row for row in rows if (row["structure"], row["prompt"]) == (CUP, prompt))
                row[VCDR] = self._error(prompt)

    def _error(self, prompt: str) -> float:
        pairs = zip(self._masks[CUP, prompt], self._masks[DISC, prompt], strict=True)
        predicted, truth = (vertical_cup_to_disc_ratio(cup, disc) for cup, disc in pairs)
        return abs((0.0 if math.isnan(predicted) else min(1.0, predicted)) - truth)
