"""The image encoder in its straightforward form: the test oracle and the baseline of `python -m benchmarks`.

It follows the published formula step by step (Segment Anything, Kirillov et al. 2023, after ViTDet, Li et al.
2022; adapters from SAM-Med2D, Cheng et al. 2023): windows are padded before the qkv projection, the attention
matrix and its relative-position bias are explicit tensors, convolutions are the library's own in NCHW. Its
state dict has the names and shapes of `segment_anything.modeling.image_encoder.ImageEncoderViT`.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [B, C, H, W], written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        normed = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


def oracle_mlp(dim: int, hidden: int, act: nn.Module) -> nn.Sequential:
    """Linear, activation, linear."""
    return nn.Sequential(OrderedDict(lin1=nn.Linear(dim, hidden), act=act, lin2=nn.Linear(hidden, dim)))


class OracleAdapter(nn.Module):
    """Channel gate, spatial bottleneck, skip connection, LayerNorm: [B, H, W, C] -> [B, H, W, C]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.channel = nn.Sequential(
            nn.Linear(dim, dim // 4, bias=False),
            nn.ReLU(),
            nn.Linear(dim // 4, dim, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size=3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        gate = self.channel(x.mean((2, 3)))
        x = x + self.spatial(gate[:, :, None, None] * x)
        return self.norm(x.permute(0, 2, 3, 1))


def relative_positions(size: int, table: Tensor) -> Tensor:
    """Rows of `table` [2 * size - 1, C] for every (query, key) pair of coordinates: [size, size, C]."""
    coordinates = torch.arange(size)
    return table[coordinates[:, None] - coordinates[None, :] + size - 1]


class OracleAttention(nn.Module):
    """Self-attention of [B, H, W, C]; the relative-position bias is added to an explicit matrix."""

    def __init__(self, dim: int, num_heads: int, size: int) -> None:
        super().__init__()
        self.num_heads, self.size = num_heads, size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        tokens = height * width
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, batch * self.num_heads, tokens, -1).unbind(0)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = self._add_relative_positions(scores, q)
        out = scores.softmax(dim=-1) @ v
        out = out.view(batch, self.num_heads, height, width, -1).permute(0, 2, 3, 1, 4)
        return self.proj(out.reshape(batch, height, width, dim))

    def _add_relative_positions(self, scores: Tensor, q: Tensor) -> Tensor:
        size = self.size
        grid = q.reshape(q.shape[0], size, size, -1)
        rel_h = torch.einsum("bhwc,hkc->bhwk", grid, relative_positions(size, self.rel_pos_h))
        rel_w = torch.einsum("bhwc,wkc->bhwk", grid, relative_positions(size, self.rel_pos_w))
        matrix = scores.view(-1, size, size, size, size)
        matrix = matrix + rel_h[:, :, :, :, None] + rel_w[:, :, :, None, :]
        return matrix.view(scores.shape)


def partition(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Zero-pad [B, H, W, C] on the right and bottom and cut it: [B * windows, window, window, C], padded."""
    batch, height, width, dim = x.shape
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    padded = x.shape[1], x.shape[2]
    x = x.view(batch, padded[0] // window, window, padded[1] // window, window, dim)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window, window, dim), padded


def unpartition(windows: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Undo `partition`: [B * windows, window, window, C] -> [B, H, W, C] for `size` (H, W)."""
    window = windows.shape[1]
    rows, columns = padded[0] // window, padded[1] // window
    x = windows.view(-1, rows, columns, window, window, windows.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, padded[0], padded[1], windows.shape[-1])[:, : size[0], : size[1]]


class OracleBlock(nn.Module):
    """One transformer block; `window` 0 means global attention."""

    def __init__(self, *, dim: int, num_heads: int, hidden: int, window: int, grid: int, adapter: bool) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = OracleAttention(dim, num_heads, window or grid)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = oracle_mlp(dim, hidden, nn.GELU())
        if adapter:
            self.Adapter = OracleAdapter(dim)
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        if self.window:
            windows, padded = partition(normed, self.window)
            x = x + unpartition(self.attn(windows), padded, (x.shape[1], x.shape[2]))
        else:
            x = x + self.attn(normed)
        normed = self.norm2(x)
        x = x + self.mlp(normed)
        return x + self.Adapter(normed) if self.adapter else x


class OracleEncoder(nn.Module):
    """The whole encoder: normalised [B, 3, S, S] -> [B, out_chans, S/p, S/p]; see ImageEncoderViT."""

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        out_chans: int = 256,
        window_size: int = 14,
        global_attn_indexes: tuple[int, ...],
        adapter: bool,
    ) -> None:
        super().__init__()
        grid = image_size // patch_size
        patches = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, embed_dim))
        self.blocks = nn.ModuleList(
            OracleBlock(
                dim=embed_dim,
                num_heads=num_heads,
                hidden=int(embed_dim * mlp_ratio),
                window=0 if index in global_attn_indexes else window_size,
                grid=grid,
                adapter=adapter,
            )
            for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, out_chans, kernel_size=1, bias=False),
            ChannelNorm(out_chans),
            nn.Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False),
            ChannelNorm(out_chans),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).permute(0, 2, 3, 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
