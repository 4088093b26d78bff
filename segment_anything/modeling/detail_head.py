"""Logits at the photograph's own resolution: what the S/4 grid of SAM's decoder cannot hold.

A light U-shaped stem looks at the input at full, half and quarter resolution, with the image embedding at its bottom,
once for an image. Each prompt then weighs the features, as it weighs the decoder's upscaled embedding, and maps of
where its clicks and its box lie.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .mask_decoder import MLP
from .prompt_encoder import STRUCTURE
from .prompt_maps import KINDS, PromptMaps, of_images, prompt_maps, under_box, under_clicks

WIDTHS = (16, 48, 96)  # channels at S, S/2 and S/4


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution, norm of each channel over the picture, GELU.

    Vessels and lesions differ little from their surroundings: a norm of each pixel over its channels, as in the rest of
    the decoder, leaves that difference small, and such a stem learns no vessel (Ulyanov et al. 2016 for this norm).
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.GELU(),
    )


class DetailHead(nn.Module):
    """Adds to the decoder's logits, upsampled to S x S, a weighted sum of full-resolution features and prompt maps.

    The weights come from the decoder's tokens, from the features under the clicks and in the box, and, for a structure
    prompt, from a table: what a structure is, or what a click has hit, need not be learnt through the transformer
    first. All start at zero: a new head changes nothing.
    """

    def __init__(self, *, embedding_channels: int, num_mask_tokens: int, structures: int = 0) -> None:
        """For embeddings and tokens of C channels, the decoder's mask tokens, and the prompt encoder's structures."""
        super().__init__()
        full, half, quarter = WIDTHS
        self.at_full = _block(3, full)
        self.at_half = nn.Sequential(_block(full, half, stride=2), _block(half, half))
        self.at_quarter = _block(half, quarter, stride=2)
        self.embedding = nn.Conv2d(embedding_channels, quarter, kernel_size=1)
        self.join_quarter = nn.Sequential(_block(quarter, quarter), _block(quarter, quarter))
        self.to_half = nn.Conv2d(quarter, half, kernel_size=1)
        self.join_half = _block(half, half)
        self.to_full = nn.Conv2d(half, full, kernel_size=1)
        self.join_full = _block(full, full)
        self.weights = nn.ModuleList(
            MLP(embedding_channels, embedding_channels, full + KINDS, 3) for _ in range(num_mask_tokens)
        )
        self.under_prompts = MLP(3 * full, 4 * full, full, 2)
        for mlp in (*self.weights, self.under_prompts):
            nn.init.zeros_(mlp.layers[-1].weight)
            nn.init.zeros_(mlp.layers[-1].bias)
        self.named = nn.Embedding(structures, full) if structures else None
        if structures:
            nn.init.zeros_(self.named.weight)

    def features(self, image: Tensor, embedding: Tensor) -> Tensor:
        """Look at images.

        Args:
            image: normalised, [B, 3, S, S].
            embedding: their embeddings [B, C, S/16, S/16].

        Returns:
            Features [B, 16, S, S].
        """
        full = self.at_full(image.to(self.at_full[0].weight.dtype))
        half = self.at_half(full)
        quarter = self.join_quarter(self.at_quarter(half) + _upsample(self.embedding(embedding), 4))
        half = self.join_half(half + _upsample(self.to_half(quarter), 2))
        return self.join_full(full + _upsample(self.to_full(half), 2))

    def forward(
        self,
        logits: Tensor,
        features: Tensor,
        tokens: Tensor,
        chosen: slice,
        points: tuple[Tensor, Tensor] | None = None,
        image_index: Tensor | None = None,
    ) -> Tensor:
        """Refine logits to [N, M, S, S].

        Args:
            logits: [N, M, S/4, S/4].
            features: [N or 1, 16, S, S]; with image_index [B, 16, S, S].
            tokens: the decoder's mask tokens [N, 4, C].
            chosen: which of the four the M logits belong to.
            points: coords [N, P, 2] and labels [N, P] of all sparse prompts, as in `PromptEncoder.embed_points`.
            image_index: see `of_images`.
        """
        numbers = range(len(self.weights))[chosen]
        weights = torch.stack([self.weights[i](tokens[:, i]) for i in numbers], dim=1)
        weights, of_maps = weights.split((features.shape[1], KINDS), dim=2)
        logits = F.interpolate(logits, features.shape[-2:], mode="bilinear", align_corners=False)
        if points is not None and points[0].shape[1]:
            dtype = self.to_full.weight.dtype
            maps = PromptMaps(*(part.to(dtype) for part in prompt_maps(*points, features.shape[-1])))
            found = torch.cat(
                (under_clicks(features, *points, image_index), under_box(features, maps, image_index)), dim=1
            )
            weights = weights + self.under_prompts(found.to(dtype))[:, None] + self._of_structure(points[1])
            logits = maps.added(logits, of_maps)
        return logits + of_images(weights, features.flatten(2), image_index).unflatten(2, features.shape[-2:])

    def _of_structure(self, labels: Tensor) -> Tensor | float:
        """Weights [N, 1, 16] of the structure prompt among the labels [N, P], 0 where there is none."""
        if self.named is None:
            return 0.0
        structure = (labels.long() - STRUCTURE).amax(dim=1)
        return (self.named(structure.clamp(min=0)) * (structure >= 0)[:, None])[:, None]


def _upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
