"""Pictures as cameras and archives leave them: cut off, turned by EXIF, 16 bits, floats."""

import io
import itertools
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from sam_med2d.data.image_io import COPY_AGAIN, is_plain, read_bytes, read_image, read_mask, read_values, size_of
from sam_med2d.errors import DataError, MissingError, UnreadableError
from tests.helpers.cases import check_all

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


@pytest.mark.parametrize("read", [read_image, read_values, size_of])
def test_a_png_that_is_cut_off_is_named(tmp_path, read):
    path = tmp_path / "cut.png"
    whole = cv2.imencode(".png", noise())[1].tobytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableError, match=r"cut\.png is not a whole picture"):
        read(path)


@pytest.mark.parametrize("read", [read_image, read_mask, read_values, size_of, read_bytes])
@pytest.mark.parametrize("name", ["missing.png", "folder", "zero\0byte", "half\ud800pair"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path, read, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingError, match="cannot be opened"):
        read(tmp_path / name)


def test_advice_suits_where_the_name_comes_from(tmp_path):
    with pytest.raises(MissingError, match="check the path in the map"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(MissingError, match="copy it again, or leave it out"):
        read_image(tmp_path / "missing.png", advice=COPY_AGAIN)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif"])
def test_a_photograph_above_the_limit_is_not_decoded(tmp_path, suffix):
    path = tmp_path / f"large.{suffix}"
    Image.fromarray(noise()).save(path)
    with pytest.raises(DataError, match=r"is 60 x 40 pixels, more than --max_pixels 2399"):
        read_image(path, max_pixels=2399)
    assert read_image(path, max_pixels=2400).shape == (*SIZE, 3)


@pytest.mark.parametrize("damage", [b"", b"no gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\3broken"])
def test_a_packed_file_that_is_damaged_is_named(tmp_path, damage):
    path = tmp_path / "eye.ppm.gz"
    path.write_bytes(damage)
    with pytest.raises(UnreadableError, match=r"eye\.ppm\.gz"):
        read_image(path)


def test_what_any_program_reads_alike_is_plain(tmp_path):
    deep = noise().astype(np.uint16) * 257
    for name, pixels in {"8.png": noise(), "8.jpg": noise(), "8.tif": noise(), "16.png": deep}.items():
        assert cv2.imwrite(str(tmp_path / name), pixels)
        assert is_plain(tmp_path / name) == (name in ("8.png", "8.jpg"))
    for orientation in (1, 6):
        (tmp_path / "turned.jpg").write_bytes(encoded(noise(), "JPEG", orientation))
        assert is_plain(tmp_path / "turned.jpg") == (orientation == 1)


# --- turned -------------------------------------------------------------------------------------------------------


KINDS, ORIENTATIONS = ("TIFF", "PNG", "JPEG"), range(1, 9)


def test_the_size_is_that_of_the_upright_picture(tmp_path):
    def check(kind: str, orientation: int) -> None:
        path = tmp_path / f"turned.{kind.lower()}"
        path.write_bytes(encoded(noise(), kind, orientation))
        assert size_of(path) == read_image(path).shape[:2] == upright(noise(), orientation).shape[:2]

    check_all(check, itertools.product(KINDS, ORIENTATIONS))


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


def test_colours_of_16_bits_are_turned_upright(tmp_path):
    def check(encode: Callable[[np.ndarray, int], bytes], orientation: int) -> None:
        path = tmp_path / "deep"
        path.write_bytes(encode(noise(), orientation))
        expected = upright(noise(), orientation)
        assert np.array_equal(read_image(path), expected)
        assert np.array_equal(read_values(path), expected.astype(np.uint16) * 257)

    check_all(check, itertools.product((deep_png, deep_tiff), ORIENTATIONS))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG"])
def test_colours_of_8_bits_are_turned_upright(tmp_path, kind, orientation):
    path = tmp_path / "turned"
    path.write_bytes(encoded(noise(), kind, orientation))
    stored = np.asarray(Image.open(io.BytesIO(encoded(noise(), kind))))
    assert np.array_equal(read_image(path), upright(stored, orientation))


def test_size_and_pixels_agree_where_only_xmp_names_an_orientation(tmp_path):
    """Not every version of Pillow reads it."""
    path = tmp_path / "turned.jpg"
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    jpeg = cv2.imencode(".jpg", noise())[1].tobytes()
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + jpeg[2:])
    assert size_of(path) == read_image(path).shape[:2]


# --- as OpenCV decodes them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp"])
@pytest.mark.parametrize("grey", [False, True])
def test_a_plain_picture_of_8_bits_is_what_opencv_decodes(tmp_path, suffix, grey):
    path = tmp_path / f"plain.{suffix}"
    assert cv2.imwrite(str(path), noise()[..., 0] if grey else noise())
    expected = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.array_equal(read_image(path), expected) and size_of(path) == SIZE


@pytest.mark.parametrize("save", [{"progressive": True}, {"subsampling": 0, "quality": 95}, {"comment": b"eye 7"}])
def test_a_jpeg_of_any_kind_is_what_opencv_decodes(tmp_path, save):
    path = tmp_path / "plain.jpg"
    Image.fromarray(noise()).save(path, **save)
    expected = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.array_equal(read_image(path), expected) and size_of(path) == SIZE


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize("colour", [False, True])
def test_a_mask_of_any_depth_is_read(tmp_path, suffix, white, colour):
    if white == 65535 and suffix == "bmp":
        return  # BMP has 8 bits
    mask = noise()[..., 0] > 100
    values = (mask * white).astype(np.uint16 if white == 65535 else np.uint8)
    path = tmp_path / f"mask.{suffix}"
    assert cv2.imwrite(str(path), np.dstack([values] * 3) if colour else values)
    assert np.array_equal(read_mask(path), mask) and read_mask(path).dtype == np.uint8


# --- as Pillow decodes them ---------------------------------------------------------------------------------------


def test_a_palette_is_read_by_its_colours_or_indices(tmp_path):
    picture = Image.fromarray(noise()).quantize(16)
    for suffix in ("png", "gif", "bmp"):
        path = tmp_path / f"palette.{suffix}"
        picture.save(path)
        assert np.array_equal(read_image(path), np.asarray(picture.convert("RGB")))
        assert np.array_equal(read_values(path, indices=True), np.asarray(picture))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_black(tmp_path, channels):
    opaque = np.tile(np.arange(SIZE[1]) < 30, (SIZE[0], 1))[..., None]
    picture = noise()[..., :channels]
    path = tmp_path / "transparent.png"
    Image.fromarray(np.dstack([picture, np.where(opaque, 255, 0).astype(np.uint8)])).save(path)
    expected = np.broadcast_to(np.where(opaque, picture, 0), (*SIZE, 3))
    assert np.array_equal(read_image(path), expected)
    deep = np.dstack([expected[..., ::-1], np.where(opaque, 255, 0)]).astype(np.uint16) * 257
    assert cv2.imwrite(str(path), deep)
    assert np.array_equal(read_image(path), expected)


def test_a_mask_may_have_its_shape_in_its_transparency(tmp_path):
    opaque = noise()[..., 0] > 100
    path = tmp_path / "mask.png"
    Image.fromarray(np.dstack([np.zeros((*SIZE, 3), np.uint8), np.where(opaque, 255, 0).astype(np.uint8)])).save(path)
    assert np.array_equal(read_mask(path), opaque)


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
    assert np.array_equal(read_image(path), np.repeat(grey[..., None], 3, axis=2))
