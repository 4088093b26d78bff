"""Files of pictures -> pixels as stored, upright: the decoding under `image_io`, which says what the pixels mean.

OpenCV decodes where it gives the values as they are stored: JPEG, PNG, TIFF and BMP in grey or RGB. Pillow decodes the
rest (palettes, GIF, CMYK, PPM, floats), and what OpenCV fails at.
"""

import gzip
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Image, ImageOps

from sam_med2d.errors import DataError, MissingError, UnreadableError

MAX_PIXELS = 200_000_000  # of one picture; 0.6 GB in memory
MAX_FILE_BYTES = 1 << 30  # of one picture, unpacked
BY_OPENCV = ("JPEG", "PNG", "TIFF", "BMP")  # Pillow's names
PLAIN = ("JPEG", "PNG")  # formats that every program understands
# what a user can do about a file that cannot be opened, where a map lists it and elsewhere
CHECK_MAP, COPY_AGAIN = "check the path in the map", "copy it again, or leave it out"
Image.MAX_IMAGE_PIXELS = None  # the limit above, with its message, stands in its place

_ORIENTATION = 0x0112  # EXIF tag
_TIFF_SIZE = (0x0100, 0x0101)  # TIFF tags of width and height
_PNG_START, _PNG_DEPTH, _PNG_COLOUR = b"\x89PNG\r\n\x1a\n", 24, 25  # places of a channel's bits and of a colour type
_PNG_PALETTE, _PNG_GREY_ALPHA, _PNG_RGB_ALPHA = 3, 4, 6  # colour types
_PNG_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # that may name an orientation
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a segment with the picture's size
_BMP_BITS = slice(28, 30)  # of a pixel
_JPEG_APP1, _JPEG_SCAN = 0xE1, 0xDA  # EXIF or XMP; the pixels
_FAULTS = (OSError, ValueError, SyntaxError, EOFError, struct.error)  # of Pillow, in damaged files


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels of a file, upright and as stored.

    Attributes:
        values: [H, W] grey values or palette indices, or [H, W, 3] RGB; bool, uint8, uint16, int32 or float32.
        alpha: [H, W], opaque where highest; None for a file without a channel of transparency.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None


def read_bytes(path: Path, *, advice: str = COPY_AGAIN) -> bytes:
    """Content of a file, unpacked where its name ends in .gz.

    Args:
        path: the file.
        advice: what the user can do about a file that cannot be opened.

    Raises:
        MissingError: the file cannot be opened.
        UnreadableError: the file cannot be unpacked.
        DataError: the file unpacks to more than MAX_FILE_BYTES.
    """
    packed = path.suffix.lower() == ".gz"
    with opened(path, advice=advice) as file:
        content = file.read(MAX_FILE_BYTES + 1 if packed else -1)
    if packed and len(content) > MAX_FILE_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_FILE_BYTES >> 20} MB: no picture of a data set is so large")
    return content


@contextmanager
def opened(path: Path, *, advice: str = COPY_AGAIN) -> Iterator[IO[bytes]]:
    """A file of bytes, unpacked where its name ends in .gz; raises as `read_bytes`."""
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:  # the second for what no path can be: a zero byte, half a surrogate pair
        reason = getattr(error, "strerror", None) or error
        raise MissingError(f"{path} cannot be opened ({reason}): {advice}") from error
    with file:
        try:
            yield gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableError(f"{path} cannot be read ({error}): copy or download it again") from error


def decode(path: Path, content: bytes, *, indices: bool = False, max_pixels: int | None = None) -> DecodedImage:
    """The first page of a picture.

    Args:
        path: names the file in messages.
        content: the file's bytes.
        indices: gives a palette's indices instead of its colours.
        max_pixels: the user's limit (--max_pixels); None for MAX_PIXELS.

    Raises:
        UnreadableError: this is not a whole picture.
        DataError: the picture is larger than the limit; nothing of it was decoded.
    """
    file = io.BytesIO(content)
    size = _quick_size(file)
    picture = None if size else _open(path, file)
    _check_pixels(path, size or picture.size[::-1], max_pixels)
    return _by_opencv(path, content, picture) or _by_pillow(path, picture, indices=indices)


def size_of(path: Path, *, advice: str = COPY_AGAIN) -> tuple[int, int]:
    """(height, width) of a picture, upright, from its header; raises as `read_bytes` and `decode`."""
    with opened(path, advice=advice) as file:
        if size := _quick_size(file):
            return size
        picture = _open(path, file)
        width, height = picture.size
        if picture.format == "TIFF":  # whose size some versions of Pillow have turned already
            width, height = (picture.tag_v2[tag] for tag in _TIFF_SIZE)
        return (width, height) if _orientation(path, picture) >= 5 else (height, width)


def is_plain(path: Path) -> bool:
    """Whether every program reads a file alike: an upright JPEG or PNG in grey or RGB of 8 bits; raises as `decode`."""
    if path.suffix.lower() == ".gz":
        return False
    with opened(path) as file:
        picture = _open(path, file)
        if picture.format not in PLAIN or picture.mode not in ("RGB", "L") or _orientation(path, picture) != 1:
            return False
        file.seek(_PNG_DEPTH)
        return picture.format == "JPEG" or file.read(1)[0] <= 8  # Pillow calls 16 bits RGB too


def _quick_size(file: IO[bytes]) -> tuple[int, int] | None:
    """(height, width) of a JPEG, PNG or BMP that OpenCV decodes as stored and that says nothing of an orientation.

    None for any other file: Pillow then reads the header, which takes as long as OpenCV takes for a small mask.
    """
    start = file.read(_BMP_BITS.stop).ljust(_BMP_BITS.stop, b"\0")
    size = None
    if start.startswith(_PNG_START):
        width, height, depth, colour = struct.unpack_from(">IIBB", start, 16)
        size = (height, width) if depth >= 8 and colour != _PNG_PALETTE and _png_is_silent(file) else None
    elif start.startswith(b"\xff\xd8\xff"):
        size = _jpeg_size(file)
    elif start.startswith(b"BM") and start[_BMP_BITS] == b"\x18\0":  # 24
        width, height = struct.unpack_from("<ii", start, 18)
        size = abs(height), width
    file.seek(0)
    return size


def _png_is_silent(file: IO[bytes]) -> bool:
    """Whether a PNG is there to its end and no part of it may name an orientation."""
    file.seek(len(_PNG_START))
    while len(head := file.read(8 + len(_PNG_TEXTS[0]))) >= 8:
        length, kind, text = *struct.unpack_from(">I4s", head), head[8:]
        if kind == b"eXIf" or (kind in (b"iTXt", b"tEXt", b"zTXt") and text.startswith(_PNG_TEXTS)):
            return False
        if kind == b"IEND":
            return True
        file.seek(length + 12 - len(head), io.SEEK_CUR)
    return False


def _jpeg_size(file: IO[bytes]) -> tuple[int, int] | None:
    """(height, width) of a JPEG of 8 bits in grey or three colours without EXIF and XMP; None of another."""
    file.seek(2)
    size = None
    while len(head := file.read(10)) == 10 and head[0] == 0xFF and head[1] != _JPEG_APP1:
        if head[1] == _JPEG_SCAN:
            return size
        length, depth, height, width, channels = struct.unpack_from(">HBHHB", head, 2)
        if head[1] in _JPEG_FRAMES and depth == 8 and channels in (1, 3) and height:
            size = height, width
        file.seek(length + 2 - len(head), io.SEEK_CUR)
    return None


def _open(path: Path, file: IO[bytes]) -> Image.Image:
    """The picture's header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which nobody needs here
            return Image.open(file)
    except _FAULTS as error:
        raise _unreadable(path, "no format that is read here") from error


def _check_pixels(path: Path, size: tuple[int, int], max_pixels: int | None) -> None:
    height, width = size
    if height * width > (max_pixels or MAX_PIXELS):
        limit = f"; up to {MAX_PIXELS / 1e6:.0f} million are read"
        if max_pixels:
            limit = (
                f", more than --max_pixels {max_pixels}: make it smaller, or raise the limit (to {MAX_PIXELS} at most; "
                "each million needs up to 30 MB of memory)"
            )
        raise DataError(f"{path} is {width} x {height} pixels{limit}")


def _orientation(path: Path, picture: Image.Image) -> int:
    """By EXIF: 1 for upright, 2 to 8 for what must be turned; from 5 on, width and height change places.

    Pillow decodes a PNG to look behind its pixels.
    """
    try:
        return (picture.tag_v2 if picture.format == "TIFF" else picture.getexif()).get(_ORIENTATION, 1)
    except _FAULTS as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, reason: object) -> UnreadableError:
    return UnreadableError(f"{path} is not a whole picture ({reason}): copy or convert it again")


def _by_opencv(path: Path, content: bytes, picture: Image.Image | None) -> DecodedImage | None:
    """The picture where OpenCV gives it as stored; else None. picture: its header, None where it had a quick size."""
    has_alpha = content.startswith(_PNG_START) and content[_PNG_COLOUR] in (_PNG_GREY_ALPHA, _PNG_RGB_ALPHA)
    if picture and not (picture.format in BY_OPENCV and (has_alpha or picture.mode in ("L", "RGB"))):
        return None
    try:
        stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a size in the header that cannot be
        stored = None
    if stored is None and (picture is None or picture.format in PLAIN):  # Pillow takes some that are cut off for whole
        raise _unreadable(path, "OpenCV cannot decode it")
    if stored is None or stored.dtype not in (np.uint8, np.uint16):
        return None
    orientation = _orientation(path, picture) if picture else 1
    if picture and picture.format == "TIFF":  # OpenCV turns those of 16 bits, which Pillow gives with 8
        if orientation != 1 and stored.dtype == np.uint8:
            return None
        orientation = 1
    stored = _turned(stored, orientation)
    if stored.ndim == 2:
        return DecodedImage(stored)
    alpha = stored[..., 3] if has_alpha else None
    if has_alpha and content[_PNG_COLOUR] == _PNG_GREY_ALPHA:  # OpenCV gives three equal channels
        return DecodedImage(stored[..., 0], alpha)
    return DecodedImage(cv2.cvtColor(stored[..., :3], cv2.COLOR_BGR2RGB), alpha)


def _by_pillow(path: Path, picture: Image.Image, *, indices: bool) -> DecodedImage:
    try:
        if picture.mode == "P" and not indices:
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            picture = picture.convert("RGB")
        values = np.asarray(ImageOps.exif_transpose(picture))
    except _FAULTS as error:
        raise _unreadable(path, error) from error
    if values.ndim == 2 or values.shape[2] == 3:
        return DecodedImage(values)
    colours = values[..., 0] if values.shape[2] == 2 else values[..., :3]
    return DecodedImage(colours, values[..., -1])


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] turned upright from an EXIF orientation."""
    if 5 <= orientation <= 8:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values[:, ::-1] if orientation in (2, 3, 6, 7) else values)
