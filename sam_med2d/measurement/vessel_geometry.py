"""Width and tortuosity of vessels, along a smooth line through the middle of each.

Widths are those of orthogonal profiles: from the middle to both sides up to where the mask, interpolated between
pixels, falls below a half. The mean along a vessel is exact to 0.1 pixels, except along rows, columns and diagonals,
where the raster decides; the median of one straight vessel is up to 0.4 pixels off, as the raster repeats itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import splev, splprep
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from sam_med2d.measurement.vessel_segments import Skeleton

SPREAD = 1 / 6  # mean squared distance of a skeleton's pixels from the middle of the vessel: 1 / 12 in either direction
LEAST_PIXELS = 10  # of a segment that is measured
LEAST_WIDTHS = 2  # length of a segment that is measured, in its widths
STEP = 0.25  # pixels between the samples of a profile
BRANCHING = 2  # distance from a branching, in its radii, from which on a vessel has its own width


@dataclass(frozen=True)
class CentreLine:
    """A vessel between two branchings, crossings or ends, at about every pixel of its length.

    Attributes:
        points: float [n, 2], x and y in pixels, where (0, 0) is the middle of the first one.
        widths: float [n], in pixels; NaN near branchings and where no edge is found.
        curvature: float [n], 1 / radius in pixels.
        steps: float [n], length of the part that each point stands for, in pixels.
    """

    points: np.ndarray
    widths: np.ndarray
    curvature: np.ndarray
    steps: np.ndarray

    @property
    def length(self) -> float:
        """Along the line, in pixels."""
        return float(self.steps.sum())

    @property
    def tortuosity(self) -> float:
        """Length by distance of the ends (Lotmar et al. 1979); NaN for a closed line."""
        chord = float(np.linalg.norm(self.points[-1] - self.points[0]))
        return self.length / chord if chord >= 1 else math.nan


def centre_lines(mask: np.ndarray, skeleton: Skeleton) -> list[CentreLine]:
    """The vessels of a mask, bool [H, W], and its skeleton that are long enough to be measured."""
    level = mask.astype(np.float32)
    lines = [_line(pixels, level, skeleton) for pixels in skeleton.segments if len(pixels) >= LEAST_PIXELS]
    return [line for line in lines if not line.length < LEAST_WIDTHS * mean(line.widths)]


def _line(pixels: np.ndarray, level: np.ndarray, skeleton: Skeleton) -> CentreLine:
    """A smoothing spline through the pixels of a segment, and what is measured along it."""
    x, y = pixels[:, ::-1].T.astype(float)
    closed = bool((pixels[0] == pixels[-1]).all())
    knots, _ = splprep((x, y), s=len(pixels) * SPREAD, per=closed)
    points, first, second = (np.stack(splev(np.linspace(0, 1, len(pixels)), knots, der), axis=1) for der in range(3))
    speed = np.maximum(np.linalg.norm(first, axis=1), 1e-9)
    curvature = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / speed**3
    halves = np.pad(np.linalg.norm(np.diff(points, axis=0), axis=1) / 2, 1)
    normals = np.stack((-first[:, 1], first[:, 0]), axis=1) / speed[:, None]
    return CentreLine(points, _widths(points, normals, level, skeleton), curvature, halves[1:] + halves[:-1])


def _widths(points: np.ndarray, normals: np.ndarray, level: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Widths across a line, [n]; NaN near branchings and without an edge."""
    nearest = points[:, ::-1].round().astype(int).clip(0, np.array(level.shape) - 1)
    reach = 2 * float(skeleton.depth[tuple(nearest.T)].max()) + 2
    widths = sum(_edge(points, side * normals, level, reach) for side in (1, -1))
    if len(skeleton.junctions):
        apart, which = KDTree(skeleton.junctions[:, ::-1]).query(points)
        widths[apart < BRANCHING * skeleton.depth[tuple(skeleton.junctions.T)][which]] = math.nan
    return widths


def _edge(points: np.ndarray, direction: np.ndarray, level: np.ndarray, reach: float) -> np.ndarray:
    """Distances from points to the mask's edge, each in its direction, [n]; NaN where it is not within reach."""
    along = np.arange(0, reach + STEP, STEP)
    x, y = (points[:, i, None] + direction[:, i, None] * along for i in (0, 1))
    profile = map_coordinates(level, (y, x), order=1, mode="grid-constant")
    rows, first = np.arange(len(points)), (profile < 0.5).argmax(axis=1)
    inner, outer = profile[rows, first - 1], profile[rows, first]
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = along[first - 1] + STEP * (inner - 0.5) / (inner - outer)
    return np.where(first > 0, edge, math.nan)


def mean(values: np.ndarray) -> float:
    """Of the values that are known; NaN without one."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def summarise(lines: Sequence[CentreLine]) -> dict[str, float]:
    """What the vessels of a photograph are like; NaN where nothing is measured.

    Returns:
        width_mean_px and width_median_px of all places along the vessels; tortuosity, the median of length by distance
        of the ends; curvature_per_px, the integral of the curvature by the length (Hart et al. 1999), both over all.
    """
    widths = np.concatenate([line.widths for line in lines] or [np.zeros(0)])
    ratios = np.array([line.tortuosity for line in lines])
    length = sum(line.length for line in lines)
    turn = sum(float((line.curvature * line.steps).sum()) for line in lines)
    return {
        "width_mean_px": mean(widths),
        "width_median_px": _median(widths),
        "tortuosity": _median(ratios),
        "curvature_per_px": turn / length if length else math.nan,
    }


def _median(values: np.ndarray) -> float:
    """Of the values that are known; NaN without one."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else math.nan
