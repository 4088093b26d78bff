"""Logits at the photograph's own resolution: what the S/4 grid of SAM's decoder cannot hold.

Convolutions look at the input from full resolution down, and with the image embedding up again, once for an image. Each
prompt then weighs the features, as it weighs the decoder's upscaled embedding, and maps of where its clicks and its box
lie.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientnet import CHANNELS, EfficientNetLite0
from .mask_decoder import MLP
from .prompt_encoder import STRUCTURE
from .prompt_maps import KINDS, PromptMaps, of_images, prompt_maps, under_box, under_clicks

WIDTHS = (16, 48, 96)  # channels of the light head at S, S/2 and S/4
BACKGROUND, SPREAD = -0.6, 0.25  # mean and deviation of a pyramid's first weights of structures: logits of about -3
PYRAMID_WIDTHS = (16, 32, 48, 64, 96)  # of the pyramid's, at S to S/16


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


class DetailHead(nn.Module, ABC):
    """Adds to the decoder's logits, upsampled to S x S, a weighted sum of full-resolution features and prompt maps.

    The weights come from the decoder's tokens, from the features under the clicks and in the box, and, for a structure
    prompt, from a table: what a structure is, or what a click has hit, need not be learnt through the transformer
    first. All start at zero: a new head changes nothing. The features are those of a subclass.
    """

    channels: int  # of the features

    def __init__(self, *, embedding_channels: int, num_mask_tokens: int, structures: int = 0) -> None:
        """For embeddings and tokens of C channels, the decoder's mask tokens, and the prompt encoder's structures."""
        super().__init__()
        channels = self.channels
        self._make_layers(embedding_channels)
        self.weights = nn.ModuleList(
            MLP(embedding_channels, embedding_channels, channels + KINDS, 3) for _ in range(num_mask_tokens)
        )
        self.under_prompts = MLP(3 * channels, 4 * channels, channels, 2)
        for mlp in (*self.weights, self.under_prompts):
            nn.init.zeros_(mlp.layers[-1].weight)
            nn.init.zeros_(mlp.layers[-1].bias)
        self.named = nn.Embedding(structures, channels) if structures else None
        if structures:
            self._start_table()

    def _start_table(self) -> None:
        """Set the first weights of the table of structures: it changes nothing."""
        nn.init.zeros_(self.named.weight)

    @abstractmethod
    def _make_layers(self, embedding_channels: int) -> None:
        """Make the layers of the features, for embeddings of so many channels."""

    @abstractmethod
    def levels(self, image: Tensor) -> list[Tensor]:
        """Features of normalised images [B, 3, S, S] at several resolutions, from fine to coarse."""

    def enrich(self, embedding: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """The embedding [B, C, S/16, S/16] that decoder and head see: with what `levels` add to it."""
        return embedding

    @abstractmethod
    def features(self, levels: Sequence[Tensor], embedding: Tensor) -> Tensor:
        """Features [B, channels, S, S] of images, from their `levels` and enriched embedding [B, C, S/16, S/16]."""

    def of_structures(self, features: Tensor, image_index: Tensor, labels: Tensor) -> Tensor:
        """Logits of structures by their table alone: what the head says without tokens, prompts and decoder.

        Args:
            features: [B, channels, S, S].
            image_index: int64 [N], the image of each structure, in order.
            labels: int64 [N], the point labels of their structure prompts.

        Returns:
            [N, 1, S, S].
        """
        weights = self.named(labels - STRUCTURE)[:, None]
        return of_images(weights, features.flatten(2), image_index).unflatten(2, features.shape[-2:])

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
            features: [N or 1, channels, S, S]; with image_index [B, channels, S, S].
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
            dtype = self.under_prompts.layers[0].weight.dtype
            maps = PromptMaps(*(part.to(dtype) for part in prompt_maps(*points, features.shape[-1])))
            found = torch.cat(
                (under_clicks(features, *points, image_index), under_box(features, maps, image_index)), dim=1
            )
            weights = weights + self.under_prompts(found.to(dtype))[:, None] + self._of_structure(points[1])
            logits = maps.added(logits, of_maps)
        return logits + of_images(weights, features.flatten(2), image_index).unflatten(2, features.shape[-2:])

    def _of_structure(self, labels: Tensor) -> Tensor | float:
        """Weights [N, 1, channels] of the structure prompt among the labels [N, P], 0 where there is none."""
        if self.named is None:
            return 0.0
        structure = (labels.long() - STRUCTURE).amax(dim=1)
        return (self.named(structure.clamp(min=0)) * (structure >= 0)[:, None])[:, None]


class LightDetailHead(DetailHead):
    """With features of a light U-shaped stem, which is trained from random weights."""

    channels = WIDTHS[0]

    def _make_layers(self, embedding_channels: int) -> None:
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

    def levels(self, image: Tensor) -> list[Tensor]:
        """Features at S, S/2 and S/4."""
        full = self.at_full(image.to(self.at_full[0].weight.dtype))
        half = self.at_half(full)
        return [full, half, self.at_quarter(half)]

    def features(self, levels: Sequence[Tensor], embedding: Tensor) -> Tensor:
        """Features [B, 16, S, S]."""
        full, half, quarter = levels
        quarter = self.join_quarter(quarter + _upsample(self.embedding(embedding), 4))
        half = self.join_half(half + _upsample(self.to_half(quarter), 2))
        return self.join_full(full + _upsample(self.to_full(half), 2))


class PyramidDetailHead(DetailHead):
    """With features of a convolutional pyramid that was trained on ImageNet, and its coarse ones for the embedding."""

    channels = PYRAMID_WIDTHS[0]

    def _make_layers(self, embedding_channels: int) -> None:
        full, *widths = PYRAMID_WIDTHS
        self.pyramid = EfficientNetLite0()
        *fine, coarse = CHANNELS
        self.to_embedding = nn.Conv2d(fine[-1] + coarse, embedding_channels, kernel_size=1)
        nn.init.zeros_(self.to_embedding.weight)
        nn.init.zeros_(self.to_embedding.bias)
        self.embedding = nn.Conv2d(embedding_channels, widths[-1], kernel_size=1)
        nn.init.zeros_(self.embedding.weight)
        nn.init.zeros_(self.embedding.bias)
        self.coarse = nn.Conv2d(coarse, widths[-1], kernel_size=1)
        self.at_full = _block(3, full)
        self.lateral = nn.ModuleList(nn.Conv2d(a, b, kernel_size=1) for a, b in zip(fine, widths, strict=True))
        self.up = nn.ModuleList(nn.Conv2d(b, a, kernel_size=1) for a, b in pairwise(PYRAMID_WIDTHS))
        self.join = nn.ModuleList(_block(width, width) for width in PYRAMID_WIDTHS)

    def _start_table(self) -> None:
        """Set the first weights of the table of structures: nothing is there, and the channels differ.

        The features learn by this table (`dense_loss`). From zeros all channels would first learn the same, that most
        pixels are background, and stay alike.
        """
        nn.init.normal_(self.named.weight, BACKGROUND, SPREAD)

    def levels(self, image: Tensor) -> list[Tensor]:
        """Features at S, S/2, S/4, S/8, S/16 and S/32."""
        image = image.to(self.at_full[0].weight.dtype).contiguous(memory_format=torch.channels_last)
        return [self.at_full(image), *self.pyramid(image)]

    def enrich(self, embedding: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """The image encoder's embedding [B, C, S/16, S/16] plus a projection, at first 0, of the coarse features."""
        *_, fine, coarse = levels
        return embedding + self.to_embedding(torch.cat((fine, _upsample(coarse, 2)), dim=1))

    def features(self, levels: Sequence[Tensor], embedding: Tensor | None) -> Tensor:
        """Features [B, 16, S, S]; without an embedding what the pyramid alone sees."""
        full, *fine, coarse = levels
        x = _upsample(self.coarse(coarse), 2)
        x = x if embedding is None else x + self.embedding(embedding)
        *joins, last = reversed(self.join)
        for lateral, level, join, up in zip(
            reversed(self.lateral), reversed(fine), joins, reversed(self.up), strict=True
        ):
            x = _upsample(up(join(x + lateral(level))), 2)
        return last(full + x)


HEADS = {"light": LightDetailHead, "pyramid": PyramidDetailHead}


def _upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
