"""The image encoder in the form that ONNX runtimes are fast at: every size but the batch's is a plain number.

The same weights and the same sums as `modeling/image_encoder.py`, arranged as matrix products with constant matrices
[K, N]: what int8 quantization finds, and what needs no shape arithmetic when it runs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segment_anything.modeling.adapter import Adapter
from segment_anything.modeling.image_encoder import Block, GridAttention, ImageEncoderViT

SCORES_AT_ONCE = 2**21  # attention scores of a head that are computed together: at 1024 px a global block has 2**24
ONE_HOT = "one_hot"  # name of the buffers that are no weights


class OnnxAttention(nn.Module):
    """`GridAttention` on a grid of known size, [B, H, W, C] -> the same. The scale lies in the weights."""

    def __init__(self, attention: GridAttention, grid: int) -> None:
        super().__init__()
        self.heads, self.window, self.grid = attention.num_heads, attention.window, grid
        self.dim = attention.proj.in_features
        self.head_dim = self.dim // self.heads
        scale = torch.ones(3, self.dim)
        scale[0] = self.head_dim**-0.5
        weight, bias = attention.qkv.weight.detach(), attention.qkv.bias.detach()
        self.register_buffer("qkv", (weight * scale.view(-1, 1).to(weight)).t().contiguous())
        self.register_buffer("qkv_bias", bias * scale.view(-1).to(bias))
        self.register_buffer("proj", attention.proj.weight.detach().t().contiguous())
        self.register_buffer("proj_bias", attention.proj.bias.detach())
        for name, table in (("rows", attention.rel_pos_h), ("columns", attention.rel_pos_w)):
            step = torch.arange(self.window, device=table.device)
            of_keys = table.detach()[step[:, None] - step + self.window - 1]  # [queries, keys, C]
            self.register_buffer(name, (of_keys / scale[0, 0].to(table)).transpose(1, 2).contiguous())
        code = torch.eye(self.window, dtype=weight.dtype, device=weight.device)
        shape = (self.window, self.window, self.window)
        keys = torch.cat((code[:, :, None].expand(shape), code[:, None].expand(shape))).flatten(1)
        self.register_buffer(ONE_HOT, keys.contiguous())  # [2 * window, window * window]: a key's row and column

    def forward(self, x: Tensor) -> Tensor:
        qkv = x @ self.qkv + self.qkv_bias
        rest = self.grid % self.window
        spans = [span for span in (self.grid - rest, rest) if span]
        bands = [
            [self._attend(part, height, width) for part, width in zip(band.split(spans, 2), spans, strict=True)]
            for band, height in zip(qkv.split(spans, 1), spans, strict=True)
        ]
        return _join([_join(band, 2) for band in bands], 1) @ self.proj + self.proj_bias

    def _attend(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """Attention inside each window of [B, height, width, 3C], sides that are whole windows or less than one."""
        size = min(height, self.window), min(width, self.window)
        if size == (self.window, self.window):
            q, k, v = self._windows(qkv, (height, width), size).split(self.heads, 1)
        else:
            q = self._windows(qkv[..., : self.dim], (height, width), size)
            filled = max(height, self.window), max(width, self.window)
            kv = self._windows(self._pad(qkv[..., self.dim :], height, width), filled, (self.window, self.window))
            k, v = kv.split(self.heads, 1)
        out = self._attend_windows(q, k.transpose(2, 3), v, size)
        out = out.reshape(-1, height // size[0], width // size[1], self.heads, *size, self.head_dim)
        return out.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, height, width, self.dim)

    def _windows(self, x: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Cut [B, *grid, parts * C] into windows: [B * windows, parts * heads, size[0] * size[1], C / heads]."""
        parts = x.shape[3] // self.head_dim
        x = x.reshape(-1, grid[0] // size[0], size[0], grid[1] // size[1], size[1], parts, self.head_dim)
        return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, parts, size[0] * size[1], self.head_dim)

    def _pad(self, kv: Tensor, height: int, width: int) -> Tensor:
        """Fill [B, height, width, 2C] keys and values up to whole windows with those of a zero token."""
        token, batch = self.qkv_bias[self.dim :], kv.shape[0]
        if width < self.window:
            kv = torch.cat((kv, token.expand(batch, height, self.window - width, -1)), 2)
        if height < self.window:
            kv = torch.cat((kv, token.expand(batch, self.window - height, max(width, self.window), -1)), 1)
        return kv

    def _attend_windows(self, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int]) -> Tensor:
        """Queries [N, heads, h * w, c], keys [N, heads, c, keys] and values -> [N, heads, h * w, c].

        In bands of query rows, which bounds memory.
        """
        step = max(1, SCORES_AT_ONCE // (size[1] * self.window**2))
        out = []
        for top in range(0, size[0], step):
            rows = min(step, size[0] - top)
            band = q[:, :, top * size[1] : (top + rows) * size[1]] if rows < size[0] else q
            grid = band.reshape(-1, self.heads, rows, size[1], self.head_dim)
            by_row = grid @ self.rows[top : top + rows]
            by_column = (grid.transpose(2, 3) @ self.columns[: size[1]]).transpose(2, 3)
            terms = torch.cat((by_row, by_column), -1).reshape(-1, self.heads, rows * size[1], 2 * self.window)
            out.append((band @ k + terms @ getattr(self, ONE_HOT)).softmax(-1) @ v)
        return _join(out, 2)


class OnnxAdapter(nn.Module):
    """`Adapter` on a grid of known size: both convolutions as one matrix product each."""

    def __init__(self, adapter: Adapter, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.norm, self.channel = adapter.norm, adapter.channel
        down, up = adapter.spatial[0].weight.detach(), adapter.spatial[2].weight.detach()
        self.register_buffer("down", down.permute(2, 3, 1, 0).flatten(0, 2).contiguous())  # [3 * 3 * C, C]
        self.register_buffer("up", up.permute(0, 2, 3, 1).flatten(1).contiguous())  # [C, 4 * 4 * C]

    def forward(self, x: Tensor) -> Tensor:
        last = self.grid - 1
        gated = F.pad(self.channel(x.mean((1, 2), keepdim=True)) * x, (0, 0, 1, 0, 1, 0))
        patches = torch.cat([gated[:, i : i + last : 2, j : j + last : 2] for i in range(3) for j in range(3)], -1)
        half, dim = self.grid // 2, x.shape[3]
        painted = ((patches @ self.down).relu() @ self.up).reshape(-1, half, half, 4, 4, dim)
        pixels = self._overlap(self._overlap(painted, 1), 3)
        return self.norm(x + pixels.reshape(-1, self.grid, self.grid, dim).relu())

    def _overlap(self, patches: Tensor, dim: int) -> Tensor:
        """Add 4-wide patches where neighbours along `dim` overlap: the first dimension of size 4 becomes two pixels
        (even, odd), which stand behind `dim`."""
        first, second, third, fourth = patches.unbind(3 if dim == 1 else 4)
        behind = [0, 0] * (first.dim() - 1 - dim)
        from_left = F.pad(fourth.narrow(dim, 0, self.grid // 2 - 1), [*behind, 1, 0])
        from_right = F.pad(first.narrow(dim, 1, self.grid // 2 - 1), [*behind, 0, 1])
        return torch.stack((second + from_left, third + from_right), dim + 1)


class OnnxBlock(nn.Module):
    """`Block` on a grid of known size."""

    def __init__(self, block: Block, grid: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.attention = OnnxAttention(block.attn, grid)
        self.adapter = OnnxAdapter(block.Adapter, grid) if block.has_adapter else None

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        normed = self.norm2(x)
        x = x + self.mlp(normed)
        return x if self.adapter is None else x + self.adapter(normed)


class OnnxImageEncoder(nn.Module):
    """`ImageEncoderViT`: normalised images [B, 3, S, S] -> embeddings [B, C, S/16, S/16]. Copies its weights."""

    def __init__(self, encoder: ImageEncoderViT) -> None:
        super().__init__()
        grid = encoder.pos_embed.shape[1]
        self.patches, self.neck = encoder.patch_embed.proj, encoder.neck
        self.register_buffer("positions", encoder.pos_embed.detach())
        self.blocks = nn.ModuleList(OnnxBlock(block, grid) for block in encoder.blocks)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).permute(0, 2, 3, 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))


def _join(parts: list[Tensor], dim: int) -> Tensor:
    return torch.cat(parts, dim) if len(parts) > 1 else parts[0]
