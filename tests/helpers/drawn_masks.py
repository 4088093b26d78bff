"""Drawn pairs of masks in the shapes of discs, vessels and lesions."""

import cv2
import numpy as np

SHAPE = (200, 240)


def disc(column: int = 100, row: int = 100, radius: int = 30, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A filled circle, bool [H, W]."""
    return cv2.circle(np.zeros(shape, np.uint8), (column, row), radius, 1, -1).astype(bool)


def vessels(seed: int, shift: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A tree of vessels that become thinner from branch to branch, bool [H, W]."""
    generator, mask = np.random.default_rng(seed), np.zeros(shape, np.uint8)
    branches = [(shape[1] / 2, shape[0] / 2, angle, 24, 4) for angle in np.arange(0, 6, 1.2)]
    while branches:
        x, y, angle, steps, width = branches.pop()
        angles = angle + np.cumsum(generator.normal(0, 0.12, steps))
        points = np.stack((x + np.cumsum(2 * np.cos(angles)), y + np.cumsum(2 * np.sin(angles))), axis=1)
        cv2.polylines(mask, [np.rint(points).astype(np.int32) + shift], isClosed=False, color=1, thickness=width)
        if width > 1:
            branches += [(*points[-1], angles[-1] + turn, int(steps * 0.7), width - 1) for turn in (0.5, -0.5)]
    return mask.astype(bool)


def lesions(seed: int, number: int = 20, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Ellipses of up to 8 pixels' radius anywhere in the picture, bool [H, W]."""
    generator, mask = np.random.default_rng(seed), np.zeros(shape, np.uint8)
    for _ in range(number):
        column, row, *axes = (int(generator.integers(high)) for high in (shape[1], shape[0], 9, 9))
        cv2.ellipse(mask, (column, row), axes, float(generator.uniform(0, 180)), 0, 360, 1, -1)
    return mask.astype(bool)


def drawn_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predictions and truths, bool [H, W], by names."""
    corner = np.zeros(SHAPE, bool)
    corner[:60, :80] = True
    return {
        "disc": (disc(103, 100, 32), disc()),
        "disc and speck": (disc() | disc(220, 180, 3), disc()),
        "displaced vessels": (vessels(1, shift=1), vessels(1)),
        "broken vessels": (vessels(2) & ~lesions(5, 40), vessels(2) | vessels(3)),
        "lesions": (lesions(1) | lesions(3, 3), lesions(1) ^ lesions(2, 4)),
        "at the border": (corner, np.roll(corner, 10, axis=1)),
    }
