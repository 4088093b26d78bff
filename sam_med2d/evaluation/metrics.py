"""Scores of one mask against the truth: from counts, from surfaces, from probabilities and from skeletons.

Counts are those of Taha and Hanbury 2015, "Metrics for evaluating 3D medical image segmentation". Masks are
boolean; nothing here guesses whether a number is a logit. Distances are in pixels.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import KDTree

EPS = 1e-7
NAN = float("nan")
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
# A structure with one of these words in its name, such as "blood_vessel" or "retinal_vein", gets clDice.
VESSELS = frozenset({"vessel", "vessels", "artery", "arteries", "vein", "veins"})


# --- what scores are taken from -------------------------------------------------------------------------------


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

    @property
    def missed(self) -> bool:
        """The prediction is empty, the truth is not."""
        return self.tp + self.fp == 0 < self.fn

    @property
    def one_is_empty(self) -> bool:
        """Either the prediction or the truth is empty, not both."""
        return self.tp == 0 and (self.fp == 0) != (self.fn == 0)


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


class Ranking(NamedTuple):
    """Where true pixels stand among the others when all are sorted by probability.

    found: int64 [K], the true pixels at each of their K distinct probabilities, lowest first; below, tied: int64 [K],
    the other pixels with a lower and with the same probability; others: all other pixels.
    """

    found: np.ndarray
    below: np.ndarray
    tied: np.ndarray
    others: int


def rank(true: np.ndarray, others: np.ndarray) -> Ranking:
    """Ranking of the probabilities (float, one axis) of true and of other pixels. Raises ValueError for NaN."""
    # Sorting values is several times faster than sorting indices; only the values of true pixels are looked up.
    others = np.sort(others)
    levels, found = np.unique(true, return_counts=True)
    if np.isnan(others[-1:]).any() or np.isnan(levels[-1:]).any():
        raise ValueError("auc and aupr need numbers: the probability has NaN.")
    below, up_to = (np.searchsorted(others, levels, side=side) for side in ("left", "right"))
    return Ranking(found, below, up_to - below, len(others))


@dataclass(frozen=True, eq=False)
class MaskPair:
    """What the scores of one mask are taken from; each part is computed once, when a score asks for it.

    predicted, truth: bool [H, W]; probability: float [H, W], for the scores in SOFT, larger where the structure is
    more likely; inside: bool [H, W], the pixels that count for those (the field of view), None for all;
    structure: the mask's name; tolerance: of nsd, in pixels. Raises ValueError for arrays of other types or sizes.
    """

    predicted: np.ndarray
    truth: np.ndarray
    _: KW_ONLY
    probability: np.ndarray | None = None
    inside: np.ndarray | None = None
    structure: str = ""
    tolerance: float = 2.0

    def __post_init__(self):
        for name in ("predicted", "truth", "inside"):
            _check(name, getattr(self, name), self.truth.shape)
        _check("probability", self.probability, self.truth.shape, "float")

    @cached_property
    def counts(self) -> Counts:
        return count(self.predicted, self.truth)

    @cached_property
    def surface_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each edge pixel of the prediction to the nearest one of the truth, and the other way.

        float64, exact. Neither mask may be empty.
        """
        predicted, truth = edge_pixels(self.predicted), edge_pixels(self.truth)
        return KDTree(truth).query(predicted)[0], KDTree(predicted).query(truth)[0]

    @cached_property
    def ranking(self) -> Ranking:
        """Ranking of the pixels inside. Raises ValueError without a probability."""
        if self.probability is None:
            raise ValueError(f"{' and '.join(SOFT)} need the probability of each pixel, not only the mask.")
        inside = np.True_ if self.inside is None else self.inside
        return rank(self.probability[inside & self.truth], self.probability[inside & ~self.truth])

    @property
    def is_vessel(self) -> bool:
        return not VESSELS.isdisjoint(re.split(r"[\W_]+", self.structure.lower()))


def _check(name: str, array: np.ndarray | None, shape: tuple[int, ...], kind: str = "bool") -> None:
    """Raises ValueError unless the array is None or [H, W] of this shape and kind, "bool" or "float"."""
    if array is not None and (array.dtype.kind != kind[0] or array.shape != shape or array.ndim != 2):
        raise ValueError(
            f"{name} must be a {kind} array [H, W], all of one size, not {array.dtype} {list(array.shape)} "
            f"beside {list(shape)}."
        )


def edge_pixels(mask: np.ndarray) -> np.ndarray:
    """Rows and columns [K, 2] of a bool mask's pixels with one of their 4 neighbours outside the mask or picture."""
    pixels = mask.astype(np.uint8)
    eroded = cv2.erode(pixels, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.argwhere(pixels > eroded)


# --- from counts ----------------------------------------------------------------------------------------------


def iou(pair: MaskPair) -> float:
    """Intersection over union, (tp + eps) / (tp + fp + fn + eps); NaN when both masks are empty."""
    c = pair.counts
    return NAN if c.nothing_to_find else (c.tp + EPS) / (c.tp + c.fp + c.fn + EPS)


def dice(pair: MaskPair) -> float:
    """Dice coefficient, (2 tp + eps) / (2 tp + fp + fn + eps); NaN when both masks are empty."""
    c = pair.counts
    return NAN if c.nothing_to_find else (2 * c.tp + EPS) / (2 * c.tp + c.fp + c.fn + EPS)


def sensitivity(pair: MaskPair) -> float:
    """Share of the true pixels that were found, tp / (tp + fn); NaN without true pixels."""
    c = pair.counts
    return c.tp / (c.tp + c.fn) if c.tp + c.fn else NAN


def specificity(pair: MaskPair) -> float:
    """Share of the background that was left alone, tn / (tn + fp); NaN without background."""
    c = pair.counts
    return c.tn / (c.tn + c.fp) if c.tn + c.fp else NAN


# --- from surfaces --------------------------------------------------------------------------------------------


def hd95(pair: MaskPair) -> float:
    """95th percentile of the surface distances, the larger of both directions (Huttenlocher et al. 1993).

    NaN when both masks are empty; the picture's diagonal when one of them is.
    """
    if pair.counts.nothing_to_find:
        return NAN
    if pair.counts.one_is_empty:
        return float(np.hypot(*pair.truth.shape))
    return max(float(np.percentile(distances, 95)) for distances in pair.surface_distances)


def nsd(pair: MaskPair) -> float:
    """Normalised surface Dice: share of both surfaces within `tolerance` of the other (Nikolov et al. 2018).

    NaN when both masks are empty, 0 when one of them is.
    """
    if pair.counts.nothing_to_find:
        return NAN
    if pair.counts.one_is_empty:
        return 0.0
    return float(np.mean(np.concatenate(pair.surface_distances) <= pair.tolerance))


# --- from probabilities ---------------------------------------------------------------------------------------


def auc(pair: MaskPair) -> float:
    """Area under the ROC curve: how often a true pixel ranks above another, ties by half (Mann and Whitney 1947).

    NaN where only one class is present.
    """
    r = pair.ranking
    pairs = int(r.found.sum()) * r.others
    return float(r.found @ (2 * r.below + r.tied) / (2 * pairs)) if pairs else NAN


def aupr(pair: MaskPair) -> float:
    """Average precision: the mean, over true pixels, of the precision at their probability; NaN without true pixels.

    The step-wise area under the precision-recall curve, without interpolation (Davis and Goadrich 2006).
    """
    r = pair.ranking
    at_least = np.cumsum(r.found[::-1])[::-1]  # true pixels of this probability or a higher one
    precision = at_least / (at_least + r.others - r.below)
    return float(r.found @ precision / r.found.sum()) if len(r.found) else NAN


# --- from skeletons and heights -------------------------------------------------------------------------------


def cldice(pair: MaskPair) -> float:
    """Centreline Dice of vessels (Shit et al. 2021), whose skeletons are those of Zhang and Suen 1984.

    NaN for other structures and when both masks are empty, 0 when one of them is.
    """
    if not pair.is_vessel or pair.counts.nothing_to_find:
        return NAN
    if pair.counts.one_is_empty:
        return 0.0
    from skimage.morphology import skeletonize  # slow to import, and most evaluations have no vessels

    precision = pair.truth[skeletonize(pair.predicted)].mean()
    recall = pair.predicted[skeletonize(pair.truth)].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def vertical_cup_to_disc_ratio(cup: np.ndarray, disc: np.ndarray) -> float:
    """Height of the optic cup by that of the disc, both bool [H, W]; NaN without a disc, 0 without a cup.

    Raises ValueError for other types or sizes.
    """
    for name, mask in (("cup", cup), ("disc", disc)):
        _check(name, mask, disc.shape)
    return _height(cup) / _height(disc) if disc.any() else NAN


def _height(mask: np.ndarray) -> int:
    """Rows from the first to the last one with a pixel of the mask; 0 for an empty one."""
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[-1] - rows[0] + 1) if len(rows) else 0


# --- by name --------------------------------------------------------------------------------------------------


SCORES: dict[str, Callable[[MaskPair], float]] = {
    "iou": iou,
    "dice": dice,
    "hd95": hd95,
    "nsd": nsd,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "auc": auc,
    "aupr": aupr,
    "cldice": cldice,
}
SOFT = ("auc", "aupr")  # need MaskPair.probability


def score(pair: MaskPair, names: Sequence[str]) -> dict[str, float]:
    """The named scores of a pair. Raises ValueError for an unknown name, before anything is computed."""
    unknown = [name for name in names if name not in SCORES]
    if unknown:
        raise ValueError(f"Unknown metric {', '.join(unknown)}: choose from {', '.join(SCORES)}.")
    return {name: SCORES[name](pair) for name in names}
