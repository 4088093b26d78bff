"""Scores of one mask against the truth: from counts, from surfaces, from probabilities and from skeletons."""

from collections.abc import Callable, Sequence

import numpy as np

from sam_med2d.evaluation.mask_pair import MaskPair, check_array, is_vessel

EPS = 1e-7
NAN = float("nan")


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
    """95th percentile of the surface distances in pixels, the larger of both directions (Huttenlocher et al. 1993).

    NaN when both masks are empty, the picture's diagonal when one of them is.
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
