"""Where a mask fits its photograph best: where it is given, shifted, or mirrored.

A photograph becomes evidence maps (dark ridges, small spots, brightness), a mask becomes templates that are positive
on the structure and negative around it, and the score of a place is their correlation there, for all shifts at once
in the Fourier domain. Everything has the scale of a photograph whose longer side is SEARCH_SIDE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np
from scipy import fft

WORKING_SIDE = 512  # evidence is drawn at this longer side, where the finest vessels and microaneurysms still show
SEARCH_SIDE = 256
REACH = 80  # largest shift that is searched: 31 % of the longer side
RIM = 9  # working pixels: the dark surround bleeds this far into filters
SETTLED = 3  # search pixels: a better place this near is the given place
# The ring of a template of vessels or lesions is this wide: wider rings meet the neighbouring lesions.
RING = 2

# Mirrors of a mask, and the slices that undo each.
BACKWARDS, AS_IS = slice(None, None, -1), slice(None)
MIRRORS = {
    "left-right": (AS_IS, BACKWARDS),
    "upside-down": (BACKWARDS, AS_IS),
    "by 180 degrees": (BACKWARDS, BACKWARDS),
}

# Least length of the line in working pixels that a lesion must be shorter than, and whether it is dark. Among 7, 9, 11,
# 17, 25 and 31 these set the lesions of the train map best apart from shifted and mirrored copies.
SPOTS = {
    "microaneurysm": (7, True),
    "haemorrhage": (11, True),
    "hard_exudate": (9, False),
    "soft_exudate": (25, False),
}
# The line is the first of these that is LINE times as long as the mask's typical lesion is wide (as in tiles, where all
# are large). Of 1.2, 1.5, 2 and 2.5 times, 1.5 sets lesions of photographs and tiles best apart.
LENGTHS = (7, 9, 11, 17, 25, 35, 49, 71)
LINE = 1.5


@dataclass(frozen=True, slots=True)
class Landmark:
    """A linear detector of the optic disc or cup.

    Bands along the outline: upper bounds of the distance to it in search pixels, inside negative; in radii of the mask
    where `relative`. weights: of the mean of each band in each map. margin: by how much (in logits) another place must
    look more like the structure than the given one.
    """

    bands: tuple[float, ...]
    relative: bool
    margin: float
    weights: tuple[tuple[float, ...], ...]


# Logistic regression on the train map (281 discs, 119 cups) of the given places against shifted ones, of which the
# hardest were added four times. In five-fold cross-validation the margins flag 2 of 281 sound discs and 1 of 119
# sound cups, and find 98 % of the discs and 99 % of the cups that are shifted by 5 % of the width.
LANDMARKS = {
    "optic_disc": Landmark(
        bands=(-0.5, -0.2, 0, 0.2, 0.5, 1),
        relative=True,
        margin=2.0,
        weights=(
            (-0.35, 0.11, 2.56, -2.58, -1.33, 1.07),
            (0.69, -1.0, 1.23, -0.61, 0.59, 0.04),
            (-0.39, 0.28, -1.93, 0.35, 1.28, -0.15),
            (-0.32, 0.83, 0.78, -1.17, -0.93, -0.19),
        ),
    ),
    "optic_cup": Landmark(
        bands=(-4, 0, 4, 10, 18),
        relative=False,
        margin=1.0,
        weights=(
            (-1.29, -0.51, 2.67, 0.36, -2.24),
            (0.82, 0.23, 0.08, -0.24, -0.22),
            (0.62, -0.79, -0.17, -0.13, 0.4),
            (-0.44, -0.05, 2.02, -0.2, -1.14),
        ),
    ),
}
VESSELS = ("vessel", "artery", "vein")
PLACED = (*VESSELS, *SPOTS, *LANDMARKS)

# Lesions and vessels: the other place must score this many times as much as the given place and as any third one.
# Sound lesions of the train map reach 1.18, sound vessels 0.35.
LEAST_RATIO = 1.3
# A single lesion has no pattern: any spot alike fits it, so where it belongs is not said.
LEAST_LESIONS = 2
# A mask that scores less in its place shows nothing of its structure there: 0.6 of the least score of a sound disc, cup
# or vessel of the train map; no sound lesion mask of it, and 3 of the 514 of its tiles, score less than these. Of
# shifted and mirrored masks 80 % of discs, 91 % of cups, all vessels and nine in ten lesions do.
UNSEEN = {
    **{"optic_disc": 1.6, "optic_cup": 3.4, "vessel": 0.32, "artery": 0.32, "vein": 0.32},
    **{"microaneurysm": 0.6, "haemorrhage": 0.22, "hard_exudate": 0.4, "soft_exudate": 0.6},
}
# Least shifts in search pixels (2.3 % and 3.9 % of the longer side). Pale crescents beside the disc draw it further.
LEAST_SHIFT, LEAST_LANDMARK_SHIFT = 6, 10
PEAK = 8  # search pixels: places nearer than this to the best one belong to it


@dataclass(frozen=True, slots=True)
class Move:
    """How to bring a mask to its structure: a mirror to undo (or ""), else a shift in search pixels."""

    mirror: str = ""
    down: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """Scores of one mask.

    lonely: a mask of less than LEAST_LESIONS lesions. radius: of a disc of the mask's area, in search pixels. given: in
    its place. mirrored: with each mirror undone. shifted: float [2 R + 1, 2 R + 1], R = REACH.
    """

    structure: str
    lonely: bool
    radius: float
    given: float
    mirrored: dict[str, float]
    shifted: np.ndarray

    @property
    def unseen(self) -> bool:
        """Whether the photograph shows nothing of the structure where the mask is, but might elsewhere."""
        least = UNSEEN[self.structure]
        return self.given < least <= max(float(self.shifted.max()), *self.mirrored.values())

    def doubtful(self, move: Move) -> bool:
        """Whether the mask may be right without the move: it fits its place too, or a pale crescent beside the disc
        draws it over by less than its radius.
        """
        near = self.structure in LANDMARKS and not move.mirror and np.hypot(move.down, move.right) < self.radius
        return near or not self.unseen

    def score(self, move: Move) -> float:
        """Score after the move, at its best within one pixel."""
        if move.mirror:
            return self.mirrored[move.mirror]
        row, column = REACH + move.down, REACH + move.right
        return float(self.shifted[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max())

    def moves(self) -> list[Move]:
        """The moves after which the mask fits clearly better than in its place, best first.

        More than one only for a disc or cup: being round, it fits as well mirrored as shifted to the same place.
        """
        if self.lonely:
            return []
        landmark = LANDMARKS.get(self.structure)
        shift, rival = self._best_shift(LEAST_LANDMARK_SHIFT if landmark else LEAST_SHIFT)
        ranked = sorted([shift, *map(Move, self.mirrored)], key=self.score, reverse=True)
        best = self.score(ranked[0])
        if landmark:
            near = [move for move in ranked if self.score(move) > best - landmark.margin]
            mirrors = [move for move in near if move.mirror][:1]
            return [move for move in (*mirrors, *([shift] if shift in near else [])) if self.improves(move)]
        rival = max(self.score(ranked[1]), rival if ranked[0] == shift else 0)
        return ranked[:1] if self.improves(ranked[0]) and best > LEAST_RATIO * rival else []

    def improves(self, move: Move) -> bool:
        """Whether the mask fits clearly better after the move than in its place."""
        landmark = LANDMARKS.get(self.structure)
        if landmark:
            return self.score(move) > self.given + landmark.margin
        return self.score(move) > max(LEAST_RATIO * self.given, 0)

    def _best_shift(self, least: int) -> tuple[Move, float]:
        """The best shift of at least `least`, and the best score of the places away from it."""
        far = np.where(_distances() >= least, self.shifted, -np.inf)
        row, column = np.unravel_index(far.argmax(), far.shape)
        move = Move("", int(row) - REACH, int(column) - REACH)
        top, left = max(row - PEAK, 0), max(column - PEAK, 0)
        far[top : row + PEAK + 1, left : column + PEAK + 1] = -np.inf
        return move, float(far.max())


class Evidence:
    """What a photograph shows of each structure, at SEARCH_SIDE; drawn when first asked for.

    image: RGB uint8 [h, w, 3] with a longer side of WORKING_SIDE. inside: its field of view, bool [h, w].
    """

    def __init__(self, image: np.ndarray, inside: np.ndarray) -> None:
        self.image = image
        self._inner = cv2.erode(inside.astype(np.uint8), np.ones((RIM, RIM), np.uint8), borderValue=1).astype(
            np.float32
        )
        self._kept: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}

    def fit(self, structure: str, mask: np.ndarray) -> Fit:
        """Score the places of a mask, float32 0..1 [h, w] like `image`, of one of the PLACED structures."""
        soft = to_side(mask, SEARCH_SIDE)
        landmark = LANDMARKS.get(structure)
        templates = landmark_templates(soft, landmark) if landmark else [ring_template(soft)]
        maps = self._maps(structure, line_length(structure, mask) if structure in SPOTS else 0)
        pairs = list(zip(maps, templates, strict=True))
        product = sum(spectrum * _spectrum(template).conj() for (_, spectrum), template in pairs)
        shifted = np.roll(fft.irfft2(product, _padded(soft.shape)), (REACH, REACH), (0, 1))
        shifted = shifted[: 2 * REACH + 1, : 2 * REACH + 1]
        mirrored = {
            name: float(sum(_nearby(evidence, template[undo]) for (evidence, _), template in pairs).max())
            for name, undo in MIRRORS.items()
        }
        given = float(shifted[_distances() <= SETTLED].max())
        lonely = structure in SPOTS and cv2.connectedComponents((mask > 0).astype(np.uint8))[0] - 1 < LEAST_LESIONS
        return Fit(structure, lonely, float(np.sqrt(soft.sum() / np.pi)), given, mirrored, shifted)

    def _maps(self, structure: str, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Evidence maps float32 [h, w] of a structure with their spectra; length: of the line, for lesions."""
        kind = "vessel" if structure in VESSELS else "landmark" if structure in LANDMARKS else structure
        if (kind, length) not in self._kept:
            if kind == "landmark":
                maps = self._landmark_maps()
            elif kind == "vessel":
                maps = [to_side(self._ridges, SEARCH_SIDE)]
            else:
                maps = [to_side(self._spots(length, dark=SPOTS[kind][1]), SEARCH_SIDE)]
            self._kept[kind, length] = [(evidence, _spectrum(evidence)) for evidence in maps]
        return self._kept[kind, length]

    @cached_property
    def _ridges(self) -> np.ndarray:
        """What is darker in the green channel than its surround."""
        green = self.image[..., 1].astype(np.float32)
        return standardised(surround(green, self._inner, 10) - cv2.GaussianBlur(green, (0, 0), 1), self._inner, 3)

    def _spots(self, length: int, *, dark: bool) -> np.ndarray:
        """What is darker (or brighter) in green than its surround and shorter than a line in every direction.

        A top-hat with lines leaves vessels out: along the vessel a line fits.
        """
        green = cv2.GaussianBlur(self.image[..., 1], (0, 0), 0.7)
        if dark:
            green = 255 - green
        opened = [cv2.morphologyEx(green, cv2.MORPH_OPEN, line) for line in lines(length)]
        hat = (green - np.maximum.reduce(opened)).astype(np.float32)
        inside = self._inner > 0
        hat = np.minimum(hat / (hat[inside].std() + 0.5), 4)
        return (hat - hat[inside].mean()) * self._inner

    def _landmark_maps(self) -> list[np.ndarray]:
        """Red and green brightness with the vessels closed, vessels, upright vessels."""
        image = to_side(self.image, SEARCH_SIDE)
        inner = (to_side(self._inner, SEARCH_SIDE) > 0.5).astype(np.float32)
        closed = cv2.morphologyEx(image, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
        smooth = cv2.GaussianBlur(closed, (0, 0), 1).astype(np.float32)
        bright = [smooth[..., channel] - surround(smooth[..., channel], inner, 30) for channel in (0, 1)]
        green = image[..., 1]
        level = cv2.GaussianBlur(green, (0, 0), 0.5).astype(np.float32)
        vessels = np.maximum(surround(green.astype(np.float32), inner, 5) - level, 0)
        upright = cv2.morphologyEx(green, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8)) - green
        return [
            *(standardised(level, inner, 8) for level in bright),
            *(standardised(level.astype(np.float32), inner, 4) for level in (vessels, upright)),
        ]


def to_side(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture [H, W] or [H, W, C] with a longer side of `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def surround(level: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean of the pixels inside, float32 [H, W] both; worked out on a coarser grid, as it is smooth."""
    step = max(1, int(sigma / 4))
    size = (max(1, level.shape[1] // step), max(1, level.shape[0] // step))
    small, weight = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (level * inside, inside))
    small, weight = (cv2.GaussianBlur(part, (0, 0), sigma / step) for part in (small, weight))
    return cv2.resize(small / np.maximum(weight, 1e-3), level.shape[::-1], interpolation=cv2.INTER_LINEAR)


def standardised(level: np.ndarray, inside: np.ndarray, highest: float) -> np.ndarray:
    """The level in robust standard deviations, from -3 to `highest`, of mean 0 inside and 0 outside."""
    values = level[inside > 0]
    deviation = 1.4826 * np.median(np.abs(values - np.median(values))) if values.size else 0
    level = np.clip(level / (deviation + 1e-3), -3, highest)
    return (level - level[inside > 0].mean()) * inside if values.size else np.zeros_like(level)


def lines(length: int) -> list[np.ndarray]:
    """Lines in four directions through the middle of a square: uint8 [length, length]."""
    row = np.zeros((length, length), np.uint8)
    row[length // 2] = 1
    slope = np.eye(length, dtype=np.uint8)
    reach = round(length // 2 / np.sqrt(2))  # a sloping line has fewer pixels for the same length
    inner = slice(length // 2 - reach, length // 2 + reach + 1)
    slope = slope[inner, inner]
    return [row, row.T.copy(), slope, slope[::-1].copy()]


def line_length(structure: str, mask: np.ndarray) -> int:
    """The line that the lesions of a mask, [h, w] in working pixels, are shorter than: one of LENGTHS."""
    areas = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8))[2][1:, cv2.CC_STAT_AREA].astype(float)
    width = np.sqrt((areas**2).sum() / areas.sum() * 4 / np.pi)  # of the lesion that a pixel of the mask is in
    wanted = max(LINE * width, SPOTS[structure][0])
    return next((length for length in LENGTHS if length >= wanted), LENGTHS[-1])


def ring_template(mask: np.ndarray) -> np.ndarray:
    """Mean over the mask less mean over a ring around it, as weights float32 [h, w]."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RING + 1, 2 * RING + 1))
    ring = cv2.dilate(mask, disc) - mask
    return mask / max(mask.sum(), 1e-6) - ring / max(ring.sum(), 1e-6)


def landmark_templates(mask: np.ndarray, landmark: Landmark) -> list[np.ndarray]:
    """One template a map: the weighted means over bands along the outline."""
    filled = (mask > 0.5).astype(np.uint8)
    unit = np.sqrt(filled.sum() / np.pi) if landmark.relative else 1.0
    # a frame of zeros gives the transforms an outside even for a mask that fills the picture
    apart = cv2.distanceTransform(np.pad(1 - filled, 1, constant_values=1), cv2.DIST_L2, 5)
    apart -= cv2.distanceTransform(np.pad(filled, 1), cv2.DIST_L2, 5)
    band = np.digitize(apart[1:-1, 1:-1], np.array(landmark.bands) * unit, right=True)
    sizes = np.maximum(np.bincount(band.ravel(), minlength=len(landmark.bands) + 1), 1)
    return [(np.append(weights, 0) / sizes).astype(np.float32)[band] for weights in landmark.weights]


@cache
def _distances() -> np.ndarray:
    """Length of each shift: [2 R + 1, 2 R + 1]."""
    axis = np.arange(-REACH, REACH + 1)
    return np.hypot(axis[:, None], axis)


def _padded(shape: Sequence[int]) -> tuple[int, int]:
    """A size that keeps shifts up to REACH from wrapping around."""
    return tuple(fft.next_fast_len(side + REACH, real=True) for side in shape)


def _spectrum(picture: np.ndarray) -> np.ndarray:
    return fft.rfft2(picture.astype(np.float32, copy=False), _padded(picture.shape))


def _nearby(evidence: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Scores of the places within one pixel: [3, 3]."""
    padded = np.pad(evidence, 1)
    height, width = evidence.shape
    return np.array([[np.vdot(padded[y : y + height, x : x + width], template) for x in range(3)] for y in range(3)])
