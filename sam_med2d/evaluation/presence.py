"""Thresholds of presence, chosen on validation photographs."""

from collections.abc import Sequence

import numpy as np

from sam_med2d.evaluation.batch_prediction import STRUCTURE
from sam_med2d.evaluation.case_row import CaseRow

FEW_ABSENT = 10  # photographs without a structure say half as much as many would


def presence_thresholds(rows: Sequence[CaseRow]) -> dict[str, float]:
    """Choose the probability of each structure from which on it is held to be there, 0 where it is in every photograph.

    Best is the highest mean Dice of photographs with the structure, 0 where it is withheld, plus the share of those
    without it that come back empty; this share weighs n / (n + FEW_ABSENT) with n photographs without the structure:
    two of them cannot withhold it from half of the others. Of equal ones it is the lowest threshold, which withholds
    least.

    Args:
        rows: cases of masks that were not withheld; those of structure prompts count.
    """
    cases: dict[str, dict[bool, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.prompt == STRUCTURE:
            known = cases.setdefault(row.structure, {True: [], False: []})
            known[not row.absent].append((row.presence, row.scores["dice"]))
    return {name: _threshold(np.array(found[True]), np.array(found[False])) for name, found in cases.items()}


def _threshold(present: np.ndarray, absent: np.ndarray) -> float:
    """The best threshold for cases [n, 2] of presence and Dice, with and without the structure."""
    if not len(absent) or not len(present):
        return 0.0
    (there, dice), not_there = present.T, absent[:, 0]
    values = np.unique(np.concatenate((there, not_there)))
    candidates = np.concatenate(([0.0], (values[1:] + values[:-1]) / 2))
    weight = len(absent) / (len(absent) + FEW_ABSENT)
    merits = [(dice * (there >= level)).mean() + weight * (not_there < level).mean() for level in candidates]
    return float(candidates[int(np.argmax(merits))])
