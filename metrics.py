"""Scores of one mask against the truth: counts first, then scores from counts.

Counts are those of Taha and Hanbury 2015, "Metrics for evaluating 3D medical image segmentation". Masks are
boolean; nothing here guesses whether a number is a logit.
"""

from dataclasses import dataclass

import numpy as np

EPS = 1e-7


@dataclass(frozen=True)
class Counts:
    """Pixels of a prediction against the truth: true and false positives, false and true negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def nothing_to_find(self) -> bool:
        """Both masks are empty."""
        return self.tp + self.fp + self.fn == 0


def count(predicted: np.ndarray, truth: np.ndarray) -> Counts:
    """Counts of two bool arrays of one shape. Raises ValueError for other types or shapes."""
    if predicted.dtype != bool or truth.dtype != bool or predicted.shape != truth.shape:
        raise ValueError(
            f"count takes two bool arrays of one shape, not {predicted.dtype} {list(predicted.shape)} and "
            f"{truth.dtype} {list(truth.shape)}: threshold logits or probabilities first."
        )
    tp = int(np.count_nonzero(predicted & truth))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, truth.size - tp - fp - fn)


def iou(counts: Counts) -> float:
    """Intersection over union, (tp + eps) / (tp + fp + fn + eps); NaN when both masks are empty."""
    if counts.nothing_to_find:
        return float("nan")
    return (counts.tp + EPS) / (counts.tp + counts.fp + counts.fn + EPS)


def dice(counts: Counts) -> float:
    """Dice coefficient, (2 tp + eps) / (2 tp + fp + fn + eps); NaN when both masks are empty."""
    if counts.nothing_to_find:
        return float("nan")
    return (2 * counts.tp + EPS) / (2 * counts.tp + counts.fp + counts.fn + EPS)


def sensitivity(counts: Counts) -> float:
    """Share of the true pixels that were found, tp / (tp + fn); NaN without true pixels."""
    return counts.tp / (counts.tp + counts.fn) if counts.tp + counts.fn else float("nan")


def specificity(counts: Counts) -> float:
    """Share of the background that was left alone, tn / (tn + fp); NaN without background."""
    return counts.tn / (counts.tn + counts.fp) if counts.tn + counts.fp else float("nan")


SCORES = {"iou": iou, "dice": dice, "sensitivity": sensitivity, "specificity": specificity}


def score(predicted: np.ndarray, truth: np.ndarray, names: list[str]) -> dict[str, float]:
    """The named scores of a predicted bool mask. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in SCORES]
    if unknown:
        raise ValueError(f"Unknown metric {', '.join(unknown)}: choose from {', '.join(SCORES)}.")
    counts = count(predicted, truth)
    return {name: SCORES[name](counts) for name in names}
