"""Pictures as cameras and archives leave them: cut off, turned by EXIF, 16 bits, floats."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from sam_med2d.data import image_formats, photographs
from sam_med2d.errors import UnreadableError

SIZE = 40, 60  # height, width


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def encoded(pixels: np.ndarray, kind: str, orientation: int = 1) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif_of(orientation))
    return file.getvalue()


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow makes of a picture with this orientation."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(pixels, "PNG", orientation)))))


# --- cut off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [image_formats.read_photograph, image_formats.read_values, image_formats.size_of])
def test_a_png_that_is_cut_off_is_named(tmp_path, read):
    path = tmp_path / "cut.png"
    whole = cv2.imencode(".png", noise())[1].tobytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableError, match=r"cut\.png is not a whole picture"):
        read(path)


# --- turned -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG"])
@pytest.mark.parametrize("size_of", [image_formats.size_of, photographs.size_of])
def test_the_size_is_that_of_the_upright_picture(tmp_path, kind, orientation, size_of: Callable[[Path], tuple]):
    path = tmp_path / f"turned.{kind.lower()}"
    path.write_bytes(encoded(noise(), kind, orientation))
    assert size_of(path) == image_formats.read_photograph(path)[0].shape[:2] == upright(noise(), orientation).shape[:2]


def deep_png(pixels: np.ndarray, orientation: int) -> bytes:
    """16 bits with EXIF, which Pillow does not write."""
    png = cv2.imencode(".png", pixels[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    chunk = b"eXIf" + exif_of(orientation).tobytes().removeprefix(b"Exif\0\0")
    at = png.index(b"IDAT") - 4
    return png[:at] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[at:]


def deep_tiff(pixels: np.ndarray, orientation: int) -> bytes:
    """16 bits in one strip behind the header; its 10 tags come last, then the three depths."""
    data = (pixels.astype("<u2") * 257).tobytes()
    depths = 8 + len(data) + 2 + 10 * 12 + 4
    height, width, _ = pixels.shape
    tags = {256: width, 257: height, 258: depths, 259: 1, 262: 2, 273: 8, 274: orientation, 277: 3, 278: height}
    tags[279] = len(data)
    wide = (273, 279)
    entries = [struct.pack("<HHII", t, 4 if t in wide else 3, 3 if t == 258 else 1, v) for t, v in tags.items()]
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", 10) + b"".join(entries) + bytes(4) + struct.pack("<HHH", 16, 16, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encode", [deep_png, deep_tiff])
def test_colours_of_16_bits_are_turned_upright(tmp_path, encode, orientation):
    path = tmp_path / "deep"
    path.write_bytes(encode(noise(), orientation))
    expected = upright(noise(), orientation)
    assert np.array_equal(image_formats.read_photograph(path)[0], expected)
    assert np.array_equal(image_formats.read_values(path), expected.astype(np.uint16) * 257)


# --- floats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("top", [1.0, 255.0])
def test_a_float_that_is_not_finite_is_black_and_spoils_no_other_pixel(tmp_path, top, odd):
    path = tmp_path / "float.tif"
    grey = noise()[..., 0]
    grey[0, :2] = 0, 255
    values = (grey * (top / 255)).astype(np.float32)
    values[5, 7] = odd
    Image.fromarray(values).save(path)
    grey[5, 7] = 0
    assert np.array_equal(image_formats.read_photograph(path)[0], np.repeat(grey[..., None], 3, axis=2))
