"""Masks <-> the run-length encoding of Label Studio's brush: that of the JavaScript package @thi.ng/rle-pack.

A stream of bits, highest first: 32 of the number of values, 5 of their bits less 1, four times 4 of the bits of a
length less 1; then records: 1 for a run or 0 for single values, 2 of which of the four sizes the length has, the
length less 1, and the value or values. Values are RGBA, a byte each; the mask is the alpha.
"""

import numpy as np

CHANNELS = 4
SIZES = (3, 4, 8, 16)  # bits of lengths, as Label Studio writes them
_LONGEST = 1 << SIZES[-1]


def encode_mask(mask: np.ndarray) -> list[int]:
    """Bytes of a mask [H, W]: 255 in all channels where it is not 0, as `mask2rle` of label-studio-sdk gives them."""
    values = mask.ravel().astype(bool)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths, whites = np.diff(np.append(starts, len(values))) * CHANNELS, values[starts]
    parts = -(-lengths // _LONGEST)  # a run longer than that is several
    last = np.cumsum(parts) - 1
    pieces = np.full(parts.sum(), _LONGEST)
    pieces[last] = lengths - (parts - 1) * _LONGEST
    which = np.searchsorted([1 << size for size in SIZES], pieces)
    bits = np.array(SIZES)[which]
    records = ((4 + which) << bits | pieces - 1) << 8 | np.repeat(whites, parts) * 255
    header = [(values.size * CHANNELS, 32), (7, 5), *((size - 1, 4) for size in SIZES)]
    codes = np.concatenate([[code for code, _ in header], records]).astype(np.int64)
    widths = np.concatenate([[width for _, width in header], bits + 11])
    stream = _bits(codes, widths)
    # label-studio-sdk ends with a byte of zeros where the bits fill the last one
    return np.packbits(np.append(stream, np.zeros(8 - len(stream) % 8, np.uint8))).tolist()


def _bits(codes: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The lowest `widths` bits of each code, one after the other, highest first."""
    ends = np.cumsum(widths)
    place = np.repeat(ends, widths) - np.arange(ends[-1]) - 1
    return (np.repeat(codes, widths) >> place & 1).astype(np.uint8)


def decode_alpha(rle: list[int], size: tuple[int, int]) -> np.ndarray:
    """Alpha of an encoded picture.

    Args:
        rle: its bytes.
        size: (height, width) that it has.

    Returns:
        uint8 [height, width].

    Raises:
        ValueError: these are no such bytes, or of another size.
    """
    data, count = bytes(rle), size[0] * size[1] * CHANNELS
    read = _Reader(data)
    if (number := read(32)) != count:
        raise ValueError(
            f"a brush of {number} values, in a picture of {size[1]} x {size[0]} pixels with {CHANNELS} each"
        )
    if read(5) != 7:
        raise ValueError("a brush whose values are no bytes")
    sizes = [read(4) + 1 for _ in range(4)]
    values, lengths, done = [], [], 0
    while done < count:
        run, which = divmod(read(3), 4)
        length = read(sizes[which]) + 1
        found = [read(8)] if run else read.bytes(length)
        values += found
        lengths += [length] if run else [1] * length
        done += length
    if done > count:
        raise ValueError(f"a brush whose runs are longer than its {count} values")
    return np.repeat(np.array(values, np.uint8), lengths)[CHANNELS - 1 :: CHANNELS].reshape(size)


class _Reader:
    """Numbers from bits, one after the other; ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self.end, self.data, self.place = 8 * len(data), data + bytes(8), 0

    def __call__(self, bits: int) -> int:
        """The number in the next bits, up to 32."""
        first, self.place = self.place, self.place + bits
        if self.place > self.end:
            raise ValueError("a brush whose run lengths end too early")
        chunk = int.from_bytes(self.data[first >> 3 : (first >> 3) + 5], "big")
        return chunk >> 40 - (first & 7) - bits & (1 << bits) - 1

    def bytes(self, count: int) -> list[int]:
        return [self(8) for _ in range(count)]
