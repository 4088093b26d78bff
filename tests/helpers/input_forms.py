"""The forms that photographs come in, each made of one plain picture, with the pixels that it is to be read as."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import tifffile
from PIL import Image

SIZE = 48, 60  # height, width
TURNED = 6  # EXIF: to be turned by a quarter


@dataclass(frozen=True, slots=True)
class Form:
    """A file.

    Attributes:
        name: what it is, for a table.
        suffix: of its name.
        content: its bytes.
        expected: RGB uint8 [H, W, 3]; None where it is to be refused.
        tolerance: levels by which pixels may differ.
    """

    name: str
    suffix: str
    content: bytes = field(repr=False)
    expected: np.ndarray | None = field(repr=False)
    tolerance: int = 1


def plain_picture() -> np.ndarray:
    """Smooth, of all levels, and black outside of an ellipse: RGB uint8."""
    small = np.random.default_rng(5).integers(0, 256, (4, 5, 3), np.uint8)
    picture = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    picture[20:24, 20:24] = 255
    return picture * inside()[..., None]


def inside() -> np.ndarray:
    """uint8 {0, 1} [H, W]: the ellipse, which is all that the forms with alpha show."""
    view = np.zeros(SIZE, np.uint8)
    cv2.ellipse(view, (SIZE[1] // 2, SIZE[0] // 2), (26, 21), 0, 0, 360, 1, -1)
    return view


# --- files --------------------------------------------------------------------------------------------------------


def by_pillow(pixels: np.ndarray | Image.Image, kind: str, **save) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, kind, **save)
    return file.getvalue()


def png(pixels: np.ndarray, *chunks: tuple[bytes, bytes], bits: int = 0) -> bytes:
    """A PNG of grey, grey and alpha, RGB or RGBA values of 8, 16 or fewer bits, with more chunks (kind, content)."""
    height, width, channels = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    depth, colour = 8 * pixels.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    if bits:
        depth, rows = bits, packed(rows, bits)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    written = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def tiff(*pages: np.ndarray, extra: Sequence[str] = (), **tags) -> bytes:
    """A TIFF of grey or RGB values of any type, with extra channels; `tags` as tifffile names them."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in pages:
            colours = page.shape[2] - len(extra) if page.ndim == 3 else 1
            kind = {"photometric": "rgb" if colours == 3 else "minisblack", "extrasamples": list(extra)}
            writer.write(page, **(kind | ({"planarconfig": "contig"} if page.ndim == 3 else {}) | tags))
    return file.getvalue()


def ppm(values: np.ndarray, white: int) -> bytes:
    """A PPM of RGB or a PGM of grey values of 16 bits."""
    height, width = values.shape[:2]
    return (
        f"P{5 if values.ndim == 2 else 6} {width} {height}\n# eye\n{white}\n".encode() + values.astype(">u2").tobytes()
    )


def packed(rows: np.ndarray, bits: int) -> np.ndarray:
    """Rows [H, N] of values that take so many bits each, as bytes."""
    places = (rows[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(places.reshape(len(rows), -1).astype(np.uint8), axis=1)


def packed_tiff(values: np.ndarray, bits: int) -> bytes:
    """A TIFF whose values take 10, 12 or 14 bits each, grey or RGB."""
    height, width = values.shape[:2]
    channels = values.size // (height * width)
    data = packed(values.reshape(height, -1), bits).tobytes()
    after = 8 + len(data) + 2 + 9 * 12 + 4
    tags = {256: width, 257: height, 258: bits if channels == 1 else after, 259: 1, 262: 1 if channels == 1 else 2}
    tags |= {273: 8, 277: channels, 278: height, 279: len(data)}
    entries = (
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, channels if tag == 258 else 1, value)
        for tag, value in tags.items()
    )
    depths = struct.pack(f"<{channels}H", *[bits] * channels)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + b"\x09\0" + b"".join(entries) + bytes(4) + depths


def deep(pixels: np.ndarray, bits: int) -> np.ndarray:
    """8 bits -> the same brightness in other bits, uint16."""
    return np.round(pixels.astype(float) * ((2**bits - 1) / 255)).astype(np.uint16)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# --- forms --------------------------------------------------------------------------------------------------------


def input_forms() -> list[Form]:
    """All forms, in the order of a table."""
    picture = plain_picture()
    return [*_of_8_bits(picture), *_of_more_bits(picture), *_with_alpha(picture), *_of_pages(picture)]


def _of_8_bits(picture: np.ndarray) -> Iterator[Form]:
    grey = picture[..., 1]
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    yield Form("JPEG", ".jpg", by_pillow(picture, "JPEG", quality=100, subsampling=0), picture, 6)
    yield Form("PNG", ".png", png(picture), picture)
    yield Form("grey PNG", ".png", png(grey), as_rgb)
    yield Form("TIFF", ".tif", tiff(picture), picture)
    yield Form("BMP", ".bmp", by_pillow(picture, "BMP"), picture)
    yield Form("PPM", ".ppm", by_pillow(picture, "PPM"), picture)
    yield Form("WebP", ".webp", by_pillow(picture, "WEBP", lossless=True), picture)
    bits = picture[..., 0] > 120
    as_grey = np.repeat(bits[..., None] * np.uint8(255), 3, axis=2)
    yield Form("PNG of 1 bit", ".png", by_pillow(bits, "PNG"), as_grey)
    few = Image.fromarray(picture).quantize(64)
    colours = np.asarray(few.convert("RGB"))
    yield Form("PNG with a palette", ".png", by_pillow(few, "PNG"), colours)
    yield Form("GIF", ".gif", by_pillow(few, "GIF"), colours)
    print_colours = Image.fromarray(picture).convert("CMYK")
    yield Form("CMYK JPEG", ".jpg", by_pillow(print_colours, "JPEG", quality=100, subsampling=0), picture, 10)
    yield Form("CMYK TIFF", ".tif", by_pillow(print_colours, "TIFF"), picture)
    upright = np.rot90(picture, -1)
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        how = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        content, limit = by_pillow(picture, kind, exif=exif(TURNED), **how), 6 if kind == "JPEG" else 1
        yield Form(
            f"{kind.replace('WEBP', 'WebP')} to be turned by its EXIF tag", f".{kind.lower()}", content, upright, limit
        )


def _of_more_bits(picture: np.ndarray) -> Iterator[Form]:
    grey = picture[..., 1]
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    low = picture.astype(np.uint16)
    for bits in (8, 10, 12, 14, 16):
        yield Form(f"PNG of 16 bits, {bits} of them used", ".png", png(low << (bits - 8)), picture)
    yield Form("grey PNG of 16 bits, 12 of them used", ".png", png(low[..., 1] << 4), as_rgb)
    yield Form("PNG of 16 bits, a hot pixel in 12", ".png", png(_with_hot_pixel(low << 4)), picture, 1)
    yield Form("PNG of 16 bits, sBIT 12, in the low bits", ".png", png(low << 2, (b"sBIT", b"\x0c" * 3)), picture // 4)
    yield Form("PNG of 16 bits, sBIT 12, in the high bits", ".png", png(low << 8, (b"sBIT", b"\x0c" * 3)), picture)
    yield Form("PPM of 16 bits, 12 of them used", ".ppm", ppm(low << 4, 65535), picture)
    yield Form("PPM of 10 bits", ".ppm", ppm(deep(picture, 10), 1023), picture)
    yield Form("PGM of 12 bits, of which 10 are used", ".pgm", ppm(deep(grey, 10), 4095), as_rgb // 4)
    content = cv2.imencode(".jp2", low[..., ::-1] << 4, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    yield Form("JPEG 2000 of 16 bits, 12 of them used", ".jp2", content, picture)
    for bits in (10, 12, 14, 16):
        yield Form(f"TIFF of 16 bits, {bits} of them used", ".tif", tiff(deep(picture, bits)), picture)
    planes = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
    yield Form("TIFF of 8 bits in planes", ".tif", tiff(planes, photometric="rgb", planarconfig="separate"), picture)
    content = tiff(deep(planes, 16), photometric="rgb", planarconfig="separate")
    yield Form("TIFF of 16 bits in planes", ".tif", content, None)
    for bits in (10, 12, 14):
        yield Form(f"TIFF of {bits} bits", ".tif", packed_tiff(deep(picture, bits), bits), picture)
    yield Form("grey TIFF of 12 bits", ".tif", packed_tiff(deep(grey, 12), 12), as_rgb)
    yield Form(
        "grey TIFF of 16 bits, white as 0", ".tif", tiff(65535 - deep(grey, 16), photometric="miniswhite"), as_rgb
    )
    yield Form("grey TIFF of 32-bit integers", ".tif", tiff(deep(grey, 12).astype(np.int32)), as_rgb)
    yield Form("TIFF of floats 0 to 1", ".tif", tiff(picture.astype(np.float32) / 255), picture)
    yield Form("TIFF of floats 0 to 255", ".tif", tiff(picture.astype(np.float32)), picture)
    yield Form("grey TIFF of 64-bit floats 0 to 1", ".tif", tiff(grey / 255), as_rgb)
    yield Form("TIFF of floats around 0", ".tif", tiff(picture.astype(np.float32) / 64 - 2), None)
    yield Form("TIFF of 16-bit floats", ".tif", tiff((picture / 255).astype(np.float16)), None)


def _with_hot_pixel(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[20, 20, 0] = 65535  # where the picture is white
    return values


def _with_alpha(picture: np.ndarray) -> Iterator[Form]:
    view = inside()
    under = np.where(view[..., None], picture, 255).astype(np.uint8)  # what nobody sees is white
    grey = under[..., 1]
    as_rgb = np.repeat(picture[..., 1:2], 3, axis=2)
    rgba, la = np.dstack([under, 255 * view]), np.dstack([grey, 255 * view])
    yield Form("PNG with alpha", ".png", png(rgba), picture)
    yield Form("grey PNG with alpha", ".png", png(la), as_rgb)
    yield Form("PNG of 16 bits with alpha", ".png", png(deep(rgba, 16)), picture)
    twelve = np.dstack([deep(under, 12), np.where(view, 65535, 0).astype(np.uint16)])
    yield Form("PNG of 16 bits, 12 of them used, with alpha", ".png", png(twelve), picture)
    half = np.dstack([picture, np.where(view, 255, 0) // 2]).astype(np.uint8)
    yield Form("PNG with alpha of half at most", ".png", png(half), picture)
    key = np.where(view[..., None], picture | 1, np.array([0, 254, 0])).astype(np.uint8)
    yield Form("PNG with a transparent colour", ".png", png(key, (b"tRNS", bytes([0, 0, 0, 254, 0, 0]))), picture)
    values = np.minimum(picture[..., 0] // 16, 14)
    content = png(np.where(view, values, 15).astype(np.uint8), (b"tRNS", b"\0\x0f"), bits=4)
    yield Form("PNG of 4 bits with a transparent value", ".png", content, np.repeat(17 * values[..., None], 3, axis=2))
    few = Image.fromarray(np.where(view[..., None], picture, 255).astype(np.uint8)).quantize(64)
    indices, colours = np.asarray(few), np.asarray(few.convert("RGB"))
    unseen = int(indices[0, 0])
    seen = colours * (indices != unseen)[..., None].astype(np.uint8)
    yield Form("PNG with a palette and transparency", ".png", by_pillow(few, "PNG", transparency=unseen), seen)
    yield Form("WebP with alpha", ".webp", by_pillow(rgba, "WEBP", lossless=True, exact=True), picture)
    yield Form("TIFF with alpha", ".tif", tiff(rgba, extra=["unassalpha"]), picture)
    yield Form("grey TIFF with alpha", ".tif", tiff(la, extra=["unassalpha"]), as_rgb)
    soft = cv2.GaussianBlur(np.float32(view), (9, 9), 0)
    shown = np.round(picture * soft[..., None]).astype(np.uint8)
    multiplied = np.dstack([shown, np.round(255 * soft)]).astype(np.uint8)
    yield Form("TIFF with alpha that is multiplied in", ".tif", tiff(multiplied, extra=["assocalpha"]), shown, 2)
    content = tiff(deep(multiplied, 16), extra=["assocalpha"])
    yield Form("TIFF of 16 bits with alpha that is multiplied in", ".tif", content, shown, 2)
    straight = np.dstack([picture, np.round(255 * soft)]).astype(np.uint8)
    yield Form("TIFF of 16 bits with alpha", ".tif", tiff(deep(straight, 16), extra=["unassalpha"]), shown, 2)
    yield Form("TIFF with a channel that is not explained", ".tif", tiff(straight, extra=["unspecified"]), None)
    yield Form("grey TIFF of 16 bits with alpha", ".tif", tiff(deep(la, 16), extra=["unassalpha"]), None)
    yield Form("PNG that is transparent everywhere", ".png", png(np.dstack([picture, 0 * view])), None)


def _of_pages(picture: np.ndarray) -> Iterator[Form]:
    other = picture[::-1].copy()
    frames = {"save_all": True, "append_images": [Image.fromarray(other)]}
    yield Form("TIFF of two pages", ".tif", tiff(picture, other), None)
    small = cv2.resize(picture, None, fx=0.5, fy=0.5)
    content = tiff_with_copy(picture, small)
    yield Form("TIFF with a smaller copy of itself", ".tif", content, picture)
    for kind, name in (("GIF", "animated GIF"), ("PNG", "animated PNG"), ("WEBP", "animated WebP")):
        yield Form(name, f".{kind.lower()}", by_pillow(picture, kind, **frames), None)
    best = {"quality": 100, "subsampling": 0}
    yield Form("JPEG of two pictures (MPO)", ".jpg", by_pillow(picture, "MPO", **frames, **best), None)
    preview = {"save_all": True, "append_images": [Image.fromarray(small)]}
    yield Form("JPEG with a smaller picture (MPO)", ".jpg", by_pillow(picture, "MPO", **preview, **best), picture, 6)


def tiff_with_copy(picture: np.ndarray, small: np.ndarray) -> bytes:
    """A TIFF whose first directory is a smaller copy, as some cameras write it, and whose second is the picture."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(small, photometric="rgb", subfiletype=1)
        writer.write(picture, photometric="rgb")
    return file.getvalue()
