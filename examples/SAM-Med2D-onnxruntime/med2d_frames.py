"""Photograph -> model input and back, in NumPy and OpenCV: the rules that an exported file names.

The folder is complete by itself: it is copied to machines that have neither this project nor PyTorch. The same numbers
as the project's own preprocessing (a test holds them equal). Points are pixel indices x, y; boxes half-open edges.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

PIXEL_MEAN = np.float32((123.675, 116.28, 103.53))
PIXEL_STD = np.float32((58.395, 57.12, 57.375))
OUTSIDE_LOGIT = -20.0  # of pixels that the model never saw
FOV_SIDE, FOV_LEAST_AREA = 512, 0.1


@dataclass(frozen=True)
class Placement:
    """Where a photograph lies in the S x S input.

    Attributes:
        size: S, in pixels.
        shape: (H, W) of the photograph.
        used: the part of it that is used: top, left, bottom, right.
        inner: the place of that part in the input: top, left, height, width.
    """

    size: int
    shape: tuple[int, int]
    used: tuple[int, int, int, int]
    inner: tuple[int, int, int, int]

    @property
    def used_shape(self) -> tuple[int, int]:
        """(height, width) of the part that is used."""
        return self.used[2] - self.used[0], self.used[3] - self.used[1]

    def edges(self, xy: np.ndarray) -> np.ndarray:
        """Positions [..., 2] between pixels, of the photograph -> of the model input."""
        scale = np.array([self.inner[3] / self.used_shape[1], self.inner[2] / self.used_shape[0]])
        return (np.asarray(xy, np.float64) - self.used[1::-1]) * scale + self.inner[1::-1]

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Pixel positions [..., 2]: the same for the centres of pixels."""
        return self.edges(np.asarray(xy, np.float64) + 0.5) - 0.5

    def paste(self, logits: np.ndarray) -> np.ndarray:
        """Logits [..., h, w] of the part used -> [..., H, W] of the photograph."""
        out = np.full((*logits.shape[:-2], *self.shape), OUTSIDE_LOGIT, np.float32)
        top, left, bottom, right = self.used
        out[..., top:bottom, left:right] = logits
        return out


def place(photograph: np.ndarray, size: int, mode: str) -> Placement:
    """Where a photograph, RGB uint8 [H, W, 3], lies in the S x S input; mode "fundus" or "sam_med2d"."""
    height, width = photograph.shape[:2]
    if mode == "fundus":
        top, left, bottom, right = field_of_view(photograph)
        longer = max(bottom - top, right - left)
        inner = [max(1, round(side * size / longer)) for side in (bottom - top, right - left)]
    else:
        top, left, bottom, right = 0, 0, height, width
        inner = [height, width] if height < size and width < size else [size, size]
    corner = (size - inner[0]) // 2, (size - inner[1]) // 2
    return Placement(size, (height, width), (top, left, bottom, right), (*corner, *inner))


def model_input(
    photograph: np.ndarray, where: Placement, mode: str, channel_order: str, scale: str = "sam"
) -> np.ndarray:
    """The model's input, float32 [1, 3, S, S], normalised.

    Args:
        photograph: RGB uint8 [H, W, 3].
        where: of `place`.
        mode: of the preprocessing, "fundus" or "sam_med2d".
        channel_order: "rgb" or "bgr", as the weights expect.
        scale: "sam", or "unit" for MedSAM's 0..1 of each picture.
    """
    pixels = used_pixels(photograph, where, channel_order)
    height, width = where.inner[2:]
    out = np.zeros((where.size, where.size, 3), np.float32)
    inside = out[where.inner[0] : where.inner[0] + height, where.inner[1] : where.inner[1] + width]
    if mode == "fundus":  # the surround is black
        shrinks = height < pixels.shape[0] or width < pixels.shape[1]
        inside[:] = _resized(pixels, (width, height), cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        out = _normalised(out, scale)
    else:  # the surround is the mean colour, or the darkest one
        inside[:] = _normalised(_resized(pixels, (width, height), cv2.INTER_NEAREST), scale)
    return np.ascontiguousarray(out.transpose(2, 0, 1))[None]


def used_pixels(photograph: np.ndarray, where: Placement, channel_order: str) -> np.ndarray:
    """The part of a photograph, RGB uint8 [H, W, 3], that is used, its channels in the order "rgb" or "bgr"."""
    top, left, bottom, right = where.used
    pixels = photograph if channel_order == "rgb" else photograph[..., ::-1]
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def _normalised(pixels: np.ndarray, scale: str) -> np.ndarray:
    """Pixels minus the mean of SAM's training, over their standard deviation; or 0..1 of the picture."""
    values = pixels.astype(np.float32)
    if scale == "unit":
        return (values - values.min()) / max(values.max() - values.min(), np.float32(1e-8))
    return (values - PIXEL_MEAN) / PIXEL_STD


def _resized(pixels: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Pixels of the size (width, height)."""
    return pixels if pixels.shape[1::-1] == size else cv2.resize(pixels, size, interpolation=interpolation)


def field_of_view(photograph: np.ndarray) -> tuple[int, int, int, int]:
    """Bounding box of the bright disc: top, left, bottom, right in pixels, half-open; all without one."""
    height, width = photograph.shape[:2]
    scale = min(1.0, FOV_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    disc = _brightest_region(cv2.resize(photograph, size, interpolation=cv2.INTER_AREA))
    if disc.mean() < FOV_LEAST_AREA:
        return 0, 0, height, width
    (top, bottom), (left, right) = _filled(disc.sum(axis=1)), _filled(disc.sum(axis=0))
    down, across = height / size[1], width / size[0]
    return int(top * down), int(left * across), min(height, round(bottom * down)), min(width, round(right * across))


def _brightest_region(small: np.ndarray) -> np.ndarray:
    """Largest connected region brighter than the dark surround."""
    grey = cv2.GaussianBlur(np.ascontiguousarray(small.max(axis=2)), (5, 5), 0)
    level = min(max(0.12 * np.percentile(grey, 95), 8), 25)
    opened = cv2.morphologyEx((grey > level).astype(np.uint8), cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    if count == 1:
        return np.zeros(opened.shape, bool)
    return labels == 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))


def _filled(profile: np.ndarray) -> tuple[int, int]:
    """Where a profile begins and ends; specks at the rim do not count."""
    places = np.flatnonzero(profile > 0.04 * profile.max())
    return int(places[0]), math.floor(places[-1]) + 1
