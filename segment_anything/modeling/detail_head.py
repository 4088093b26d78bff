"""Logits at the photograph's own resolution: what the S/4 grid of SAM's decoder cannot hold.

Convolutions look at the input from full resolution down, and with the image embedding up again, once for an image. Each
prompt then weighs the features, as it weighs the decoder's upscaled embedding, and maps of where its clicks and its box
lie.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientnet import CHANNELS, BatchNorm, EfficientNetLite0
from .mask_decoder import MLP
from .prompt_encoder import STRUCTURE
from .prompt_maps import KINDS, PromptMaps, of_images, prompt_maps, under_box, under_clicks

WIDTHS = (16, 48, 96)  # channels of the light head at S, S/2 and S/4
BACKGROUND, SPREAD = -3.0, 0.25  # first bias of a pyramid's structures, and deviation of their other weights
PYRAMID_WIDTHS = (16, 24, 40, 64, 128)  # of the pyramid's decoder, at S to S/16
PYRAMID_EPS, PYRAMID_MOMENTUM = 1e-5, 0.1  # of its batch norms


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


def _blocks(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """So many convolutions, each with batch norm and ReLU, as of a U-Net (Ronneberger et al. 2015)."""
    layers = []
    for a in (inputs, *[outputs] * (count - 1)):
        norm = BatchNorm(outputs, eps=PYRAMID_EPS, momentum=PYRAMID_MOMENTUM)
        layers += [nn.Conv2d(a, outputs, kernel_size=3, padding=1, bias=False), norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PyramidDetailHead(DetailHead):
    """A U-Net on a convolutional pyramid that was trained on ImageNet; coarse features reach the image embedding.

    The last feature is 1 everywhere: what weighs the features has a bias.
    """

    channels = PYRAMID_WIDTHS[0] + 1

    def _make_layers(self, embedding_channels: int) -> None:
        self.pyramid = EfficientNetLite0()
        self.to_embedding = nn.Conv2d(sum(CHANNELS[-2:]), embedding_channels, kernel_size=1)
        self.embedding = nn.Conv2d(embedding_channels, PYRAMID_WIDTHS[-1], kernel_size=1)
        for projection in (self.to_embedding, self.embedding):
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)
        below = (*PYRAMID_WIDTHS[1:], CHANNELS[-1])
        beside = (3, *CHANNELS[:-1])
        counts = (1, 2, 2, 2, 2)  # of convolutions: at S, where each pixel costs most, one
        sizes = zip(below, beside, PYRAMID_WIDTHS, counts, strict=True)
        self.join = nn.ModuleList(_blocks(a + b, outputs, count) for a, b, outputs, count in sizes)

    def _start_table(self) -> None:
        """Set the first weights of the table of structures: nothing is there, and the channels differ.

        The features learn by this table (`dense_loss`). From zeros all channels would first learn the same, that most
        pixels are background, and stay alike.
        """
        nn.init.normal_(self.named.weight[:, :-1], std=SPREAD)
        nn.init.constant_(self.named.weight[:, -1], BACKGROUND)

    def levels(self, image: Tensor) -> list[Tensor]:
        """The image itself, and features at S/2, S/4, S/8, S/16 and S/32."""
        image = image.to(self.embedding.weight.dtype).contiguous(memory_format=torch.channels_last)
        return [image, *self.pyramid(image)]

    def enrich(self, embedding: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """The image encoder's embedding [B, C, S/16, S/16] plus a projection, at first 0, of the coarse features."""
        *_, fine, coarse = levels
        return embedding + self.to_embedding(torch.cat((fine, _upsample(coarse, 2)), dim=1))

    def features(self, levels: Sequence[Tensor], embedding: Tensor | None) -> Tensor:
        """Features [B, 17, S, S]; without an embedding what the pyramid alone sees."""
        *beside, x = levels
        for join, level in zip(reversed(self.join), reversed(beside), strict=True):
            x = join(torch.cat((F.interpolate(x, scale_factor=2, mode="nearest"), level), dim=1))
            if embedding is not None:
                x, embedding = x + self.embedding(embedding), None
        return F.pad(x, (0, 0, 0, 0, 0, 1), value=1)


HEADS = {"light": LightDetailHead, "pyramid": PyramidDetailHead}


def _upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
