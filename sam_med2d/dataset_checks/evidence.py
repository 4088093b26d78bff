"""What a photograph shows of each structure, and how well masks fit it in every place.

A photograph becomes evidence maps (dark ridges, small spots, brightness), a mask becomes templates that are positive
on the structure and negative around it, and the score of a place is their correlation there, for all shifts at once
in the Fourier domain.
"""

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
from scipy import fft

from sam_med2d.dataset_checks.alignment import (
    LANDMARKS,
    LEAST_LESIONS,
    MIRRORS,
    REACH,
    SAME_PLACE,
    SEARCH_SIDE,
    SPOTS,
    TURNS,
    VESSELS,
    Fit,
    Landmark,
    distances,
)

WORKING_SIDE = 512  # evidence is drawn at this longer side, where the finest vessels and microaneurysms still show
RIM = 9  # working pixels: the dark surround bleeds this far into filters
# The ring of a template of vessels or lesions is this wide: wider rings meet the neighbouring lesions.
RING = 2

UNDO = dict(zip(MIRRORS, (np.fliplr, np.flipud, lambda template: np.rot90(template, 2)), strict=True))
UNDO_SQUARE = UNDO | dict(zip(TURNS, (np.rot90, lambda template: np.rot90(template, 3)), strict=True))

# The line is the first of these that is LINE times as long as the mask's typical lesion is wide (as in tiles, where all
# are large). Of 1.2, 1.5, 2 and 2.5 times, 1.5 sets lesions of photographs and tiles best apart.
LENGTHS = (7, 9, 11, 17, 25, 35, 49, 71)
LINE = 1.5


class Evidence:
    """What a photograph shows of each structure, at SEARCH_SIDE; drawn when first needed."""

    def __init__(self, image: np.ndarray, inside: np.ndarray) -> None:
        """
        Args:
            image: RGB uint8 [h, w, 3] with a longer side of WORKING_SIDE.
            inside: its field of view, bool [h, w].
        """
        self.image = image
        self._inner = cv2.erode(inside.astype(np.uint8), np.ones((RIM, RIM), np.uint8), borderValue=1).astype(
            np.float32
        )
        self._kept: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}

    def fit(self, structure: str, mask: np.ndarray) -> Fit:
        """Score the places of a mask.

        Args:
            structure: one of `alignment.PLACEABLE`.
            mask: share of each pixel that it fills, float32 0..1 [h, w], of the image's size.
        """
        soft = to_side(mask, SEARCH_SIDE)
        landmark = LANDMARKS.get(structure)
        templates = _landmark_templates(soft, landmark) if landmark else [_ring_template(soft)]
        maps = self._maps(structure, _line_length(structure, mask) if structure in SPOTS else 0)
        pairs = list(zip(maps, templates, strict=True))
        product = sum(spectrum * _spectrum(template).conj() for (_, spectrum), template in pairs)
        shifted = np.roll(fft.irfft2(product, _padded(soft.shape)), (REACH, REACH), (0, 1))
        shifted = shifted[: 2 * REACH + 1, : 2 * REACH + 1]
        mirrored = {
            name: float(sum(_nearby(evidence, undo(template)) for (evidence, _), template in pairs).max())
            for name, undo in (UNDO_SQUARE if soft.shape[0] == soft.shape[1] else UNDO).items()
        }
        given = float(shifted[distances() <= SAME_PLACE].max())
        single_lesion = (
            structure in SPOTS and cv2.connectedComponents((mask > 0).astype(np.uint8))[0] - 1 < LEAST_LESIONS
        )
        return Fit(structure, single_lesion, float(np.sqrt(soft.sum() / np.pi)), given, mirrored, shifted)

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
        return _standardised(surround(green, self._inner, 10) - cv2.GaussianBlur(green, (0, 0), 1), self._inner, 3)

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
            *(_standardised(level, inner, 8) for level in bright),
            *(_standardised(level.astype(np.float32), inner, 4) for level in (vessels, upright)),
        ]


def to_side(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture, [H, W] or [H, W, C], with a longer side of `side` pixels: [h, w] or [h, w, C]."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def surround(level: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean, float32 [H, W], of the pixels inside; worked out on a coarser grid, as it is smooth.

    Args:
        level: brightness, float32 [H, W].
        inside: weight of each pixel, float32 0..1 [H, W].
        sigma: standard deviation in pixels.
    """
    step = max(1, int(sigma / 4))
    size = (max(1, level.shape[1] // step), max(1, level.shape[0] // step))
    small, weight = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (level * inside, inside))
    small, weight = (cv2.GaussianBlur(part, (0, 0), sigma / step) for part in (small, weight))
    return cv2.resize(small / np.maximum(weight, 1e-3), level.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _standardised(level: np.ndarray, inside: np.ndarray, highest: float) -> np.ndarray:
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


def _line_length(structure: str, mask: np.ndarray) -> int:
    """The line that the lesions of a mask, [h, w] in working pixels, are shorter than: one of LENGTHS."""
    areas = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8))[2][1:, cv2.CC_STAT_AREA].astype(float)
    width = np.sqrt((areas**2).sum() / areas.sum() * 4 / np.pi)  # of the lesion that a pixel of the mask is in
    wanted = max(LINE * width, SPOTS[structure][0])
    return next((length for length in LENGTHS if length >= wanted), LENGTHS[-1])


def _ring_template(mask: np.ndarray) -> np.ndarray:
    """Mean over the mask less mean over a ring around it, as weights float32 [h, w]."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RING + 1, 2 * RING + 1))
    ring = cv2.dilate(mask, disc) - mask
    return mask / max(mask.sum(), 1e-6) - ring / max(ring.sum(), 1e-6)


def _landmark_templates(mask: np.ndarray, landmark: Landmark) -> list[np.ndarray]:
    """One template a map: the weighted means over bands along the outline."""
    filled = (mask > 0.5).astype(np.uint8)
    unit = np.sqrt(filled.sum() / np.pi) if landmark.relative else 1.0
    # a frame of zeros gives the transforms an outside even for a mask that fills the picture
    apart = cv2.distanceTransform(np.pad(1 - filled, 1, constant_values=1), cv2.DIST_L2, 5)
    apart -= cv2.distanceTransform(np.pad(filled, 1), cv2.DIST_L2, 5)
    band = np.digitize(apart[1:-1, 1:-1], np.array(landmark.bands) * unit, right=True)
    sizes = np.maximum(np.bincount(band.ravel(), minlength=len(landmark.bands) + 1), 1)
    return [(np.append(weights, 0) / sizes).astype(np.float32)[band] for weights in landmark.weights]


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
