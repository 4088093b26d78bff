"""What people put around a retina: other surrounds, margins, and cuts."""

from collections.abc import Iterator

import numpy as np


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def _filled(colour: tuple[float, float, float], noise: float = 0):
    """A function that gives what is outside of a field of view a colour, with noise of this standard deviation."""

    def fill(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
        surround = np.random.default_rng(0).normal(colour, noise, image.shape).clip(0, 255).astype(np.uint8)
        return np.where(inside[..., None], image, surround)

    return fill


# Each takes a photograph and its field of view; a transparent surround becomes black when it is read.
SURROUNDS = {
    "plain": lambda image, inside: image,
    "black": _filled((0, 0, 0)),
    "white": _filled((255, 255, 255)),
    "grey": _filled((128, 128, 128)),
    "greenish": _filled((40, 60, 50), 4),
    "dark noise": _filled((20, 20, 20), 12),
    "grey noise": _filled((128, 128, 128), 20),
}


def margins(image: np.ndarray, inside: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The photograph in a frame of 20 pixels of black, white and grey: name, picture, field of view."""
    truth = np.pad(inside, 20)
    for name, colour in (("black", 0), ("white", 255), ("grey", 128)):
        yield f"{name} margin", np.pad(image, ((20, 20), (20, 20), (0, 0)), constant_values=colour), truth


def halves(image: np.ndarray, inside: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Half of the photograph cropped, or painted over with black and white: name, picture, field of view."""
    height, width = inside.shape
    upper, left = np.s_[: height // 2], np.s_[:, : width // 2]
    lower, right = np.s_[height // 2 :], np.s_[:, width // 2 :]
    for name, kept, gone in (
        ("upper", upper, lower),
        ("lower", lower, upper),
        ("left", left, right),
        ("right", right, left),
    ):
        yield f"{name} half", np.ascontiguousarray(image[kept]), inside[kept]
        for colour in (0, 255):
            picture, truth = image.copy(), inside.copy()
            picture[gone], truth[gone] = colour, False
            yield f"{name} half on {colour}", picture, truth
