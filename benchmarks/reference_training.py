"""The published training step of SAM-Med2D in its straightforward form: test oracle and baseline of the benchmark.

Everything here is written from the published formulas (Segment Anything, Kirillov et al. 2023; SAM-Med2D, Cheng
et al. 2023) and shares no code with segment_anything: the encoder is benchmarks/reference_encoder.py, prompt encoder
and mask decoder follow below with the library's own layers in NCHW, focal and Dice losses are chains of elementary
operations. As published, an image embedding is repeated for each of its masks, the mask of the best predicted IoU
learns, and the optimizer steps after every round; only the first round reaches the encoder. Gradients are dropped,
not zeroed, after a step (PyTorch's default), so later rounds do not pay for updating the adapters. `OracleSam` has
the state dict of `segment_anything.modeling.Sam`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reference_encoder import ChannelNorm, OracleEncoder, oracle_mlp

CLICKS = (1, 3, 5, 9)


class PlainMLP(nn.Module):
    """Linear layers with ReLU between them, in a ModuleList."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class PlainAttention(nn.Module):
    """Multi-head attention of [B, N, C] with an inner width."""

    def __init__(self, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        projected = self.q_proj(q), self.k_proj(k), self.v_proj(v)
        q, k, v = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in projected)
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


class PlainTwoWayBlock(nn.Module):
    """Tokens to tokens, tokens to image, MLP, image to tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = PlainAttention(dim, dim, heads)
        self.cross_attn_token_to_image = PlainAttention(dim, dim // 2, heads)
        self.mlp = oracle_mlp(dim, hidden, nn.ReLU())
        self.cross_attn_image_to_token = PlainAttention(dim, dim // 2, heads)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_pe, keys + key_pe, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(keys + key_pe, queries + query_pe, queries))
        return queries, keys


class PlainTransformer(nn.Module):
    """Two two-way blocks and a last attention of the tokens to the image."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PlainTwoWayBlock(dim, heads, hidden, first) for first in (True, False))
        self.final_attn_token_to_image = PlainAttention(dim, dim // 2, heads)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        keys, key_pe = (x.flatten(2).permute(0, 2, 1) for x in (image, image_pe))
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, key_pe)
        attended = self.final_attn_token_to_image(queries + tokens, keys + key_pe, keys)
        return self.norm_final_attn(queries + attended), keys


class PlainDecoder(nn.Module):
    """Embeddings [N, C, h, w] and prompts -> logits of the three candidates [N, 3, 4h, 4w] and IoU [N, 3]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.transformer = PlainTransformer(dim, 8, 2048)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(4, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            ChannelNorm(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(PlainMLP(dim, dim, dim, dim // 8) for _ in range(4))
        self.iou_prediction_head = PlainMLP(dim, 256, 256, 4)

    def forward(self, image: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        masks, iou = self.all_masks(image, image_pe, sparse, dense)
        return masks[:, 1:], iou[:, 1:]

    def all_masks(self, image: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """As forward, with the single mask before the three candidates."""
        output = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
        tokens = torch.cat((output.expand(len(sparse), -1, -1), sparse), dim=1)
        hidden, keys = self.transformer(image + dense, image_pe.repeat(len(tokens), 1, 1, 1), tokens)
        upscaled = self.output_upscaling(keys.transpose(1, 2).reshape(image.shape))
        weights = torch.stack([mlp(hidden[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        count, channels, height, width = upscaled.shape
        masks = (weights @ upscaled.view(count, channels, height * width)).view(count, -1, height, width)
        return masks, self.iou_prediction_head(hidden[:, 0])


class PlainPositions(nn.Module):
    """Random Fourier features of positions in the unit square."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, xy: Tensor) -> Tensor:
        phase = 2 * math.pi * ((2 * xy - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat((phase.sin(), phase.cos()), dim=-1)


class PlainPromptEncoder(nn.Module):
    """Labelled points [N, P] and a mask prompt [N, 1, S/4, S/4] or None -> sparse and dense embeddings."""

    def __init__(self, dim: int, image_size: int) -> None:
        super().__init__()
        self.image_size, self.grid = image_size, image_size // 16
        self.pe_layer = PlainPositions(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            ChannelNorm(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            ChannelNorm(16),
            nn.GELU(),
            nn.Conv2d(16, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def dense_positions(self) -> Tensor:
        dtype = self.no_mask_embed.weight.dtype
        steps = (torch.arange(self.grid, dtype=dtype) + 0.5) / self.grid
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        return self.pe_layer(torch.stack((x, y), -1)).permute(2, 0, 1)[None]

    def forward(self, coords: Tensor, labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        position = self.pe_layer((coords + 0.5) / self.image_size)
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        sparse = torch.where((labels == -1)[..., None], torch.zeros(()), position)
        for label, kind in enumerate(kinds, start=-1):
            sparse = sparse + (labels == label)[..., None] * kind.weight
        if mask is not None:
            return sparse, self.mask_downscaling(mask)
        return sparse, self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(coords), -1, self.grid, self.grid)


class OracleSam(nn.Module):
    """The three parts; `encoder` are the sizes that `OracleEncoder` takes."""

    def __init__(self, *, image_size: int, dim: int = 256, **encoder: int | bool | tuple[int, ...]) -> None:
        super().__init__()
        self.image_encoder = OracleEncoder(image_size=image_size, out_chans=dim, **encoder)
        self.prompt_encoder = PlainPromptEncoder(dim, image_size)
        self.mask_decoder = PlainDecoder(dim)

    def decode(self, image: Tensor, coords: Tensor, labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embedding [N, C, h, w] and prompts -> logits [N, 3, S/4, S/4], predicted IoU [N, 3]."""
        sparse, dense = self.prompt_encoder(coords, labels, mask)
        return self.mask_decoder(image, self.prompt_encoder.dense_positions(), sparse, dense)


# --- losses ---------------------------------------------------------------------------------------------------


def focal_loss(logits: Tensor, mask: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean over the pixels of the batch."""
    p = logits.sigmoid()
    on = -alpha * mask * (1 - p) ** gamma * F.logsigmoid(logits)
    off = -(1 - alpha) * (1 - mask) * p**gamma * F.logsigmoid(-logits)
    return (on + off).mean()


def dice_loss(logits: Tensor, mask: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, summed over the batch before the division."""
    p = logits.sigmoid()
    return 1 - (2 * (p * mask).sum() + smooth) / (p.sum() + mask.sum() + smooth)


def iou_loss(logits: Tensor, mask: Tensor, predicted: Tensor, eps: float = 1e-7) -> Tensor:
    """Squared error of the predicted IoU, the soft IoU of the batch being the truth."""
    p = logits.sigmoid()
    overlap = (p * mask).sum()
    return ((overlap + eps) / (p.sum() + mask.sum() - overlap + eps) - predicted).square().mean()


def published_loss(logits: Tensor, mask: Tensor, predicted: Tensor) -> Tensor:
    """20 focal + Dice + squared error of the IoU, of logits and mask [N, 1, S, S] and predicted IoU [N, 1]."""
    mask = mask.float()
    return 20 * focal_loss(logits, mask) + dice_loss(logits, mask) + iou_loss(logits, mask, predicted)


# --- prompts --------------------------------------------------------------------------------------------------


def random_pixels(region: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """Pixels (x, y) of a region [H, W], uniformly, with replacement; none if it is empty."""
    pixels = region.nonzero().flip(-1)
    if not len(pixels):
        return []
    return list(pixels[torch.randint(len(pixels), (count,), generator=generator)])


def clicks_on(wrong: Tensor, mask: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clicks on the pixels `wrong` of each mask, both bool [N, 1, S, S]; label -1 where there are none."""
    coords, labels = torch.zeros(len(mask), count, 2), -torch.ones(len(mask), count)
    for i in range(len(mask)):
        for j, pixel in enumerate(random_pixels(wrong[i, 0], count, generator)):
            coords[i, j] = pixel
            labels[i, j] = mask[i, 0, pixel[1], pixel[0]]
    return coords, labels


def opening(mask: Tensor, box: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The box of each mask, or one click and the padding point, with equal chance for the batch."""
    if torch.rand((), generator=generator) < 0.5:
        return box.view(-1, 2, 2), torch.tensor([2.0, 3.0]).expand(len(box), 2)
    coords, labels = clicks_on(mask, mask, 1, generator)
    return torch.cat((coords, torch.zeros_like(coords)), 1), torch.cat((labels, -torch.ones_like(labels)), 1)


# --- the step -------------------------------------------------------------------------------------------------


class Step:
    """One round after the other on one batch; each ends with a step of the optimizer."""

    def __init__(self, model: OracleSam, optimizer: torch.optim.Optimizer, mask: Tensor) -> None:
        self.model, self.optimizer, self.mask = model, optimizer, mask

    def round(
        self, embedding: Tensor, points: tuple[Tensor, Tensor], prompt: Tensor | None
    ) -> tuple[float, Tensor, Tensor]:
        """Embedding [N, C, h, w] -> the loss, and without gradient logits [N, 1, S/4, S/4] and [N, 1, S, S]."""
        candidates, iou = self.model.decode(embedding, *points, prompt)
        best = iou.argmax(1)
        each = torch.arange(len(best))
        low_res, predicted = candidates[each, best][:, None], iou[each, best][:, None]
        logits = F.interpolate(low_res, self.mask.shape[-2:], mode="bilinear", align_corners=False)
        loss = published_loss(logits, self.mask, predicted)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item(), low_res.detach(), logits.detach()


def published_step(
    model: OracleSam,
    optimizer: torch.optim.Optimizer,
    image: Tensor,
    mask: Tensor,
    box: Tensor,
    *,
    rounds: int,
    generator: torch.Generator,
    clicks: Sequence[int] = CLICKS,
) -> list[float]:
    """Train on one batch: an opening round and `rounds` corrective ones. Returns the loss of each.

    image: [B, 3, S, S]; mask: bool [B * M, 1, S, S], M for each image in turn; box: [B * M, 4]. One random
    corrective round and the last one see the earlier mask alone.
    """
    step = Step(model, optimizer, mask)
    points = opening(mask, box, generator)
    embedding = model.image_encoder(image).repeat_interleave(len(mask) // len(image), 0)
    loss, low_res, logits = step.round(embedding, points, None)
    losses = [loss]
    embedding = embedding.detach().clone()
    alone = {int(torch.randint(rounds, (), generator=generator)), rounds - 1}
    for index in range(rounds):
        count = clicks[int(torch.randint(len(clicks), (), generator=generator))]
        more = clicks_on((logits > 0) != mask, mask, count, generator)
        points = tuple(torch.cat(pair, 1) for pair in zip(points, more, strict=True))
        shown = tuple(part[:, :0] for part in points) if index in alone else points
        loss, low_res, logits = step.round(embedding, shown, low_res.sigmoid())
        losses.append(loss)
    return losses
