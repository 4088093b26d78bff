"""Tiles: overlapping windows all over a photograph, whose probabilities are blended without a seam.

The photograph is brought once to the scale at which a window is the model's input, so that what follows costs the same
whatever size it has. Windows go through the encoder a few at a time: memory does not grow with their number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..choices import LARGE, TILE_SHARE
from ..modeling import Sam
from ..preprocessing import OUTSIDE_LOGIT, Frame, to_tensor, window_frame
from ..utils.upsampling import upsample
from .mirroring import MIRRORS
from .progress import Report, no_report

AT_ONCE = 8  # windows that go through the encoder together
MOST_ENLARGED = 4  # model pixels per pixel of the photograph and axis


@dataclass(frozen=True)
class Tiles:
    """How structure prompts are predicted from windows all over a photograph.

    Attributes:
        share: side of the square windows, in shares of the longer side of the field of view: an eye looks the same
            whatever pixels the camera has.
        side: the same in pixels of the photograph, in the place of `share`; None for the latter.
        overlap: share of their side that neighbouring windows have in common at least.
        whole: weight of the whole photograph's prediction in the blend, 0 to 1; the windows have the rest.
        shares: the same of single structures, by their names, where 1 means no windows at all.

    Raises:
        ValueError: for values out of range.
    """

    share: float = TILE_SHARE
    side: int | None = None
    overlap: float = 0.25
    whole: float = 0.5
    shares: Mapping[str, float] = field(default_factory=lambda: LARGE)

    def __post_init__(self) -> None:
        if not 0.1 <= self.share <= 1:
            raise ValueError(f"share={self.share}: give a share from 0.1 to 1.")
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

    def check_side(self, image_size: int) -> None:
        """Raise ValueError where windows of `side` would be enlarged too much for a model of this `image_size` S."""
        if self.side is not None and self.side * MOST_ENLARGED < image_size:
            raise ValueError(
                f"side={self.side}: windows would be enlarged more than {MOST_ENLARGED} times: give "
                f"{math.ceil(image_size / MOST_ENLARGED)} or more pixels."
            )

    def side_in(self, frame: Frame) -> float:
        """Side of the windows of a photograph, in its pixels; a share is at least a quarter of the model's S."""
        self.check_side(frame.image_size)
        return self.side or max(self.share * max(frame.crop_size), frame.image_size / MOST_ENLARGED)

    def as_dict(self) -> dict[str, Any]:
        """The values for JSON; of `share` and `side` the one that counts."""
        scale = {"share": self.share} if self.side is None else {"side": self.side}
        return scale | {"overlap": self.overlap, "whole": self.whole, "shares": dict(sorted(self.shares.items()))}

    def describe(self) -> str:
        """One sentence for a report."""
        single = "".join(f", {share:g} for {name}" for name, share in sorted(self.shares.items()))
        side = f"{100 * self.share:g} % of the field of view" if self.side is None else f"{self.side} pixels"
        return (
            f"Tiles: structures were predicted in windows of {side} that overlap by at least {100 * self.overlap:g} %; "
            f"weight of the whole photograph's prediction {self.whole:g}{single}."
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


class _Window(NamedTuple):
    """A window of S x S pixels in a larger frame: its first row and column, and its weights [S] along both axes."""

    row: int
    column: int
    down: Tensor
    across: Tensor


def windows_of(frame: Frame, side: int, overlap: float) -> list[_Window]:
    """Windows of `side` pixels of a larger frame that cover the part in which the photograph lies.

    Args:
        frame: its image size is not less than the side.
        side: of the windows in pixels of the frame.
        overlap: share of the side that neighbours have in common at least.
    """
    top, left, height, width = frame.inner
    down, across = (_along(frame, *axis, side, overlap) for axis in ((top, height), (left, width)))
    return [_Window(row, column, own, other) for (row, own), (column, other) in product(down, across)]


def _along(frame: Frame, first: int, length: int, side: int, overlap: float) -> list[tuple[int, Tensor]]:
    """The first pixels and weights [side] of windows along an axis; one in the middle where the photograph is less."""
    if length < side:
        return [((frame.image_size - side) // 2, torch.ones(side))]
    firsts = starts(length, side, overlap)
    return [(first + start, own) for start, own in zip(firsts, weights(firsts, length, side), strict=True)]


def tiled_frame(frame: Frame, side: float) -> Frame:
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
    report: Report = no_report,
) -> tuple[dict[str, Tensor], Frame]:
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
        report: called before windows or their mirror images are encoded.

    Returns:
        {structure: logits float32 [F, F]}, without structures whose whole photograph has the weight 1, and without any
        where one window would hold the photograph; and the frame, of image size F, in which they lie.
    """
    fine, size = tiled_frame(frame, tiles.side_in(frame)), model.image_size
    names = [name for name in whole if tiles.share_of(name) < 1]
    if not names or fine.image_size <= size:
        return {}, fine
    pixels = window_pixels(model, [photograph], [fine])[0]
    windows = windows_of(fine, size, tiles.overlap)
    sums = torch.zeros(len(names), *pixels.shape[1:], device=model.device)
    views = ((), *MIRRORS) if mirror else ((),)
    for first in range(0, len(windows), at_once):
        own = windows[first : first + at_once]
        parts = torch.stack([pixels[:, w.row : w.row + size, w.column : w.column + size] for w in own])
        for count, axes in enumerate(views):
            report("tiles", first * len(views) + count * len(own), len(windows) * len(views))
            embedding, features = model.encode_all(parts.flip(axes))
            for name, total in zip(names, sums, strict=True):
                points = model.prompt_encoder.structure_points([name] * len(own))
                decoded = model.decode_points(embedding, *points, multimask=multimask, features=features)
                _add(total, own, decoded.best().flip(axes), 1 / len(views))
    pairs = zip(names, sums, strict=True)
    return {name: _join(frame, fine, whole[name], total, tiles.share_of(name)) for name, total in pairs}, fine


def _add(total: Tensor, windows: Sequence[_Window], logits: Tensor, share: float) -> None:
    """Add a share of the weighted probabilities of windows, of logits [n, 1, s, s], to those of the frame [F, F]."""
    size = len(windows[0].down)
    for window, probability in zip(windows, upsample(logits.float(), size)[:, 0].sigmoid(), strict=True):
        down, across = share * window.down.to(total.device), window.across.to(total.device)
        part = total[window.row : window.row + size, window.column : window.column + size]
        part += probability * down[:, None] * across


def _join(frame: Frame, fine: Frame, whole: Tensor, windows: Tensor, share: float) -> Tensor:
    """Logits [F, F] of the mean of the whole photograph's probabilities, logits [s, s], and the windows' [F, F]."""
    top, left, height, width = fine.inner
    inside = slice(top, top + height), slice(left, left + width)
    coarse = replace(frame, crop=(0, 0, height, width)).logits_to_crop(whole[None, None].float())[0, 0]
    probability = share * coarse.sigmoid() + (1 - share) * windows[inside]
    lowest, highest = math.exp(OUTSIDE_LOGIT), 1 - 2**-24
    logits = torch.full_like(windows, OUTSIDE_LOGIT)
    logits[inside] = torch.logit(probability.clamp(lowest, highest))
    return logits
