"""Test-time augmentation by mirroring, for structure prompts: the mean of four predictions, at four times the price.

Isensee et al. 2021, "nnU-Net".
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..modeling import Sam
from .progress import Report, no_report

MIRRORS = ((-1,), (-2,), (-2, -1))  # the axes that are flipped: left and right, top and bottom, both


@torch.no_grad()
def mirrored(
    model: Sam,
    pixels: Tensor,
    whole: Mapping[str, Tensor],
    *,
    multimask: bool = True,
    report: Report = no_report,
) -> dict[str, Tensor]:
    """Mean of the logits for a photograph and for its three mirror images: {structure: float32 [s, s]}.

    Args:
        model: that predicts.
        pixels: the photograph as the encoder takes it, float [1, 3, S, S].
        whole: logits [s, s] for the photograph itself, of at least one structure, by its name (ValueError: unknown).
        multimask: whether the best of three candidates is taken, else the single mask.
        report: called before each mirror image.
    """
    points = model.prompt_encoder.structure_points(list(whole))
    total = torch.stack(list(whole.values())).float()
    for done, axes in enumerate(MIRRORS):
        report("mirror images", done, len(MIRRORS))
        embedding, features = model.encode_all(pixels.flip(axes))
        decoded = model.decode_points(embedding, *points, multimask=multimask, features=features)
        total = total + decoded.best()[:, 0].flip(axes)
    return dict(zip(whole, total / (1 + len(MIRRORS)), strict=True))
