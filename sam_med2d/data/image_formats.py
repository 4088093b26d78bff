"""Files of pictures -> pixels as stored, upright: the decoding under `image_io`, which says what the pixels mean.

OpenCV decodes where it gives the values as they are stored: JPEG, JPEG 2000, PNG, TIFF and BMP in grey or RGB. Pillow
decodes the rest (palettes, GIF, CMYK, PPM of 8 bits), and what OpenCV fails at. `image_headers` reads what the file
says of its picture; `dicom` does both for DICOM.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam_med2d.data.dicom import decode_frame, read_dicom
from sam_med2d.data.image_headers import (
    FAULTS,
    PHOTOMETRIC,
    Header,
    choose_page,
    is_dicom,
    open_picture,
    read_header,
    unreadable,
)
from sam_med2d.errors import DataError, MissingError, UnclearError, UnreadableError
from sam_med2d.notes import REMARKS

MAX_PIXELS = 200_000_000  # of one picture; 0.6 GB in memory
MAX_FILE_BYTES = 1 << 30  # of one picture, unpacked
BY_OPENCV = ("JPEG", "MPO", "JPEG2000", "PNG", "PPM", "BMP")  # Pillow's names
PLAIN = ("JPEG", "PNG")  # formats that every program understands
# what a user can do about a file that cannot be opened, where a map lists it and elsewhere
CHECK_MAP, COPY_AGAIN = "check the path in the map", "copy it again, or leave it out"

_PNG_DEPTH, _PNG_COLOUR = 24, 25  # places of a channel's bits and of a colour type
_PNG_GREY_ALPHA = 4  # a colour type
_AS_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION  # saves a copy
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = range(3)  # of TIFF
_UNKNOWN, _MULTIPLIED = range(2)  # extra channels of TIFF
_SOFTWARE, _PLANAR, _PLANES = 305, 284, 2  # tags of TIFF, and the second one's value for a plane a colour
_PACKED = (10, 12, 14)  # bits of a TIFF's channels


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels of a file, upright and as stored."""

    values: np.ndarray  # [H, W] grey values or palette indices, or [H, W, 3] RGB; bool, integers or floats
    alpha: np.ndarray | None = None  # [H, W], opaque where highest; None for a file without a channel of transparency
    bits: int | None = None  # how many of a value's bits are significant, where the file says so


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


def decode(
    path: Path, content: bytes, *, indices: bool = False, max_pixels: int | None = None, page: int | None = None
) -> DecodedImage:
    """A picture.

    Args:
        path: names the file in messages.
        content: the file's bytes.
        indices: gives a palette's indices instead of its colours.
        max_pixels: the user's limit (--max_pixels); None for MAX_PIXELS.
        page: number of the page or frame, from 1; None for the only one.

    Raises:
        UnreadableError: this is not a whole picture.
        UnclearError: which page is meant, or what its channels are.
        DataError: the picture is larger than the limit; nothing of it was decoded.
    """
    if is_dicom(content):
        file = read_dicom(path, io.BytesIO(content), pixels=True)
        _check_pixels(path, file.size, max_pixels)
        values, bits = decode_frame(path, file, indices=indices, page=page)
        return DecodedImage(values, bits=bits)
    header = read_header(path, io.BytesIO(content), page)
    _check_pixels(path, header.size, max_pixels)
    by_opencv = _by_opencv if header.tags is None else _tiff_by_opencv
    try:
        return by_opencv(path, content, header) or _by_pillow(path, content, header, indices=indices)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise unreadable(path, "no format that is read here") from error
    except FAULTS as error:
        raise unreadable(path, error) from error


def size_of(path: Path, *, advice: str = COPY_AGAIN, page: int | None = None) -> tuple[int, int]:
    """(height, width) of a picture, upright, from its header; raises as `read_bytes` and `decode`."""
    with opened(path, advice=advice) as file:
        if _starts_as_dicom(file):
            found = read_dicom(path, file)
            choose_page(path, range(found.frames), page)
            return found.size
        header = read_header(path, file, page)
        try:
            return header.size[::-1] if header.orientation >= 5 else header.size
        except FAULTS as error:
            raise unreadable(path, error) from error


def is_plain(path: Path) -> bool:
    """Whether every program reads a file alike: an upright JPEG or PNG in grey or RGB of 8 bits; raises as `decode`."""
    if path.suffix.lower() == ".gz":
        return False
    with opened(path) as file:
        if _starts_as_dicom(file):
            return False
        header = read_header(path, file)
        file.seek(0)
        picture = open_picture(file)
        if header.kind not in PLAIN or header.orientation != 1 or picture.mode not in ("RGB", "L"):
            return False
        file.seek(_PNG_DEPTH)
        return header.kind == "JPEG" or (file.read(1)[0] <= 8 and "transparency" not in picture.info)


def _starts_as_dicom(file: IO[bytes]) -> bool:
    """Whether a file is one of DICOM; it is at its beginning again."""
    start = file.read(132)
    file.seek(0)
    return is_dicom(start)


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


def _stored(content: bytes, index: int = 0, mode: int = cv2.IMREAD_UNCHANGED) -> np.ndarray | None:
    """A picture as OpenCV decodes it; None where it cannot."""
    buffer = np.frombuffer(content, np.uint8)
    try:
        if not index:
            return cv2.imdecode(buffer, mode)
        found = cv2.imdecodemulti(buffer, mode, range=(index, index + 1))[1]
    except cv2.error:  # a size in the header that cannot be
        return None
    return found[0] if found else None


def _by_opencv(path: Path, content: bytes, header: Header) -> DecodedImage | None:
    """A picture of BY_OPENCV where OpenCV gives it as stored; else None."""
    picture = header.picture
    if picture and (header.kind not in BY_OPENCV or picture.mode not in ("L", "LA", "RGB", "RGBA") or header.index):
        return None
    if header.kind == "PPM" and not (picture.mode == "RGB" and _ppm_white(content) == 65535):
        return None  # Pillow scales the others to 8 or 16 bits
    deep = header.kind in ("JPEG2000", "PPM") or (header.kind == "PNG" and content[_PNG_DEPTH] > 8)
    is_rgb = header.is_rgb or (picture and picture.mode == "RGB" and not deep and "transparency" not in picture.info)
    stored = _stored(content, mode=_AS_RGB if is_rgb else cv2.IMREAD_UNCHANGED)
    if stored is None and (picture is None or header.kind in PLAIN):  # Pillow takes some that are cut off for whole
        raise unreadable(path, "OpenCV cannot decode it")
    if stored is None or stored.dtype not in (np.uint8, np.uint16):
        return None
    stored = _turned(stored, header.orientation)
    if is_rgb:
        return DecodedImage(stored)
    values, alpha = _split(stored)
    if picture and "A" not in picture.mode:
        alpha = None  # the fourth byte of a BMP's pixels, or the transparent colour, which follows
    if picture and "transparency" in picture.info:
        alpha = _opaque(values, content, picture)
    grey_alpha = header.kind == "PNG" and content[_PNG_COLOUR] == _PNG_GREY_ALPHA  # OpenCV gives three equal channels
    return DecodedImage(values[..., 0] if grey_alpha else values, alpha, header.bits)


def _tiff_by_opencv(path: Path, content: bytes, header: Header) -> DecodedImage | None:
    """A TIFF where OpenCV gives it as stored and upright; else None, for Pillow, which has 8 bits at most in colour."""
    depth, channels, extra = header.depth, header.channels, header.extra
    colours = header.tags.get(PHOTOMETRIC, _RGB)
    if colours not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        return None
    if channels not in ((3, 4) if colours == _RGB else (1, 2)) or (channels == 2 and depth > 8):
        raise UnreadableError(f"{path} has {channels} channels of {depth} bits, which is not read here: save it as RGB")
    if depth < 8 or (depth == 8 and (header.orientation != 1 or channels == 2 or extra not in ([], [_UNKNOWN]))):
        return None
    if depth > 8 and channels > 1 and header.tags.get(_PLANAR) == _PLANES:
        raise UnreadableError(
            f"{path} has a plane of {depth} bits for each colour, which is not read here: save it with the colours of "
            "a pixel side by side (tifffile: planarconfig='contig')"
        )
    is_rgb = depth == 8 and channels == 3
    stored = _stored(content, header.index, _AS_RGB if is_rgb else cv2.IMREAD_UNCHANGED)
    if is_rgb and stored is not None:
        return DecodedImage(stored)
    if stored is None:
        if depth == 8 or channels == 1:
            return None
        raise unreadable(path, "OpenCV cannot decode it")
    if colours == _WHITE_IS_ZERO and depth > 8:
        if stored.dtype != np.uint16:
            raise UnreadableError(f"{path} has white as 0, which is read here up to 16 bits: save it with black as 0")
        stored = 65535 - stored
    values, alpha = _split(stored)
    if alpha is not None and extra in ([], [_UNKNOWN]):
        if alpha.min() != alpha.max():
            raise UnclearError(
                f"{path} has a fourth channel and does not say what it is: save it as RGB, or with alpha"
            )
        alpha = None
    if alpha is not None and extra == [_MULTIPLIED]:
        alpha = alpha > 0  # what is half transparent has been darkened
    return DecodedImage(values, alpha, 16 if depth in _PACKED else None)  # as OpenCV shifts them


def _split(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey or RGB, and alpha, of OpenCV's pixels [H, W] or [H, W, C]."""
    if stored.ndim == 2:
        return stored, None
    alpha = stored[..., 3] if stored.shape[2] == 4 else None
    if stored.dtype in (np.uint8, np.uint16, np.float32):  # faster than NumPy
        return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB if alpha is None else cv2.COLOR_BGRA2RGB), alpha
    return np.ascontiguousarray(stored[..., 2::-1]), alpha


def _opaque(values: np.ndarray, content: bytes, picture: Image.Image) -> np.ndarray:
    """uint8 [H, W]: 255 where a PNG has another colour than its transparent one."""
    colour = np.array(picture.info["transparency"])
    if content[_PNG_DEPTH] in (2, 4):  # of which Pillow tells the value as stored
        colour = colour * (255 // (2 ** content[_PNG_DEPTH] - 1))
    other = values != (colour > 0 if values.dtype == bool else colour)
    return np.where(other if values.ndim == 2 else other.any(axis=2), 255, 0).astype(np.uint8)


def _ppm_white(content: bytes) -> int:
    """The value of white in a PPM or PGM."""
    return int(re.sub(rb"#[^\n]*\n", b" ", content[:4096]).split(maxsplit=4)[3])


def _by_pillow(path: Path, content: bytes, header: Header, *, indices: bool) -> DecodedImage:
    """What OpenCV does not give as stored. Raises one of FAULTS."""
    picture = header.picture or open_picture(io.BytesIO(content))
    picture.seek(header.index)
    transparent, alpha = picture.info.get("transparency"), None
    if picture.mode in ("P", "PA") and not indices:
        picture = picture.convert("RGB" if picture.mode == "P" and transparent is None else "RGBA")
    elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        picture = picture.convert("RGB")
    values = np.asarray(ImageOps.exif_transpose(picture))
    if values.dtype == bool:  # whose bytes Pillow has made 255, which NumPy compares with 1
        values = values.view(np.uint8) > 0
        if _is_of_tifffile(header):
            values = ~values
            REMARKS.add("white is true, as in tifffile, whatever the file's tag says", path, "1 bit")
    if values.ndim == 3 and values.shape[2] != 3:
        values, alpha = values[..., 0] if values.shape[2] == 2 else values[..., :3], values[..., -1]
        if picture.mode == "LA" and header.tags is not None and header.extra == [_MULTIPLIED]:
            alpha = alpha > 0
    elif header.kind == "PNG" and picture.mode in ("1", "L", "I;16") and transparent is not None:
        alpha = _opaque(values, content, picture)
    scaled = picture.mode == "I" and header.kind == "PPM" and _ppm_white(content) < 65535
    return DecodedImage(values, alpha, 16 if scaled else header.bits)


def _is_of_tifffile(header: Header) -> bool:
    """Whether 1 is white in a TIFF of 1 bit that says the opposite, as tifffile saves and reads bool."""
    tags = header.tags or {}
    return tags.get(PHOTOMETRIC) == _WHITE_IS_ZERO and str(tags.get(_SOFTWARE, "")).startswith("tifffile")


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] turned upright from an EXIF orientation."""
    if 5 <= orientation <= 8:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values[:, ::-1] if orientation in (2, 3, 6, 7) else values)
