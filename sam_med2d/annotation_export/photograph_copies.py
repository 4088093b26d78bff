"""Photographs beside the annotations, for tools that want both in one folder."""

import shutil
from pathlib import Path

import cv2

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.data.image_io import is_plain, read_image


def copy_photograph(photograph: AnnotatedPhotograph, folder: Path) -> Path:
    """Copy a photograph under its name: the file itself where every program reads it alike, else a PNG of 8 bits.

    Args:
        photograph: what is copied.
        folder: where to; it exists.

    Returns:
        The new file.
    """
    if is_plain(photograph.path):
        target = folder / f"{photograph.name}{photograph.path.suffix.lower()}"
        shutil.copyfile(photograph.path, target)
        return target
    return write_png(photograph, folder / f"{photograph.name}.png")


def write_png(photograph: AnnotatedPhotograph, target: Path) -> Path:
    """Write a photograph as an RGB PNG of 8 bits; returns `target`."""
    _, content = cv2.imencode(".png", read_image(photograph.path)[..., ::-1])
    target.write_bytes(content.tobytes())
    return target
