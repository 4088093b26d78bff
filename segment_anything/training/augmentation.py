"""Random changes of a photograph and its masks, in the model frame."""

import os
from collections.abc import Sequence

import cv2
import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for a newer version otherwise
import albumentations as A

from ..modeling.sam import PIXEL_MEAN, PIXEL_STD

MIN_PIXELS_KEPT = 4
BLACK = tuple(-mean / std for mean, std in zip(PIXEL_MEAN, PIXEL_STD, strict=True))


class Augmentation:
    """Flips, rotation, scale and shift by albumentations, then focus, exposure, colour balance and gamma.

    Called with an image float32 [3, S, S], masks uint8 [M, S, S] and a Generator; returns the changed image,
    the masks that still show something, and their indexes. If no mask would be left, nothing is changed.
    """

    def __init__(self, surround: Sequence[float] = BLACK) -> None:
        """`surround`: the normalised colour that rotation and shift bring in at the borders."""
        self._transform = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
                A.Affine(scale=(0.8, 1.25), rotate=(-30, 30), translate_percent=(-0.08, 0.08), fill=surround, p=0.8),
            ]
        )

    def __call__(
        self, image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._transform.set_random_seed(int(rng.integers(2**31)))
        changed = self._transform(image=image.transpose(1, 2, 0), masks=masks)
        new_masks = np.stack(changed["masks"])
        pixels = masks.sum((1, 2))
        kept = np.flatnonzero(new_masks.sum((1, 2)) >= np.minimum(pixels, MIN_PIXELS_KEPT).clip(min=1))
        if not len(kept):
            return image, masks, np.arange(len(masks))
        blurred = self._blur(changed["image"], rng)
        return self._light(np.ascontiguousarray(blurred.transpose(2, 0, 1)), rng), new_masks[kept], kept

    @staticmethod
    def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One picture in ten a little out of focus. albumentations' own blur clips floats to 0..1."""
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.2)) if rng.random() < 0.1 else image

    @staticmethod
    def _light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Other exposure, colour balance and gamma; black stays black, as the surround of a photograph does."""
        mean, std = (np.float32(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
        gain = np.float32(rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, (3, 1, 1)))
        share = ((image * std + mean) * (gain / 255)).clip(0, 1)
        return (255 * share ** np.float32(rng.uniform(0.8, 1.25)) - mean) / std
