"""Structures asked for in mirror images too: the mean of four answers is better than one, at four times the price.

Mirroring at test time, as nnU-Net does it (Isensee et al. 2021).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..modeling import Sam

MIRRORS = ((-1,), (-2,), (-2, -1))  # the axes that are turned around: left and right, top and bottom, both


@torch.no_grad()
def mirrored(model: Sam, pixels: Tensor, whole: Mapping[str, Tensor], *, multimask: bool = True) -> dict[str, Tensor]:
    """Mean of the answers to a photograph and to its three mirror images: {name: logits float32 [s, s]}.

    pixels: the photograph as the encoder takes it, float [1, 3, S, S]; whole: its own answer for each structure that is
    asked for, at least one, logits [s, s]. Raises ValueError for a structure that the weights do not know.
    """
    points = model.prompt_encoder.structure_points(list(whole))
    total = torch.stack(list(whole.values())).float()
    for axes in MIRRORS:
        embedding, features = model.encode_all(pixels.flip(axes))
        decoded = model.decode_points(embedding, *points, multimask=multimask, features=features)
        total = total + decoded.best()[:, 0].flip(axes)
    return dict(zip(whole, total / (1 + len(MIRRORS)), strict=True))
