"""DICOM files of photographs in every coding that is read, made with pydicom of one plain picture."""

import io
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space

from tests.helpers.input_forms import Form, by_pillow, deep

PHOTOGRAPH_8 = uid.OphthalmicPhotography8BitImageStorage
PHOTOGRAPH_16 = uid.OphthalmicPhotography16BitImageStorage
NATIVE = uid.ExplicitVRLittleEndian


def dataset(pixels: np.ndarray, *, kind: str = PHOTOGRAPH_8, bits: int = 0, **attributes: Any) -> Dataset:
    """A photograph as a Dataset with raw pixels.

    Args:
        pixels: grey or indices [H, W], or colours [H, W, 3], uint8 or uint16; for several frames [N, H, W, 3].
        kind: the SOP class.
        bits: stored; 0 for all.
        attributes: further ones, or others.
    """
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = kind, uid.generate_uid()
    data.StudyInstanceUID = data.SeriesInstanceUID = uid.generate_uid()
    data.Modality, data.PatientID, data.PatientName = "OP", "P1", "Doe^Jane"
    coloured = pixels.ndim > 2
    data.SamplesPerPixel = 3 if coloured else 1
    data.PhotometricInterpretation = "RGB" if coloured else "MONOCHROME2"
    if coloured:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = pixels.shape[-3:-1] if coloured else pixels.shape
    data.BitsAllocated = 8 * pixels.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    if pixels.ndim == 4:
        data.NumberOfFrames = len(pixels)
    for name, value in attributes.items():
        setattr(data, name, value)
    data["PixelData"] = _element(pixels.tobytes(), pixels.itemsize)
    return data


def _element(content: bytes, itemsize: int) -> Any:
    element = Dataset()
    element.add_new(0x7FE00010, "OB" if itemsize == 1 else "OW", content + b"\0" * (len(content) % 2))
    return element["PixelData"]


def written(data: Dataset, syntax: str = NATIVE) -> bytes:
    """A file with the pixels as they are in the dataset."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.UID(syntax)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    data.file_meta = meta
    file = io.BytesIO()
    dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def coded(data: Dataset, syntax: str, **options: Any) -> bytes:
    """A file whose pixels pydicom codes."""
    written(data)  # for the file's meta information
    data.compress(syntax, encoding_plugin=options.pop("plugin", ""), generate_instance_uid=False, **options)
    return written(data, syntax)


def wrapped(data: Dataset, syntax: str, *frames: bytes) -> bytes:
    """A file whose frames are coded already."""
    data["PixelData"] = _element(encapsulate([*frames]), 1)
    data["PixelData"].is_undefined_length = True
    return written(data, syntax)


def dicom_forms(picture: np.ndarray) -> list[Form]:
    """All codings, of a picture RGB uint8 [H, W, 3] with even sides."""
    return [*_raw(picture), *_grey(picture), *_palettes(picture), *_compressed(picture)]


def _form(name: str, content: bytes, expected: np.ndarray | None, tolerance: int = 0) -> Form:
    return Form(f"DICOM, {name}", ".dcm", content, expected, tolerance)


def _raw(picture: np.ndarray) -> Iterator[Form]:
    syntaxes = {"RGB": NATIVE, "implicit": uid.ImplicitVRLittleEndian, "big endian": uid.ExplicitVRBigEndian}
    for name, syntax in (syntaxes | {"deflated": uid.DeflatedExplicitVRLittleEndian}).items():
        content = picture
        if syntax == uid.ExplicitVRBigEndian:  # where 8 bits are in words
            content = picture.reshape(-1).view(np.uint16).byteswap().view(np.uint8).reshape(picture.shape)
        data = dataset(content)
        data["PixelData"].VR = "OW" if syntax == uid.ExplicitVRBigEndian else "OB"
        yield _form(name, written(data, syntax), picture)
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    data = dataset(picture, PlanarConfiguration=1)
    data["PixelData"] = _element(planes.tobytes(), 1)
    yield _form("RGB in planes", written(data), picture)
    ybr = convert_color_space(picture, "RGB", "YBR_FULL")
    yield _form("YBR_FULL", written(dataset(ybr, PhotometricInterpretation="YBR_FULL")), picture, 2)
    pairs = ybr.reshape(len(picture), -1, 2, 3).astype(int)
    halved = np.concatenate([pairs[..., 0], pairs[..., 1:].mean(axis=2).round()], axis=2).astype(np.uint8)
    data = dataset(picture, PhotometricInterpretation="YBR_FULL_422")
    data["PixelData"] = _element(halved.tobytes(), 1)
    shared = np.repeat(halved[..., None, 2:], 2, axis=2)
    whole = np.concatenate([halved[..., :2, None], shared], axis=3).reshape(picture.shape)
    yield _form("YBR_FULL_422", written(data), convert_color_space(whole, "YBR_FULL", "RGB"), 1)
    for bits in (10, 12, 16):
        data = dataset(deep(picture, bits), kind=PHOTOGRAPH_16, bits=bits)
        yield _form(f"RGB of {bits} bits", written(data), picture)
    data = dataset(picture, kind=uid.VLPhotographicImageStorage, Modality="XC")
    yield _form("VL Photographic", written(data), picture)
    data = dataset(picture, kind=uid.SecondaryCaptureImageStorage, Modality="OT")
    yield _form("Secondary Capture", written(data), picture)
    yield _form("RGB of two frames", written(dataset(np.stack([picture, picture[::-1]]))), None)


def _grey(picture: np.ndarray) -> Iterator[Form]:
    grey = picture[..., 1]
    expected = np.repeat(grey[..., None], 3, axis=2)
    for bits in (8, 9, 10, 12, 14, 16):
        values = grey if bits == 8 else deep(grey, bits)
        kind = PHOTOGRAPH_8 if bits == 8 else PHOTOGRAPH_16
        yield _form(f"MONOCHROME2 of {bits} bits", written(dataset(values, kind=kind, bits=bits)), expected)
        turned = (2**bits - 1 - values.astype(int)).astype(values.dtype)
        data = dataset(turned, kind=kind, bits=bits, PhotometricInterpretation="MONOCHROME1")
        yield _form(f"MONOCHROME1 of {bits} bits", written(data), expected)
    dim = dataset(grey.astype(np.uint16), kind=PHOTOGRAPH_16, bits=12)
    yield _form("MONOCHROME2 of 12 bits, of which 8 are used", written(dim), np.rint(expected * (255 / 4095)))


def _palettes(picture: np.ndarray) -> Iterator[Form]:
    few = Image.fromarray(picture).quantize(64)
    colours, places = np.asarray(few.convert("RGB")), np.asarray(few)
    table = np.zeros((256, 3), np.uint8)
    table[: len(few.getpalette()) // 3] = np.reshape(few.getpalette(), (-1, 3))
    for bits in (8, 16):
        entries = table if bits == 8 else table.astype(np.uint16) * 257
        yield _form(f"PALETTE COLOR of {bits} bits", written(palette(places, entries)), colours)
    shifted = palette(places.astype(np.uint16) + 300, table, first=300)
    yield _form("PALETTE COLOR from 300 on", written(shifted), colours)
    many = np.repeat(table, 2, axis=0)  # more than 256 entries of 8 bits
    yield _form("PALETTE COLOR of 512 entries", written(palette(places.astype(np.uint16) * 2, many)), colours)


def palette(indices: np.ndarray, table: np.ndarray, first: int = 0) -> Dataset:
    """A photograph of indices [H, W] and their colours [N, 3], uint8 or uint16."""
    data = dataset(indices, kind=uid.SecondaryCaptureImageStorage, PhotometricInterpretation="PALETTE COLOR")
    for i, colour in enumerate(("Red", "Green", "Blue")):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [len(table), first, 8 * table.itemsize])
        setattr(data, f"{colour}PaletteColorLookupTableData", np.ascontiguousarray(table[:, i]).tobytes())
    return data


def _compressed(picture: np.ndarray) -> Iterator[Form]:
    grey = picture[..., 1]
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    half, best = (by_pillow(picture, "JPEG", quality=100, subsampling=s) for s in (1, 0))
    data = dataset(picture, PhotometricInterpretation="YBR_FULL_422")
    yield _form("JPEG, YBR_FULL_422", wrapped(data, uid.JPEGBaseline8Bit, half), as_read(half), 0)
    data = dataset(picture, PhotometricInterpretation="RGB")
    yield _form("JPEG, called RGB and YBR", wrapped(data, uid.JPEGBaseline8Bit, best), picture, 6)
    rgb = by_pillow(picture, "JPEG", quality=100, subsampling=0, keep_rgb=True)
    yield _form("JPEG, RGB", wrapped(dataset(picture), uid.JPEGBaseline8Bit, rgb), picture, 6)
    silent = without_signs(rgb)
    yield _form("JPEG, RGB that does not say so", wrapped(dataset(picture), uid.JPEGBaseline8Bit, silent), picture, 6)
    content = by_pillow(grey, "JPEG", quality=100)
    yield _form("JPEG, grey", wrapped(dataset(grey), uid.JPEGBaseline8Bit, content), as_rgb, 4)
    for syntax, name in (
        (uid.JPEG2000Lossless, "JPEG 2000"),
        (uid.JPEGLSLossless, "JPEG-LS"),
        (uid.RLELossless, "RLE"),
    ):
        yield _form(f"{name}, RGB", coded(dataset(picture), syntax), picture)
        yield _form(f"{name}, grey of 12 bits", coded(dataset(deep(grey, 12), bits=12), syntax), as_rgb)
        yield _form(f"{name}, RGB of 16 bits", coded(dataset(deep(picture, 16)), syntax), picture)
    data = dataset(picture, PhotometricInterpretation="YBR_RCT")
    yield _form("JPEG 2000, YBR_RCT", coded(data, uid.JPEG2000Lossless), picture)
    data = dataset(picture, PhotometricInterpretation="YBR_ICT")
    yield _form("JPEG 2000, YBR_ICT", coded(data, uid.JPEG2000, j2k_psnr=[60]), picture, 6)
    data = dataset(picture, PhotometricInterpretation="YBR_RCT")
    coded(data, uid.JPEG2000Lossless)
    data.PhotometricInterpretation = "YBR_FULL"
    yield _form("JPEG 2000, called YBR_FULL and YBR_RCT", written(data, uid.JPEG2000Lossless), picture)
    ybr = convert_color_space(picture, "RGB", "YBR_FULL")
    data = dataset(ybr, PhotometricInterpretation="YBR_FULL")
    yield _form("RLE, YBR_FULL", coded(data, uid.RLELossless), picture, 2)


def other_dicom() -> Form:
    """A file of another modality."""
    data = dataset(np.zeros((8, 8), np.uint16), kind=uid.CTImageStorage, Modality="CT")
    return _form("CT", written(data), None)


def as_read(jpeg: bytes) -> np.ndarray:
    """A JPEG as it is read where it is a file of its own."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)


def without_signs(jpeg: bytes) -> bytes:
    """An RGB JPEG without the segments and names of channels that say so."""
    place = jpeg.index(b"\xff\xee")
    jpeg = jpeg[:place] + jpeg[place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big") :]
    content, frame, scan = bytearray(jpeg), jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
    for i in range(3):
        content[frame + 10 + 3 * i] = content[scan + 5 + 2 * i] = i + 1
    return bytes(content)
