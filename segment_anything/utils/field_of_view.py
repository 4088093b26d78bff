"""The circular field of view of a fundus photograph."""

import cv2
import numpy as np

WORKING_SIDE = 512
MIN_AREA_FRACTION = 0.1


def find_fov(image: np.ndarray) -> tuple[int, int, int, int]:
    """Bounding box of the field of view of an RGB uint8 photograph [H, W, 3].

    Returns (top, left, bottom, right) in pixels, half-open. The whole picture is returned where no bright
    region fills at least a tenth of it (a black or a strongly cropped picture).
    """
    height, width = image.shape[:2]
    inside = _largest_bright_region(_small(image))
    if inside.mean() < MIN_AREA_FRACTION:
        return 0, 0, height, width
    top, bottom = _extent(inside.sum(axis=1))
    left, right = _extent(inside.sum(axis=0))
    sy, sx = height / inside.shape[0], width / inside.shape[1]
    return int(top * sy), int(left * sx), min(height, round(bottom * sy)), min(width, round(right * sx))


def fov_mask(image: np.ndarray) -> np.ndarray:
    """Pixels inside the field of view of an RGB uint8 photograph [H, W, 3]: bool [H, W], convex.

    All pixels where no bright region fills at least a tenth of the picture.
    """
    height, width = image.shape[:2]
    region = _largest_bright_region(_small(image))
    if region.mean() < MIN_AREA_FRACTION:
        return np.ones((height, width), bool)
    outlines, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(outlines))
    filled = cv2.fillConvexPoly(np.zeros(region.shape, np.uint8), hull, 1)
    return cv2.resize(filled, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


def _small(image: np.ndarray) -> np.ndarray:
    """The picture with a longer side of at most WORKING_SIDE."""
    height, width = image.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _largest_bright_region(image: np.ndarray) -> np.ndarray:
    """Largest connected region brighter than the dark surround: bool [h, w]."""
    red, green, blue = cv2.split(image)
    brightness = cv2.GaussianBlur(cv2.max(cv2.max(red, green), blue), (5, 5), 0)
    # a share of the picture's own brightness finds dark photographs; the limits keep sensor noise out of the
    # region and the dim rim of a bright photograph in it
    threshold = np.clip(0.12 * np.percentile(brightness, 95), 8, 25)
    bright = cv2.morphologyEx((brightness > threshold).astype(np.uint8), cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    if len(stats) == 1:
        return np.zeros(bright.shape, bool)
    return labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


def _extent(profile: np.ndarray) -> tuple[int, int]:
    """First and last + 1 position whose count passes 4 % of the largest (specks at the rim do not widen it)."""
    filled = np.flatnonzero(profile > 0.04 * profile.max())
    return int(filled[0]), int(filled[-1]) + 1
