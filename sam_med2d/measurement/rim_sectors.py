"""Rim-to-disc ratios: width of the neuroretinal rim by diameter of the optic disc in the same direction.

This is the ratio of the disc damage likelihood scale (Spaeth et al. 2002), which is read at the thinnest place. Here it
is the mean of each quadrant, too, for the ISNT rule (Jonas et al. 1988).
"""

import numpy as np
from scipy.ndimage import map_coordinates, uniform_filter1d

from sam_med2d.measurement.zones import DiscCircle

RAYS = 720  # from the centre of the disc
STEP = 0.25  # pixels between the samples of a ray
QUADRANTS = {"right": 0, "superior": 90, "left": 180, "inferior": 270}  # degrees of their middles, counterclockwise
THINNEST = 10  # degrees that the thinnest place has
SIDES = {"R": {"nasal": "right", "temporal": "left"}, "L": {"nasal": "left", "temporal": "right"}}  # of either eye


def rim_ratios(disc: np.ndarray, cup: np.ndarray, circle: DiscCircle) -> dict[str, float]:
    """Rim-to-disc ratios of quadrants of 90 degrees, and of the thinnest 10 degrees.

    Args:
        disc: bool [H, W].
        cup: bool [H, W]; what lies beyond the disc does not count.
        circle: of the disc, in whose centre the quadrants meet.

    Returns:
        {"right", "superior", "left", "inferior", "thinnest": ratio}; 0.5 where there is no cup.
    """
    rows, columns = np.nonzero(disc)
    along = np.arange(0, circle.distance(columns, rows).max() + 2, STEP)
    angles = np.radians(np.arange(RAYS) * 360 / RAYS)[:, None]
    places = circle.y - np.sin(angles) * along, circle.x + np.cos(angles) * along
    radius, rim = _lengths(disc, places), _lengths(disc & ~cup, places)
    ratios = rim / (radius + np.roll(radius, RAYS // 2))
    quarter = RAYS // 4
    means = {
        name: float(np.roll(ratios, quarter // 2 - middle * RAYS // 360)[:quarter].mean())
        for name, middle in QUADRANTS.items()
    }
    return means | {"thinnest": float(uniform_filter1d(ratios, THINNEST * RAYS // 360, mode="wrap").min())}


def _lengths(mask: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Pixels that rays, row and column [RAYS, n], run through a mask, to a part of one: [RAYS]."""
    level = map_coordinates(mask.astype(np.float32), places, order=1, mode="grid-constant")
    return STEP * (level.sum(axis=1) - level[:, 0] / 2)
