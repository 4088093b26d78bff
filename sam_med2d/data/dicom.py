"""Photographs in DICOM files -> pixels as stored, with pydicom, which is optional; `image_formats` calls it.

OpenCV decodes JPEG baseline, as everywhere; pydicom decodes the rest. What pydicom leaves to its callers is done here:
tables of colours and windows of grey are applied, MONOCHROME1 is turned so that white is highest, and what is no
photograph is refused.
Values of attributes reach no message, but for codes: they may name a person.
"""

import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import cv2
import numpy as np

from sam_med2d.data.dicom_window import as_shown
from sam_med2d.data.image_headers import choose_page, unreadable
from sam_med2d.errors import DataError, UnreadableError

INSTALL = "pip install -r requirements-dicom.txt"
_ROOT = "1.2.840.10008.5.1.4.1.1."
# Ophthalmic Photography 8 and 16 bit, its wide fields, VL Photographic
_PHOTOGRAPHS = {_ROOT + end for end in ("77.1.5.1", "77.1.5.2", "77.1.5.5", "77.1.5.6", "77.1.4")}
_CAPTURES = {_ROOT + end for end in ("7", "7.1", "7.2", "7.3", "7.4")}  # Secondary Capture, of any modality
_MODALITIES = ("", "OP", "XC", "OT", "ES", "FS", "FA", "GM", "SC")  # of captures that are photographs
_GREY, _PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
_YBR = ("YBR_FULL", "YBR_FULL_422")
_COLOURS = (*_GREY, _PALETTE, "RGB", *_YBR, "YBR_RCT", "YBR_ICT")
_JPEG, _JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"  # transfer syntaxes
_JPEGS = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.(5[017]|70|8[01])")  # and JPEG-LS
_JPEG_END = b"\xff\xd9"
_JPEG_2000 = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.(9[01]|20[123])")
_EXPLICIT = re.compile(r"1\.2\.840\.10008\.1\.2\.(1|5|4\.\d+)")  # transfer syntaxes of explicit little endian
_META_BYTES = 1024  # in which the meta information of a file tells its transfer syntax
_KIND, _PIXELS = 0x00080016, 0x7FE00010  # tags
_TABLES = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))


def is_readable() -> bool:
    """Whether pydicom is installed."""
    return importlib.util.find_spec("pydicom") is not None


@cache
def _pydicom() -> ModuleType:
    """pydicom, which tells values of attributes in its log: it is silenced. Raises ImportError."""
    import pydicom.encaps
    import pydicom.pixels

    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    return pydicom


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Raises UnreadableError for whatever pydicom and NumPy raise, without their texts."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise UnreadableError(f"{path} is a DICOM file, and pydicom is not installed: {INSTALL}") from error
    except DataError:
        raise
    except Exception as error:  # pydicom and its decoders raise of all kinds for damaged files
        raise unreadable(path, what) from error


@dataclass(frozen=True, slots=True)
class DicomFile:
    """What a DICOM file says of its pixels.

    Attributes:
        data: all of it, pydicom's Dataset.
        kind, modality: its SOP class and its modality.
        size: (height, width) of each frame.
        frames: their number.
        channels: of a pixel.
        colours: what they are, the photometric interpretation.
        bits, allocated, highest: how many of a value are significant, of how many, and the place of the highest.
        is_signed: whether there may be negative values.
        syntax: how its pixels are coded, the transfer syntax.
    """

    data: Any
    kind: str
    modality: str
    size: tuple[int, int]
    frames: int
    channels: int
    colours: str
    bits: int
    allocated: int
    highest: int
    is_signed: bool
    syntax: str

    @classmethod
    def of(cls, data: Any) -> "DicomFile":
        """Bytes of attributes are read here because pydicom takes as long for them as OpenCV for a small picture."""
        bits = _number(data, 0x00280101)
        return cls(
            data,
            kind=_text(data, _KIND) or str(data.file_meta.get("MediaStorageSOPClassUID", "")),
            modality=_text(data, 0x00080060),
            size=(_number(data, 0x00280010), _number(data, 0x00280011)),
            frames=max(1, int(_text(data, 0x00280008) or 1)),
            channels=_number(data, 0x00280002),
            colours=_text(data, 0x00280004),
            bits=bits,
            allocated=_number(data, 0x00280100),
            highest=_number(data, 0x00280102, bits - 1),
            is_signed=_number(data, 0x00280103) > 0,
            syntax=_text(data.file_meta, 0x00020010),
        )


def _text(data: Any, tag: int) -> str:
    """An attribute that is a code or a number in letters; "" where there is none."""
    if tag not in data:
        return ""
    value = data.get_item(tag).value
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value or "")).strip(" \0")


def _number(data: Any, tag: int, default: int = 0) -> int:
    """An attribute that is a number of 16 bits."""
    if tag not in data:
        return default
    element = data.get_item(tag)
    if isinstance(element.value, bytes):
        return int.from_bytes(element.value[:2], "little" if element.is_little_endian else "big")
    return default if element.value is None else int(element.value)


def read_dicom(path: Path, file: IO[bytes], *, pixels: bool = False) -> DicomFile:
    """A photograph's DICOM file.

    Args:
        path: names the file in messages.
        file: at its beginning.
        pixels: whether the pixels are read, too.

    Raises:
        UnreadableError: the file is damaged or holds no photograph, or pydicom is not installed.
    """
    with _reading(path, "its DICOM header is damaged"):
        data = _plain_dataset(file) if pixels else None
        found = DicomFile.of(data or _pydicom().dcmread(file, stop_before_pixels=not pixels))
        if other := _other_kind(found):
            raise UnreadableError(f"{path} is a DICOM file of {other}, which is no photograph: leave it out")
        there = all(found.size) and not (pixels and not _has_pixels(found))
        if not there and "EncryptedAttributesSequence" in found.data:
            raise UnreadableError(f"{path} is an encrypted DICOM file: save it without encryption")
        if not there:
            raise UnreadableError(
                f"{path} is a DICOM file without pixels, or cut off: leave it out, or export it again"
            )
    return found


def _plain_dataset(file: IO[bytes]) -> Any | None:
    """What dcmread gives of a file in explicit little endian, in half of its time; None, at the beginning, of others.

    dcmread reads the file's meta information twice, of which nothing is needed but the transfer syntax.
    """
    start = file.read(_META_BYTES)
    end = 144 + int.from_bytes(start[140:144], "little")
    place = start.find(b"\2\0\x10\0UI", 144, end)
    size = int.from_bytes(start[place + 6 : place + 8], "little")
    syntax = start[place + 8 : place + 8 + size].rstrip(b"\0").decode("latin-1")
    if start[132:140] == b"\2\0\0\0UL\4\0" and place > 0 and _EXPLICIT.fullmatch(syntax):
        file.seek(end)
        data = _pydicom().filereader.read_dataset(file, is_implicit_VR=False, is_little_endian=True)
        if _KIND in data:
            data.file_meta = _pydicom().dataset.FileMetaDataset()
            data.file_meta.TransferSyntaxUID = _pydicom().uid.UID(syntax)
            return data
    file.seek(0)
    return None


def _has_pixels(file: DicomFile) -> bool:
    return _PIXELS in file.data and bool(file.data.get_item(_PIXELS).value)


def other_kind(path: Path) -> str:
    """What a DICOM file is that is no photograph, such as "CT Image Storage (modality CT)"; "" for others."""
    try:
        with path.open("rb") as file, _reading(path, ""):
            return _other_kind(DicomFile.of(_pydicom().dcmread(file, stop_before_pixels=True)))
    except (OSError, DataError):
        return ""


def _other_kind(file: DicomFile) -> str:
    if file.kind in _PHOTOGRAPHS or (file.kind in _CAPTURES and file.modality in _MODALITIES):
        return ""
    name = _pydicom().uid.UID(file.kind).name if re.fullmatch(r"[\d.]+", file.kind) else "an unknown kind"
    about = [f"modality {file.modality}"] if re.fullmatch("[A-Z]{2,16}", file.modality) else []
    about += [f"{file.frames} frames"] if file.frames > 1 else []
    return name + (f" ({', '.join(about)})" if about else "")


def decode_frame(
    path: Path, file: DicomFile, *, indices: bool = False, page: int | None = None
) -> tuple[np.ndarray, int]:
    """One frame of a DICOM file.

    Args:
        path: names the file in messages.
        file: with its pixels.
        indices: gives a palette's indices instead of its colours.
        page: number of the frame, from 1; None for the only one.

    Returns:
        Grey values or indices [H, W], or RGB [H, W, 3], unsigned integers with white highest; and how many of their
        bits are significant, which are the low ones.

    Raises:
        UnreadableError: the pixels are not whole, or coded in a way that is not read here.
        UnclearError: which frame is meant.
    """
    index = choose_page(path, range(file.frames), page)
    _check_coding(path, file)
    with _reading(path, "its DICOM pixels cannot be decoded"):
        is_jpeg = file.syntax == _JPEG or (file.syntax == _JPEG_EXTENDED and file.bits == 8)
        values = _by_opencv(file, index) if is_jpeg else None
        values = _by_pydicom(path, file, index) if values is None else values
        if values.shape[:2] != file.size:
            raise ValueError("another size than the header says")
        bits = file.bits
        if file.colours == _PALETTE and not indices:
            values, bits = _coloured(path, file.data, values)
        if file.colours in _GREY and not indices:
            values, bits = as_shown(path, file.data, values, bits=bits, index=index)
        if file.colours == "MONOCHROME1":
            values = (2**bits - 1 - np.minimum(values, 2**bits - 1)).astype(values.dtype)
    return (values.astype(np.uint16) if bits < 8 else values), bits


def _check_coding(path: Path, file: DicomFile) -> None:
    """Raises UnreadableError for pixels that are coded in a way that has two meanings, or is not read here."""
    problem = ""
    if file.colours not in _COLOURS or file.channels != (1 if file.colours in (*_GREY, _PALETTE) else 3):
        problem = f"{file.channels} channel(s) of the colours {re.sub('[^A-Z0-9_ ]', '', file.colours)}"
    elif not 1 <= file.bits <= 16 or file.highest != file.bits - 1:
        problem = f"{file.bits} bits of {file.allocated}, the highest at {file.highest}"
    elif file.is_signed:
        problem = "negative values"
    elif file.colours in _YBR and file.bits != 8:
        problem = f"{file.colours} of {file.bits} bits"
    if problem:
        raise UnreadableError(f"{path} is a DICOM file with {problem}, which is not read here: export it as PNG")


# --- decoding -------------------------------------------------------------------------------------------------------


def _frame(file: DicomFile, index: int) -> bytes:
    """The coded bytes of a frame."""
    offsets = (file.data.get("ExtendedOffsetTable"), file.data.get("ExtendedOffsetTableLengths"))
    frame = _pydicom().encaps.get_frame(
        file.data.get_item(_PIXELS).value,
        index,
        number_of_frames=file.frames,
        extended_offsets=offsets if all(offsets) else None,
    )
    if _JPEGS.fullmatch(file.syntax) and not frame.rstrip(b"\0").endswith(_JPEG_END):
        raise ValueError("no whole JPEG")  # some decoders fill up what is missing
    return frame


def _by_opencv(file: DicomFile, index: int) -> np.ndarray | None:
    """A JPEG's pixels; None where it does not say its colours, which are RGB."""
    frame = _frame(file, index)
    if file.colours == "RGB" and not _says_its_colours(frame):
        return None
    mode = cv2.IMREAD_COLOR_RGB if file.channels == 3 else cv2.IMREAD_GRAYSCALE
    values = cv2.imdecode(np.frombuffer(frame, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None:
        raise ValueError("no whole JPEG")
    return values


def _says_its_colours(frame: bytes) -> bool:
    """Whether decoders know a JPEG's colours: by a segment of JFIF or Adobe, or channels that are named R, G and B."""
    start = frame.partition(b"\xff\xda")[0]  # of the pixels
    frames = (b"\xff\xc0\x00\x11", b"\xff\xc1\x00\x11", b"\xff\xc2\x00\x11")
    head = next((start[start.index(mark) + 10 :] for mark in frames if mark in start), b"")
    return b"JFIF\0" in start or b"\xff\xee\x00\x0eAdobe" in start or head[:7:3] in (b"RGB", b"rgb")


def _by_pydicom(path: Path, file: DicomFile, index: int) -> np.ndarray:
    """Values as pydicom decodes them, in RGB where they have colours."""
    name = _pydicom().uid.UID(file.syntax).name
    try:
        decoder = _pydicom().pixels.get_decoder(file.syntax)
    except NotImplementedError as error:
        shown = re.sub(r"[^\w .,()/-]", "", name) or "none"
        raise UnreadableError(
            f"{path} has the DICOM transfer syntax {shown}, which is not read here: convert it to another, or to PNG"
        ) from error
    if not decoder.is_available:
        raise UnreadableError(f"{path} is a DICOM file of {name}, whose decoder is not installed: {INSTALL}")
    colours, frame = {}, _frame(file, index) if decoder.is_encapsulated else b""
    if _JPEG_2000.fullmatch(file.syntax) and file.colours in _YBR and _is_transformed(frame):
        colours = {"photometric_interpretation": "YBR_ICT"}  # of which the decoder makes RGB
    return decoder.as_array(file.data, index=index, raw=False, **colours)[0]


def _is_transformed(frame: bytes) -> bool:
    """Whether a JPEG 2000 says itself that its colours were transformed, which its decoder undoes."""
    head = frame.partition(b"\xff\x52")[2]  # the segment COD: length, style, progression, layers, transform
    return head[6:7] == b"\x01"


def _coloured(path: Path, data: Any, indices: np.ndarray) -> tuple[np.ndarray, int]:
    """RGB [H, W, 3] of a palette's indices, and its bits."""
    entries, first, bits = data[f"{_TABLES[0]}Descriptor"].value
    entries = entries or 1 << 16
    places = np.clip(indices.astype(np.int32) - first, 0, entries - 1)
    if f"{_TABLES[0]}Data" not in data:  # a table of segments
        if bits == 8 and entries > 256:  # pydicom counts them in 8 bits
            raise UnreadableError(
                f"{path} is a DICOM file with a segmented palette of {entries} colours: export as PNG"
            )
        table = _pydicom().pixels.apply_color_lut(np.arange(first, first + entries), data)[:, :3]
        return table[places], bits
    tables = [data[f"{name}Data"].value for name in _TABLES]
    kind = np.dtype(np.uint8 if len(tables[0]) < 2 * entries else np.uint16)
    kind = kind if data.original_encoding[1] else kind.newbyteorder(">")
    table = np.stack([np.frombuffer(values, kind, entries) for values in tables], axis=1)
    return table.astype(kind.newbyteorder("="))[places], bits
