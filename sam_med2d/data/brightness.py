"""Brightness of any depth -> 8 bits: by what the file says of its depth, else by its brightest pixels."""

from pathlib import Path

import cv2
import numpy as np

from sam_med2d.errors import UnclearError
from sam_med2d.notes import REMARKS

DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras have
STRAY = 2e-5  # share of values, such as those of hot pixels, that do not count as a photograph's brightest or darkest
OVERSHOOT = 1.25  # of white, in floats: what interpolation makes beside an edge
DIMMEST = 16  # brightest value of a photograph in floats of 0 to 255


def to_8_bits(values: np.ndarray, path: Path, *, bits: int | None = None) -> np.ndarray:
    """Brightness of any depth as 8 bits.

    Args:
        values: bool, integers or floats, [H, W] or [H, W, C]; in floats what is not finite counts as 0.
        path: names the file in messages.
        bits: how many bits of an integer are significant, where the file says so: the low ones, or, where there are
            higher values, the high ones of 16. None: integers have the smallest of DEPTHS that holds all but STRAY of
            them, which is told where it is less than 16; floats reach to 1, to 255, or as far as integers.

    Returns:
        uint8 of the same shape.

    Raises:
        UnclearError: the values are negative, of more than 16 bits, or floats of neither scale.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values * np.uint8(255)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if bits is None:
        white = _white_of(values, path)
    else:
        white = 2**bits - 1 if values.max(initial=0) < 2**bits else 65535
    if values.dtype == np.uint16:
        return cv2.convertScaleAbs(values, alpha=255.0 / white)
    return np.rint(values * (255.0 / white)).clip(0, 255).astype(np.uint8)


def _white_of(values: np.ndarray, path: Path) -> int:
    """The value of white by the brightest pixels; told where it is a guess."""
    stray = max(3, int(STRAY * values.size))  # in colour a pixel has three
    floats = values.dtype.kind == "f"
    usual, slack = ((1, 255), OVERSHOOT) if floats else ((65535,), 1)
    whites = sorted({*usual, *(2**bits - 1 for bits in DEPTHS)})
    white = next((white for white in whites if np.count_nonzero(values > white * slack) <= stray), None)
    highest, lowest = values.max(initial=0), values.min(initial=0)
    negative = lowest < 0 and np.count_nonzero(values < (1 - slack) * highest) > stray
    if white is None or negative or (floats and white == 255 and highest < DIMMEST):
        raise UnclearError(
            f"{path} holds values from {lowest:g} to {highest:g}: save it with 8 or 16 bits, or as floats of 0 to 1"
        )
    if highest > 0 and white not in usual:
        brightest = values[values <= white].max(initial=0)
        kind = f"read as {white.bit_length()} bits, by the brightest pixels (save with 8 bits what becomes too bright)"
        REMARKS.add(kind, path, f"brightest value {brightest:g}")
    return white
