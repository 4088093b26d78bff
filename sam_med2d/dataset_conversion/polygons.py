"""Polygons <-> masks, in COCO's frame: (0, 0) is the top-left corner of the first pixel, whose middle is (0.5, 0.5).

Contours are polygons of pixels, as OpenCV has them: the pixels on them belong to the mask.
"""

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
        add_polygon(mask, polygon)
    return mask


def snapped(polygon: np.ndarray) -> np.ndarray:
    """A polygon [n, 2] with its corners moved to fifths of a pixel, as pycocotools (`rleFrPoly`) fills them.

    Corners on half pixels, which `skimage.measure.find_contours` gives, then have the same pixels on their left and
    top sides as there. Whole numbers stay.
    """
    return np.trunc(5 * np.asarray(polygon, np.float64) + 0.5) / 5


def add_polygon(mask: np.ndarray, polygon: np.ndarray) -> bool:
    """Add the pixels of a polygon to a mask, as `rasterize` does.

    Each edge turns over all pixels below it, once in each column whose middle it crosses.

    Args:
        mask: bool [H, W], is changed.
        polygon: points x, y, float [n, 2].

    Returns:
        Whether the polygon has any pixel.
    """
    (height, width), points = mask.shape, np.asarray(polygon, np.float64)
    following = np.roll(points, -1, axis=0)
    forwards = points[:, :1] <= following[:, :1]
    x0, y0 = np.where(forwards, points, following).T
    x1, y1 = np.where(forwards, following, points).T
    first, end = (np.ceil(x - 0.5).clip(0, width).astype(int) for x in (x0, x1))
    edge = np.repeat(np.arange(len(points)), end - first)
    if not len(edge):
        return False
    column = np.arange(len(edge)) - np.repeat(np.cumsum(end - first) - (end - first), end - first) + first[edge]
    y = y0[edge] + (column + 0.5 - x0[edge]) * ((y1 - y0) / np.maximum(x1 - x0, 1e-12))[edge]
    row = np.ceil(y - 0.5).clip(0, height).astype(int)
    left, top, right, bottom = column.min(), row.min(), column.max() + 1, row.max()  # below, all is turned back
    turns = np.bincount((row - top) * (right - left) + column - left, minlength=(bottom - top + 1) * (right - left))
    odd = turns.reshape(-1, right - left)[:-1] & 1
    inside = np.cumsum(odd, axis=0, dtype=np.uint8) % 2 == 1
    mask[top:bottom, left:right] |= inside
    return bool(inside.any())


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


def fill_contours(contours: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels on contours [n, 2] (column, row) and, by the even-odd rule, inside of them, bool [height, width]."""
    mask = np.zeros(size, np.uint8)
    if len(contours):
        cv2.fillPoly(mask, [np.asarray(contour, np.int32) for contour in contours], 1)
    return mask.astype(bool)


def single_contours(mask: np.ndarray) -> list[np.ndarray]:
    """One contour, int [n, 2], of each 8-connected component of a mask [H, W]; `fill_contours` of each gives it back.

    A hole is joined to the outer contour by the shortest way there and back over pixels of the component.
    """
    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours, parents = [contour[:, 0] for contour in contours], [] if tree is None else tree[0, :, 3].tolist()
    holes: dict[int, list[np.ndarray]] = {i: [] for i, parent in enumerate(parents) if parent < 0}
    for contour, parent in zip(contours, parents, strict=True):
        if parent >= 0:
            holes[parent].append(contour)
    return [_turns(_with_holes(contours[i], inner, mask)) for i, inner in holes.items()]


def _turns(points: np.ndarray) -> np.ndarray:
    """A contour of neighbouring pixels without those on a straight line; one pixel stays."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)] if len(points) > 1 else points
    turns = (points - np.roll(points, 1, axis=0) != np.roll(points, -1, axis=0) - points).any(axis=1)
    return points[turns] if len(points) > 1 else points


def _with_holes(outer: np.ndarray, holes: Sequence[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """An outer contour, with the way to each hole and back where it begins on it."""
    if not holes:
        return outer
    first, end = outer.min(axis=0), outer.max(axis=0) + 1
    ways = _ways(outer - first, [hole[0] - first for hole in holes], mask[first[1] : end[1], first[0] : end[0]])
    ways = [way + first for way in ways]
    inserted: dict[int, list[np.ndarray]] = {}
    for hole, way in zip(holes, ways, strict=True):
        at = int(np.flatnonzero((outer == way[0]).all(axis=1))[0])
        inserted.setdefault(at, []).extend((way, hole, hole[:1], way[::-1]))
    parts, last = [], 0
    for at in sorted(inserted):
        parts += [outer[last : at + 1], *inserted[at]]
        last = at
    return np.concatenate([*parts, outer[last:]])


def _ways(outer: np.ndarray, ends: Sequence[np.ndarray], mask: np.ndarray) -> list[np.ndarray]:
    """The shortest way from the outer contour to each of these pixels over those of the mask, int [n, 2]."""
    from scipy.sparse import csr_array  # no --help waits for it
    from scipy.sparse.csgraph import breadth_first_order

    rows, columns = np.nonzero(mask)
    number = np.full((mask.shape[0] + 2, mask.shape[1] + 2), -1)
    number[rows + 1, columns + 1] = np.arange(len(rows))
    starts = number[outer[:, 1] + 1, outer[:, 0] + 1]
    pairs = [(np.full(len(starts), len(rows)), starts)]  # one more node, from which all ways begin
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = number[rows + 1 + down, columns + 1 + right]
        pairs.append((np.flatnonzero(other >= 0), other[other >= 0]))
    first, second = map(np.concatenate, zip(*pairs, strict=True))
    graph = csr_array((np.ones(len(first), np.int8), (first, second)), shape=(len(rows) + 1,) * 2)
    _, before = breadth_first_order(graph, len(rows), directed=False)
    found = []
    for x, y in ends:
        way = [number[y + 1, x + 1]]
        while before[way[-1]] != len(rows):
            way.append(before[way[-1]])
        found.append(np.stack([columns[way[::-1]], rows[way[::-1]]], axis=1))
    return found
