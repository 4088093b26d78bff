"""The peer of structure prompts: a plain U-Net on EfficientNet-Lite0, one output for each structure."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segment_anything.build_sam import MODEL_SPECS, build_network
from segment_anything.modeling import Sam
from segment_anything.modeling.efficientnet import CHANNELS, EfficientNetLite0
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.modeling.prompt_encoder import STRUCTURE

WIDTHS = (16, 24, 40, 64, 128)  # channels of the decoder at S to S/16
PRESENT = 20.0  # a logit: it says nothing of absence


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers = []
    for a in (inputs, outputs):
        layers += [nn.Conv2d(a, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Normalised images [B, 3, S, S] -> logits [B, K, S, S] of K structures."""

    def __init__(self, structures: int) -> None:
        super().__init__()
        self.encoder = EfficientNetLite0()
        below = (*WIDTHS[1:], CHANNELS[-1])
        skips = (0, *CHANNELS[:-1])
        self.blocks = nn.ModuleList(_block(a + b, c) for a, b, c in zip(below, skips, WIDTHS, strict=True))
        self.out = nn.Conv2d(WIDTHS[0], structures, 1)

    def forward(self, image: Tensor) -> Tensor:
        *skips, x = self.encoder(image)
        for block, skip in zip(reversed(self.blocks), (*reversed(skips), None), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x if skip is None else torch.cat((x, skip), dim=1))
        return self.out(x)


class UNetSam(Sam):
    """A U-Net that answers structure prompts in the place of a model; other prompts get empty masks."""

    def __init__(self, structures: Sequence[str], image_size: int) -> None:
        model = build_network(MODEL_SPECS["vit_t"], image_size=image_size, encoder_adapter=False, structures=structures)
        super().__init__(model.image_encoder, model.prompt_encoder, model.mask_decoder)
        self.preprocessing = model.preprocessing.overridden(mode="fundus")
        self.unet = UNet(len(structures))

    def encode_all(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """No embedding, and the logits of all structures."""
        logits = self.unet(image)
        return image.new_zeros(len(image), 1, 1, 1), logits

    def decode_points(self, embedding, coords, labels, masks=None, *, multimask=True, features=None, image_index=None):
        structure = (labels.long() - STRUCTURE).amax(1)
        image = torch.zeros(len(labels), dtype=torch.int64) if image_index is None else image_index
        logits = torch.where((structure >= 0)[:, None, None], features[image, structure.clamp(min=0)], -PRESENT)
        candidates = 3 if multimask else 1
        logits = logits[:, None].expand(-1, candidates, -1, -1)
        return Decoded(logits, logits.new_ones(len(logits), candidates), logits.new_full((len(logits),), PRESENT))
