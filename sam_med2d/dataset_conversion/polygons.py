"""Polygons <-> masks, in COCO's frame: (0, 0) is the top-left corner of the first pixel, whose middle is (0.5, 0.5)."""

from collections.abc import Sequence

import cv2
import numpy as np


def rasterize(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Union of polygons: the pixels, bool [height, width], whose middle lies inside, by the even-odd rule.

    Args:
        polygons: points x, y, float [n, 2]; they may leave the picture, what is outside is cut off.
        size: (height, width).
    """
    mask = np.zeros(size, bool)
    for polygon in polygons:
        mask |= _one(np.asarray(polygon, np.float64), size)
    return mask


def snapped(polygon: np.ndarray) -> np.ndarray:
    """A polygon [n, 2] with its corners moved to fifths of a pixel, as pycocotools (`rleFrPoly`) fills them.

    Corners on half pixels, which `skimage.measure.find_contours` gives, then have the same pixels on their left and
    top sides as there. Whole numbers stay.
    """
    return np.trunc(5 * np.asarray(polygon, np.float64) + 0.5) / 5


def _one(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each edge turns over all pixels below it, once in each column whose middle it crosses."""
    height, width = size
    following = np.roll(points, -1, axis=0)
    forwards = points[:, :1] <= following[:, :1]
    x0, y0 = np.where(forwards, points, following).T
    x1, y1 = np.where(forwards, following, points).T
    first, end = (np.ceil(x - 0.5).clip(0, width).astype(int) for x in (x0, x1))
    edge = np.repeat(np.arange(len(points)), end - first)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(end - first) - (end - first), end - first) + first[edge]
    y = y0[edge] + (column + 0.5 - x0[edge]) * ((y1 - y0) / np.maximum(x1 - x0, 1e-12))[edge]
    row = np.ceil(y - 0.5).clip(0, height).astype(int)
    turns = np.bincount(row * width + column, minlength=(height + 1) * width).reshape(height + 1, width)
    return np.cumsum(turns[:height] & 1, axis=0, dtype=np.uint8) % 2 == 1


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons, int [n, 2], that follow the pixels' sides, one for each 8-connected component of a mask [H, W].

    `rasterize` gives the mask back. A hole is joined to its component's outer side by a line there and back.
    """
    return [joined(outer, holes) for outer, *holes in _sides(mask)]


def rings(mask: np.ndarray) -> list[list[np.ndarray]]:
    """For each 4-connected component of a mask [H, W] its outer side and its holes, int [n, 2].

    Rings of one component touch in points alone, and none touches itself: these are valid polygons in GIS.
    """
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    found = []
    for label, (left, top, width, height, _) in enumerate(boxes[1:].tolist(), start=1):
        [sides] = _sides(labels[top : top + height, left : left + width] == label)
        found.append([side + np.array((left, top)) for side in sides])
    return found


def _sides(mask: np.ndarray) -> list[list[np.ndarray]]:
    """For each 8-connected component its outer side, then its holes, along the pixels' sides."""
    # Twice as large, no component is thinner than two pixels, and pixels of its border tell left sides from right.
    large = np.repeat(np.repeat(mask.astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    sides = [_corners((contour[:, 0] + 1) // 2) for contour in contours]
    parents = [] if tree is None else tree[0, :, 3].tolist()
    found = {i: [sides[i]] for i, parent in enumerate(parents) if parent < 0}
    for side, parent in zip(sides, parents, strict=True):
        if parent >= 0:
            found[parent].append(side)
    return list(found.values())


def _corners(points: np.ndarray) -> np.ndarray:
    """Without repetitions and points on a straight line."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[np.sign(before[:, 0]) * np.sign(after[:, 0]) + np.sign(before[:, 1]) * np.sign(after[:, 1]) != 1]


def joined(outer: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """One polygon [n, 2] of an outer side and its holes, to which lines lead there and back, for `rasterize`."""
    start = outer[:1]
    return np.concatenate(
        [outer, *(part for hole in holes for part in (start, hole, hole[:1])), *[start][: len(holes)]]
    )
