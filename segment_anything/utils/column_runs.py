"""Masks as their runs down the columns, and such masks of logits at a photograph's size without a pixel in between.

Bilinear upsampling is linear between two rows of the grid: down a column a mask begins or ends once, at a place that a
division tells, where the logits of two neighbouring rows differ in sign, and nowhere else.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .rle import compress

LARGE = 1e30  # a logit in the place of an infinite one


@dataclass(frozen=True, eq=False)
class ColumnRuns:
    """A mask.

    Attributes:
        size: (H, W).
        changes: int64, ascending: numbers of the pixels, counted down the columns, that differ from the one before,
            of which the first one counts as different where it is foreground; none is H * W or more.
    """

    size: tuple[int, int]
    changes: np.ndarray

    @classmethod
    def empty(cls, size: tuple[int, int]) -> "ColumnRuns":
        """The mask without foreground of a size (H, W)."""
        return cls(size, np.zeros(0, np.int64))

    @property
    def counts(self) -> np.ndarray:
        """Lengths of the runs, int64, the first one of background: those of COCO."""
        return np.diff(np.concatenate(([0], self.changes, [self.size[0] * self.size[1]])))

    def rle(self) -> dict[str, Any]:
        """The mask as `rle.mask_to_rle` writes it, compressed."""
        return {"size": [int(side) for side in self.size], "counts": compress(self.counts) if min(self.size) else ""}

    def bits(self) -> np.ndarray:
        """Pixels in rows, eight a byte, the highest bit first: uint8 [H, (W + 7) // 8], 0 beyond the last column."""
        height, width = self.size
        words = -(-width // 64)
        bits = np.zeros((height, 8 * words), np.uint8)
        # a run goes on over a column's end, where the next column begins anew
        column, row = np.divmod(self._within_columns(), height) if height else np.zeros((2, 0), np.int64)
        place = row * bits.shape[1] + column // 8
        for bit in range(8):  # a byte has each of its bits once
            bits.reshape(-1)[place[column % 8 == bit]] ^= 128 >> bit
        np.bitwise_xor.accumulate(bits.view(np.uint64), axis=0, out=bits.view(np.uint64))
        return bits[:, : -(-width // 8)]

    def mask(self) -> np.ndarray:
        """Pixels, bool [H, W]."""
        return np.unpackbits(self.bits(), axis=1, count=self.size[1]).view(bool)

    def sampled(self, size: tuple[int, int]) -> np.ndarray:
        """The pixels under the middles of those of a picture of another size (h, w): bool [h, w]."""
        rows, columns = (
            np.minimum((np.arange(to) + 0.5) * (side / to), side - 1).astype(int)
            for to, side in zip(size, self.size, strict=True)
        )
        return np.unpackbits(self.bits()[rows], axis=1, count=self.size[1])[:, columns].view(bool)

    def _within_columns(self) -> np.ndarray:
        """`changes`, and the first pixel of each column at which the last pixel of the one before decides it wrongly.

        Down a column all begins with background: a column that begins within a run gets a change of its own.
        """
        height, width = self.size
        starts = np.arange(width) * height
        inside = np.searchsorted(self.changes, starts, side="right") % 2 == 1  # the first pixel is foreground
        others = self.changes[self.changes % max(height, 1) != 0]
        return np.concatenate((others, starts[inside]))


def runs_above(
    columns: np.ndarray, threshold: float, height: int, corner: tuple[int, int], size: tuple[int, int]
) -> ColumnRuns:
    """Where a part of a picture, bilinear between rows of logits with half-pixel centres, lies above a threshold.

    Args:
        columns: float [w, n], the n logits down each of the part's w columns.
        threshold: of logits.
        height: of the part, pixels.
        corner: (top, left) of the part in the picture, which is background elsewhere.
        size: (H, W) of the picture.

    Returns:
        The mask; it can differ from one of upsampled logits only in pixels whose logits equal the threshold to
        within the rounding of floats.
    """
    if not np.isfinite(columns).all():  # of an overflow: NaN is background, as a comparison with it says
        columns = np.nan_to_num(columns, nan=-LARGE, posinf=LARGE, neginf=-LARGE)
    above = columns > threshold
    column, knot = np.nonzero(above[:, 1:] != above[:, :-1])
    first, second = (columns[column, knot + i].astype(np.float64) for i in (0, 1))
    share = ((threshold - first) / (second - first)).clip(0, 1)
    scale = height / columns.shape[1]
    before, place, behind = ((knot + part + 0.5) * scale - 0.5 for part in (0, share, 1))
    row = np.where(first > threshold, np.ceil(place), np.floor(place) + 1)
    # the knots themselves are on their own side, however the division was rounded
    row = row.clip(np.floor(before) + 1, np.ceil(behind)).clip(0, height).astype(np.int64)
    (top, left), (whole, _) = corner, size
    starts, ends = np.flatnonzero(above[:, 0]), np.flatnonzero(above[:, -1])
    changes = [(column + left) * whole + top + row, (starts + left) * whole + top, (ends + left) * whole + top + height]
    return ColumnRuns(size, _odd(np.sort(np.concatenate(changes), kind="stable"), size[0] * size[1]))


def _odd(changes: np.ndarray, end: int) -> np.ndarray:
    """Of ascending numbers those that are there an odd number of times, without `end`."""
    begin = np.flatnonzero(np.diff(changes, prepend=-1))
    times = np.diff(begin, append=len(changes))
    found = changes[begin[times % 2 == 1]]
    return found[: np.searchsorted(found, end)]
