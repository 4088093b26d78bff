"""Shapes of known size, as masks: pixels whose middles lie in them."""

import math
from collections.abc import Callable

import numpy as np
from scipy.spatial import KDTree

Place = tuple[float, float]  # x and y, where (0, 0) is the middle of the first pixel


def grid(side: int, centre: Place) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each pixel from a centre: [side, side]."""
    y, x = np.mgrid[:side, :side].astype(float)
    return x - centre[0], y - centre[1]


def bar(side: int, centre: Place, *, width: float, length: float, degrees: float) -> np.ndarray:
    """A bar that rises by an angle to the right."""
    x, y = grid(side, centre)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (np.abs(x * cosine - y * sine) <= length / 2) & (np.abs(x * sine + y * cosine) <= width / 2)


def ellipse(side: int, centre: Place, radii: tuple[float, float]) -> np.ndarray:
    """An ellipse of a horizontal and a vertical radius."""
    x, y = grid(side, centre)
    return (x / radii[0]) ** 2 + (y / radii[1]) ** 2 <= 1


def arc(side: int, centre: Place, *, radius: float, width: float, degrees: float) -> np.ndarray:
    """A ring, or a part of one."""
    x, y = grid(side, centre)
    return (np.abs(np.hypot(x, y) - radius) <= width / 2) & (np.degrees(np.arctan2(y, x)) % 360 <= degrees)


def curve(side: int, path: Callable[[np.ndarray], np.ndarray], *, start: float, end: float, width: float) -> np.ndarray:
    """A line of some width along y = path(x)."""
    x = np.linspace(start, end, 20 * side)
    pixels = np.stack(np.mgrid[:side, :side][::-1], axis=-1).reshape(-1, 2)
    apart, _ = KDTree(np.stack((x, path(x)), axis=1)).query(pixels, distance_upper_bound=width)
    return (apart <= width / 2).reshape(side, side)


def spokes(side: int, centre: Place, widths: list[float], *, start: float, end: float, turn: float = 7) -> np.ndarray:
    """Bars from one distance to another around a centre, at equal angles from the first."""
    mask = np.zeros((side, side), bool)
    for i, width in enumerate(widths):
        degrees = turn + 360 * i / len(widths)
        middle, angle = (start + end) / 2, math.radians(degrees)
        place = centre[0] + middle * math.cos(angle), centre[1] - middle * math.sin(angle)
        mask |= bar(side, place, width=width, length=end - start, degrees=degrees)
    return mask
