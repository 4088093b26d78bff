"""Structures asked for in mirror images too: the mean of four answers is better than one, at four times the price.

Mirroring at test time, as nnU-Net does it (Isensee et al. 2021).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .modeling import Sam
from .modeling.mask_decoder import Decoded
from .modeling.prompt_encoder import PADDING

MIRRORS = ((-1,), (-2,), (-2, -1))  # the axes that are turned around: left and right, top and bottom, both


def named_points(model: Sam, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Structures as prompts: coords float32 [N, 2, 2], labels int64 [N, 2]. Raises ValueError for an unknown name."""
    labels = [[model.prompt_encoder.label_of(name), PADDING] for name in names]
    return torch.zeros(len(names), 2, 2, device=model.device), torch.tensor(labels, device=model.device)


def best(decoded: Decoded) -> Tensor:
    """Logits float32 [N, 1, s, s] of the candidate with the highest predicted IoU."""
    index = decoded.iou.argmax(1).view(-1, 1, 1, 1).expand(-1, 1, *decoded.logits.shape[-2:])
    return decoded.logits.gather(1, index).float()


@torch.no_grad()
def mirrored(model: Sam, pixels: Tensor, whole: Mapping[str, Tensor], *, multimask: bool = True) -> dict[str, Tensor]:
    """Mean of the answers to a photograph and to its three mirror images: {name: logits float32 [s, s]}.

    pixels: the photograph as the encoder takes it, float [1, 3, S, S]; whole: its own answer for each structure that is
    asked for, logits [s, s].
    """
    points = named_points(model, list(whole))
    total = torch.stack(list(whole.values())).float()
    turned = torch.cat([pixels.flip(axes) for axes in MIRRORS])
    embedding = model.encode(turned)
    features = model.features(turned, embedding)
    for i, axes in enumerate(MIRRORS):
        own = None if features is None else features[i, None]
        decoded = model.decode_points(embedding[i, None], *points, multimask=multimask, features=own)
        total = total + best(decoded)[:, 0].flip(axes)
    return dict(zip(whole, total / (1 + len(MIRRORS)), strict=True))
