"""SAM-Med2D's `metrics`, for scripts written for it; new code takes `sam_med2d.evaluation.metrics`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sam_med2d.evaluation.metrics import EPS

Masks = Tensor | Sequence[np.ndarray]


def _overlap_and_areas(pr: Masks, gt: Masks, threshold: float | None) -> tuple[Tensor, Tensor]:
    """Intersection [B] of prediction and truth, and the sum [B] of their areas."""
    if isinstance(pr, list):
        pr, gt = (torch.from_numpy(np.array(masks)) for masks in (pr, gt))
    pr, gt = pr.detach(), gt.detach()
    pr = pr.sigmoid() if pr.min() < 0 else pr
    if threshold is not None:
        pr, gt = (pr > threshold).to(pr.dtype), (gt > threshold).to(gt.dtype)
    return (pr * gt).flatten(1).sum(1), pr.flatten(1).sum(1) + gt.flatten(1).sum(1)


def iou(pr: Masks, gt: Masks, eps: float = EPS, threshold: float | None = 0.5) -> np.ndarray:
    """Intersection over union of each mask, (overlap + eps) / (union + eps): 1 where both are empty.

    Args:
        pr: Prediction [B, 1, H, W], a tensor or a list of arrays [1, H, W]: logits if any number is negative, else
            probabilities or {0, 1}.
        gt: Truth {0, 1}, of the same kind and shape.
        eps: Added to overlap and union.
        threshold: Probability from which on a pixel is of the mask; None: the numbers count as they are.

    Returns:
        float [B].
    """
    overlap, areas = _overlap_and_areas(pr, gt, threshold)
    return ((overlap + eps) / (areas - overlap + eps)).cpu().numpy()


def dice(pr: Masks, gt: Masks, eps: float = EPS, threshold: float | None = 0.5) -> np.ndarray:
    """Dice coefficient of each mask, (2 overlap + eps) / (areas + eps): 1 where both are empty. Arguments as of `iou`.

    Returns:
        float [B].
    """
    overlap, areas = _overlap_and_areas(pr, gt, threshold)
    return ((2 * overlap + eps) / (areas + eps)).cpu().numpy()


def SegMetrics(pred: Masks, label: Masks, metrics: str | Sequence[str]) -> np.ndarray:
    """Scores of a batch, each a mean over its masks.

    Args:
        pred: Prediction, see `iou`.
        label: Truth, see `iou`.
        metrics: "iou" or "dice", or several of them.

    Returns:
        float [number of metrics], in their order.

    Raises:
        ValueError: For another metric.
    """
    known = {"iou": iou, "dice": dice}
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"metric {unknown[0]!r} is unknown: choose from {', '.join(known)}.")
    return np.array([known[name](pred, label).mean() for name in names])
