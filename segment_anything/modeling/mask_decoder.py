"""Image and prompt embeddings -> low-resolution mask logits and predicted IoU.

Segment Anything, Kirillov et al. 2023, appendix A ("Lightweight mask decoder").
"""

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .common import LayerNorm2d, fp32_on_cpu

LOWEST_LEVEL = -2.0  # a logit: how far the rule "dice" goes down where hardly anything is expected to be right


class MLP(nn.Module):
    """`depth` linear layers with ReLU between them: [..., in_dim] -> [..., out_dim]."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, depth: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = layer(F.relu(x))
        return x


class Decoded(NamedTuple):
    """What N prompts gave.

    Attributes:
        logits: [N, M, s, s], s = S/4, or S with a detail head.
        iou: predicted IoU [N, M].
        presence: logits [N] that the prompted structure is in the photograph at all; None for weights that know no
            structures.
    """

    logits: Tensor
    iou: Tensor
    presence: Tensor | None

    def best(self) -> Tensor:
        """Logits float32 [N, 1, s, s] of the candidate with the highest predicted IoU."""
        index = self.iou.argmax(1).view(-1, 1, 1, 1).expand(-1, 1, *self.logits.shape[-2:])
        return self.logits.gather(1, index).float()


class MaskDecoder(nn.Module):
    """Predicts one mask (token 0) or three candidate masks (tokens 1 to 3) per prompt.

    Attributes:
        mask_rule: where masks begin, see `mask_level`; with "dice" the logits of an evaluation are moved so that it is
            at 0.
    """

    def __init__(
        self,
        *,
        transformer_dim: int,
        transformer: nn.Module,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        presence: bool = False,
        detail: nn.Module | None = None,
    ) -> None:
        """Build the decoder.

        Args:
            transformer_dim: channels C of embeddings and tokens.
            transformer: a `TwoWayTransformer` of that width.
            num_multimask_outputs: candidate masks.
            iou_head_depth: layers of the head that predicts the IoU.
            iou_head_hidden_dim: its width.
            presence: also predict whether the prompted structure is in the photograph.
            detail: a `DetailHead`, or None.
        """
        super().__init__()
        self.transformer = transformer
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, transformer_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, transformer_dim)
        # The layers hold the weights under their published names; `_upscale` computes them in the order of the tokens.
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(transformer_dim, transformer_dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(transformer_dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(transformer_dim // 4, transformer_dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(transformer_dim, transformer_dim, transformer_dim // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(transformer_dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth)
        self.presence_head = MLP(transformer_dim, iou_head_hidden_dim, 1, iou_head_depth) if presence else None
        self.detail = detail
        self.mask_rule = "half"

    @torch.no_grad()
    def silence(self) -> None:
        """Start the logits anew, from zero, where they were learnt together with a detail head that is gone."""
        for mlp in self.output_hypernetworks_mlps:
            nn.init.zeros_(mlp.layers[-1].weight)
            nn.init.zeros_(mlp.layers[-1].bias)

    def forward(
        self,
        *,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool | None,
    ) -> tuple[Tensor, Tensor]:
        """SAM's own interface: decode N prompts without a detail head.

        Args:
            image_embeddings: [N or 1, C, h, w].
            image_pe: positions of the embedding's cells, [1, C, h, w].
            sparse_prompt_embeddings: [N, T, C].
            dense_prompt_embeddings: [N, C, h, w].
            multimask_output: see `decode`.

        Returns:
            Logits [N, M, 4h, 4w] and predicted IoU [N, M].

        Raises:
            ValueError: as `decode`.
        """
        return self.decode(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask=multimask_output
        )[:2]

    def decode(
        self,
        embedding: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        *,
        multimask: bool | None,
        features: Tensor | None = None,
        points: tuple[Tensor, Tensor] | None = None,
        image_index: Tensor | None = None,
    ) -> Decoded:
        """Decode N prompts.

        Args:
            embedding: [N, C, h, w]; or [1, C, h, w], which serves all prompts; or, with image_index, of B images.
            image_pe: positions of the embedding's cells, [1, C, h, w].
            sparse: embedded points [N, T, C].
            dense: embedded mask prompts [N, C, h, w], or [1, C, h, w] for all.
            multimask: True for the candidates, tokens 1 to 3 (M = 3), False for token 0 (M = 1), None for all tokens
                (M = 4, for training).
            features: [N or 1 or B, F, S, S] for the detail head; without them the logits are those of the S/4 grid.
            points: coords [N, P, 2] and labels [N, P] of the sparse prompts, for the detail head.
            image_index: int64 [N], the image of each mask, in order.

        Returns:
            Logits [N, M, 4h, 4w], or [N, M, S, S] with features, predicted IoU and presence.

        Raises:
            ValueError: the number of embeddings is neither 1 nor that of the prompts.
        """
        tokens = self._tokens(sparse)
        height, width = embedding.shape[-2:]
        chosen = {True: slice(1, None), False: slice(0, 1), None: slice(None)}[multimask]
        if not len(tokens):
            side = (4 * height, 4 * width) if self.detail is None or features is None else features.shape[-2:]
            return self._of_no_prompts(tokens, len(range(self.num_mask_tokens)[chosen]), side)
        embedding, dense, image_pe = (x.flatten(2).transpose(1, 2) for x in (embedding, dense, image_pe))
        if image_index is not None:
            embedding = embedding.index_select(0, image_index)
        if len(embedding) not in (1, len(tokens)):
            raise ValueError(
                f"{len(embedding)} image embeddings for {len(tokens)} prompts: give one embedding per "
                "prompt (embeddings[image_index]) or a single one."
            )
        pixels, pixel_pe = (embedding + dense).contiguous(), image_pe.contiguous()
        hidden, image_out = self.transformer(pixels, pixel_pe, tokens, 1 + self.num_mask_tokens)
        masks = _drawn(self._hypernetwork_weights(hidden, chosen), self._upscale(image_out), height, width)
        if self.detail is not None and features is not None:
            masks = self.detail(masks, features, hidden[:, 1 : 1 + self.num_mask_tokens], chosen, points, image_index)
        iou = self.iou_prediction_head(hidden[:, 0])[:, chosen]
        presence = None
        if self.presence_head is not None:
            presence = self.presence_head(hidden[:, 0])[:, 0] + _peak(masks, iou, masks.shape[-1] // (4 * width))
        if self.mask_rule == "dice" and not self.training:
            masks = masks - mask_level(iou)[..., None, None]
        return Decoded(masks, iou, presence)

    def _of_no_prompts(self, tokens: Tensor, candidates: int, side: tuple[int, int]) -> Decoded:
        """What a list without prompts gives: no masks [0, M, s, s]."""
        presence = None if self.presence_head is None else tokens.new_zeros(0)
        return Decoded(tokens.new_zeros(0, candidates, *side), tokens.new_zeros(0, candidates), presence)

    def _upscale(self, pixels: Tensor) -> Tensor:
        """Embedding [N, P, C] -> [N, P, 4, 4, C/8]: each pixel painted as 2 x 2 pixels, row by row, each of them again.

        Only the masks, which are far smaller, are brought into the order of an image.
        """
        first, norm, activation, second, _ = self.output_upscaling
        small = F.layer_norm(_painted(pixels, first), norm.weight.shape, norm.weight, norm.bias, norm.eps)
        return activation(_painted(activation(small), second))

    def _tokens(self, sparse: Tensor) -> Tensor:
        """Put the output tokens before the prompt tokens: [N, 1 + 4 + T, C]."""
        output = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
        return torch.cat((output.expand(sparse.shape[0], -1, -1), sparse), dim=1)

    def _hypernetwork_weights(self, hidden: Tensor, chosen: slice) -> Tensor:
        """Per-mask channel weights of the chosen mask tokens: [N, M, C/8]."""
        tokens = range(self.num_mask_tokens)[chosen]
        return torch.stack([self.output_hypernetworks_mlps[i](hidden[:, 1 + i]) for i in tokens], dim=1)


def _painted(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """A transposed convolution of 2 x 2, stride 2, of pixels wherever they lie: [..., C] -> [..., 4, C_out]."""
    weight = layer.weight.permute(0, 2, 3, 1).flatten(1)  # [C, 2 * 2 * C_out]
    return F.linear(x, weight.t(), layer.bias.expand(4, -1).flatten()).unflatten(-1, (4, -1))


def _drawn(weights: Tensor, blocks: Tensor, height: int, width: int) -> Tensor:
    """Weights [N, M, C] times the P = height * width blocks [N, P, 4, 4, C] -> [N, M, 4 * height, 4 * width]."""
    blocks = blocks.flatten(1, 3)
    if fp32_on_cpu(blocks):
        return _Drawn.apply(weights, blocks, height, width)
    return _arranged(weights @ blocks.transpose(1, 2), height, width)


class _Drawn(torch.autograd.Function):
    """The same on a CPU, at a fifth of the time: pixels in order by their numbers, all products along long rows."""

    @staticmethod
    def forward(ctx, weights: Tensor, blocks: Tensor, height: int, width: int) -> Tensor:
        ctx.save_for_backward(weights, blocks)
        values, order = torch.bmm(weights, blocks.mT), _order(height, width)[0]
        return values.gather(2, order.expand_as(values)).unflatten(2, (4 * height, 4 * width))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weights, blocks = ctx.saved_tensors
        place = _order(gradient.shape[2] // 4, gradient.shape[3] // 4)[1]
        gradient = gradient.flatten(2)
        gradient = gradient.gather(2, place.expand_as(gradient))
        return gradient @ blocks, gradient.transpose(1, 2) @ weights, None, None


@cache
def _order(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The number among the blocks' values of each pixel of an image, row by row, and the pixel of each value."""
    numbers = torch.arange(16 * height * width, device="cpu").view(1, 1, -1)
    order = _arranged(numbers, height, width).flatten()
    return order, order.argsort()


def _arranged(values: Tensor, height: int, width: int) -> Tensor:
    """[N, M, P * 16], as `_upscale` orders the P = height * width pixels -> [N, M, 4 * height, 4 * width]."""
    blocks = values.unflatten(2, (height, width, 2, 2, 2, 2))
    return blocks.permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5, 7).flatten(2, 4)


def mask_level(iou: Tensor) -> Tensor:
    """Logit, at least LOWEST_LEVEL, from which on a pixel should belong to a mask, for the best expected Dice.

    Of calibrated probabilities the cut that maximises the expected Dice D lies at D / 2 (Lipton et al. 2014, "Optimal
    Thresholding of Classifiers to Maximize F1 Measure"); with D = 2 IoU / (1 + IoU) these are odds of IoU to 1, which
    is 0.5 for a mask that is sure to be right, and less the less sure it is: ln IoU.
    """
    return iou.clamp(math.exp(LOWEST_LEVEL), 1.0).log()


def _peak(logits: Tensor, iou: Tensor, cell: int) -> Tensor:
    """Where the best candidate is surest: its largest mean logit of a cell of cell x cell pixels, without gradient.

    logits: [N, M, s, s], iou: [N, M], of which the last three, or the only one, are candidates. Returns [N].
    """
    peaks = F.avg_pool2d(logits.detach().float(), cell).flatten(2).amax(2)[:, -3:]
    return peaks.gather(1, iou[:, -3:].argmax(1, keepdim=True))[:, 0]
