"""Random changes of a photograph and its masks: a closer view, position, light, colour, focus, compression."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for a newer version otherwise
import albumentations as A

from segment_anything.modeling.common import PIXEL_MEAN, PIXEL_STD
from segment_anything.preprocessing import Frame, Preprocessing, window_frame

MEAN, STD = (np.float32(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
MIN_PIXELS_KEPT = 4
ZOOMED = 0.45  # share of the photographs that are shown from nearer
CUT = 0.12  # share of the others of which a strip alone is shown, as of photographs that were cut
CUT_SIDES = (0.4, 0.85)  # of the strip, in shares of that side of the photograph
ZOOM_SIDES = (0.2, 0.9)  # of the window, in shares of the photograph's shorter side, alike in logarithm
OTHER_CAMERAS = 0.5  # share of the images that the strong augmentation shows so
MARGIN = 0.1  # of the window, that stays around the structure it was made for


def _standard() -> list[A.BasicTransform]:
    return [
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
        A.Affine(scale=(0.8, 1.25), rotate=(-30, 30), translate_percent=(-0.08, 0.08), keep_ratio=True, p=0.8),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.2), p=0.15),
        A.OneOf([A.Illumination(mode=mode, intensity_range=(0.05, 0.2)) for mode in ("linear", "gaussian")], p=0.4),
        A.MultiplicativeNoise(multiplier=(0.8, 1.2), per_channel=False, p=0.7),  # exposure
        A.MultiplicativeNoise(multiplier=(0.92, 1.08), per_channel=True, p=0.7),  # colour balance
        A.RandomToneCurve(scale=0.1, p=0.3),  # contrast
        A.RandomGamma(gamma_limit=(85, 118), p=0.7),
        A.HueSaturationValue(hue_shift_limit=2, sat_shift_limit=15, val_shift_limit=0, p=0.3),
        A.ImageCompression(quality_range=(50, 95), p=0.2),
    ]


def _strong() -> list[A.BasicTransform]:
    return [
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
        A.Affine(scale=(0.7, 1.35), rotate=(-45, 45), translate_percent=(-0.1, 0.1), keep_ratio=True, p=0.8),
        A.OneOf([A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 2.0)), A.Downscale(scale_range=(0.4, 0.8))], p=0.25),
        A.OneOf([A.Illumination(mode=mode, intensity_range=(0.1, 0.2)) for mode in ("linear", "gaussian")], p=0.6),
        A.MultiplicativeNoise(multiplier=(0.65, 1.35), per_channel=False, p=0.8),  # exposure
        A.MultiplicativeNoise(multiplier=(0.8, 1.25), per_channel=True, p=0.8),  # colour balance
        A.RandomToneCurve(scale=0.2, p=0.4),  # contrast
        A.RandomGamma(gamma_limit=(65, 150), p=0.8),
        A.HueSaturationValue(hue_shift_limit=8, sat_shift_limit=40, val_shift_limit=0, p=0.5),
        A.OneOf([A.ToGray(p=1), A.ChannelDropout(channel_drop_range=(1, 1), p=1)], p=0.12),  # red-free, two lasers
        A.GaussNoise(std_range=(0.01, 0.04), p=0.15),
        A.ImageCompression(quality_range=(35, 95), p=0.25),
    ]


class Augmentation:
    """Changes the model's input: "standard" keeps colours; "strong" shows half the images as other cameras would.

    `zoom` chooses the part of the photograph before it is resized, so that a closer view has more detail. The
    call then changes the image in the model frame, by albumentations on 8-bit RGB: its blur and colour
    transforms clip floats to 0..1. All transforms of light and colour keep black, and what is not photograph
    (the padding, and what rotation and shift bring in) keeps the colour that the preprocessing gives it.
    """

    def __init__(self, preprocessing: Preprocessing, strength: str = "standard") -> None:
        """For the model of this preprocessing, with a strength of `choices.AUGMENTATIONS` but "none"."""
        self._strong = strength == "strong"
        self._zooms = preprocessing.mode == "fundus"  # the other mode always shows the whole photograph
        self._channels = slice(None, None, 1 if preprocessing.channel_order == "rgb" else -1)
        unit = np.zeros_like(MEAN), np.full_like(STD, 255)  # an image in 0..1
        self._mean, self._std = unit if preprocessing.pixel_scale == "unit" else (MEAN, STD)
        self._surround = -self._mean / self._std if preprocessing.mode == "fundus" else np.zeros_like(MEAN)
        self._standard, self._other_cameras = A.Compose(_standard()), A.Compose(_strong())

    def zoom(self, frame: Frame, masks: Sequence[np.ndarray], rng: np.random.Generator) -> Frame:
        """The frame, or one of a part of the photograph: a window that shows a part of one of the masks, or a strip.

        Strips, and windows anywhere in a photograph without a mask, come with the strong augmentation alone.

        Args:
            frame: of the whole photograph.
            masks: uint8 {0, 1} [H, W] of the photograph's size.
            rng: decides.
        """
        if not self._zooms or not (len(masks) or self._strong):
            return frame
        chance = rng.random()
        if chance >= ZOOMED + CUT * self._strong:
            return frame
        mask = masks[rng.integers(len(masks))] if len(masks) else np.ones(frame.original, np.uint8)
        return (zoom_window if chance < ZOOMED else cut_strip)(frame, mask, rng)

    def __call__(
        self, image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Change an image and its masks; nothing is changed if none of the masks would be left.

        Args:
            image: float32 [3, S, S], preprocessed.
            masks: uint8 {0, 1} [M, S, S].
            rng: decides.

        Returns:
            The image; the masks that still show something, [K, S, S]; their indexes, int [K].
        """
        photograph = (image != self._surround).any(0)
        # not set_random_seed: it gives every transform the same seed, and all are applied together or none
        strongly = self._strong and rng.random() < OTHER_CAMERAS
        transform = self._other_cameras if strongly else self._standard
        transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        changed = transform(image=self._to_pixels(image), masks=np.stack([*masks, photograph.astype(np.uint8)]))
        new_masks, photograph = changed["masks"][:-1], changed["masks"][-1]
        pixels = masks.sum((1, 2))
        kept = np.flatnonzero(new_masks.sum((1, 2)) >= np.minimum(pixels, MIN_PIXELS_KEPT).clip(min=1))
        if len(masks) and not len(kept):
            return image, masks, np.arange(len(masks))
        return np.where(photograph, self._from_pixels(changed["image"]), self._surround), new_masks[kept], kept

    def _to_pixels(self, image: np.ndarray) -> np.ndarray:
        """Normalised float32 [3, S, S] -> RGB uint8 [S, S, 3]."""
        pixels = (image * self._std + (self._mean + np.float32(0.5))).astype(np.uint8)  # rounded
        return np.ascontiguousarray(pixels[self._channels].transpose(1, 2, 0))

    def _from_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """The way back."""
        return (np.ascontiguousarray(pixels.transpose(2, 0, 1)[self._channels]) - self._mean) / self._std


def zoom_window(frame: Frame, mask: np.ndarray, rng: np.random.Generator) -> Frame:
    """Frame of a square window around a random pixel of the mask, uint8 {0, 1} [H, W]; the pixel keeps off its border.

    The window lies in the part of the photograph that `frame` uses. A mask outside that part changes nothing.
    """
    height, width = frame.crop_size
    pixels = _pixels_inside(frame, mask)
    if not len(pixels):
        return frame
    side = max(1, round(min(height, width) * np.exp(rng.uniform(*np.log(ZOOM_SIDES)))))
    corner = rng.choice(pixels) - np.floor(side * rng.uniform(MARGIN, 1 - MARGIN, 2)).astype(int)
    y, x = (frame.crop[:2] + np.clip(corner, 0, (height - side, width - side))).tolist()
    return replace(frame, crop=(y, x, y + side, x + side), inner=(0, 0, frame.image_size, frame.image_size))


def cut_strip(frame: Frame, mask: np.ndarray, rng: np.random.Generator) -> Frame:
    """Frame of the part of the photograph before or behind a straight cut, in which a random pixel of the mask lies.

    A mask outside the part that `frame` uses, uint8 {0, 1} [H, W], changes nothing.
    """
    pixels = _pixels_inside(frame, mask)
    if not len(pixels):
        return frame
    axis = int(rng.integers(2))
    length = frame.crop_size[axis]
    place = int(rng.choice(pixels)[axis])
    kept = max(round(length * rng.uniform(*CUT_SIDES)), min(place, length - 1 - place) + 1)
    crop = np.array(frame.crop)
    if place < kept:
        crop[axis + 2] = crop[axis] + kept
    else:
        crop[axis] = crop[axis + 2] - kept
    return window_frame(frame, tuple(crop.tolist()))


def _pixels_inside(frame: Frame, mask: np.ndarray) -> np.ndarray:
    """Pixels of the mask in the part that `frame` uses: rows and columns from its corner, int [n, 2]."""
    top, left, bottom, right = frame.crop
    return np.argwhere(mask[top:bottom, left:right])
