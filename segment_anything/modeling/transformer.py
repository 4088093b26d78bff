"""The two-way transformer of the mask decoder: tokens and image attend to each other.

Segment Anything, Kirillov et al. 2023, appendix A ("Lightweight mask decoder").
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import MLPBlock, traced


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the embedding width."""

    def __init__(self, embedding_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        """Build the four projections.

        Args:
            embedding_dim: width C of what attends and of what is attended to.
            num_heads: heads, which share the inner width (ValueError where they do not divide it).
            downsample_rate: C over the inner width.
        """
        super().__init__()
        inner = embedding_dim // downsample_rate
        if inner % num_heads:
            raise ValueError(f"num_heads={num_heads} must divide the attention width {inner}.")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embedding_dim, inner)
        self.k_proj = nn.Linear(embedding_dim, inner)
        self.v_proj = nn.Linear(embedding_dim, inner)
        self.out_proj = nn.Linear(inner, embedding_dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend.

        Args:
            q: [B, Nq, C].
            k: [B, Nk, C].
            v: [B, Nk, C]. q, or k and v, may be a batch of 1 that serves all.

        Returns:
            [B, Nq, C].
        """
        q, k, v = self._heads(self.q_proj(q)), self._heads(self.k_proj(k)), self._heads(self.v_proj(v))
        batch = max(q.shape[0], k.shape[0])
        q, k, v = (x.expand(batch, -1, -1, -1) for x in (q, k, v))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """[B, N, inner] -> [B, heads, N, inner / heads]."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _spares_pixels(self, tokens: Tensor, pixels: Tensor) -> bool:
        """Whether products with all heads of all tokens are fewer than those of the pixels' projections.

        Not while a graph is made, which is to serve any number of tokens.
        """
        columns = tokens.shape[0] * tokens.shape[1] * self.num_heads
        return columns < pixels.shape[0] * self.q_proj.out_features and not traced()

    def _tokens_by_head(self, x: Tensor) -> Tensor:
        """[N, T, inner] -> [heads, N * T, inner / heads]."""
        return x.view(-1, self.num_heads, x.shape[2] // self.num_heads).transpose(0, 1)

    def _moved(self, x: Tensor, weight: Tensor, count: int) -> Tensor:
        """Tokens by head times a weight [inner, K] -> [N, heads * T, K], N = count."""
        moved = torch.bmm(x, weight.view(self.num_heads, -1, weight.shape[1]))
        return moved.view(self.num_heads, count, -1, weight.shape[1]).transpose(0, 1).flatten(1, 2)

    def _scores(self, tokens: Tensor, projection: nn.Linear, pixels: Tensor, count: int) -> Tensor:
        """Scores [N, heads * T, P] of projected tokens, by head, and pixels [N or 1, P, C] that are to be projected.

        t (x W + b)' = (t W') x' + t b': the tokens are projected once more, the pixels are read as they are.
        """
        scale = tokens.shape[2] ** -0.5
        bias = self._moved(tokens, projection.bias[:, None], count)
        moved = self._moved(tokens, projection.weight, count)
        return torch.baddbmm(bias, moved, pixels.mT.expand(count, -1, -1), beta=scale, alpha=scale)


class TokensToImage(Attention):
    """Attention of tokens to pixels; few tokens take over the pixels' projections: also a (x W) = (a x) W."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `Attention`.

        Args:
            q: tokens [N, T, C].
            k: pixels [N or 1, P, C].
            v: pixels [N or 1, P, C].

        Returns:
            [N, T, C].
        """
        if not self._spares_pixels(q, k):
            return super().forward(q, k, v)
        count, length, dim = q.shape
        weights = self._scores(self._tokens_by_head(self.q_proj(q)), self.k_proj, k, count).softmax(2)
        means = torch.bmm(weights, v.expand(count, -1, -1)).view(count, self.num_heads, length, dim)
        values = torch.bmm(means.transpose(0, 1).flatten(1, 2), self.v_proj.weight.view(self.num_heads, -1, dim).mT)
        return self.out_proj(values.transpose(0, 1).reshape(count, length, -1) + self.v_proj.bias)


class ImageToTokens(Attention):
    """Attention of pixels to tokens; few tokens take over the pixels' projections."""

    def forward(self, image: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Add what pixels find at tokens to the image: [N, P, C].

        Args:
            image: [N or 1, P, C].
            q: the image with its positions, [N or 1, P, C].
            k: tokens with their positions, [N, T, C].
            v: tokens [N, T, C].
        """
        if not self._spares_pixels(k, q):
            return image + super().forward(q, k, v)
        count, length = k.shape[:2]
        scores = self._scores(self._tokens_by_head(self.k_proj(k)), self.q_proj, q, count)
        weights = scores.view(count, self.num_heads, length, -1).softmax(2).flatten(1, 2)
        values = self._moved(self._tokens_by_head(self.v_proj(v)), self.out_proj.weight.t(), count)
        values = values + self.out_proj.bias / self.num_heads  # the weights of each head sum to 1
        return torch.baddbmm(image, weights.mT, values)


class _TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP on the tokens, image to tokens."""

    def __init__(self, *, embedding_dim: int, num_heads: int, mlp_dim: int, downsample_rate: int, first: bool) -> None:
        super().__init__()
        self.self_attn = Attention(embedding_dim, num_heads)
        self.norm1 = nn.LayerNorm(embedding_dim)
        self.cross_attn_token_to_image = TokensToImage(embedding_dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(embedding_dim)
        self.mlp = MLPBlock(embedding_dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(embedding_dim)
        self.norm4 = nn.LayerNorm(embedding_dim)
        self.cross_attn_image_to_token = ImageToTokens(embedding_dim, num_heads, downsample_rate)
        self.first = first

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """New tokens [N, T, C] and image [N, P, C].

        Args:
            tokens: [N, T, C].
            image: [N or 1, P, C].
            token_pe: positions of the tokens, [N, T, C].
            image_pe: positions of the pixels, [1, P, C].
        """
        tokens = self.norm1(self._attend_self(tokens, token_pe))
        placed = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(self.cross_attn_image_to_token(image, placed, tokens + token_pe, tokens))
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
            _TwoWayAttentionBlock(
                embedding_dim=embedding_dim,
                num_heads=num_heads,
                mlp_dim=mlp_dim,
                downsample_rate=attention_downsample_rate,
                first=index == 0,
            )
            for index in range(depth)
        )
        self.final_attn_token_to_image = TokensToImage(embedding_dim, num_heads, attention_downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embedding_dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
        """The first new tokens, [N, outputs, C], and the new image, [N, P, C].

        Args:
            image: [N or 1, P, C].
            image_pe: positions of the pixels, [1, P, C].
            tokens: [N, T, C].
            outputs: how many of the tokens are returned.
        """
        queries, keys = tokens, image
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, image_pe)
        queries = queries[:, :outputs]
        attended = self.final_attn_token_to_image(queries + tokens[:, :outputs], keys + image_pe, keys)
        return self.norm_final_attn(queries + attended), keys
