"""Zones B and C around the optic disc, in which vessels are measured.

Zone B reaches from 0.5 to 1.0 disc diameters from the disc's margin (Hubbard et al. 1999, Knudtson et al. 2003), zone C
from 0.5 to 2.0 (Cheung et al. 2010). The margin is a circle around the centroid of the disc, with the disc's area.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

ZONES = {"b": (0.5, 1.0), "c": (0.5, 2.0)}  # from the margin, in disc diameters
EDGE_SHARE = 0.05  # of a disc's outline at the edge of the field of view, from which on a part of the disc is hidden


@dataclass(frozen=True)
class DiscCircle:
    """The circle that stands for a disc."""

    x: float  # of its centre in pixels, where 0 is the middle of the first one
    y: float
    diameter: float  # in pixels

    def radii(self, zone: str) -> tuple[float, float]:
        """Inner and outer radius of a zone, "b" or "c", in pixels."""
        first, last = ZONES[zone]
        return (0.5 + first) * self.diameter, (0.5 + last) * self.diameter

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How far places lie from the centre, in pixels."""
        return np.hypot(x - self.x, y - self.y)

    def zone(self, zone: str, shape: tuple[int, int]) -> np.ndarray:
        """The pixels of a zone in a photograph of this (height, width), bool [H, W]."""
        inner, outer = self.radii(zone)
        distance = self.distance(np.arange(shape[1])[None], np.arange(shape[0])[:, None])
        return (distance >= inner) & (distance < outer)

    def area(self, zone: str) -> float:
        """Of a whole zone, in pixels."""
        inner, outer = self.radii(zone)
        return math.pi * (outer**2 - inner**2)


def find_disc(disc: np.ndarray, inside: np.ndarray) -> tuple[DiscCircle | None, str]:
    """The circle of a disc; None without a disc, for one in several parts and, with a reason, for one that is cut off.

    Args:
        disc: bool [H, W].
        inside: bool [H, W], the field of view.
    """
    outlines, _ = cv2.findContours(disc.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(outlines) != 1:
        return None, ""  # noted where the disc is measured
    within = cv2.erode(np.pad(inside, 1).astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    x, y = outlines[0][:, 0].T
    if (within[y, x] == 0).mean() > EDGE_SHARE:
        return None, "optic_disc at the edge of the field of view: no zones and rims"
    filled = cv2.drawContours(np.zeros(disc.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    rows, columns = np.nonzero(filled)
    return DiscCircle(float(columns.mean()), float(rows.mean()), 2 * math.sqrt(len(rows) / math.pi)), ""
