"""Mask files of every encoding -> bool [H, W]. Each reader is a small value that processes can exchange."""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.image_io import read_bytes, read_values
from sam_med2d.errors import DataError


@dataclass(frozen=True, slots=True)
class White:
    """Grey values from a share of white on: 255 is white, or 1 where no value is higher, or 65535 with 16 bits.

    A file of black and one other value has that for its white. Colours, those of a palette too, are read by their
    brightest channel. Raises DataError where white and black have no majority, or where nothing is white and not all
    black (a map of several classes, a photograph), unless soft.

    Attributes:
        share: of white, from which on a pixel counts; 0.5 for a drawn mask.
        soft: whether the file's values are shares of experts who agree.
    """

    share: float = 0.5
    soft: bool = False

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        values = sized(path, size, read_values(path))
        values = values.max(axis=2) if values.ndim == 3 else values
        highest = int(values.max(initial=0))
        black = values == 0
        if not self.soft and black.any() and (black | (values == highest)).all():
            return ~black
        white = 1 if highest <= 1 else 255 if highest <= 255 else 65535
        if not self.soft and ((values > 0.2 * white) & (values < 0.8 * white)).mean() > 0.02:
            raise DataError(f"{path} is not black and white: use labelmap for a map of several classes")
        mask = values >= self.share * white
        if not self.soft and white > 1 and not mask.any():
            raise DataError(f"{path} has no white, and values up to {highest}: use labelmap for a map of classes")
        return mask if white > 1 or self.soft else values > 0


BLACK_AND_WHITE = White()


@dataclass(frozen=True, slots=True)
class Values:
    """Pixels that have one of these values, in a map of these classes. Raises DataError for any other class."""

    values: tuple[int, ...]
    classes: tuple[int, ...]

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        labels = sized(path, size, read_values(path, indices=True))
        if labels.ndim == 3:
            if (labels != labels[..., :1]).any():
                raise DataError(f"{path} is in colour: a map of classes has one value a pixel")
            labels = labels[..., 0]
        if others := set(np.unique(labels).tolist()) - set(self.classes):
            shown = ", ".join(map(str, sorted(others)[:6]))
            raise DataError(f"{path} holds the value(s) {shown}; its classes are {', '.join(map(str, self.classes))}")
        return np.isin(labels, self.values)


@dataclass(frozen=True, slots=True)
class Colours:
    """Pixels of one of these RGB colours, each channel within a quarter of the scale."""

    colours: tuple[tuple[int, int, int], ...]

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        pixels = sized(path, size, read_values(path, indices=True))
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        near = (np.abs(pixels.astype(np.int16) - np.array(colour)).max(axis=2) < 64 for colour in self.colours)
        return np.logical_or.reduce(list(near))


@dataclass(frozen=True, slots=True)
class Outline:
    """A closed contour in a text file, two numbers a line, filled. Raises DataError on other content.

    Attributes:
        yx: whether the lines hold y before x; (0, 0) is the top-left pixel.
    """

    yx: bool = False

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        points = read_points(path)
        points = points[:, ::-1] if self.yx else points
        if (points < -1).any() or (points > (size[1] + 1, size[0] + 1)).any():
            raise DataError(f"{path} leaves its photograph of {size[1]} x {size[0]} pixels: give x before y, in pixels")
        return fill([points], size)


def read_points(path: Path) -> np.ndarray:
    """The numbers of a text file, two a line.

    Returns:
        float64 [n, 2], n from 3.

    Raises:
        DataError: names a file that is not of this kind.
    """
    numbers = re.findall(r"[-+.\deE]+", read_bytes(path).decode("ascii", errors="replace"))
    try:
        points = np.array(numbers, np.float64).reshape(-1, 2)
    except ValueError as error:
        raise DataError(f"{path} is not a contour: give two numbers, x and y, on each line") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise DataError(f"{path} has {len(points)} points: a contour has three or more")
    return points


def fill(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Union of polygons with their outlines, to 1/16 of a pixel; (0, 0) is the middle of the top-left pixel.

    Args:
        polygons: points x, y in pixels, float [n, 2].
        size: (height, width).

    Returns:
        bool [height, width].
    """
    canvas = np.zeros(size, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.round(polygon * 16).astype(np.int32)], 1, lineType=cv2.LINE_8, shift=4)
    return canvas.astype(bool)


def sized(path: Path, size: tuple[int, int], values: np.ndarray) -> np.ndarray:
    """The values, if they have their photograph's (height, width); else a DataError that names the file."""
    if values.shape[:2] != tuple(size):
        raise DataError(
            f"{path} is {values.shape[1]} x {values.shape[0]} pixels, its photograph {size[1]} x {size[0]}: "
            "make the mask from the same picture"
        )
    return values
