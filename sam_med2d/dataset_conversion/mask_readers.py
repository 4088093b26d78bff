"""Mask files of every encoding -> bool [H, W]. Each reader is a small value that processes can exchange."""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.image_io import read_bytes, read_values
from sam_med2d.data.mask_values import binary_mask, colour_codes, odd_white
from sam_med2d.data.picture_signs import LOSSY
from sam_med2d.data.record_checks import size_advice
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS


@dataclass(frozen=True, slots=True)
class White:
    """One structure on black; raises ValuesError where a file has more than one meaning (see `binary_mask`).

    Attributes:
        share: of white, from which on a pixel of a soft mask counts, such as a share of experts who agree; None: masks
            are black and white.
        noted: whether it is noted which value or colour was taken for white: another file may have another one.
    """

    share: float | None = None
    noted: bool = False

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return self.of(sized(path, size, read_values(path)), path)

    def of(self, values: np.ndarray, path: Path) -> np.ndarray:
        """The mask, bool [H, W], of the values of a file."""
        mask = binary_mask(values, path, share=self.share, any_white=True)
        if self.noted and self.share is None and (level := odd_white(values)):
            REMARKS.add(f"{level} on black is the structure, as white is", path, f"{np.count_nonzero(mask)} pixels")
        return mask


BLACK_AND_WHITE = White()
Classes = tuple[int | range, ...]  # values, or colours as 0xRRGGBB


@dataclass(frozen=True, slots=True)
class Values:
    """Pixels of some classes, in a map of classes. Raises DataError where it holds a value or colour of no class.

    Attributes:
        values: that count.
        classes: all that the map may hold.
        void: those that were not annotated; they are not in the mask, and their pixels are noted.
        coloured: whether classes are colours, a palette's too, and not values, a palette's indices, or the colours
            that the palette of Pascal VOC has for these.
    """

    values: Classes
    classes: Classes
    void: Classes = ()
    coloured: bool = False

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return self.of(sized(path, size, read_values(path, indices=not self.coloured)), path)

    def of(self, pixels: np.ndarray, path: Path) -> np.ndarray:
        """The mask, bool [H, W], of the pixels of a file."""
        labels = self._labels(path, pixels)
        known = within(labels, self.classes)
        if not known.all():
            seen = pixels_of(labels[~known], coloured=self.coloured)
            classes = ", ".join(self._name(c) for c in self.classes)
            mixed = "; JPEG mixes classes at their edges: save maps as PNG" if path.suffix.lower() in LOSSY else ""
            raise DataError(
                f"{path} holds the {'colour' if self.coloured else 'value'}(s) {', '.join(seen)}; its classes are "
                f"{classes} (the others: {', '.join(seen.values())} pixels; labelmap --classes names classes, and "
                f"with {next(iter(seen))}=void what is left out{mixed})"
            )
        if self.void and (count := int(within(labels, self.void).sum())):
            REMARKS.add("void pixels are background", path, f"{count} pixels")
        return within(labels, self.values)

    def _labels(self, path: Path, pixels: np.ndarray) -> np.ndarray:
        """The class of each pixel, int or float [H, W]."""
        if self.coloured:
            return colour_codes(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2))
        if pixels.ndim == 2:
            return np.nan_to_num(pixels)
        if (pixels == pixels[..., :1]).all():
            return pixels[..., 0]
        codes = colour_codes(pixels)
        order = np.argsort(voc := voc_palette())
        index = order[np.searchsorted(voc, codes, sorter=order).clip(0, 255)]
        if (voc[index] != codes).any():
            seen = pixels_of(codes, coloured=True)
            named = ",".join(f"{colour}=NAME" for colour in seen if colour.startswith("#") and colour != "#000000")
            raise DataError(
                f"{path} is in colour: a map of classes has one value a pixel. For its colours {', '.join(seen)} (on "
                f'{", ".join(seen.values())} pixels) use labelmap --classes "{named}"'
            )
        return index

    def _name(self, label: int | range) -> str:
        if isinstance(label, range):
            return f"{label.start}-{label.stop - 1}"
        return f"#{label:06x}" if self.coloured else str(label)


def within(labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Where the labels are of these classes, bool of their shape."""
    found = np.isin(labels, [label for label in classes if isinstance(label, int)])
    for label in classes:
        if isinstance(label, range):
            found |= (labels >= label.start) & (labels < label.stop)
    return found


def pixels_of(labels: np.ndarray, *, coloured: bool, shown: int = 6) -> dict[str, str]:
    """Names of the most frequent labels, with the number of their pixels; the last one stands for all others."""
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:shown]
    seen = {
        (f"#{label:06x}" if coloured else f"{label:g}"): str(n)
        for label, n in zip(found[order].tolist(), counts[order].tolist(), strict=True)
    }
    return seen | (
        {f"{len(found) - shown} more": str(counts.sum() - counts[order].sum())} if len(found) > shown else {}
    )


def voc_palette() -> np.ndarray:
    """Colours that Pascal VOC gives the classes 0 to 255: their bits go to red, green and blue in turn; 0xRRGGBB."""
    classes = np.arange(256)
    channels = [sum((classes >> 3 * i + c & 1) << 7 - i for i in range(3)) for c in range(3)]
    return channels[0] << 16 | channels[1] << 8 | channels[2]


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
            f"{size_advice(values.shape[:2], size)}"
        )
    return values
