"""Masks as PNG of one bit a pixel: grey, black and white, which every reader of PNG knows."""

import struct
import zlib
from pathlib import Path

import numpy as np

from segment_anything.utils.atomic import atomic_path
from segment_anything.utils.column_runs import ColumnRuns

COMPRESSION = 1  # of zlib, the fastest: 6 makes files smaller by a third, and takes four times as long
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ONE_BIT_GREY = (1, 0, 0, 0, 0)  # bits, grey, deflated, filtered, not interlaced


def mask_png(mask: ColumnRuns) -> bytes:
    """The file of a mask, of 1 x 1 pixels at least: foreground white."""
    height, width = mask.size
    lines = np.pad(mask.bits(), ((0, 0), (1, 0)))  # each after the number of its filter, 0: none
    header = struct.pack(">II5B", width, height, *_ONE_BIT_GREY)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines.data, COMPRESSION)), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)


def write_mask(path: Path, mask: ColumnRuns) -> None:
    """Write a mask as PNG, atomically.

    Args:
        path: of the file; its folder is made where it is missing.
        mask: of 1 x 1 pixels at least.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(mask_png(mask))


def _chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
