"""Masks of vessels that lie a pixel or few beside the vessels, which programs that count from corners or from 1 make.

Where a mask is moved to, the mean brightness on it is compared with that of a ring around it. The best place is found
to a tenth of a pixel: in the 8 public sets at 512 pixels, it is 0 to 0.22 pixels from the given one on average.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.dataset_checks.findings import Finding

REACH = 3  # pixels; further shifts are found by `mask_placement`
LARGEST = 1536  # longer side: a pixel of larger photographs is less than an observer's precision
LEAST_PIXELS = 300  # of a mask
RING = 3  # pixels
DARKEST = 8  # green value, below which nothing is lit
LEAST_CONTRAST = 0.1  # grey levels between vessels and their surround
SET_SHIFT, SET_MASKS = 0.6, 3  # median of a data set that is called shifted, and its least number of masks
OWN_SHIFT, DEVIATIONS, OWN_MASKS = 0.75, 6, 8  # distance of one mask from the median of its set, of so many masks

Shift = tuple[float, float]  # pixels (down, right) by which a mask has to be moved


def vessel_shift(image: np.ndarray, mask: np.ndarray) -> Shift | None:
    """The move in pixels (down, right), up to REACH, after which a mask of vessels, uint8 {0, 1} [H, W], fits best.

    None for large photographs, RGB uint8 [H, W, 3], and for masks that are too small or fit nowhere.
    """
    if max(mask.shape) > LARGEST or np.count_nonzero(mask) < LEAST_PIXELS:
        return None
    ridges = np.pad(_ridges(image[..., 1]), REACH)
    ring = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RING + 1, 2 * RING + 1))) - mask
    template = mask / np.float32(mask.sum()) - ring / np.float32(max(ring.sum(), 1))
    (height, width), places = mask.shape, range(2 * REACH + 1)
    scores = np.array([[np.vdot(ridges[y : y + height, x : x + width], template) for x in places] for y in places])
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    return (_vertex(scores[:, column]), _vertex(scores[row])) if scores.max() > LEAST_CONTRAST else None


def _ridges(green: np.ndarray) -> np.ndarray:
    """What is darker than its surround, inside of the lit field: float32 [H, W]."""
    level = green.astype(np.float32)
    ridges = np.clip(cv2.GaussianBlur(level, (0, 0), 6) - cv2.GaussianBlur(level, (0, 0), 0.8), -10, 25)
    return ridges * cv2.erode((green > DARKEST).astype(np.uint8), np.ones((15, 15), np.uint8))


def _vertex(scores: np.ndarray) -> float:
    """Where the parabola through the highest score and its neighbours has its vertex, from the middle."""
    top = int(scores.argmax())
    if top in (0, 2 * REACH):
        return float(top - REACH)
    before, at, after = scores[top - 1 : top + 2]
    return float(top - REACH + 0.5 * (before - after) / min(before - 2 * at + after, -1e-9))


def find_pixel_shifts(shifts: Sequence[tuple[Path, Shift]]) -> Iterator[Finding]:
    """Warnings where all masks of vessels of a data set lie beside the vessels by their moves, or one does."""
    if len(shifts) < SET_MASKS:
        return
    moves = np.array([shift for _, shift in shifts])
    usual = np.median(moves, axis=0)
    if np.abs(usual).max() >= SET_SHIFT:
        files = tuple(str(path) for path, _ in shifts)
        message = f"{files[0]} and {len(files) - 1} more masks of vessels lie {_words(usual)}: move them, or draw again"
        yield Finding("pixel_shift", files, message, warning=True)
    away = np.abs(moves - usual)
    least = np.maximum(OWN_SHIFT, DEVIATIONS * 1.4826 * np.median(away, axis=0))
    for (path, shift), own in zip(shifts, away, strict=True):
        if len(shifts) >= OWN_MASKS and (own > least).any():
            message = f"{path} lies {_words(shift)}, unlike the others of its set: look at it, move it if so"
            yield Finding("pixel_shift", (str(path),), message, warning=True)


def _words(move: Sequence[float]) -> str:
    """The shift that a move undoes."""
    names = (("up", "down"), ("to the left", "to the right"))
    parts = [
        f"{abs(by):.1f} pixels too far {pair[bool(by < 0)]}"
        for by, pair in zip(move, names, strict=True)
        if abs(by) > 0.3
    ]
    return " and ".join(parts)
