"""What a file says of its picture before its pixels are decoded: size, orientation, pages, depth."""

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sam_med2d.errors import UnclearError, UnreadableError

Image.MAX_IMAGE_PIXELS = None  # `image_formats.MAX_PIXELS`, with its message, stands in its place
# of Pillow, in damaged files; a tag that is not there
FAULTS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error)

_ORIENTATION = 0x0112  # EXIF and TIFF tag
_WIDTH, _HEIGHT, _BITS, PHOTOMETRIC, _CHANNELS, _EXTRA = 256, 257, 258, 262, 277, 338  # TIFF tags
_SUBFILE, _OLD_SUBFILE = 254, 255  # TIFF tags of what a directory is: bits for a smaller copy and a mask; 2 for a copy
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START, _PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24  # place of a channel's bits
_PNG_RGB, _PNG_PALETTE = 2, 3  # colour types
_PNG_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # that may name an orientation
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a segment with the picture's size
_JPEG_APP1, _JPEG_SCAN = 0xE1, 0xDA  # EXIF or XMP; the pixels
_JPEG_PICTURES = b"MPF\0"  # the beginning of a segment that lists further pictures
_BMP_BITS = slice(28, 30)  # of a pixel
_MP_ENTRIES = 0xB002  # tag of the list of pictures
_DICOM = slice(128, 132)  # place of a signature


@dataclass(frozen=True, slots=True)
class Header:
    """A picture of a file.

    Attributes:
        kind: of the file, by Pillow's name.
        size: (height, width) as stored.
        is_rgb: whether OpenCV decodes RGB of 8 bits and no alpha, and nothing is to be turned.
        index: of the picture among all that the file holds.
        bits: of a PNG's channels that are significant, where it says so.
        picture: Pillow's, of the first page; None for TIFF, and for what OpenCV decodes as stored and upright.
        tags: of a TIFF.
    """

    kind: str
    size: tuple[int, int]
    is_rgb: bool = False
    index: int = 0
    bits: int | None = None
    picture: Image.Image | None = None
    tags: ImageFileDirectory_v2 | None = None

    @property
    def orientation(self) -> int:
        """By EXIF: 1 for upright, 2 to 8 for what must be turned; from 5 on, height and width change places.

        Pillow decodes a PNG to look behind its pixels. Raises one of FAULTS.
        """
        if self.picture is None and self.tags is None:
            return 1
        turn = (self.picture.getexif() if self.tags is None else self.tags).get(_ORIENTATION)
        return turn if turn in range(1, 9) else 1

    @property
    def depth(self) -> int:
        """Bits of a channel of a TIFF."""
        return max(_numbers(self.tags, _BITS, 1))

    @property
    def channels(self) -> int:
        """Of a TIFF."""
        return _numbers(self.tags, _CHANNELS, 1)[0]

    @property
    def extra(self) -> list[int]:
        """What a TIFF's channels beyond its colours are: 0 unknown, 1 alpha that has been multiplied in, 2 alpha."""
        return _numbers(self.tags, _EXTRA) if _EXTRA in self.tags else []


def read_header(path: Path, file: IO[bytes], page: int | None = None) -> Header:
    """Read a picture's header.

    Args:
        path: names the file in messages.
        file: at its beginning; where it is afterwards is not said.
        page: number of the picture, from 1; None where there is no choice.

    Raises:
        UnreadableError: this is no picture that is read here.
        UnclearError: the file has several pages, or not this one.
    """
    start = file.read(_BMP_BITS.stop)
    file.seek(0)
    header = _quick_header(start, file)
    try:
        if header:
            choose_page(path, [0], page)
            return header
        return _tiff_header(path, file, page) if start.startswith(_TIFF_STARTS) else _pillow_header(path, file, page)
    except UnclearError:
        raise
    except FAULTS as error:
        raise unreadable(path, "no format that is read here") from error


def is_dicom(start: bytes) -> bool:
    """Whether a file is one of DICOM, by its first 132 bytes or more."""
    return start[_DICOM] == b"DICM"


def unreadable(path: Path, reason: object) -> UnreadableError:
    """The error for a file that is no whole picture."""
    return UnreadableError(f"{path} is not a whole picture ({reason}): copy or convert it again")


def open_picture(file: IO[bytes]) -> Image.Image:
    """A picture as Pillow opens it; raises one of FAULTS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which nobody needs here
        return Image.open(file)


def choose_page(path: Path, pages: Sequence[int], page: int | None) -> int:
    """The index of the page that is meant.

    Args:
        path: names the file in messages.
        pages: indexes of all pages.
        page: its number, from 1; None for the only one.

    Raises:
        UnclearError: it is not clear which is meant, or it is not there.
    """
    if page is None and len(pages) > 1:
        raise UnclearError(
            f"{path} holds {len(pages)} pages or frames: save the one that is meant as a picture of its own "
            f"(scripts/predict.py and scripts/amg.py also choose it: --page 1 to {len(pages)})"
        )
    number = 1 if page is None else page
    if not 1 <= number <= len(pages):
        raise UnclearError(f"--page {number}: {path} has {len(pages)} page(s)")
    return pages[number - 1]


# --- JPEG, PNG and BMP that OpenCV decodes as stored ----------------------------------------------------------------


def _quick_header(start: bytes, file: IO[bytes]) -> Header | None:
    """The header of a JPEG, PNG or BMP of one page that OpenCV decodes as stored, upright and with all of its alpha.

    None for any other file: Pillow then reads the header, which takes as long as OpenCV takes for a small mask.
    """
    start, header = start.ljust(_BMP_BITS.stop, b"\0"), None
    if start.startswith(_PNG_START):
        width, height, depth, colour = struct.unpack_from(">IIBB", start, 16)
        plain, bits = _png_facts(file) if depth >= 8 and colour != _PNG_PALETTE else (False, None)
        header = Header("PNG", (height, width), depth == 8 and colour == _PNG_RGB, bits=bits) if plain else None
    elif start.startswith(b"\xff\xd8\xff"):
        height, width, channels = _jpeg_size(file)
        header = Header("JPEG", (height, width), channels == 3) if height else None
    elif start.startswith(b"BM") and start[_BMP_BITS] == b"\x18\0":  # 24
        width, height = struct.unpack_from("<ii", start, 18)
        header = Header("BMP", (abs(height), width), True)
    file.seek(0)
    return header


def _png_facts(file: IO[bytes]) -> tuple[bool, int | None]:
    """Whether a PNG is whole and names no orientation, transparent colour or frames; its significant bits."""
    bits, plain = None, True
    file.seek(len(_PNG_START))
    while len(head := file.read(8 + len(_PNG_TEXTS[0]))) >= 8:
        length, kind, text = *struct.unpack_from(">I4s", head), head[8:]
        told = kind in (b"iTXt", b"tEXt", b"zTXt") and text.startswith(_PNG_TEXTS)
        plain = plain and not told and kind not in (b"eXIf", b"tRNS", b"acTL")
        if kind == b"sBIT":
            bits = max(text[:length], default=None)
        if kind == b"IEND":
            return plain, bits
        file.seek(length + 12 - len(head), io.SEEK_CUR)
    return False, bits


def _jpeg_size(file: IO[bytes]) -> tuple[int, int, int]:
    """Height, width and channels of a JPEG of 8 bits in grey or RGB, without EXIF, XMP and further pictures; else 0."""
    file.seek(2)
    size = other = 0, 0, 0
    while len(head := file.read(10)) == 10 and head[0] == 0xFF:
        if head[1] == _JPEG_APP1 or head[4:8] == _JPEG_PICTURES:
            return other
        if head[1] == _JPEG_SCAN:
            return size
        length, depth, height, width, channels = struct.unpack_from(">HBHHB", head, 2)
        if head[1] in _JPEG_FRAMES and depth == 8 and channels in (1, 3) and height:
            size = height, width, channels
        file.seek(length + 2 - len(head), io.SEEK_CUR)
    return other


# --- TIFF -----------------------------------------------------------------------------------------------------------


def _tiff_header(path: Path, file: IO[bytes], page: int | None) -> Header:
    directories = list(_directories(file))
    pages = [i for i, tags in enumerate(directories) if not _is_copy(tags)]
    index = choose_page(path, pages or [0], page)
    tags = directories[index]
    return Header("TIFF", (tags[_HEIGHT], tags[_WIDTH]), index=index, tags=tags)


def _directories(file: IO[bytes]) -> Iterator[ImageFileDirectory_v2]:
    """The tags of everything in a TIFF. Raises one of FAULTS."""
    start = file.read(8)
    start += file.read(8) if b"+" in start[:4] else b""  # BigTIFF
    place, seen = ImageFileDirectory_v2(start).next, set()
    while place and place not in seen:
        seen.add(place)
        file.seek(place)
        tags = ImageFileDirectory_v2(start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags.load(file)
        yield tags
        place = tags.next


def _is_copy(tags: ImageFileDirectory_v2) -> bool:
    """Whether a directory of a TIFF is a smaller copy of another, or its mask."""
    return bool(tags.get(_SUBFILE, 0) & 0b101) or tags.get(_OLD_SUBFILE) == 2


def _numbers(tags: Any, tag: int, default: int = 0) -> list[int]:
    return np.atleast_1d(tags.get(tag, default)).tolist()


# --- the others -----------------------------------------------------------------------------------------------------


def _pillow_header(path: Path, file: IO[bytes], page: int | None) -> Header:
    bits = _png_facts(file)[1] if file.read(len(_PNG_START)) == _PNG_START else None
    file.seek(0)
    picture = open_picture(file)
    kind, size = picture.format, picture.size
    index = choose_page(path, _further_pictures(picture, file) or range(getattr(picture, "n_frames", 1)), page)
    return Header(kind, size[::-1], index=index, bits=bits, picture=picture)


def _further_pictures(picture: Image.Image, file: IO[bytes]) -> list[int]:
    """Indexes of the pictures in a JPEG that are as large as the first: smaller ones are previews, depths or gains.

    Empty for files of other kinds.
    """
    if picture.format != "MPO":
        return []
    file.seek(0)
    start, indexes = file.read(picture.mpinfo[_MP_ENTRIES][0]["Size"]).find(_JPEG_PICTURES), [0]
    for index, entry in enumerate(picture.mpinfo[_MP_ENTRIES][1:], 1):
        file.seek(start + len(_JPEG_PICTURES) + entry["DataOffset"])
        try:
            size = open_picture(io.BytesIO(file.read())).size
        except FAULTS:  # programs that edit a photograph leave the list in it, and not the picture
            continue
        if size == picture.size:
            indexes.append(index)
    return indexes
