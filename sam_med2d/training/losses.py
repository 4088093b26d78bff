"""Mask and IoU losses on logits, in float32.

focal: Lin et al. 2017, "Focal Loss for Dense Object Detection"; dice: Milletari et al. 2016, "V-Net"; the
combination 20 focal + dice + MSE of the IoU: Segment Anything, Kirillov et al. 2023.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segment_anything.utils.upsampling import upsample

FOCAL_WEIGHT = 20.0
FOCAL_ALPHA = 0.25
RELAXATION = 1 / 16  # share of the masks that a random candidate learns
PIXEL_WEIGHTS = {"focal": FOCAL_WEIGHT, "bce": 1.0, "area": 0.5}  # of LOSSES, beside the Dice loss
SMALLEST_SHARE = 0.01  # of the pixels, that the "area" loss takes a mask to have


def _sums(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of values [N, M, H, W] over all pixels, and over those of mask [N, 1, H, W]: each [N, M], float32."""
    with torch.autocast(values.device.type, enabled=False):
        on_mask = values.flatten(2) @ mask.flatten(2).transpose(1, 2)
    return values.sum((-2, -1)), on_mask[..., 0]


class _PixelAndDice(torch.autograd.Function):
    """Both losses of `segmentation_losses`, with their gradient written out: few passes over S x S numbers.

    With z the logit against the true class, q = sigmoid(z) the probability of the wrong class and ce = softplus(z)
    its cross entropy, the focal loss of a pixel is alpha q^2 ce, dq/dz = q (1 - q) and d ce/dz = q.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, mask: Tensor, smooth: float, focal: bool) -> tuple[Tensor, Tensor]:
        against = logits * (1 - 2 * mask)
        # softplus, finite for any z, at a third of the price of the library's
        ce = against.abs().sigmoid_().log_().neg_().add_(against.clamp(min=0))
        wrong = against.sigmoid_()
        if focal:
            everywhere, on_mask = _sums(wrong.square().mul_(ce), mask)
            pixel = (1 - FOCAL_ALPHA) * everywhere + (2 * FOCAL_ALPHA - 1) * on_mask
        else:
            pixel = ce.sum((-2, -1))
        wrong_everywhere, missed = _sums(wrong, mask)
        area = mask.sum((-2, -1))
        total = 2 * (area - missed) + wrong_everywhere + smooth  # of probability and mask
        overlap = 2 * (area - missed) + smooth
        ctx.save_for_backward(wrong, ce if focal else None, mask, overlap, total)
        return pixel / mask[0, 0].numel(), 1 - overlap / total

    @staticmethod
    @once_differentiable
    def backward(ctx, pixel: Tensor, dice: Tensor) -> tuple[Tensor, None, None, None]:
        wrong, ce, mask, overlap, total = ctx.saved_tensors
        slope = torch.addcmul(wrong, wrong, wrong, value=-1)
        if ce is None:
            gradient = wrong * (1 - 2 * mask)
        else:
            gradient = wrong.square().addcmul_(slope, ce, value=2).mul_(wrong)  # of q^2 ce with respect to z
            gradient.mul_((1 - FOCAL_ALPHA) - mask)  # alpha, and the sign of dz
        gradient.mul_((pixel / mask[0, 0].numel())[..., None, None])
        everywhere, on_mask = dice * overlap / total.square(), 2 * dice / total
        slope.mul_(everywhere[..., None, None] - on_mask[..., None, None] * mask)
        return gradient.add_(slope), None, None, None


def segmentation_losses(
    logits: Tensor, mask: Tensor, *, smooth: float = 1.0, kind: str = "focal"
) -> tuple[Tensor, Tensor]:
    """Pixel loss (mean over pixels) and Dice loss (1 - soft Dice) of each output; finite for any finite logit.

    Args:
        logits: float [N, M, H, W].
        mask: bool or {0, 1} [N, 1, H, W], the truth.
        smooth: Added to the overlap and to the areas of the Dice loss.
        kind: "focal" is the focal loss (alpha 0.25, gamma 2), "bce" the binary cross entropy, which pulls harder at
            thin structures, "area" the binary cross entropy per pixel of the mask, at least 1 % of all pixels: a small
            lesion then pulls as hard as a disc.

    Returns:
        The pixel loss and the Dice loss, float32 [N, M] each.
    """
    logits, mask = logits.float(), mask.float()
    pixel, dice = _PixelAndDice.apply(logits, mask, smooth, kind == "focal")
    if kind == "area":
        pixel = pixel / mask.mean((-2, -1)).clamp(min=SMALLEST_SHARE)
    return pixel, dice


def presence_loss(presence: Tensor, mask: Tensor, structure_label: Tensor) -> Tensor:
    """Binary cross entropy of whether a structure is there, a mean over N masks; 0 for boxed and clicked masks.

    Args:
        presence: float [N], logits.
        mask: bool [N, 1, S, S]; an empty one is of a structure that is not there.
        structure_label: int64 [N], -1 for masks without a structure prompt.
    """
    there = mask.flatten(1).any(1).float()
    each = F.binary_cross_entropy_with_logits(presence.float(), there, reduction="none")
    return (each * (structure_label >= 0)).mean()


def soft_iou(logits: Tensor, mask: Tensor, *, eps: float = 1e-7) -> Tensor:
    """IoU of probabilities and mask, the target of the IoU head.

    Args:
        logits: float [N, M, H, W].
        mask: bool or {0, 1} [N, 1, H, W].
        eps: Added to intersection and union.

    Returns:
        float32 [N, M].
    """
    mask = mask.float()
    total, overlap = _sums(logits.float().sigmoid(), mask)
    return (overlap + eps) / (total + mask.sum((-2, -1)) - overlap + eps)


def candidate_loss(
    low_res: Tensor,
    mask: Tensor,
    predicted_iou: Tensor,
    *,
    relaxation: Tensor | None = None,
    kind: str = "focal",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of the decoder's M outputs, averaged over masks, taken at S x S.

    Every output learns its IoU (squared error). Of the three candidates one learns the mask: that of the best IoU,
    whatever IoU it predicts (Kirillov et al. 2023, "Making the model ambiguity-aware"). An empty mask, of a structure
    that is not there, teaches no IoU, and the candidate that would be shown (of the best predicted IoU) to be empty:
    else one would be empty always, and be chosen for its IoU of 1.

    Args:
        low_res: float [N, M, s, s], logits. M is 3, or 4 with the single-mask output in front, which learns every
            mask, or 1, that output alone.
        mask: bool or {0, 1} [N, 1, S, S], the truth.
        predicted_iou: float [N, M].
        relaxation: float [N, 2], random numbers in [0, 1): they give one mask in sixteen to a random candidate, so
            that none starves (relaxed winner-takes-all, Rupprecht et al. 2017); None: none.
        kind: The pixel loss, see `segmentation_losses`.

    Returns:
        The loss, a scalar, and its detached parts: "loss", `kind`, "dice", "iou".
    """
    there = mask.flatten(1).any(1, keepdim=True)
    with torch.no_grad():
        target = soft_iou(upsample(low_res, mask.shape[-1]), mask)
    single = list(range(low_res.shape[1] % 3))
    index = torch.tensor([single] * len(low_res), device=low_res.device, dtype=torch.int64)
    if low_res.shape[1] > 1:
        merit = torch.where(there, target, predicted_iou)
        best = merit[:, len(single) :].argmax(dim=1, keepdim=True)
        index = torch.cat((index, len(single) + _relaxed(best, relaxation)), dim=1)
    learning = low_res.gather(1, index[..., None, None].expand(-1, -1, *low_res.shape[-2:]))
    pixel, dice = segmentation_losses(upsample(learning, mask.shape[-1]), mask, kind=kind)
    iou = ((predicted_iou.float() - target).square() * there).mean()
    loss = (PIXEL_WEIGHTS[kind] * pixel + dice).mean() + iou
    parts = {"loss": loss, kind: pixel[:, -1].mean(), "dice": dice[:, -1].mean(), "iou": iou}
    return loss, {name: value.detach() for name, value in parts.items()}


def _relaxed(best: Tensor, relaxation: Tensor | None) -> Tensor:
    """The index [N, 1] of the best of three candidates, now and then of any."""
    if relaxation is None:
        return best
    chance, other = relaxation.to(best.device).split(1, dim=1)
    return torch.where(chance < RELAXATION, (3 * other).long(), best)
