"""A predicted mask and the true one: counts, surfaces and ranks of pixels, from which scores are taken.

Counts are those of Taha and Hanbury 2015, "Metrics for evaluating 3D medical image segmentation". Masks are
boolean; nothing here guesses whether a number is a logit. Distances are in pixels.
"""

import re
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import cv2
import numpy as np
from scipy.spatial import KDTree

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
CUT = 0.5**0.5  # length of a contour that cuts the corner of a pixel off
# A structure with one of these words in its name, such as "blood_vessel" or "retinal_vein", gets clDice.
VESSEL_WORDS = frozenset({"vessel", "vessels", "artery", "arteries", "arteriole", "arterioles"})
VESSEL_WORDS |= {"vein", "veins", "venule", "venules"}


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


def count(predicted: np.ndarray, truth: np.ndarray, pixels: int | None = None) -> Counts:
    """Counts of a prediction against the truth.

    Args:
        predicted: bool, of any shape.
        truth: bool, of the same shape.
        pixels: number of pixels that count; None for all.

    Returns:
        The counts.

    Raises:
        ValueError: the arrays are of other types or shapes.
    """
    if predicted.dtype != bool or truth.dtype != bool or predicted.shape != truth.shape:
        raise ValueError(
            f"count takes two bool arrays of one shape, not {predicted.dtype} {list(predicted.shape)} and "
            f"{truth.dtype} {list(truth.shape)}: threshold logits or probabilities first."
        )
    tp = int(np.count_nonzero(predicted & truth))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, (truth.size if pixels is None else pixels) - tp - fp - fn)


class Ranking(NamedTuple):
    """Where true pixels stand among the others when all are sorted by probability."""

    found: np.ndarray  # int64 [K], number of true pixels at each of their K distinct probabilities, lowest first
    below: np.ndarray  # int64 [K], number of other pixels with a lower probability
    tied: np.ndarray  # int64 [K], number of other pixels with the same probability
    others: int  # number of all other pixels


def rank(true: np.ndarray, others: np.ndarray) -> Ranking:
    """Rank true pixels among the others.

    Args:
        true: float [N], probabilities of the true pixels.
        others: float [M], probabilities of the other pixels.

    Returns:
        The ranking.

    Raises:
        ValueError: a probability is NaN.
    """
    # Sorting values is several times faster than sorting indices; only the values of true pixels are looked up.
    others = np.sort(others)
    levels, found = np.unique(true, return_counts=True)
    if np.isnan(others[-1:]).any() or np.isnan(levels[-1:]).any():
        raise ValueError("auc and aupr need numbers: the probability has NaN.")
    below, up_to = (np.searchsorted(others, levels, side=side) for side in ("left", "right"))
    return Ranking(found, below, up_to - below, len(others))


@dataclass(frozen=True, eq=False)
class MaskPair:
    """What the scores of one mask are taken from; each part is computed once, when a score needs it.

    Raises:
        ValueError: the arrays are of other types or sizes.
    """

    predicted: np.ndarray  # bool [H, W]
    truth: np.ndarray  # bool [H, W]
    _: KW_ONLY
    probability: np.ndarray | None = None  # float [H, W], for auc and aupr: larger where the structure is more likely
    inside: np.ndarray | None = None  # bool [H, W], the pixels that count for those (the field of view); None for all
    structure: str = ""  # name of the mask's structure
    tolerance: float = 2.0  # of nsd and nsd_length, in pixels
    pixels: int | None = None  # number of pixels that count; None for all

    def __post_init__(self):
        for name in ("predicted", "truth", "inside"):
            check_array(name, getattr(self, name), self.truth.shape)
        check_array("probability", self.probability, self.truth.shape, "float")

    @cached_property
    def counts(self) -> Counts:
        """Counts of the pixels."""
        return count(self.predicted, self.truth, self.pixels)

    def within(self, region: np.ndarray) -> Self:
        """The pair in a region alone: both masks end at its edge, and no pixel outside counts.

        Args:
            region: bool [H, W].

        Returns:
            Another pair.
        """
        masks = {"predicted": self.predicted & region, "truth": self.truth & region}
        return replace(self, **masks, inside=region, pixels=int(np.count_nonzero(region)))

    @cached_property
    def surface_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each edge pixel of the prediction to the nearest one of the truth, and the other way.

        float64 [K] and [L], in pixels, exact. Neither mask may be empty.
        """
        predicted, truth = edge_pixels(self.predicted), edge_pixels(self.truth)
        return _nearest(predicted, truth), _nearest(truth, predicted)

    @cached_property
    def contour_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each piece of both contours to the nearest one of the other mask, and its length.

        Both float64 [K], in pixels, first those of the prediction. Neither mask may be empty.
        """
        (predicted, lengths), (truth, true_lengths) = contour(self.predicted), contour(self.truth)
        distances = np.concatenate([_nearest(predicted, truth), _nearest(truth, predicted)])
        return distances, np.concatenate([lengths, true_lengths])

    @cached_property
    def ranking(self) -> Ranking:
        """Ranking of the pixels inside. Raises ValueError without a probability."""
        if self.probability is None:
            raise ValueError("auc and aupr need the probability of each pixel, not only the mask.")
        inside = np.True_ if self.inside is None else self.inside
        return rank(self.probability[inside & self.truth], self.probability[inside & ~self.truth])


def is_vessel(structure: str) -> bool:
    """Whether a structure's name has a word of VESSEL_WORDS, as "retinal_vein" does."""
    return not VESSEL_WORDS.isdisjoint(re.split(r"[\W_]+", structure.lower()))


def check_array(name: str, array: np.ndarray | None, shape: tuple[int, ...], kind: str = "bool") -> None:
    """Refuse an array of another type or size.

    Args:
        name: what it is called in the message.
        array: None is fine.
        shape: [H, W] that it must have.
        kind: "bool" or "float".

    Raises:
        ValueError: names the array, its type and its size.
    """
    if array is not None and (array.dtype.kind != kind[0] or array.shape != shape or array.ndim != 2):
        raise ValueError(
            f"{name} must be a {kind} array [H, W], all of one size, not {array.dtype} {list(array.shape)} "
            f"beside {list(shape)}."
        )


def edge_pixels(mask: np.ndarray) -> np.ndarray:
    """Row and column, int64 [K, 2], of a mask's pixels with one of their 4 neighbours outside mask or picture."""
    pixels = mask.astype(np.uint8)
    eroded = cv2.erode(pixels, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.argwhere(pixels > eroded)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point, [K, 2], to the nearest of the others, [L, 2]: float64 [K], exact."""
    return KDTree(others).query(points)[0]


def contour(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mask's contour by marching squares (Lorensen and Cline 1987), which runs between the pixels.

    Args:
        mask: bool [H, W].

    Returns:
        The pixels' corners that it passes, int64 [K, 2], and its length around each in pixels, float64 [K]: 1 where it
        runs straight, sqrt(1/2) where it cuts a corner off, and twice that where two pixels touch by their corners.
    """
    pixels = np.pad(mask, 1).astype(np.uint8)
    corner, across = pixels[:-1, :-1], pixels[1:, 1:]
    number = corner + across + pixels[:-1, 1:] + pixels[1:, :-1]
    passed = (number > 0) & (number < 4)
    touching = (number == 2) & (corner == across)
    return np.argwhere(passed), np.where(touching, 2 * CUT, np.where(number == 2, 1, CUT))[passed]


def rim(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels near a mask's outline, inside it: those that `width` erosions by 3 x 3 pixels remove.

    Args:
        mask: bool [H, W].
        width: how many rows and columns away a pixel outside mask or picture is at most.

    Returns:
        bool [H, W].
    """
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_C, 3)[1:-1, 1:-1]
    return mask & (depth <= width)
