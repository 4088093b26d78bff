"""Photograph-like pictures, and the rules that bring them into a model's frame."""

import cv2
import numpy as np

from segment_anything.preprocessing import Preprocessing

PREPROCESSINGS = [
    Preprocessing(64, "fundus"),
    Preprocessing(64, "fundus", mask_prompt="logits"),
    Preprocessing(64, "sam_med2d", "bgr"),
    Preprocessing(64, "sam_med2d", "rgb", mask_prompt="logits"),
]


def photograph(height: int, width: int) -> np.ndarray:
    """A reddish disc with texture on black, RGB: its channels differ, and its surround is to be cropped."""
    rng = np.random.default_rng(height * width)
    image = np.zeros((height, width, 3), np.uint8)
    centre, radius = (width // 2, height // 2), int(0.45 * min(height, width))
    cv2.circle(image, centre, radius, (200, 90, 40), -1)
    texture = rng.integers(0, 40, image.shape, np.uint8)
    return image + np.where(image > 0, texture, 0).astype(np.uint8)


def texture(seed: int, size: int = 96) -> np.ndarray:
    """A photograph-like picture, RGB uint8: details of several sizes in a round field of view with a black surround."""
    rng, grey = np.random.default_rng(seed), np.zeros((size, size))
    for cells in (4, 8, 16, 32):
        grey += cv2.resize(rng.normal(size=(cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = np.hypot(y, x) < 0.45 * size
    return np.where(inside, np.clip(120 + 25 * grey, 40, 255), 0)[..., None].repeat(3, 2).astype(np.uint8)
