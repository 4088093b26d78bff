"""Tiles: overlapping windows all over a photograph, whose probabilities are blended without a seam.

Windows go through the encoder a few at a time, so that memory does not grow with their number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..choices import LARGE
from ..modeling import Sam
from ..preprocessing import OUTSIDE_LOGIT, Frame, to_tensor, window_frame
from .mirroring import MIRRORS

AT_ONCE = 8  # windows that go through the encoder together
MOST_ENLARGED = 4  # model pixels per pixel of the photograph and axis


@dataclass(frozen=True)
class Tiles:
    """How structure prompts are predicted from windows all over a photograph.

    Attributes:
        side: of the square windows, in pixels of the photograph; None for the model's S, so that nothing is enlarged.
        overlap: share of their side that neighbouring windows have in common at least.
        whole: weight of the whole photograph's prediction in the blend, 0 to 1; the windows have the rest.
        shares: the same of single structures, by their names, where 1 means no windows at all.

    Raises:
        ValueError: for values out of range.
    """

    side: int | None = None
    overlap: float = 0.25
    whole: float = 0.5
    shares: Mapping[str, float] = field(default_factory=lambda: LARGE)

    def __post_init__(self) -> None:
        if self.side is not None and self.side < 1:
            raise ValueError(f"side={self.side}: give 1 or more pixels.")
        if not 0 <= self.overlap <= 0.9:
            raise ValueError(f"overlap={self.overlap}: give a share from 0 to 0.9.")
        for name, share in {"whole": self.whole, **self.shares}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: give a share from 0 to 1.")

    def share_of(self, structure: str) -> float:
        """Weight of the whole photograph's prediction for a structure."""
        return self.shares.get(structure, self.whole)

    def side_for(self, image_size: int) -> int:
        """Side of the windows in pixels for a model of this S; ValueError: enlarged more than MOST_ENLARGED times."""
        side = self.side or image_size
        if side * MOST_ENLARGED < image_size:
            raise ValueError(
                f"side={side}: windows would be enlarged more than {MOST_ENLARGED} times: give "
                f"{math.ceil(image_size / MOST_ENLARGED)} or more pixels."
            )
        return side

    def as_dict(self, image_size: int) -> dict[str, Any]:
        """The values for JSON, with the side that a model of this `image_size` S gets."""
        values = {"side": self.side_for(image_size), "overlap": self.overlap, "whole": self.whole}
        return values | {"shares": dict(sorted(self.shares.items()))}

    def describe(self, image_size: int) -> str:
        """One sentence for a report, for a model of this `image_size` S."""
        single = "".join(f", {share:g} for {name}" for name, share in self.as_dict(image_size)["shares"].items())
        return (
            f"Tiles: structures were predicted in windows of {self.side_for(image_size)} pixels that overlap by at "
            f"least {100 * self.overlap:g} %; weight of the whole photograph's prediction {self.whole:g}{single}."
        )


def window_pixels(model: Sam, photographs: Sequence[np.ndarray], frames: Sequence[Frame]) -> Tensor:
    """Parts of photographs as the encoder takes them.

    Args:
        model: whose preprocessing is used.
        photographs: B photographs, RGB uint8 [H, W, 3].
        frames: the part of each.

    Returns:
        float32 [B, 3, S, S] on the model's device.
    """
    images = [model.preprocessing.image(*pair) for pair in zip(photographs, frames, strict=True)]
    return to_tensor(np.stack(images), model.device)


def starts(length: int, side: int, overlap: float) -> list[int]:
    """First pixels of the windows along an axis: evenly spread, from one end to the other.

    Args:
        length: of the axis, in pixels.
        side: of the windows, in pixels.
        overlap: share of the side that neighbours have in common at least.
    """
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side * (1 - overlap)))
    return [round(step * (length - side) / steps) for step in range(steps + 1)]


def weights(firsts: Sequence[int], length: int, side: int) -> Tensor:
    """Weight of each window at each of its pixels along an axis, float32 [n, side]; at each pixel they sum to 1.

    They fall to almost nothing at a border inside, so that no seam shows: sin^2, a Hann window.

    Args:
        firsts: first pixels of the n windows.
        length: of the axis, in pixels.
        side: of the windows, in pixels.
    """
    side = min(side, length)
    rise = torch.sin(math.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side) ** 2
    total = torch.zeros(length, dtype=torch.float64)
    for first in firsts:
        total[first : first + side] += rise
    return torch.stack([rise / total[first : first + side] for first in firsts]).float()


class _Tile(NamedTuple):
    """A window, its first row and column in the used part of the photograph, and its weights along both axes."""

    frame: Frame
    row: int
    column: int
    down: Tensor
    across: Tensor


def tiles_of(frame: Frame, side: int, overlap: float) -> list[_Tile]:
    """The windows of the part of a photograph that `frame` uses: one, the frame itself, where it is small enough.

    Their side is in pixels; `overlap` is the share of it that neighbours have in common at least.
    """
    (top, left, _, _), (height, width) = frame.crop, frame.crop_size
    rows, columns = (starts(length, side, overlap) for length in (height, width))
    down, across = weights(rows, height, side), weights(columns, width, side)
    if len(rows) == len(columns) == 1:
        return [_Tile(frame, 0, 0, down[0], across[0])]
    found = []
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        y, x = top + row, left + column
        part = window_frame(frame, (y, x, y + min(side, height), x + min(side, width)))
        found.append(_Tile(part, row, column, down[i], across[j]))
    return found


def tiled_frame(frame: Frame, side: int) -> Frame:
    """A frame of the same part of the photograph that is as fine as windows of this side, its S a multiple of 4.

    Args:
        frame: of the photograph.
        side: of the windows, in pixels of the photograph.
    """
    longer = max(frame.crop_size)
    return window_frame(replace(frame, image_size=4 * round(longer * frame.image_size / side / 4)), frame.crop)


@torch.no_grad()
def blend_tiles(
    model: Sam,
    photograph: np.ndarray,
    frame: Frame,
    whole: Mapping[str, Tensor],
    tiles: Tiles,
    *,
    mirror: bool = False,
    multimask: bool = True,
    at_once: int = AT_ONCE,
) -> dict[str, Tensor]:
    """Predict structures in windows, and average their probabilities with those of the whole photograph.

    Args:
        model: that predicts.
        photograph: RGB uint8 [H, W, 3].
        frame: of the photograph.
        whole: logits [s, s] of the whole photograph's prediction of each structure, by its name. All structures share
            the encodings of the windows.
        tiles: windows and weights.
        mirror: average over the mirror images of the windows, too.
        multimask: whether the best of three candidates is taken, else the single mask.
        at_once: windows that go through the encoder together.

    Returns:
        {structure: logits float32 [H, W]}, without structures whose whole photograph has the weight 1, and without any
        where there is only one window.
    """
    names = [name for name in whole if tiles.share_of(name) < 1]
    windows = tiles_of(frame, tiles.side_for(model.image_size), tiles.overlap)
    if not names or len(windows) == 1:
        return {}
    sums = torch.zeros(len(names), *frame.crop_size, device=model.device)
    views = ((), *MIRRORS) if mirror else ((),)
    for first in range(0, len(windows), at_once):
        own = windows[first : first + at_once]
        pixels = window_pixels(model, [photograph] * len(own), [tile.frame for tile in own])
        for axes in views:
            embedding, features = model.encode_all(pixels.flip(axes))
            for name, total in zip(names, sums, strict=True):
                points = model.prompt_encoder.structure_points([name] * len(own))
                decoded = model.decode_points(embedding, *points, multimask=multimask, features=features)
                for tile, logits in zip(own, decoded.best().flip(axes), strict=True):
                    _add(total, tile, logits[None], 1 / len(views))
    pairs = zip(names, sums, strict=True)
    return {name: _join(frame, whole[name], total, tiles.share_of(name)) for name, total in pairs}


def _add(total: Tensor, tile: _Tile, logits: Tensor, share: float) -> None:
    """Add a share of a window's weighted probabilities, of logits [1, 1, s, s], to those of the used part [h, w]."""
    down, across = share * tile.down.to(total.device), tile.across.to(total.device)
    part = total[tile.row : tile.row + len(down), tile.column : tile.column + len(across)]
    part += tile.frame.logits_to_crop(logits)[0, 0].sigmoid() * down[:, None] * across


def _join(frame: Frame, whole: Tensor, windows: Tensor, share: float) -> Tensor:
    """Logits [H, W] of the mean of the whole photograph's probabilities, logits [s, s], and the windows' [h, w]."""
    probability = share * frame.logits_to_crop(whole[None, None].float())[0, 0].sigmoid() + (1 - share) * windows
    lowest, highest = math.exp(OUTSIDE_LOGIT), 1 - 2**-24
    logits = torch.logit(probability.clamp(lowest, highest))
    return F.pad(logits, frame.margins, value=OUTSIDE_LOGIT)
