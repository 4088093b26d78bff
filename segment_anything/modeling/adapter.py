"""The adapter layer of SAM-Med2D (Cheng et al. 2023): a channel gate, then a spatial bottleneck."""

import itertools

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .common import traced
from .factored_gradients import product


def strided_conv(x: Tensor, weight: Tensor) -> Tensor:
    """3x3 convolution, stride 2, padding 1, [B, H, W, C_in] -> [B, H/2, W/2, C_out] as one matrix product; H, W even.

    The patches are gathered in the order of the memory of the weight [C_out, C_in, 3, 3]: they are small here, and a
    re-ordered copy of the weight would cost as much as the product.
    """
    patches = gather(x, 3) if traced() else _Gather.apply(x, 3)
    return product(patches.flatten(3), weight)


def transposed_conv(x: Tensor, weight: Tensor) -> Tensor:
    """4x4 transposed convolution, stride 2, padding 1, [B, H, W, C_in] -> [B, 2H, 2W, C_out].

    One matrix product, on the weight [C_in, C_out, 4, 4] as it lies in memory, gives the 4x4 patch that each input
    pixel paints.
    """
    patches = product(x, weight, transposed=True).unflatten(3, (-1, 4, 4))
    return overlap_add(patches) if traced() else _Paint.apply(patches)


def gather(x: Tensor, size: int) -> Tensor:
    """Cut the patch about every second pixel: patch i begins at pixel 2i - 1; there are zeros beyond the border.

    Args:
        x: [B, 2H, 2W, C].
        size: of the patches, 3 or 4.

    Returns:
        [B, H, W, C, size, size].
    """
    after = size - 3  # patches of 3 end within the map, those of 4 one pixel beyond
    windows = F.pad(x, (0, 0, 1, after, 1, after)).unfold(1, size, 2).unfold(2, size, 2)
    pixels = windows.permute(0, 1, 2, 4, 5, 3).flatten(3, 4)  # whole pixels first: their copies are fast
    return pixels.transpose(3, 4).unflatten(4, (size, size)).contiguous()


def paint(patches: Tensor) -> Tensor:
    """Sum overlapping patches: `gather` transposed, [B, H, W, C, size, size] -> [B, 2H, 2W, C]."""
    batch, height, width, channels, size, _ = patches.shape
    # Sums of bf16 are twice as slow as those of fp32 with the conversion, and less exact.
    dtype = torch.promote_types(patches.dtype, torch.float32)
    canvas = patches.new_zeros(batch, 2 * height + 2, 2 * width + 2, channels, dtype=dtype)
    for row, column in itertools.product(range(size), repeat=2):
        canvas[:, row : row + 2 * height : 2, column : column + 2 * width : 2] += patches[..., row, column]
    return canvas[:, 1:-1, 1:-1].to(patches.dtype).contiguous()


class _Gather(torch.autograd.Function):
    """`gather`, whose gradient is painted at once."""

    @staticmethod
    def forward(ctx, x: Tensor, size: int) -> Tensor:
        return gather(x, size)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return paint(gradient), None


class _Paint(torch.autograd.Function):
    """`paint`, whose gradient is gathered at once."""

    @staticmethod
    def forward(ctx, patches: Tensor) -> Tensor:
        ctx.size = patches.shape[-1]
        return paint(patches)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gather(gradient, ctx.size)


def overlap_add(patches: Tensor) -> Tensor:
    """`paint` for patches of 4 x 4 without writing in place, which exported graphs are slow at."""
    wide = patches.to(torch.promote_types(patches.dtype, torch.float32))
    rows = _overlap_add(wide.unbind(4), dim=1)  # [B, H, 2, W, C, 4]
    pixels = _overlap_add(rows.unbind(5), dim=3)  # [B, H, 2, W, 2, C]
    return pixels.flatten(3, 4).flatten(1, 2).to(patches.dtype)


def _overlap_add(taps: tuple[Tensor, ...], dim: int) -> Tensor:
    """Sum the four taps of a 4-wide, stride-2 kernel where neighbours along `dim` overlap.

    Input pixel i paints output 2i - 1, 2i, 2i + 1 and 2i + 2; the first and the last of the whole row fall
    into the padding. Returns the taps' shape with a new dimension of size 2 (even, odd) after `dim`.
    """
    size = taps[0].shape[dim]
    edge = torch.zeros_like(taps[0].narrow(dim, 0, 1))
    from_left = torch.cat((edge, taps[3].narrow(dim, 0, size - 1)), dim)
    from_right = torch.cat((taps[0].narrow(dim, 1, size - 1), edge), dim)
    return torch.stack((taps[1] + from_left, taps[2] + from_right), dim + 1)


class Adapter(nn.Module):
    """Channel gate, 3x3 stride-2 convolution, transposed convolution, skip connection and LayerNorm.

    Input and output: float [B, H, W, C] with H and W even (the strided convolution halves them).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.channel = nn.Sequential(
            nn.Linear(dim, dim // 4, bias=False),
            nn.ReLU(),
            nn.Linear(dim // 4, dim, bias=False),
            nn.Sigmoid(),
        )
        # The layers hold the weights under their published names; `forward` computes them channels-last.
        self.spatial = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size=3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def zero_start(self) -> None:
        """Make the adapter's output exactly zero, so that its block is the block without an adapter.

        A Kaiming adapter perturbs a pretrained block; from a zero scale and bias it grows by training.
        """
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.channel(x.mean((1, 2)))
        small = strided_conv(gate[:, None, None] * x, self.spatial[0].weight).relu()
        return self.norm(x + transposed_conv(small, self.spatial[2].weight).relu())
