"""Any picture that Pillow or OpenCV reads -> arrays: palette, alpha, 16 bits, EXIF rotation, gzip."""

import gzip
import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam_med2d.errors import DataError, UnreadableError

MAX_PIXELS = 200_000_000  # of one picture; 0.6 GB in memory
MAX_FILE_BYTES = 1 << 30  # of one picture, unpacked
COPIED = ("JPEG", "PNG")  # formats that every reader of a data set understands
Image.MAX_IMAGE_PIXELS = None  # the limit above, with its message, stands in its place

_ORIENTATION = 0x0112  # EXIF tag
_TIFF_SIZE = (0x0100, 0x0101)  # TIFF tags of width and height
_PNG_DEPTH = 24  # place of the bits of a channel


def read_bytes(path: Path) -> bytes:
    """Content of a file, unpacked where its name ends in .gz. Raises DataError that names the file."""
    try:
        if path.suffix.lower() != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError) as error:
        raise UnreadableError(f"{path} cannot be read ({error}): copy or download it again") from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_FILE_BYTES >> 20} MB: no picture of a data set is so large")
    return content


def read_photograph(path: Path) -> tuple[np.ndarray, bool]:
    """A photograph as RGB uint8 [H, W, 3], upright, and whether the file may be copied as it is.

    16 bits become 8, transparency becomes black. A file may be copied if it is an 8-bit JPEG or PNG in RGB or grey,
    not rotated by EXIF. Raises DataError that names the file.
    """
    content = read_bytes(path)
    picture = _open(path, content)
    plain = picture.format in COPIED and picture.mode in ("RGB", "L") and orientation_of(_exif(path, picture)) == 1
    if plain and not (picture.format == "PNG" and content[_PNG_DEPTH] == 16):  # Pillow calls these RGB too
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is not None:
            return pixels, path.suffix.lower() != ".gz"
    values = _pixels(path, picture, content, palette="RGB")
    values = _to_8_bits(values)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if values.shape[2] == 2:  # grey with alpha
        values = values[..., [0, 0, 0, 1]]
    if values.shape[2] == 4:
        values = values[..., :3] * (values[..., 3:] / 255.0)
    return np.ascontiguousarray(np.round(values[..., :3]).astype(np.uint8)), False


def read_values(path: Path, *, palette: str | None = None) -> np.ndarray:
    """A mask file's values as stored: [H, W] grey values or palette indices, or [H, W, 3] colours; upright.

    palette: "RGB" gives a palette's colours instead of its indices.
    Alpha is dropped where it says nothing (the same everywhere); else transparent pixels are 0, and where the rest
    is black, opaque ones are the mask (255). Raises DataError that names the file.
    """
    content = read_bytes(path)
    values = _pixels(path, _open(path, content), content, palette=palette)
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values = _without_alpha(values[..., :-1], values[..., -1])
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    return values


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of a picture, upright, from its header. Raises DataError that names the file."""
    picture = _open(path, read_bytes(path))
    return upright_size(picture, _exif(path, picture))


def upright_size(picture: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    """(height, width) of an opened picture once it is turned as its EXIF says."""
    width, height = picture.size
    if picture.format == "TIFF":  # whose size some versions of Pillow have turned already
        width, height = (picture.tag_v2[tag] for tag in _TIFF_SIZE)
    return (width, height) if 5 <= orientation_of(exif) <= 8 else (height, width)


def orientation_of(exif: Image.Exif) -> int:
    """1 for upright, 2 to 8 for what must be turned; from 5 on, width and height change places."""
    return exif.get(_ORIENTATION, 1)


def _exif(path: Path, picture: Image.Image) -> Image.Exif:
    """All that EXIF says; Pillow decodes a PNG to look behind its pixels. Raises DataError that names the file."""
    try:
        return picture.getexif()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableError(f"{path} is not a whole picture ({error}): copy or download it again") from error


def _open(path: Path, content: bytes) -> Image.Image:
    """The picture's header; its size is checked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which nobody needs here
            picture = Image.open(io.BytesIO(content))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableError(f"{path} is not a picture that can be read: copy or download it again") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(
            f"{path} is {picture.width} x {picture.height} pixels; up to {MAX_PIXELS / 1e6:.0f} million are read"
        )
    return picture


def _white_first(picture: Image.Image) -> bool:
    """Whether a palette picture is black and white with white as index 0, as Pillow writes some GIF files."""
    if picture.mode != "P":
        return False
    palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
    used = palette[np.flatnonzero(picture.histogram()[: len(palette)])]
    return len(used) == 2 and (used == used[:, :1]).all() and used[0, 0] > used[1, 0]


def _pixels(path: Path, picture: Image.Image, content: bytes, *, palette: str | None) -> np.ndarray:
    """All pixels, upright; palette indices stay unless a mode is given for them."""
    try:
        if picture.mode == "RGB" and picture.format in ("PNG", "TIFF"):
            # Pillow gives 16-bit colour with 8 bits
            deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if deep is not None and deep.dtype == np.uint16 and deep.ndim == 3:
                colours = deep[..., :3][..., ::-1]  # OpenCV has turned a TIFF, but not a PNG
                return _turned(colours, orientation_of(picture.getexif())) if picture.format == "PNG" else colours
        if picture.mode == "P" and palette:
            picture = picture.convert("RGBA" if "transparency" in picture.info else palette)
        elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            picture = picture.convert("RGB")
        values = np.asarray(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, EOFError, cv2.error) as error:
        raise UnreadableError(f"{path} is not a whole picture ({error}): copy or download it again") from error
    return values.astype(np.uint8) if values.dtype == bool else values


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] turned upright from an EXIF orientation."""
    if 5 <= orientation <= 8:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint8; 16-bit pictures of 12-bit cameras (no value above 4095) by their 12 bits; what is not finite is 0."""
    if values.dtype == np.uint8:
        return values
    values = np.nan_to_num(values.astype(np.float64), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    highest = values.max(initial=0)
    full = 1.0 if highest <= 1 else 255.0 if highest <= 255 else 4095.0 if highest <= 4095 else 65535.0
    return np.round(values * (255.0 / full)).clip(0, 255).astype(np.uint8)


def _without_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    if alpha.min() == alpha.max():
        return colours
    opaque = alpha > alpha.max() / 2
    if not colours[opaque].any():
        return np.where(opaque, 255, 0).astype(np.uint8)
    return np.where(opaque[..., None], colours, 0)
