"""Fractal dimension of vessels by counting boxes."""

import math
from collections.abc import Sequence

import numpy as np

SIDES = tuple(1 / 2**k for k in range(2, 8))  # of boxes, in shares of the longer side of the field of view
LEAST_SIDE = 2.0  # of boxes, pixels
LEAST_SIZES = 4  # that a line is drawn through


def fractal_dimension(lines: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """Box-counting dimension of the centre lines of vessels, whatever the photograph's size.

    Args:
        lines: bool [H, W].
        box: (top, left, bottom, right) of the field of view, half-open pixels.

    Returns:
        The dimension; NaN without a pixel, or where the field of view is smaller than 64 pixels.
    """
    top, left, bottom, right = box
    sizes = [side * max(bottom - top, right - left) for side in SIDES]
    return box_dimension(lines[top:bottom, left:right], [size for size in sizes if size >= LEAST_SIDE])


def box_dimension(mask: np.ndarray, sizes: Sequence[float]) -> float:
    """The slope of log(number of boxes with a pixel of the mask) over log(1 / size), by least squares.

    Args:
        mask: bool [H, W]; the first box begins at its corner.
        sizes: sides of the boxes, in pixels.

    Returns:
        The dimension; NaN without a pixel, or for fewer than LEAST_SIZES sizes.
    """
    pixels = np.argwhere(mask)
    if len(sizes) < LEAST_SIZES or not len(pixels):
        return math.nan
    counts = []
    for size in sizes:
        row, column = np.floor((pixels + 0.5) / size).astype(int).T
        counts.append(len(np.unique(row * (mask.shape[1] + 1) + column)))
    return float(-np.polyfit(np.log(sizes), np.log(counts), 1)[0])
