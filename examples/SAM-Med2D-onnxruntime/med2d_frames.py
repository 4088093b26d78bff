"""Photograph -> model input and back, in NumPy and OpenCV: the rules that an exported file names.

The folder is complete by itself: it is copied to machines that have neither this project nor PyTorch. The same numbers
as the project's own preprocessing (a test holds them equal). Points are pixel indices x, y; boxes half-open edges.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from field_of_view import FieldOfView, find_field_of_view

PIXEL_MEAN = np.float32((123.675, 116.28, 103.53))
PIXEL_STD = np.float32((58.395, 57.12, 57.375))
OUTSIDE_LOGIT = -20.0  # of pixels that the model never saw


@dataclass(frozen=True)
class Placement:
    """Where a photograph lies in the S x S input.

    Attributes:
        size: S, in pixels.
        shape: (H, W) of the photograph.
        used: the part of it that is used: top, left, bottom, right.
        inner: the place of that part in the input: top, left, height, width.
        view: what the camera saw, outside of which the input is black; None in the mode "sam_med2d".
    """

    size: int
    shape: tuple[int, int]
    used: tuple[int, int, int, int]
    inner: tuple[int, int, int, int]
    view: FieldOfView | None = None

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
    """Where a photograph lies in the model's input.

    Args:
        photograph: RGB uint8 [H, W, 3].
        size: side S of the input in pixels.
        mode: of the preprocessing, "fundus" or "sam_med2d".
    """
    height, width = photograph.shape[:2]
    if mode == "fundus":
        view = find_field_of_view(photograph)
        top, left, bottom, right = view.box
        longer = max(bottom - top, right - left)
        inner = [max(1, round(side * size / longer)) for side in (bottom - top, right - left)]
    else:
        view, (top, left, bottom, right) = None, (0, 0, height, width)
        inner = [height, width] if height < size and width < size else [size, size]
    corner = (size - inner[0]) // 2, (size - inner[1]) // 2
    return Placement(size, (height, width), (top, left, bottom, right), (*corner, *inner), view)


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
    """The part of a photograph that is used, black outside the field of view.

    Args:
        photograph: RGB uint8 [H, W, 3].
        where: of `place`.
        channel_order: "rgb" or "bgr", as the weights expect.

    Returns:
        uint8 [h, w, 3], channels in that order.
    """
    top, left, bottom, right = where.used
    pixels = photograph if channel_order == "rgb" else photograph[..., ::-1]
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    return where.view.blackened(part, where.used) if where.view else part


def _normalised(pixels: np.ndarray, scale: str) -> np.ndarray:
    """Pixels minus the mean of SAM's training, over their standard deviation; or 0..1 of the picture."""
    values = pixels.astype(np.float32)
    if scale == "unit":
        return (values - values.min()) / max(values.max() - values.min(), np.float32(1e-8))
    return (values - PIXEL_MEAN) / PIXEL_STD


def _resized(pixels: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Pixels of the size (width, height)."""
    return pixels if pixels.shape[1::-1] == size else cv2.resize(pixels, size, interpolation=interpolation)
