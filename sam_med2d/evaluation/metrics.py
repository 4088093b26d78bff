"""Scores of one mask against the truth: from counts, from surfaces, from probabilities and from skeletons."""

from collections.abc import Callable, Sequence

import numpy as np

from sam_med2d.evaluation.mask_pair import MaskPair, check_array, count, is_vessel, rim

EPS = 1e-7
NAN = float("nan")
RIM = 0.02  # width of the rims of boundary_iou, as a share of the picture's diagonal


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


def accuracy(pair: MaskPair) -> float:
    """Share of the pixels that are right, (tp + tn) / all; NaN without pixels."""
    c = pair.counts
    pixels = c.tp + c.tn + c.fp + c.fn
    return (c.tp + c.tn) / pixels if pixels else NAN


def kappa(pair: MaskPair) -> float:
    """Agreement of the pixels beyond chance, -1 to 1 (Cohen 1960); NaN when both masks are empty or both are full."""
    c = pair.counts
    chance = (c.tp + c.fp) * (c.fp + c.tn) + (c.tp + c.fn) * (c.fn + c.tn)
    return 2 * (c.tp * c.tn - c.fp * c.fn) / chance if chance else NAN


def boundary_iou(pair: MaskPair) -> float:
    """IoU of the rims inside both outlines, RIM of the picture's diagonal wide (Cheng et al. 2021, "Boundary IoU").

    The width is rounded to whole pixels, at least 1. NaN when both masks are empty, 0 when one of them is.
    """
    if pair.counts.nothing_to_find:
        return NAN
    width = max(1, round(RIM * float(np.hypot(*pair.truth.shape))))
    c = count(rim(pair.predicted, width), rim(pair.truth, width))
    return c.tp / (c.tp + c.fp + c.fn)


# --- from surfaces --------------------------------------------------------------------------------------------


def hd95(pair: MaskPair) -> float:
    """95th percentile of the surface distances in pixels, the larger of both directions (Huttenlocher et al. 1993).

    NaN when both masks are empty, the picture's diagonal when one of them is.
    """
    return _distance(pair, lambda both: max(np.percentile(distances, 95) for distances in both))


def hd95_pooled(pair: MaskPair) -> float:
    """95th percentile of the surface distances of both directions together, in pixels, as MedPy's `hd95` has it.

    NaN when both masks are empty, the picture's diagonal when one of them is.
    """
    return _distance(pair, lambda both: np.percentile(np.concatenate(both), 95))


def assd(pair: MaskPair) -> float:
    """Average symmetric surface distance: mean of the surface distances of both directions together, in pixels.

    Heimann et al. 2009. NaN when both masks are empty, the picture's diagonal when one of them is.
    """
    return _distance(pair, lambda both: np.mean(np.concatenate(both)))


def _distance(pair: MaskPair, of: Callable[[tuple[np.ndarray, np.ndarray]], float]) -> float:
    """A distance that is taken of the surface distances; NaN or the picture's diagonal for empty masks."""
    return _unless_empty(pair, lambda: of(pair.surface_distances), one_empty=np.hypot(*pair.truth.shape))


def _unless_empty(pair: MaskPair, compute: Callable[[], float], *, one_empty: float) -> float:
    """What is computed of two masks with pixels; NaN when both are empty, `one_empty` when one of them is."""
    if pair.counts.nothing_to_find:
        return NAN
    return float(one_empty if pair.counts.one_is_empty else compute())


def nsd(pair: MaskPair) -> float:
    """Normalised surface Dice: share of both outlines' pixels within `tolerance` of the other (Seidlitz et al. 2022).

    NaN when both masks are empty, 0 when one of them is.
    """
    return _unless_empty(pair, lambda: np.mean(np.concatenate(pair.surface_distances) <= pair.tolerance), one_empty=0.0)


def nsd_length(pair: MaskPair) -> float:
    """Normalised surface Dice: share of both contours' length within `tolerance` of the other (Nikolov et al. 2018).

    NaN when both masks are empty, 0 when one of them is.
    """

    def share() -> float:
        distances, lengths = pair.contour_distances
        return lengths[distances <= pair.tolerance].sum() / lengths.sum()

    return _unless_empty(pair, share, one_empty=0.0)


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
    if not is_vessel(pair.structure) or pair.counts.nothing_to_find:
        return NAN
    if pair.counts.one_is_empty:
        return 0.0
    from skimage.morphology import skeletonize  # slow to import, and most evaluations have no vessels

    precision = pair.truth[skeletonize(pair.predicted)].mean()
    recall = pair.predicted[skeletonize(pair.truth)].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def vertical_cup_to_disc_ratio(cup: np.ndarray, disc: np.ndarray) -> float:
    """Height of the optic cup by that of the disc.

    Args:
        cup: bool [H, W].
        disc: bool [H, W].

    Returns:
        The ratio; NaN without a disc, 0 without a cup.

    Raises:
        ValueError: the masks are of other types or sizes.
    """
    for name, mask in (("cup", cup), ("disc", disc)):
        check_array(name, mask, disc.shape)
    return _height(cup) / _height(disc) if disc.any() else NAN


def _height(mask: np.ndarray) -> int:
    """Rows from the first to the last one with a pixel of the mask; 0 for an empty one."""
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[-1] - rows[0] + 1) if len(rows) else 0


# --- all scores by name ---------------------------------------------------------------------------------------


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
    "hd95_pooled": hd95_pooled,
    "nsd_length": nsd_length,
    "assd": assd,
    "accuracy": accuracy,
    "kappa": kappa,
    "boundary_iou": boundary_iou,
}
SOFT = ("auc", "aupr")  # need MaskPair.probability


def score(pair: MaskPair, names: Sequence[str]) -> dict[str, float]:
    """Compute some scores of a pair.

    Args:
        pair: a predicted mask and the true one.
        names: of SCORES.

    Returns:
        {name: value}, in the order of `names`.

    Raises:
        ValueError: a name is unknown; before anything is computed.
    """
    unknown = [name for name in names if name not in SCORES]
    if unknown:
        raise ValueError(f"Unknown metric {', '.join(unknown)}: choose from {', '.join(SCORES)}.")
    return {name: SCORES[name](pair) for name in names}
