"""The geometry of a synthetic eye: its landmarks and vessels in radii of the field of view, placed in a picture.

The origin is the middle of the picture, x points to the right and y down.
"""

from dataclasses import dataclass

import cv2
import numpy as np

MIN_SIDE, MAX_SIDE = 64, 4096
SHIFT = 4  # OpenCV draws at 1 / 2**4 of a canvas pixel


@dataclass(frozen=True)
class DrawingFrame:
    """Places the unit circle in a picture. Lengths in pixels; `scale` canvas pixels per picture pixel."""

    height: int
    width: int
    radius: float
    scale: int

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixel centres in radii: x and y, each float32 [H,W]."""
        x = (np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) / self.radius
        y = (np.arange(self.height, dtype=np.float32) + 0.5 - self.height / 2) / self.radius
        return tuple(np.meshgrid(x, y))

    def half_extent(self) -> np.ndarray:
        """Half width and half height of the picture in radii, (2,) in XY order."""
        return np.array([self.width, self.height]) / (2 * self.radius)

    def to_canvas(self, points: np.ndarray) -> np.ndarray:
        """Points [N,2] XY in radii -> int32 [N,2] XY in fixed-point canvas coordinates."""
        pixels = (points + self.half_extent()) * self.radius * self.scale - 0.5
        return np.round(pixels * (1 << SHIFT)).astype(np.int32)

    def canvas(self) -> np.ndarray:
        """An empty canvas, uint8 [H*scale, W*scale]."""
        return np.zeros((self.height * self.scale, self.width * self.scale), np.uint8)

    def coverage(self, canvas: np.ndarray) -> np.ndarray:
        """Share of each picture pixel that the canvas fills: float32 [H,W] in 0..1."""
        small = cv2.resize(canvas.astype(np.float32), (self.width, self.height), interpolation=cv2.INTER_AREA)
        return small / 255


@dataclass(frozen=True)
class Eye:
    """Landmarks in radii, XY. `temporal` is +1 where the temple is on the right of the picture, else -1."""

    temporal: int
    disc: np.ndarray
    disc_axes: np.ndarray
    cup: np.ndarray
    cup_axes: np.ndarray
    tilt: float
    fovea: np.ndarray


@dataclass(frozen=True)
class Vessel:
    """A centre line [N,2] XY with its full width [N], both in radii."""

    points: np.ndarray
    widths: np.ndarray
    artery: bool


def make_frame(height: int, width: int) -> DrawingFrame:
    """Fit the circle into the picture; an oblong picture clips it on its long sides, as many cameras do."""
    for name, side in (("height", height), ("width", width)):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise ValueError(f"{name} must be from {MIN_SIDE} to {MAX_SIDE} pixels, got {side}")
    short, long = sorted((height, width))
    radius = min(0.6 * short, 0.48 * long) if long >= 1.25 * short else 0.48 * short
    return DrawingFrame(height, width, radius, int(np.clip(round(2048 / long), 2, 8)))
