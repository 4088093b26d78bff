"""The encoder and the decoder in SAM's own form, for programs that know no other.

In: a photograph stretched to the square input, RGB, normalised by SAM's constants; clicks and boxes, with or without
the padding point; an earlier answer's logits as a mask prompt. Out: masks, predicted IoU, low-resolution logits.

The detail head sees the input, and its features have no place of their own in that form. They travel in the embedding:
the input is some times as large, so that the embedding, [B, C, side/16, side/16], has room for both.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam_med2d.export.onnx_modules import OnnxEncoder
from segment_anything.modeling.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, PADDING
from segment_anything.modeling.sam import Sam
from segment_anything.utils.onnx import STRETCH, SamOnnxModel


def enlargement(model: Sam) -> int:
    """Side of the plain input over that of the model's, S: 1, or what the features of a detail head need.

    The embedding of a side of S has S^2 numbers, the features have as many a channel.
    """
    return math.isqrt(_channels(model)) + 1


def _channels(model: Sam) -> int:
    """Of the features of the detail head, 0 without one."""
    head = model.mask_decoder.detail
    return 0 if head is None else head.channels


def pack(embedding: Tensor, features: Tensor, factor: int) -> Tensor:
    """Put the features of a detail head into an embedding.

    Args:
        embedding: [B, C, S/16, S/16].
        features: [B, channels, S, S].
        factor: `enlargement` of the model.

    Returns:
        [B, C, side/16, side/16], both one after the other, filled up with zeros.
    """
    channels, side = embedding.shape[1], factor * embedding.shape[3]
    both = torch.cat((embedding.flatten(1), features.flatten(1)), 1)
    return F.pad(both, (0, channels * side**2 - both.shape[1])).reshape(-1, channels, side, side)


def plain_metadata(model: Sam) -> dict[str, Any]:
    """Entries of a plain file's metadata: what it takes, and not what the weights expect inside."""
    side = enlargement(model) * model.image_size
    rule = {"image_size": side, "mode": STRETCH, "channel_order": "rgb", "mask_prompt": "logits"}
    trained = model.preprocessing.as_dict()
    return {"plain": True, "image_size": side, "preprocessing": rule, "trained_with": trained, "detail": False}


class PlainInput(nn.Module):
    """[B, 3, side, side], stretched, RGB, normalised by SAM's constants -> what the weights expect, [B, 3, S, S]."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.factor = enlargement(model)
        self.bgr = model.preprocessing.channel_order == "bgr"
        self.unit = model.preprocessing.pixel_scale == "unit"
        self.register_buffer("mean", model.pixel_mean.clone())
        self.register_buffer("std", model.pixel_std.clone())

    def forward(self, image: Tensor) -> Tensor:
        image = F.avg_pool2d(image, self.factor) if self.factor > 1 else image
        if not (self.bgr or self.unit):
            return image
        pixels = image * self.std + self.mean
        pixels = pixels.flip(1) if self.bgr else pixels
        if not self.unit:
            return (pixels - self.mean) / self.std
        low, high = (bound(pixels, dim=(1, 2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
        return (pixels - low) / (high - low).clamp(min=1e-8)


class PlainEncoder(nn.Module):
    """`input_image` as `PlainInput` takes it -> `image_embeddings` [B, C, side/16, side/16]."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.preprocess, self.encoder = PlainInput(model), OnnxEncoder(model)

    @torch.no_grad()
    def forward(self, input_image: Tensor) -> Tensor:
        found = self.encoder(self.preprocess(input_image))
        return found[0] if len(found) == 1 else pack(*found, self.preprocess.factor)


class PlainDecoder(SamOnnxModel):
    """`SamOnnxModel` for the embeddings of `PlainEncoder`: all positions and masks are those of its input."""

    def __init__(self, model: Sam, **options: bool | None) -> None:
        """The options are those of `SamOnnxModel`."""
        super().__init__(model, **options)
        self.mode, self.factor, self.channels = STRETCH, enlargement(model), _channels(model)
        self.probability = model.preprocessing.mask_prompt == "probability"

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """Decode prompts, as `SamOnnxModel.forward` does.

        Args:
            image_embeddings: [N or 1, C, side/16, side/16].
            point_coords: [N, P, 2] (x, y) in pixels of the encoder's input.
            point_labels: [N, P]; a padding point is added where no prompt has one or a box.
            mask_input: [N or 1, 1, side/4, side/4], logits of an earlier answer.
            has_mask_input: [N or 1], 1 or 0.
            orig_im_size: [2], height H and width W of the photograph.

        Returns:
            masks [N, M, H, W], iou_predictions [N, M] and low_res_masks [N, M, side/4, side/4], as `SamOnnxModel`.
        """
        embedding, features = self._unpacked(image_embeddings)
        coords, labels = _padded(point_coords / self.factor, point_labels)
        prompt = F.avg_pool2d(mask_input, self.factor) if self.factor > 1 else mask_input
        prompt = prompt.sigmoid() if self.probability else prompt
        *found, low_res = super().forward(embedding, coords, labels, prompt, has_mask_input, orig_im_size, features)
        return *found, self._enlarged(low_res) if self.factor > 1 else low_res

    def _enlarged(self, low_res: Tensor) -> Tensor:
        """Each pixel as a square of pixels."""
        # by a second Resize, converted files took its size for that of the masks
        squares = low_res[:, :, :, None, :, None].expand(-1, -1, -1, self.factor, -1, self.factor)
        return squares.flatten(4, 5).flatten(2, 3)

    def _unpacked(self, packed: Tensor) -> tuple[Tensor, Tensor | None]:
        """What `pack` put together."""
        if self.factor == 1:
            return packed, None
        size, width, grid = self.model.image_size, self.prompts.embed_dim, self.prompts.grid_size
        flat, split = packed.flatten(1), width * grid**2
        features = flat[:, split : split + self.channels * size**2]
        return flat[:, :split].reshape(-1, width, grid, grid), features.reshape(-1, self.channels, size, size)


def _padded(coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Points with a padding point, where none of them has one or is a corner of a box."""
    closed = (labels == PADDING) | (labels == BOX_TOP_LEFT) | (labels == BOX_BOTTOM_RIGHT)
    count = 1 - closed.any().long()
    padding = torch.zeros_like(coords[:, :1])[:, :count], torch.full_like(labels[:, :1], PADDING)[:, :count]
    return torch.cat((coords, padding[0]), 1), torch.cat((labels, padding[1]), 1)
