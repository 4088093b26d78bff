"""Masks as arrays: resizing that keeps small structures, bounding boxes, components."""

import cv2
import numpy as np


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a {0, 1} uint8 mask [h, w] to `size` (height, width) so that thin and small structures survive.

    The mask is area-averaged and cut at the level that keeps its total area (between 0.2 and 0.5, so that
    vessels of half a pixel stay); each connected component that this would remove keeps its most central pixel.
    """
    height, width = size
    if mask.shape == (height, width) or not mask.any():
        return mask if mask.shape == (height, width) else np.zeros(size, np.uint8)
    shrinks = height < mask.shape[0] or width < mask.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    coverage = cv2.resize(mask.astype(np.float32), (width, height), interpolation=method)
    level = _level(coverage) if shrinks else 0.5
    return _restore_components((coverage >= level).astype(np.uint8), mask)


def _level(coverage: np.ndarray, lowest: float = 0.2, highest: float = 0.5) -> float:
    """The coverage, between the two, from which on as many pixels are kept as keeps the area of `coverage` [h, w]."""
    keep = max(1, round(float(coverage.sum())))
    candidates = coverage[coverage > lowest]  # the many zeros would be most of the work
    if keep > len(candidates):
        return lowest
    return min(float(np.partition(candidates, -keep)[-keep]), highest)


def _restore_components(small: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Set the most central pixel of each 8-connected component of `mask` that has no pixel in `small`."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    y, x = np.nonzero(mask)
    label = labels[y, x]
    # where the centres of the pixels lie
    small_y, small_x = ((2 * i + 1) * s // (2 * m) for i, s, m in zip((y, x), small.shape, mask.shape, strict=True))
    lost = np.bincount(label, small[small_y, small_x], minlength=count) == 0
    lost[0] = False
    of_lost = lost[label]
    label, small_y, small_x = label[of_lost], small_y[of_lost], small_x[of_lost]
    pixels = np.maximum(np.bincount(label, minlength=count), 1)
    centre_y, centre_x = (np.bincount(label, i, minlength=count) / pixels for i in (small_y, small_x))
    order = np.lexsort((np.hypot(small_y - centre_y[label], small_x - centre_x[label]), label))
    central = order[np.unique(label[order], return_index=True)[1]]
    small[small_y[central], small_x[central]] = 1
    return small


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Half-open box x0, y0, x1, y1 of a non-empty mask [H, W]. Raises ValueError for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("An empty mask has no bounding box.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Largest 8-connected component of a {0, 1} uint8 mask [H, W]; of equal ones the first in reading order."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    area = stats[1:, cv2.CC_STAT_AREA]
    if len(area) < 2:
        return mask
    tied = 1 + np.flatnonzero(area == area.max())
    first = tied[0] if len(tied) == 1 else labels.ravel()[np.isin(labels, tied).argmax()]
    return (labels == first).astype(np.uint8)
