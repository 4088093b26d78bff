"""Pictures as cameras and archives leave them: cut off, turned by EXIF, 16 bits, floats."""

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sam_med2d.data.image_io import COPY_AGAIN, is_plain, read_bytes, read_image, read_mask, read_values, size_of
from sam_med2d.errors import DataError, MissingError, UnclearError, UnreadableError
from sam_med2d.notes import REMARKS
from tests.helpers.cases import check_all
from tests.helpers.input_forms import SIZE as FORM_SIZE
from tests.helpers.input_forms import Form, by_pillow, deep, input_forms, inside, packed_tiff, plain_picture, png, tiff

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


def test_a_mask_of_bool_by_tifffile_is_white_where_it_is_true(tmp_path):
    """Its tag says that 0 is white; tifffile itself does not look at it."""
    mask = np.arange(60).reshape(6, 10) % 7 == 0
    tifffile.imwrite(tmp_path / "m.tif", mask)
    assert np.array_equal(read_mask(tmp_path / "m.tif"), mask)
    Image.fromarray(mask).save(tmp_path / "p.tif", tiffinfo={262: 0})
    assert np.array_equal(read_mask(tmp_path / "p.tif"), mask)


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


# --- forms --------------------------------------------------------------------------------------------------------


def as_read(folder: Path, content: bytes, suffix: str = ".tif", **how) -> np.ndarray:
    path = folder / f"form{suffix}"
    path.write_bytes(content)
    return read_image(path, **how)


def test_every_form_is_read_as_the_plain_picture_or_refused(tmp_path):
    def check(form: Form) -> None:
        path = tmp_path / f"form{form.suffix}"
        path.write_bytes(form.content)
        if form.expected is None:
            with pytest.raises((UnclearError, UnreadableError), match="form"):
                read_image(path)
            return
        pixels = read_image(path)
        assert pixels.shape == form.expected.shape and size_of(path) == pixels.shape[:2]
        assert np.abs(pixels.astype(int) - form.expected).max() <= form.tolerance

    check_all(check, ((form,) for form in input_forms()))


ALPHAS = ("none", "straight", "multiplied in")


def encodings(values: np.ndarray, bits: int, alpha: str) -> Iterator[bytes]:
    """Files of grey or RGB values of so many bits, or with alpha as the last channel."""
    colour = values.ndim == 3 and values.shape[2] >= 3
    extra = {"none": [], "straight": ["unassalpha"], "multiplied in": ["assocalpha"]}[alpha]
    if alpha != "multiplied in":
        yield png(values)
        if bits == 12:
            yield png(values, (b"sBIT", bytes([bits] * 3)))
        if bits != 8:
            yield png(values << (16 - bits))
            yield png(values << (16 - bits), (b"sBIT", bytes([bits] * 3)))
    if colour or alpha == "none":
        yield tiff(values, extra=extra)
        yield tiff(values, extra=extra, compression="zlib")
        yield tiff(values.astype(np.float64) / (2**bits - 1), extra=extra)
        yield tiff((values * (255 / (2**bits - 1))).astype(np.float32), extra=extra)
    if alpha == "none" and bits in (10, 12, 14):
        yield packed_tiff(values, bits)
    if alpha == "none":
        yield tiff(values.astype(np.int32))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from([1.0, 0.8]))
def test_every_depth_kind_and_alpha_is_the_same_picture(tmp_path_factory, seed, dim):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("forms")
    picture = (dim * rng.integers(0, 256, (6, 9, 3))).astype(np.uint8)
    picture[0, :3] = int(255 * dim)
    opacity = rng.random((6, 9, 1)) * (rng.random((6, 9, 1)) < 0.8)
    opacity[0] = 1

    def check(bits: int, colour: bool, alpha: str) -> None:
        plain = picture if colour else picture[..., :1]
        values = deep(plain, bits)
        expected = np.repeat(plain, 1 if colour else 3, axis=2)
        if alpha != "none":
            expected = np.round(expected * opacity)
            values = np.round(values * opacity).astype(np.uint16) if alpha == "multiplied in" else values
            values = np.dstack([values, np.round(opacity * (2**bits - 1)).astype(np.uint16)])
        for content in encodings(values[..., 0] if values.shape[2] == 1 else values, bits, alpha):
            found = as_read(folder, content, ".png" if content.startswith(b"\x89") else ".tif")
            assert np.abs(found - expected).max() <= 2

    check_all(check, itertools.product((8, 10, 12, 14, 16), (True, False), ALPHAS))


def test_what_is_transparent_has_no_part_in_the_depth(tmp_path):
    values = np.dstack([plain_picture().astype(np.uint16) << 4, np.where(inside(), 65535, 0).astype(np.uint16)])
    values[inside() == 0, :3] = 65535
    found = as_read(tmp_path, png(values), ".png")
    assert np.abs(found.astype(int) - plain_picture()).max() <= 1


@pytest.mark.parametrize("count", [1, 40])
def test_a_few_hot_pixels_do_not_darken_a_large_photograph(tmp_path, count):
    values = np.full((1000, 900), 2000, np.uint16)
    values.flat[:count] = 65535
    assert as_read(tmp_path, png(values), ".png")[500, 500, 0] == (125 if count == 1 else 8)


@pytest.mark.parametrize("values", [np.full((4, 5), 70_000), np.full((4, 5), -3), -np.eye(5)])
def test_values_that_are_no_brightness_are_refused(tmp_path, values):
    with pytest.raises(UnclearError, match=r"form\.tif holds values from -?\d+ to .*: save it with 8 or 16 bits"):
        as_read(tmp_path, tiff(values.astype(np.int32)))


def test_a_black_photograph_of_16_bits_is_black_and_nothing_is_told(tmp_path, caplog):
    assert not as_read(tmp_path, png(np.zeros((4, 5), np.uint16)), ".png").any() and not caplog.records


def test_a_guess_of_the_depth_is_told_once_with_the_number_of_files(tmp_path, caplog):
    REMARKS.forget()
    values = plain_picture().astype(np.uint16)
    with REMARKS.collected():
        for name, bits in (("b", 12), ("a", 12), ("c", 10), ("d", 16)):
            (tmp_path / f"{name}.png").write_bytes(png(values << (bits - 8)))
            read_image(tmp_path / f"{name}.png")
    told = [record.message for record in caplog.records]
    assert len(told) == 2 and "10 bits" in told[1]
    assert told[0].startswith("note: read as 12 bits") and "a.png (brightest value 4080) and 1 more" in told[0]
    read_image(tmp_path / "b.png")
    assert len(caplog.records) == 2
    REMARKS.forget()
    read_image(tmp_path / "b.png")
    assert "b.png (brightest value 4080)" in caplog.records[-1].message


def test_what_the_file_says_of_its_depth_is_no_guess(tmp_path, caplog):
    dim = plain_picture() // 8  # of 12 bits no more than 9 are used
    for content in (packed_tiff(deep(dim, 12), 12), png(deep(dim, 12), (b"sBIT", b"\x0c" * 3))):
        found = as_read(tmp_path, content, ".png" if content.startswith(b"\x89") else ".tif")
        assert np.abs(found.astype(int) - dim).max() <= 1 and not caplog.records


# --- pages --------------------------------------------------------------------------------------------------------


def test_a_page_is_chosen(tmp_path):
    first = plain_picture()
    second = first[::-1].copy()
    more = {"save_all": True, "append_images": [Image.fromarray(second)]}
    small = cv2.resize(first, None, fx=0.5, fy=0.5)
    files = {
        "TIFF": tiff(first, second),
        "TIFF of 12 bits": tiff(deep(first, 12), deep(second, 12)),
        "TIFF with copies": tiff_with_copies(first, small, second),
        "PNG": by_pillow(first, "PNG", **more),
        "WebP": by_pillow(first, "WEBP", lossless=True, **more),
        "MPO": by_pillow(first, "MPO", quality=100, subsampling=0, **more),
    }

    def check(kind: str) -> None:
        content = files[kind]
        largest = np.mean if kind == "MPO" else np.max  # older Pillow writes the second one in less quality
        for page, expected in ((1, first), (2, second)):
            assert largest(np.abs(as_read(tmp_path, content, page=page).astype(int) - expected)) <= 6
        for page in (0, 3):
            with pytest.raises(UnclearError, match=rf"--page {page}: .*form\.tif has 2 page"):
                as_read(tmp_path, content, page=page)
        with pytest.raises(UnclearError, match=r"form\.tif holds 2 pages or frames: .*--page 1 to 2"):
            as_read(tmp_path, content)

    check_all(check, ((kind,) for kind in files))
    assert np.array_equal(as_read(tmp_path, png(first), page=1), first)
    with pytest.raises(UnclearError, match="--page 2"):
        as_read(tmp_path, png(first), page=2)


def tiff_with_copies(first: np.ndarray, small: np.ndarray, second: np.ndarray) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for picture, is_copy in ((small, 1), (first, 0), (small, 1), (second, 0)):
            writer.write(picture, photometric="rgb", subfiletype=is_copy)
    return file.getvalue()


def test_pages_of_different_sizes(tmp_path):
    path = tmp_path / "form.tif"
    path.write_bytes(tiff(plain_picture(), plain_picture()[:20, :30]))
    assert (
        size_of(path, page=1) == FORM_SIZE and size_of(path, page=2) == (20, 30) == read_image(path, page=2).shape[:2]
    )


def test_a_list_of_pictures_that_are_gone_does_not_matter(tmp_path):
    """Programs that edit a photograph keep the list, and not the second picture."""
    first = plain_picture()
    whole = by_pillow(first, "MPO", save_all=True, append_images=[Image.fromarray(first)], quality=100, subsampling=0)
    found = as_read(tmp_path, whole[: whole.index(b"\xff\xd8", 10)], ".jpg")
    assert np.abs(found.astype(int) - first).max() <= 6
