"""Logits on the decoder's grid -> logits of the model frame, bilinear."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..modeling.common import fp32_on_cpu

STEPS = 4  # fine rows per row
NEIGHBOUR = (0.375, 0.125, 0.125, 0.375)  # what a fine row has of the row before (the first two) or after its own


def upsample(low_res: Tensor, image_size: int) -> Tensor:
    """Upsample logits, bilinear with half-pixel centres.

    From SAM's grid, S = 4 s, on a CPU in half the library's time, its gradient in a quarter.

    Args:
        low_res: logits of the model frame, [N, M, s, s].
        image_size: S.

    Returns:
        float32 [N, M, S, S].
    """
    low_res = low_res.float()
    if low_res.shape[-1] == image_size:
        return low_res
    if image_size == STEPS * low_res.shape[-1] and fp32_on_cpu(low_res):
        return _FourTimes.apply(low_res)
    return F.interpolate(low_res, (image_size, image_size), mode="bilinear", align_corners=False)


class _FourTimes(torch.autograd.Function):
    """Values [..., s, s] -> [..., 4 s, 4 s]: along x a product, along y each fine row from two rows as a whole."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        wide = values @ _columns(values.shape[-1])
        edged = torch.cat((wide[..., :1, :], wide, wide[..., -1:, :]), -2)
        fine = wide.new_empty(*values.shape[:-1], STEPS, wide.shape[-1])
        for step, share in enumerate(NEIGHBOUR):
            neighbour = edged[..., :-2, :] if step < STEPS // 2 else edged[..., 2:, :]
            torch.lerp(wide, neighbour, share, out=fine[..., step, :])
        return fine.flatten(-3, -2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        fine = gradient.unflatten(-2, (-1, STEPS)).unbind(-2)
        own = _weighted(fine, [1 - share for share in NEIGHBOUR])
        before, after = _weighted(fine[:2], NEIGHBOUR[:2]), _weighted(fine[2:], NEIGHBOUR[2:])
        own[..., :-1, :] += before[..., 1:, :]
        own[..., 0, :] += before[..., 0, :]
        own[..., 1:, :] += after[..., :-1, :]
        own[..., -1, :] += after[..., -1, :]
        return own @ _columns(own.shape[-2]).t()


def _weighted(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum of the parts, each times its weight."""
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.add_(part, alpha=weight)
    return total


@cache
def _columns(size: int) -> Tensor:
    """What each of `size` columns gives to each fine one: float32 [size, 4 size]."""
    own = torch.eye(size, dtype=torch.float32, device="cpu")
    return F.interpolate(own[None], scale_factor=STEPS, mode="linear", align_corners=False)[0]
