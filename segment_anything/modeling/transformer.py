"""The two-way transformer of the mask decoder: tokens and image attend to each other.

Segment Anything, Kirillov et al. 2023, appendix A ("Lightweight mask decoder").
"""

import math
from collections.abc import Collection

from torch import Tensor, nn
from torch.nn import functional as F

from .common import MLPBlock


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the embedding width."""

    def __init__(
        self, embedding_dim: int, num_heads: int, downsample_rate: int = 1, *, late_bias: Collection[str] = ()
    ) -> None:
        """late_bias: of "q", "k" and "v" those whose product is rounded before the bias is added.

        So does PyTorch with the public implementation's first image, which lies in memory as channels before pixels;
        here it is brought into the order of the products once.
        """
        super().__init__()
        self.late_bias = late_bias
        inner = embedding_dim // downsample_rate
        if inner % num_heads:
            raise ValueError(f"num_heads={num_heads} must divide the attention width {inner}.")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embedding_dim, inner)
        self.k_proj = nn.Linear(embedding_dim, inner)
        self.v_proj = nn.Linear(embedding_dim, inner)
        self.out_proj = nn.Linear(inner, embedding_dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q [B, Nq, C] to k, v [B, Nk, C]; returns [B, Nq, C]."""
        q, k, v = (self._project(name, x) for name, x in (("q", q), ("k", k), ("v", v)))
        # Written out: one side has a dozen tokens, so a fused kernel gains nothing, and this rounds like the
        # public implementation, whose sharp attentions turn the last bit of a score into 1e-3 of a logit.
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))

    def _project(self, name: str, x: Tensor) -> Tensor:
        """Tokens [B, N, C] -> [B, heads, N, C / heads]."""
        layer = getattr(self, f"{name}_proj")
        late = name in self.late_bias
        projected = F.linear(x, layer.weight).add_(layer.bias) if late else layer(x)
        return projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP on the tokens, image to tokens."""

    def __init__(self, *, embedding_dim: int, num_heads: int, mlp_dim: int, downsample_rate: int, first: bool) -> None:
        super().__init__()
        self.self_attn = Attention(embedding_dim, num_heads)
        self.norm1 = nn.LayerNorm(embedding_dim)
        late_bias = "kv" if first else ""
        self.cross_attn_token_to_image = Attention(embedding_dim, num_heads, downsample_rate, late_bias=late_bias)
        self.norm2 = nn.LayerNorm(embedding_dim)
        # oneDNN would order the weights anew for each of a few hundred tokens: 5 to 10 % of a decoder's training step
        self.mlp = MLPBlock(embedding_dim, mlp_dim, nn.ReLU, multiply=F.linear)
        self.norm3 = nn.LayerNorm(embedding_dim)
        self.norm4 = nn.LayerNorm(embedding_dim)
        late_bias = "q" if first else ""
        self.cross_attn_image_to_token = Attention(embedding_dim, num_heads, downsample_rate, late_bias=late_bias)
        self.first = first

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Update tokens [B, N, C] and image [B, HW, C]; the `_pe` tensors are their positions."""
        tokens = self.norm1(self._attend_self(tokens, token_pe))
        image_keys = image + image_pe
        attended = self.cross_attn_token_to_image(tokens + token_pe, image_keys, image)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(image_keys, tokens + token_pe, tokens))
        return tokens, image

    def _attend_self(self, tokens: Tensor, token_pe: Tensor) -> Tensor:
        if self.first:  # the tokens are their own positions here, and no residual is added
            return self.self_attn(tokens, tokens, tokens)
        keys = tokens + token_pe
        return tokens + self.self_attn(keys, keys, tokens)


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks, then one last attention from the tokens to the image."""

    def __init__(
        self, *, depth: int, embedding_dim: int, num_heads: int, mlp_dim: int, attention_downsample_rate: int = 2
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                embedding_dim=embedding_dim,
                num_heads=num_heads,
                mlp_dim=mlp_dim,
                downsample_rate=attention_downsample_rate,
                first=index == 0,
            )
            for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embedding_dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image [B, HW, C], its positions [1, HW, C], tokens [B, N, C] -> new (tokens, image)."""
        queries, keys = tokens, image
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, image_pe)
        attended = self.final_attn_token_to_image(queries + tokens, keys + image_pe, keys)
        return self.norm_final_attn(queries + attended), keys
