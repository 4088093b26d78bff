"""Mask and IoU losses on logits, in float32.

focal: Lin et al. 2017, "Focal Loss for Dense Object Detection"; dice: Milletari et al. 2016, "V-Net"; the
combination 20 focal + dice + MSE of the IoU: Segment Anything, Kirillov et al. 2023.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.transforms import upsample

FOCAL_WEIGHT = 20.0
FOCAL_ALPHA = 0.25
EXPLORATION = 1 / 16
REDUCTIONS = ("mask", "batch")


def _sums(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of values [N, M, H, W] over all pixels, and over those of mask [N, 1, H, W]: each [N, M]."""
    return values.sum((-2, -1)), (values * mask).sum((-2, -1))


def segmentation_losses(logits: Tensor, mask: Tensor, *, smooth: float = 1.0) -> tuple[Tensor, Tensor]:
    """Focal loss (alpha 0.25, gamma 2, mean over pixels) and Dice loss (1 - soft Dice) of each output.

    logits: [N, M, H, W]; mask: [N, 1, H, W], bool or {0, 1}. Returns two float32 [N, M]; finite for any
    finite logit.
    """
    logits, mask = logits.float(), mask.float()
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, mask.expand_as(logits), reduction="none")
    # for a binary mask |mask - p| is one minus the probability of the true class
    everywhere, on_mask = _sums((mask - probability).square() * cross_entropy, mask)
    focal = (1 - FOCAL_ALPHA) * everywhere + (2 * FOCAL_ALPHA - 1) * on_mask
    total, overlap = _sums(probability, mask)
    dice = 1 - (2 * overlap + smooth) / (total + mask.sum((-2, -1)) + smooth)
    return focal / mask[0, 0].numel(), dice


@torch.no_grad()
def soft_iou(logits: Tensor, mask: Tensor, *, eps: float = 1e-7) -> Tensor:
    """IoU of probabilities and mask, the target of the IoU head: [N, M, H, W] and [N, 1, H, W] -> [N, M]."""
    mask = mask.float()
    total, overlap = _sums(logits.float().sigmoid(), mask)
    return (overlap + eps) / (total + mask.sum((-2, -1)) - overlap + eps)


def segmentation_loss(logits: Tensor, mask: Tensor, predicted_iou: Tensor, *, reduction: str = "mask") -> Tensor:
    """20 focal + dice + squared error of the predicted IoU, one output per mask, as a scalar.

    logits and mask: [N, 1, S, S]; predicted_iou: [N, 1]. "mask" averages over masks, so that a small one
    counts as much as a large one; "batch" sums Dice and IoU over the batch first, as SAM-Med2D does. Raises
    ValueError for another reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}.")
    if reduction == "batch":
        whole = (1, 1, -1, logits.shape[-1])
        logits, mask = logits.reshape(whole), mask.reshape(whole)
    focal, dice = segmentation_losses(logits, mask)
    iou = (predicted_iou.float() - soft_iou(logits, mask)).square()
    return FOCAL_WEIGHT * focal.mean() + dice.mean() + iou.mean()


def candidate_loss(
    low_res: Tensor, mask: Tensor, predicted_iou: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of the decoder's M outputs, averaged over masks, and its detached parts.

    low_res: logits [N, M, S/4, S/4]; mask: [N, 1, S, S]; predicted_iou: [N, M]. The losses are taken at
    S x S. Every output learns its IoU. Of the three candidates only the one with the best IoU learns the mask
    (Kirillov et al. 2023, "Making the model ambiguity-aware"), whatever IoU it predicts; with a `generator`
    one mask in sixteen goes to a random candidate, so that none starves (relaxed winner-takes-all, Rupprecht
    et al. 2017). M is 3, or 4 with the single-mask output in front, which learns every mask, or 1, that
    output alone.
    """
    with torch.no_grad():
        target = soft_iou(upsample(low_res, mask.shape[-1]), mask)
    single = list(range(low_res.shape[1] % 3))
    index = torch.tensor([single] * len(low_res), device=low_res.device, dtype=torch.int64)
    if low_res.shape[1] > 1:
        best = len(single) + _explore(target[:, len(single) :].argmax(dim=1, keepdim=True), generator)
        index = torch.cat((index, best), dim=1)
    learning = low_res.gather(1, index[..., None, None].expand(-1, -1, *low_res.shape[-2:]))
    focal, dice = segmentation_losses(upsample(learning, mask.shape[-1]), mask)
    iou = (predicted_iou.float() - target).square().mean()
    loss = (FOCAL_WEIGHT * focal + dice).mean() + iou
    parts = {"focal": focal[:, -1].mean(), "dice": dice[:, -1].mean(), "iou": iou}
    return loss, {name: value.detach() for name, value in parts.items()}


def _explore(best: Tensor, generator: torch.Generator | None) -> Tensor:
    """The index [N, 1] of the best of three candidates, now and then of any."""
    if generator is None:
        return best
    other = torch.randint(3, best.shape, generator=generator).to(best.device)
    explores = torch.rand(best.shape, generator=generator).to(best.device) < EXPLORATION
    return torch.where(explores, other, best)
