"""The one reader of photographs and masks, for every command. `image_formats` decodes; here is what pixels mean."""

from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.brightness import to_8_bits
from sam_med2d.data.image_formats import CHECK_MAP, COPY_AGAIN, decode, is_plain, read_bytes, size_of
from sam_med2d.data.mask_values import binary_mask
from sam_med2d.errors import EmptyMaskError, UnclearError

__all__ = ["CHECK_MAP", "COPY_AGAIN", "is_plain", "read_bytes", "read_image", "read_mask", "read_values", "size_of"]


def read_image(
    path: Path, *, max_pixels: int | None = None, advice: str = CHECK_MAP, page: int | None = None
) -> np.ndarray:
    """A photograph, upright: any depth becomes 8 bits, grey gets three equal channels, what is transparent is black.

    Args:
        path: a file of any format that OpenCV or Pillow reads.
        max_pixels: the user's limit; nothing is decoded of a larger photograph. None: `image_formats.MAX_PIXELS`.
        advice: what the user can do about a file that cannot be opened.
        page: number of the page or frame, from 1; None for the only one.

    Returns:
        RGB, uint8 [H, W, 3].

    Raises:
        MissingError: the file cannot be opened.
        UnreadableError: the file is not a whole picture.
        UnclearError: the photograph can be read in more than one way.
        DataError: the photograph is too large.
    """
    decoded = decode(path, read_bytes(path, advice=advice), max_pixels=max_pixels, page=page)
    opacity = _opacity(path, decoded.alpha)
    # colours that nobody sees have no part in the depth
    values = to_8_bits(_times(decoded.values, opacity if opacity is None else opacity > 0), path, bits=decoded.bits)
    values = np.rint(_times(values, opacity)).astype(np.uint8) if opacity is not None else values
    return cv2.cvtColor(values, cv2.COLOR_GRAY2RGB) if values.ndim == 2 else values


def _opacity(path: Path, alpha: np.ndarray | None) -> np.ndarray | None:
    """Opacity 0..1 [H, W]; None where all is visible. Raises UnclearError where nothing is."""
    if alpha is None or (lowest := alpha.min()) == (highest := alpha.max()) > 0:
        return None
    if highest == lowest:
        raise UnclearError(f"{path} is transparent everywhere: save it without its alpha channel")
    return (alpha / np.float32(highest)).astype(np.float32)


def _times(values: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """Grey or RGB values times a factor [H, W]."""
    return values if factor is None else values * (factor if values.ndim == 2 else factor[..., None])


def read_mask(path: Path, *, may_be_empty: bool = False) -> np.ndarray:
    """A mask file of one structure on black: {0, 1} or {0, 255}, or as `mask_values.binary_mask` reads it.

    Args:
        path: a file as for `read_values`.
        may_be_empty: whether a mask without foreground is let through.

    Returns:
        uint8 {0, 1} [H, W].

    Raises:
        MissingError: the file cannot be opened.
        UnreadableError: the file is not a whole picture.
        ValuesError: the mask has more than one meaning.
        EmptyMaskError: the mask has no foreground.
    """
    mask = binary_mask(read_values(path, advice=CHECK_MAP), path)
    if not (may_be_empty or mask.any()):
        raise EmptyMaskError(f"{path} is empty (all 0): leave it out of the map")
    return mask.astype(np.uint8)


def read_values(path: Path, *, indices: bool = False, advice: str = COPY_AGAIN) -> np.ndarray:
    """The values of a mask file of any encoding, as stored and upright.

    Alpha is dropped where it says nothing (the same everywhere); else transparent pixels are 0, and where the rest
    is black, alpha is the mask.

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
        return alpha
    return np.where(opaque if values.ndim == 2 else opaque[..., None], values, 0)
