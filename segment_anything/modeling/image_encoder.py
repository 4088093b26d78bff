"""The ViT image encoder of Segment Anything (Kirillov et al. 2023), with the adapters of SAM-Med2D.

A plain ViT with windowed attention and a few global blocks (ViTDet, Li et al. 2022). Everything between the
patch embedding and the neck is channels-last, [B, H, W, C]. benchmarks/reference_encoder.py has the same network in
its straightforward form.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .adapter import Adapter
from .common import LayerNorm2d, MLPBlock

BIAS_ELEMENTS = 2**19  # of the relative-position bias built at a time, for each head of each window


class _PatchEmbed(nn.Module):
    """Linear embedding of non-overlapping square patches: [B, C_in, S, S] -> [B, S/p, S/p, C]."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1).contiguous()  # the sums and norms of all blocks keep its strides


class GridAttention(nn.Module):
    """Multi-head self-attention with decomposed relative positions, in windows or over the whole grid.

    The projections work on the [B, H, W, C] grid, before it is cut into windows, because a padded token's
    key and value are known without computing them: they are the projection's bias.
    """

    def __init__(self, *, dim: int, num_heads: int, window: int, grid: int) -> None:
        """`dim` channels, which the heads share; sides of window and grid in tokens, window 0: global attention."""
        super().__init__()
        self.num_heads = num_heads
        self.window = window or grid
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        rows = 2 * self.window - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(rows, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(rows, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        bands = [
            torch.cat([self._attend(part) for part in band.split(_spans(x.shape[2], self.window), 2)], 2)
            for band in qkv.split(_spans(x.shape[1], self.window), 1)
        ]
        return self.proj(torch.cat(bands, 1))

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attention inside each window of [B, H, W, 3C], where H and W are whole windows or less than one.

        Windows that the grid does not fill are padded for keys and values only, since the outputs of padded
        queries would be thrown away. Returns [B, H, W, C].
        """
        batch, height, width, dim = qkv.shape
        size = min(height, self.window), min(width, self.window)
        q, kv = qkv.split((dim // 3, 2 * dim // 3), -1)
        (q,) = self._windows(q, size).unbind()
        k, v = self._windows(self._pad(kv), (self.window, self.window)).flatten(3, 4).unbind()
        out = self._attend_windows(q, k, v)
        rows, columns = height // size[0], width // size[1]
        out = out.view(batch, rows, columns, self.num_heads, *size, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return out.reshape(batch, height, width, -1)

    def _windows(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Cut [B, H, W, parts * heads * C] into windows of `size`: [parts, B * windows, heads, size[0], size[1], C]."""
        batch, height, width, _ = x.shape
        heads = self.num_heads, self.rel_pos_h.shape[1]
        x = x.reshape(batch, height // size[0], size[0], width // size[1], size[1], -1, *heads)
        return x.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 3)

    def _pad(self, kv: Tensor) -> Tensor:
        """Fill [B, H, W, 2C] keys and values up to whole windows with those of a zero token."""
        batch, height, width, dim = kv.shape
        token = self.qkv.bias[-dim:].to(kv.dtype)
        if width % self.window:
            kv = torch.cat((kv, token.expand(batch, height, -width % self.window, -1)), 2)
        if height % self.window:
            kv = torch.cat((kv, token.expand(batch, -height % self.window, kv.shape[2], -1)), 1)
        return kv

    def _attend_windows(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of [N, heads, h, w, C] queries to [N, heads, window * window, C] keys and values.

        The bias is built for a band of query rows at a time, which bounds memory: at 1024 px the whole bias
        of a global block is 0.8 GB. It has low rank: a query's row and column terms times one-hot keys.
        (Queries extended by those terms need no bias at all, but their longer dot products cost more:
        0.99 s against 0.63 s there, 2.7 ms against 2.2 ms at 256 px.)
        """
        height, width = q.shape[2:4]
        rel_h = _relative_rows(self.rel_pos_h, height).to(q.dtype)
        rel_w = _relative_rows(self.rel_pos_w, width).to(q.dtype)
        rows = max(1, BIAS_ELEMENTS // (width * self.window**2))
        one_hot = _one_hot_keys(self.window, q)
        out = []
        for band, rel_band in zip(q.split(rows, 2), rel_h.split(rows), strict=True):
            row_terms = torch.einsum("nayxc,ykc->nayxk", band, rel_band)
            column_terms = torch.einsum("nayxc,xkc->nayxk", band, rel_w)
            bias = F.linear(torch.cat((row_terms, column_terms), -1).flatten(2, 3), one_hot)
            out.append(F.scaled_dot_product_attention(band.flatten(2, 3), k, v, attn_mask=bias.to(q.dtype)))
        return torch.cat(out, 2) if len(out) > 1 else out[0]


def _one_hot_keys(size: int, like: Tensor) -> Tensor:
    """Row and column of each key of a square window, each as a one-hot code: [size * size, 2 * size]."""
    code = torch.eye(size, dtype=like.dtype, device=like.device)
    rows = code[:, None].expand(size, size, size)
    columns = code[None].expand(size, size, size)
    return torch.cat((rows, columns), -1).flatten(0, 1)


def _relative_rows(table: Tensor, queries: int) -> Tensor:
    """Relative-position rows of the first queries to all keys: [2 * keys - 1, C] -> [queries, keys, C]."""
    keys = (table.shape[0] + 1) // 2
    step = torch.arange(keys, device=table.device)
    return table[step[:queries, None] - step + keys - 1]


def _spans(size: int, window: int) -> list[int]:
    """Split `size` tokens into the part that whole windows fill and the rest, leaving out what is empty."""
    rest = size % window
    return [span for span in (size - rest, rest) if span]


class Block(nn.Module):
    """Transformer block, [B, H, W, C] -> the same: attention, then the MLP with the adapter beside it."""

    def __init__(self, *, dim: int, num_heads: int, mlp_ratio: float, window: int, grid: int, adapter: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = GridAttention(dim=dim, num_heads=num_heads, window=window, grid=grid)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLPBlock(dim, int(dim * mlp_ratio))
        if adapter:
            self.Adapter = Adapter(dim)
        self.has_adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        normed = self.norm2(x)
        x = x + self.mlp(normed)
        return x + self.Adapter(normed) if self.has_adapter else x


class ImageEncoderViT(nn.Module):
    """Image encoder: ViT with windowed and global attention, then a convolutional neck.

    State-dict names and shapes are those of SAM (and SAM-Med2D with `adapter`). `image_size` (also
    `img_size`) is the side of the input in pixels. `grad_checkpointing` (settable, default False)
    recomputes each block in the backward pass while training, which trades time for memory.
    """

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
        """Build the encoder.

        Args:
            image_size: side S of the input in pixels; ValueError unless it gives a whole (with adapters: even) grid.
            patch_size: side of a patch in pixels.
            in_chans: channels of the input.
            embed_dim: width of the tokens.
            depth: blocks.
            num_heads: heads of each block.
            mlp_ratio: width of a block's MLP over that of the tokens.
            out_chans: channels of the embedding.
            window_size: side of a window in tokens.
            global_attn_indexes: the blocks without windows.
            adapter: each block has the adapter of SAM-Med2D.
        """
        super().__init__()
        grid = _token_grid(image_size, patch_size, adapter)
        self.image_size = self.img_size = image_size
        self.in_chans = in_chans
        self.grad_checkpointing = False
        self.patch_embed = _PatchEmbed(patch_size, in_chans, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, embed_dim))
        self.blocks = nn.ModuleList(
            Block(
                dim=embed_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                window=0 if index in global_attn_indexes else window_size,
                grid=grid,
                adapter=adapter,
            )
            for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, out_chans, kernel_size=1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )
        self._init_weights()

    def _init_weights(self) -> None:
        """Small truncated-normal weights; adapters keep their own Kaiming initialisation.

        Positions start distinct (the tokens of one image are alike otherwise and the first steps cannot
        tell places apart), relative positions at zero, which is attention by content alone.
        """
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for block in self.blocks:
            for layer in (block.attn.qkv, block.attn.proj, block.mlp.lin1, block.mlp.lin2):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Embed normalised images [B, in_chans, S, S] in the dtype of the weights: [B, out_chans, S/patch, S/patch].

        Raises:
            ValueError: another shape.
        """
        expected = (self.in_chans, self.image_size, self.image_size)
        if image.dim() != 4 or tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"image has shape {tuple(image.shape)}, this encoder takes batches of {expected}: "
                f"resize the image, or build the model with another image_size"
            )
        x = self.patch_embed(image.to(self.pos_embed.dtype)) + self.pos_embed
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.neck(x.permute(0, 3, 1, 2)).contiguous()


def _token_grid(image_size: int, patch_size: int, adapter: bool) -> int:
    """Tokens per side, or ValueError with the next size that works."""
    step = 2 * patch_size if adapter else patch_size
    if image_size <= 0 or image_size % step:
        reason = "with adapters the token grid must be even" if adapter else "patches must fill the image"
        nearest = max(1, round(image_size / step)) * step
        raise ValueError(f"image_size {image_size} is not a multiple of {step} ({reason}): use {nearest}")
    return image_size // patch_size
