"""Central retinal artery and vein equivalents (CRAE, CRVE) by the revised formulas of Knudtson et al. 2003."""

import math
from collections.abc import Sequence

import numpy as np

from sam_med2d.measurement.vessel_geometry import CentreLine, mean
from sam_med2d.measurement.zones import DiscCircle

ARTERY, VEIN = 0.88, 0.95  # width of a trunk by the root of the sum of its branches' squared widths
NEEDED = 6  # vessels


def trunk_width(widths: Sequence[float], branching: float) -> float:
    """Width of the trunk of the six widest vessels; NaN where there are fewer.

    The widest is paired with the narrowest, the second widest with the second narrowest and so on; pairs become
    trunks, which are paired again until one is left.

    Args:
        widths: in any unit, which is that of the result.
        branching: ARTERY or VEIN.
    """
    rest = sorted(widths)[-NEEDED:]
    if len(rest) < NEEDED:
        return math.nan
    while len(rest) > 1:
        pairs = [branching * math.hypot(rest[i], rest[-1 - i]) for i in range(len(rest) // 2)]
        rest = sorted([*pairs, *rest[len(pairs) : len(rest) - len(pairs)]])
    return rest[0]


def zone_b_widths(lines: Sequence[CentreLine], disc: DiscCircle) -> list[float]:
    """Mean widths in zone B of the vessels that cross the circle in its middle, so that a branch is not counted twice.

    Args:
        lines: of arteries, or of veins.
        disc: that the zone surrounds.
    """
    inner, outer = disc.radii("b")
    widths = []
    for line in lines:
        distance = disc.distance(*line.points.T)
        if distance.min() < (inner + outer) / 2 <= distance.max():
            widths.append(mean(line.widths[(distance >= inner) & (distance < outer)]))
    return [width for width in widths if not np.isnan(width)]
