"""Masks <-> run-length encoding as COCO writes it: runs down the columns, the first one of background.

An RLE is {"size": [height, width], "counts": runs}; the runs are a list of lengths (uncompressed) or a string.
The string is that of pycocotools, byte for byte: each length, from the fourth on its difference to the length two
before, in groups of 5 bits, lowest first, bit 6 set on all but the last group, plus 48.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rle = Mapping[str, Any]

GROUPS = 7  # of 5 bits hold every difference of two lengths below 2 ** 32
_SHIFTS = 5 * np.arange(GROUPS)


def mask_to_rle(mask: np.ndarray, *, compressed: bool = True) -> dict[str, Any]:
    """RLE of a mask [H, W], bool or numbers of which all but 0 are foreground."""
    if mask.ndim != 2:
        raise ValueError(f"a mask of shape {mask.shape}: give [height, width]")
    # runs change between the first and the last column with foreground, and one of background at either side
    columns = np.flatnonzero(mask.any(axis=0))
    first, last = (max(0, columns[0] - 1), columns[-1] + 2) if len(columns) else (0, 0)
    pixels = np.ravel(mask[:, first:last], order="F").astype(bool)
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1 + first * mask.shape[0]
    begins = [0, 0] if pixels[:1].any() else [0]  # foreground first: a background run of length 0
    lengths = np.diff(np.concatenate([begins, changes, [mask.size]]))
    lengths = lengths if mask.size else lengths[:0]
    return {"size": [int(side) for side in mask.shape], "counts": compress(lengths) if compressed else lengths.tolist()}


def rle_to_mask(rle: Rle) -> np.ndarray:
    """Mask [H, W] bool of an RLE of either kind. Raises ValueError where its runs do not fill its size."""
    height, width = (int(side) for side in rle["size"])
    lengths = run_lengths(rle)
    if height < 0 or width < 0 or lengths.sum() != height * width:
        raise ValueError(f"runs of {lengths.sum()} pixels in a mask of {width} x {height}")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def area_from_rle(rle: Rle) -> int:
    """Foreground pixels."""
    return int(run_lengths(rle)[1::2].sum())


def box_from_rle(rle: Rle) -> tuple[int, int, int, int]:
    """Bounding box x, y, width, height in pixels; all 0 for an empty mask."""
    height = int(rle["size"][0])
    lengths = run_lengths(rle)
    ends = np.cumsum(lengths)
    first, last = (ends - lengths)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        return 0, 0, 0, 0
    left, right = first[0] // height, last[-1] // height
    whole = (first // height != last // height).any()  # a run over a column's end has its lowest and highest row
    top, bottom = (0, height - 1) if whole else ((first % height).min(), (last % height).max())
    return int(left), int(top), int(right - left + 1), int(bottom - top + 1)


def run_lengths(rle: Rle) -> np.ndarray:
    """Lengths of an RLE's runs, int64. Raises ValueError for a negative one or what is none."""
    counts = rle["counts"]
    if isinstance(counts, str | bytes):
        return decompress(counts)
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or (lengths.size and lengths.dtype.kind not in "iu") or (lengths < 0).any():
        raise ValueError("runs are a list of whole numbers from 0 on")
    return lengths.astype(np.int64)


def compress(lengths: Sequence[int] | np.ndarray) -> str:
    """Run lengths as a string."""
    numbers = np.array(lengths, np.int64)
    numbers[3:] -= np.asarray(lengths, np.int64)[1:-2]
    groups = numbers[:, None] >> _SHIFTS  # arithmetic: the sign goes on
    # groups below, from which on the rest is the sign of the group before it
    needed = 1 + ((groups < -16) | (groups > 15)).sum(axis=1, keepdims=True)
    place = np.arange(GROUPS)
    codes = (groups & 31) + 32 * (place < needed - 1) + 48
    return codes[place < needed].astype(np.uint8).tobytes().decode("ascii")


def decompress(text: str | bytes) -> np.ndarray:
    """Run lengths, int64, of a string. Raises ValueError where it is none."""
    content = text.encode("utf-8") if isinstance(text, str) else text
    codes = np.frombuffer(content, np.uint8).astype(np.int64) - 48
    last = codes < 32
    if ((codes < 0) | (codes > 63)).any() or (len(codes) and not last[-1]):
        raise ValueError("runs are not a compressed string")
    ends = np.flatnonzero(last)
    begins = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    sizes = ends - begins + 1
    if (sizes > GROUPS).any():
        raise ValueError("runs are not a compressed string: a length is beyond 32 bits")
    place = np.arange(len(codes)) - np.repeat(begins, sizes)
    numbers = np.add.reduceat((codes & 31) << (5 * place), begins) if len(codes) else np.zeros(0, np.int64)
    numbers -= (codes[ends] & 16) << (5 * sizes - 4)  # the highest bit is the sign
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    if (numbers < 0).any():
        raise ValueError("runs are not a compressed string: a length is negative")
    return numbers
