"""The one reader of photographs and masks, for every command. `image_formats` decodes; here is what pixels mean."""

from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.image_formats import CHECK_MAP, COPY_AGAIN, decode, is_plain, read_bytes, size_of
from sam_med2d.errors import EmptyMaskError, ValuesError

__all__ = ["CHECK_MAP", "COPY_AGAIN", "is_plain", "read_bytes", "read_image", "read_mask", "read_values", "size_of"]

WHITES = (1, 255, 65535)  # foreground of a mask, by its depth


def read_image(path: Path, *, max_pixels: int | None = None, advice: str = CHECK_MAP) -> np.ndarray:
    """A photograph, upright: 16 bits become 8, grey gets three equal channels, transparency becomes black.

    Args:
        path: a file of any format that OpenCV or Pillow reads; of several pages the first.
        max_pixels: the user's limit; nothing is decoded of a larger photograph. None: `image_formats.MAX_PIXELS`.
        advice: what the user can do about a file that cannot be opened.

    Returns:
        RGB, uint8 [H, W, 3].

    Raises:
        MissingError: the file cannot be opened.
        UnreadableError: the file is not a whole picture.
        DataError: the photograph is too large.
    """
    decoded = decode(path, read_bytes(path, advice=advice), max_pixels=max_pixels)
    values = to_8_bits(decoded.values)
    if values.ndim == 2:
        values = cv2.cvtColor(values, cv2.COLOR_GRAY2RGB)
    if decoded.alpha is not None:
        values = np.round(values * (to_8_bits(decoded.alpha)[..., None] / 255.0)).astype(np.uint8)
    return values


def read_mask(path: Path, *, may_be_empty: bool = False) -> np.ndarray:
    """A mask file with values {0, 1}, {0, 255} or, of 16 bits, {0, 65535}.

    Args:
        path: a file as for `read_values`.
        may_be_empty: whether a mask without foreground is let through.

    Returns:
        uint8 {0, 1} [H, W].

    Raises:
        MissingError: the file cannot be opened.
        UnreadableError: the file is not a whole picture.
        ValuesError: the mask has other values.
        EmptyMaskError: the mask has no foreground.
    """
    mask = read_values(path, advice=CHECK_MAP)
    if mask.ndim == 3:
        mask = cv2.cvtColor(mask, cv2.COLOR_RGB2GRAY)
    highest = mask.max()
    if highest == 0:
        if may_be_empty:
            return np.zeros(mask.shape, np.uint8)
        raise EmptyMaskError(f"{path} is empty (all 0): leave it out of the map")
    binary = mask == highest
    if highest not in WHITES or not (binary | (mask == 0)).all():
        values = ", ".join(map(str, np.unique(mask)[:6]))
        raise ValuesError(f"{path} is not binary (values {values} ...): a mask holds 0 and 1, or 0 and 255")
    return binary.astype(np.uint8)


def read_values(path: Path, *, indices: bool = False, advice: str = COPY_AGAIN) -> np.ndarray:
    """The values of a mask file of any encoding, as stored and upright.

    Alpha is dropped where it says nothing (the same everywhere); else transparent pixels are 0, and where the rest
    is black, opaque ones are the mask (255).

    Args:
        path: the file; unpacked where its name ends in .gz.
        indices: gives a palette's indices instead of its colours.
        advice: what the user can do about a file that cannot be opened.

    Returns:
        [H, W] grey values or indices, or [H, W, 3] RGB; uint8, uint16, int32 or float32.

    Raises:
        MissingError: the file cannot be opened.
        UnreadableError: the file is not a whole picture.
        DataError: the picture is too large.
    """
    decoded = decode(path, read_bytes(path, advice=advice), indices=indices)
    values, alpha = decoded.values, decoded.alpha
    values = values.astype(np.uint8) if values.dtype == bool else values
    if alpha is None or alpha.min() == alpha.max():
        return values
    opaque = alpha > alpha.max() / 2
    if not values[opaque].any():
        return np.where(opaque, 255, 0).astype(np.uint8)
    return np.where(opaque if values.ndim == 2 else opaque[..., None], values, 0)


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Brightness of any depth as uint8 of the same shape.

    Integers of a 12-bit camera (no value above 4095) count by their 12 bits, others by 16; floats reach to 1 or 255.
    What is not finite becomes 0.
    """
    if values.dtype == np.uint8:
        return values
    values = np.nan_to_num(values.astype(np.float64), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    highest = values.max(initial=0)
    full = 1.0 if highest <= 1 else 255.0 if highest <= 255 else 4095.0 if highest <= 4095 else 65535.0
    return np.round(values * (255.0 / full)).clip(0, 255).astype(np.uint8)
