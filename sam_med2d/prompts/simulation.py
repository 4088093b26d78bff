"""Masks -> boxes and clicks, as tensors and without a loop over pixels or masks.

All positions are model-frame pixels, x before y; boxes are half-open x0, y0, x1, y1. Prompts are written as
labelled points, coords [N, P, 2] and labels [N, P], see `PromptEncoder.embed_points`: a box is its two corners
with labels 2 and 3, and -1 marks "not a point", so boxes and clicks mix in one batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from segment_anything.modeling.prompt_encoder import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, FOREGROUND, PADDING

Randomness = torch.Generator | Sequence[torch.Generator]
Points = tuple[Tensor, Tensor]


def uniform(rows: int, columns: int, randomness: Randomness) -> Tensor:
    """Draw random numbers. A stream per mask makes its clicks independent of the batch it is in.

    Args:
        rows: N, masks.
        columns: Numbers for each mask.
        randomness: One random stream, or one for each row (ValueError for another number).

    Returns:
        float32 [rows, columns] in [0, 1), on the CPU.
    """
    if isinstance(randomness, torch.Generator):
        return torch.rand(rows, columns, generator=randomness)
    if len(randomness) != rows:
        raise ValueError(f"{len(randomness)} random streams for {rows} masks.")
    return torch.stack([torch.rand(columns, generator=stream) for stream in randomness])


def sample_points(region: Tensor, count: int, randomness: Randomness) -> tuple[Tensor, Tensor]:
    """Draw `count` pixels uniformly, with replacement, from each region, bool [N, H, W].

    Returns:
        coords float [N, count, 2] (x, y) and found bool [N]; an empty region has found False and coords (0, 0).
    """
    n, _, width = region.shape
    cumulative = region.flatten(1).cumsum(1, dtype=torch.int32)
    total = cumulative[:, -1:]
    exact = "cpu" if region.device.type == "mps" else region.device  # Apple's GPUs have no float64
    rank = (uniform(n, count, randomness).to(exact, torch.float64) * total.to(exact)).int().to(region.device)
    index = torch.searchsorted(cumulative, rank, right=True)
    found = total[:, 0] > 0
    index = torch.where(found[:, None], index, 0)
    return torch.stack((index % width, index // width), dim=-1).float(), found


def first_points(mask: Tensor, count: int, randomness: Randomness) -> Points:
    """Draw opening clicks: one in the foreground, or for count > 1 count // 2 there and the rest in the background.

    Args:
        mask: bool [N, H, W].
        count: Clicks on each mask.
        randomness: One random stream, or one for each mask.

    Returns:
        coords float [N, count, 2] (x, y) and labels int64 [N, count]: 1, 0, or -1 for clicks that have no place to go,
        as in an empty mask.
    """
    inside = max(1, count // 2)
    parts = [_labelled(mask, inside, FOREGROUND, randomness)]
    if count > inside:
        parts.append(_labelled(~mask, count - inside, BACKGROUND, randomness))
    return torch.cat([coords for coords, _ in parts], 1), torch.cat([labels for _, labels in parts], 1)


def _labelled(region: Tensor, count: int, label: int, randomness: Randomness) -> Points:
    """`count` clicks in each region with this label, or -1 where the region is empty."""
    coords, found = sample_points(region, count, randomness)
    return coords, torch.where(found[:, None], label, PADDING).expand(-1, count)


def error_points(predicted: Tensor, mask: Tensor, count: int, randomness: Randomness) -> Points:
    """Draw corrective clicks, uniform over the pixels where prediction and truth differ.

    Args:
        predicted: bool [N, H, W].
        mask: bool [N, H, W], the truth.
        count: Clicks on each mask.
        randomness: One random stream, or one for each mask.

    Returns:
        coords float [N, count, 2] (x, y) and labels int64 [N, count]: 1 for a missed pixel, 0 for a false one, -1
        without any error.
    """
    coords, found = sample_points(predicted != mask, count, randomness)
    x, y = coords.long().unbind(-1)
    truth = mask[torch.arange(len(mask), device=mask.device)[:, None], y, x].long()
    return coords, torch.where(found[:, None], truth, PADDING)


def box_points(boxes: Tensor) -> Points:
    """Boxes, float [N, 4], half-open x0, y0, x1, y1, as two labelled corners each.

    Returns:
        coords float [N, 2, 2] (x, y) and labels int64 [N, 2], 2 and 3; -1 for a box of no area.
    """
    corners = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=boxes.device)
    exists = (boxes[:, 2:] > boxes[:, :2]).all(1, keepdim=True)
    return boxes.view(-1, 2, 2).float(), torch.where(exists, corners, PADDING)


def pad_points(points: Points) -> Points:
    """Points [N, P, 2] with labels [N, P], and behind them the padding point (-1) that SAM expects without a box."""
    coords, labels = points
    zero = coords.new_zeros(len(coords), 1, 2)
    return torch.cat((coords, zero), 1), torch.cat((labels, labels.new_full((len(labels), 1), PADDING)), 1)


def append_points(points: Points, more: Points) -> Points:
    """Join two sets of labelled points.

    Args:
        points: coords [N, P, 2] and labels [N, P].
        more: coords [N, Q, 2] and labels [N, Q].

    Returns:
        coords [N, P + Q, 2] and labels [N, P + Q].
    """
    return torch.cat((points[0], more[0]), 1), torch.cat((points[1], more[1]), 1)


def jitter_boxes(boxes: Tensor, size: int, randomness: Randomness, *, fraction: float = 0.1) -> Tensor:
    """Move each side of each box by itself, at random, to whole pixels.

    Boxes stay inside the frame and keep one pixel; a box of no area (of a mask that vanished) stays as it is.

    Args:
        boxes: float [N, 4], half-open x0, y0, x1, y1 in model-frame pixels.
        size: Side S of the model frame.
        randomness: One random stream, or one for each box.
        fraction: A side moves by up to this share of the box's width or height, and by up to one pixel at least.
    """
    extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    reach = (fraction * extent).clamp(min=1)
    offset = (2 * uniform(len(boxes), 4, randomness).to(boxes.device) - 1) * reach
    low, high = (boxes + offset).round().clamp(0, size).split(2, dim=1)
    low = low.clamp(max=size - 1)
    exists = (extent > 0).all(1, keepdim=True)
    return torch.where(exists, torch.cat((low, torch.maximum(high, low + 1)), dim=1), boxes)
