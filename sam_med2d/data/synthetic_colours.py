"""The colours of a synthetic photograph: retina, disc, vessels and lesions painted, then what a camera adds."""

import cv2
import numpy as np

from sam_med2d.data.synthetic_geometry import DrawingFrame, Eye

# Pigmentation from light to dark: RGB in 0..1 of an evenly lit retina.
_PIGMENTS = np.array([[0.78, 0.47, 0.25], [0.80, 0.36, 0.25], [0.68, 0.32, 0.13], [0.48, 0.20, 0.08]])


def paint(rng: np.random.Generator, frame: DrawingFrame, eye: Eye, cover: dict[str, np.ndarray]) -> np.ndarray:
    """Colour the evenly lit retina: float32 RGB [H,W,3], about 0..1."""
    x, y = frame.grid()
    shade = float(rng.uniform(0, len(_PIGMENTS) - 1))
    step = min(int(shade), len(_PIGMENTS) - 2)
    base = _PIGMENTS[step] + (shade - step) * (_PIGMENTS[step + 1] - _PIGMENTS[step])
    texture = 1 + 0.05 * _noise(rng, x, y, 7) + 0.025 * _noise(rng, x, y, 30)
    texture += rng.uniform(0, 0.07) * (0.4 - np.abs(_noise(rng, x, y, 22)))
    image = base.astype(np.float32) * texture[..., None]
    disc_glow = np.exp(-(((x - eye.disc[0]) ** 2 + (y - eye.disc[1]) ** 2) / (2 * 0.21**2)))
    image += disc_glow[..., None] * np.array([0.06, 0.08, 0.05], np.float32)
    squared = (x - eye.fovea[0]) ** 2 + (y - eye.fovea[1]) ** 2
    macula = rng.uniform(0.25, 0.42) * np.exp(-squared / (2 * 0.13**2)) + 0.15 * np.exp(-squared / 0.001)
    image *= 1 - macula[..., None] * np.array([0.7, 1.0, 1.0], np.float32)
    _paint_disc(rng, frame, image, cover, base)
    _paint_lesions(rng, frame, image, cover)
    _tint(image, cover["artery"], np.array([0.88, 0.58, 0.58]))
    _tint(image, cover["vein"], np.array([0.76, 0.46, 0.50]))
    image += 0.07 * _soft(cover["reflex"], frame, 0.004)[..., None] * base.astype(np.float32)
    return image


def _noise(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, cells: int) -> np.ndarray:
    """Smooth noise float32 [H,W] of unit size, tied to the eye and not to the pixels. x, y: of `DrawingFrame.grid`."""
    grid = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    column, row = ((axis + 1.1) * ((cells - 1) / 2.2) for axis in (x[0], y[:, 0]))
    return _cubic(_cubic(grid.T, column).T, row)


def _cubic(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows of `values` [N,C] at fractional positions [P]: float32 [P,C], beyond the first and last row mirrored.

    Cubic convolution (Keys 1981) with OpenCV's a = -0.75. OpenCV's own `remap` moves in steps of 1/32 pixel before
    version 5, which shows where a small grid is enlarged.
    """
    a, first = -0.75, np.floor(positions).astype(np.int64)
    t = (positions - first).astype(np.float32)[:, None]
    before = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    at, after = (((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t))
    total = np.zeros((len(positions), values.shape[1]), np.float32)
    for offset, weight in zip((-1, 0, 1, 2), (before, at, after, 1 - before - at - after), strict=True):
        index = (first + offset) % (2 * len(values))
        total += weight * values[np.minimum(index, 2 * len(values) - 1 - index)]
    return total


def _paint_disc(
    rng: np.random.Generator, frame: DrawingFrame, image: np.ndarray, cover: dict[str, np.ndarray], base: np.ndarray
) -> None:
    """The disc is brighter than any retina around it; the cup is the palest part of it."""
    glow = 0.65 + 0.35 * base[0] / _PIGMENTS[0, 0]
    rim = np.array([1.0, rng.uniform(0.64, 0.74), rng.uniform(0.32, 0.44)]) * glow
    pale = np.array([1.08, rng.uniform(0.96, 1.04), rng.uniform(0.66, 0.82)]) * glow
    _blend(image, 0.92 * _soft(cover["optic_disc"], frame, 0.009), rim)
    _blend(image, 0.9 * _soft(cover["optic_cup"], frame, 0.012), pale)


def _paint_lesions(
    rng: np.random.Generator, frame: DrawingFrame, image: np.ndarray, cover: dict[str, np.ndarray]
) -> None:
    """Exudates are yellow deposits; haemorrhages and microaneurysms are blood."""
    if "hard_exudate" not in cover:
        return
    yellow = np.array([1.0, rng.uniform(0.82, 0.9), rng.uniform(0.4, 0.55)])
    _blend(image, 0.8 * _soft(cover["hard_exudate"], frame, 0.004), yellow)
    _tint(image, _soft(cover["haemorrhage"], frame, 0.005), np.array([0.66, 0.36, 0.4]))
    _tint(image, _soft(cover["microaneurysm"], frame, 0.002), np.array([0.66, 0.34, 0.38]))


def _soft(cover: np.ndarray, frame: DrawingFrame, sigma: float) -> np.ndarray:
    """Blur a coverage map by `sigma` radii."""
    return cv2.GaussianBlur(cover, (0, 0), max(sigma * frame.radius, 0.3))


def _blend(image: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    """Move the picture towards `colour` (RGB 0..1) where alpha [H,W] is 1, in place."""
    image += alpha[..., None] * (colour.astype(np.float32) - image)


def _tint(image: np.ndarray, alpha: np.ndarray, factor: np.ndarray) -> None:
    """Multiply the picture by `factor` (RGB) where alpha [H,W] is 1, in place: blood filters light."""
    image *= 1 + alpha[..., None] * (factor.astype(np.float32) - 1)


def photograph(rng: np.random.Generator, frame: DrawingFrame, image: np.ndarray, fov: np.ndarray) -> np.ndarray:
    """What the camera adds: uneven light, haze, blur, noise, the dark surround. uint8 RGB [H,W,3]."""
    x, y = frame.grid()
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.28)
    light = 1 - rng.uniform(0.12, 0.4) * (x * x + y * y) + slope * (x * np.cos(angle) + y * np.sin(angle))
    image = image * (rng.uniform(0.85, 1.08) * light.clip(0.1))[..., None]
    haze = rng.uniform(0, 0.16) if rng.random() < 0.4 else 0.0
    image += haze * (np.array([0.62, 0.55, 0.46], np.float32) - image)
    blur = rng.uniform(0.006, 0.011) if rng.random() < 0.3 else rng.uniform(0.001, 0.004)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(blur * frame.radius, 0.3))
    # A lens closes softly, but nothing of the eye may show outside the circle.
    rim = ((1 - np.hypot(x, y)) / 0.012).clip(0, 1) * fov
    levels = 255 * image * rim[..., None] + rng.uniform(1, 4)
    grain = rng.uniform(0.8, 3.5) * (0.25 + 0.75 * rim[..., None])
    levels += grain * rng.standard_normal(image.shape, np.float32)
    return np.round(levels).clip(0, 255).astype(np.uint8)
