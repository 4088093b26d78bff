"""The vessels of a mask as centre lines: one piece between two branchings, crossings or ends."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # clockwise, row and column
EIGHT = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
ROUNDS = 3  # twigs that are left out may lay others bare

Pixel = tuple[int, int]  # row, column


@dataclass(frozen=True)
class Skeleton:
    """The centre lines of a mask.

    Attributes:
        lines: bool [H, W], one pixel wide.
        depth: float32 [H, W], distance of a pixel's middle from that of the nearest one outside of the mask.
        junctions: int [J, 2], row and column of the pixels where lines meet.
        segments: int [n, 2] each, row and column of pixels in sequence, with the junctions at their ends; a closed one
            has its first pixel at its end, too.
    """

    lines: np.ndarray
    depth: np.ndarray
    junctions: np.ndarray
    segments: list[np.ndarray]


def find_skeleton(mask: np.ndarray, region: np.ndarray) -> Skeleton:
    """The centre lines of a mask, without the twigs that its uneven outline makes.

    Thinned as in Lee, Kashyap and Chu 1994: of some lines at 45 degrees Zhang and Suen leave a pixel.

    Args:
        mask: bool [H, W].
        region: bool [H, W], where lines are wanted.
    """
    from skimage.morphology import skeletonize  # slow to import

    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    lines = _thinned(skeletonize(mask, method="lee") & region)
    for _ in range(ROUNDS):
        junctions = lines & (_neighbours(lines) >= 3)
        segments = list(_segments(lines, junctions))
        twigs = [segment for segment in segments if _is_twig(segment, lines, junctions, depth)]
        if not twigs:
            break
        for twig in twigs:
            lines[tuple(twig[~junctions[tuple(twig.T)]].T)] = False
        lines = _thinned(lines)
    return Skeleton(lines, depth, np.argwhere(junctions), segments)


def _neighbours(lines: np.ndarray) -> np.ndarray:
    """How many of the eight pixels around each one belong to the lines, uint8 [H, W]."""
    return cv2.filter2D(lines.astype(np.uint8), -1, EIGHT, borderType=cv2.BORDER_CONSTANT)


def _thinned(lines: np.ndarray) -> np.ndarray:
    """The lines without the pixels of corners that they can do without: what meets in a pixel is a junction then."""
    padded = np.pad(lines, 1)
    pixels = np.argwhere(padded)
    for row, column in pixels[_needless(padded, pixels)]:
        if _needless(padded, np.array([[row, column]]))[0]:  # its neighbours are there still
            padded[row, column] = False
    return padded[1:-1, 1:-1]


def _needless(lines: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Whether pixels, [n, 2], are no ends and leave their neighbours connected without them: bool [n].

    Then the 8-connectivity number of Yokoi, Toriwaki and Fukumura 1975 is 1.
    """
    ring = np.stack([lines[tuple((pixels + step).T)] for step in AROUND], axis=1)
    parts = sum(~ring[:, k] & (ring[:, k + 1] | ring[:, (k + 2) % 8]) for k in (0, 2, 4, 6))
    return (ring.sum(axis=1) >= 2) & (parts == 1)


def _segments(lines: np.ndarray, junctions: np.ndarray) -> Iterator[np.ndarray]:
    """Pixels in sequence between junctions and ends."""
    free = set(map(tuple, np.argwhere(lines & ~junctions).tolist()))
    meeting = set(map(tuple, np.argwhere(junctions).tolist()))
    ends = np.argwhere(lines & ~junctions & (_neighbours(lines & ~junctions) < 2)).tolist()
    for start in [*map(tuple, ends), *sorted(free)]:  # what is left without an end is closed
        if start not in free:
            continue
        path = [start]
        free.remove(start)
        while following := _beside(path[-1], free):
            path.append(following[0])
            free.discard(following[0])
        yield np.array(_with_junctions(path, meeting))


def _beside(pixel: Pixel, pixels: set[Pixel]) -> list[Pixel]:
    """Neighbours of a pixel among others, those that share an edge with it first."""
    row, column = pixel
    around = ((row + down, column + right) for down, right in (*AROUND[::2], *AROUND[1::2]))
    return [place for place in around if place in pixels]


def _with_junctions(path: list[Pixel], junctions: set[Pixel]) -> list[Pixel]:
    """A path with the junctions that it leads to, or closed."""
    first, last = _beside(path[0], junctions), _beside(path[-1], junctions)
    if len(path) == 1:
        return [*first[:1], *path, *[place for place in last if max(abs(np.subtract(place, first[0]))) > 1][:1]]
    if not first and not last and len(path) > 2 and path[-1] in _beside(path[0], {path[-1]}):
        return [*path, path[0]]
    return [*first[:1], *path, *last[:1]]


def _is_twig(segment: np.ndarray, lines: np.ndarray, junctions: np.ndarray, depth: np.ndarray) -> bool:
    """Whether a segment ends freely before it has left the vessel that it branches from by more than its radius."""
    met = junctions[tuple(segment[[0, -1]].T)]
    if met.sum() != 1:
        return False
    length = np.linalg.norm(np.diff(segment, axis=0), axis=1).sum()
    return bool(length <= 2 * depth[tuple(segment[0 if met[0] else -1])])
