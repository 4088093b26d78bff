"""SAM-Med2D's `utils`, for scripts written for it: prompts from masks, the training loss, a logger, saved masks.

Names, arguments, shapes and numbers are SAM-Med2D's; random numbers come from NumPy's global generator, drawn in the
same order, so that a seeded script gets the same prompts. New code takes `sam_med2d.prompts` and
`sam_med2d.training.losses`, which draw from generators of their own.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam_med2d.training.losses import FOCAL_ALPHA, FOCAL_WEIGHT, segmentation_losses, soft_iou
from segment_anything.preprocessing import Preprocessing, place, resize, to_tensor
from segment_anything.utils.atomic import atomic_path
from segment_anything.utils.masks import bounding_box, largest_component

GREEN, RED = (0, 255, 0), (0, 0, 255)  # in OpenCV's order, BGR
LEVELS = {0: logging.DEBUG, 1: logging.INFO, 2: logging.WARNING}


# --- prompts from masks ---------------------------------------------------------------------------------------


def get_boxes_from_mask(mask: Tensor | np.ndarray, box_num: int = 1, std: float = 0.1, max_pixel: int = 5) -> Tensor:
    """Boxes of the largest 8-connected components of a mask, moved at random.

    Args:
        mask: {0, 1} [H, W].
        box_num: How many boxes; with fewer components they come again.
        std: A box moves in x and in y by less than 5 `std` of its shorter side, in whole pixels.
        max_pixel: It moves by no more than this; 0: not at all.

    Returns:
        float32 [box_num, 4], half-open x0, y0, x1, y1 in pixels of the mask; zeros for an empty mask.
    """
    rest = np.asarray(mask).astype(np.uint8)
    boxes = []
    while rest.any() and len(boxes) < box_num:
        component = largest_component(rest)
        boxes.append(bounding_box(component))
        rest = rest & (1 - component)
    boxes = [boxes[i % len(boxes)] for i in range(box_num)] if boxes else [(0, 0, 0, 0)] * box_num
    return torch.tensor([_moved(box, std, max_pixel) for box in boxes], dtype=torch.float32)


def _moved(box: Sequence[int], std: float, max_pixel: int) -> tuple[int, ...]:
    """A box that is moved as a whole, by random numbers of whole pixels in x and in y."""
    x0, y0, x1, y1 = box
    reach = min(max_pixel, int(min(x1 - x0, y1 - y0) * std * 5))
    dx, dy = (np.random.randint(-reach, reach) if reach > 0 else 0 for _ in range(2))
    return x0 + dx, y0 + dy, x1 + dx, y1 + dy


def init_point_sampling(mask: Tensor | np.ndarray, get_point: int = 1) -> tuple[Tensor, Tensor]:
    """Opening clicks: one in the foreground, or `get_point` // 2 there and the rest in the background, in random order.

    Args:
        mask: {0, 1} [H, W].
        get_point: How many clicks; where there is no foreground, or no background, all are in what there is.

    Returns:
        coords float32 [get_point, 2] (x, y in pixels of the mask) and labels int32 [get_point], 1 or 0.
    """
    mask = np.asarray(mask)
    inside, outside = (np.argwhere(mask == value)[:, ::-1] for value in (1, 0))
    if get_point == 1:
        region, label = (inside, 1) if len(inside) else (outside, 0)
        coords, labels = region[[np.random.randint(len(region))]], np.array([label])
    else:
        count = get_point // 2 if len(outside) else get_point
        count = count if len(inside) else 0
        drawn = [r[np.random.choice(len(r), n)] for r, n in ((inside, count), (outside, get_point - count)) if n]
        order = np.random.permutation(get_point)
        coords, labels = np.concatenate(drawn)[order], np.repeat([1, 0], [count, get_point - count])[order]
    return to_tensor(coords).float(), to_tensor(labels).int()


def select_random_points(pr: Tensor, gt: Tensor, point_num: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Corrective clicks, uniform over the pixels where prediction and truth differ.

    Args:
        pr: Prediction, {0, 1} [B, 1, H, W].
        gt: Truth, {0, 1} [B, 1, H, W].
        point_num: Clicks for each mask.

    Returns:
        Points int64 [B, point_num, 2] (x, y) and labels int64 [B, point_num]: 1 where the truth was missed, 0 where
        there is none, -1 for all clicks of a mask without an error, which lie anywhere.
    """
    points, labels = [], []
    for predicted, truth in zip(*(part.detach().cpu().numpy()[:, 0] for part in (pr, gt)), strict=True):
        wrong = np.argwhere(predicted != truth)
        if not len(wrong):
            wrong = np.random.randint(0, predicted.shape, size=(point_num, 2))
        y, x = wrong[np.random.choice(len(wrong), point_num)].T
        missed, false = (predicted[y, x] == 0) & (truth[y, x] == 1), (predicted[y, x] == 1) & (truth[y, x] == 0)
        points.append(np.stack((x, y), axis=1))
        labels.append(np.where(missed, 1, np.where(false, 0, -1)))
    return np.array(points), np.array(labels)


def generate_point(
    masks: Tensor, labels: Tensor, low_res_masks: Tensor, batched_input: dict[str, Any], point_num: int
) -> dict[str, Any]:
    """Put the next round's prompts into a batch: corrective clicks, and the probabilities as mask prompt; no box.

    Args:
        masks: Logits float [B, 1, S, S].
        labels: Truth, {0, 1} [B, 1, S, S].
        low_res_masks: Logits float [B, 1, s, s].
        batched_input: The batch; its entries are replaced.
        point_num: Clicks for each mask.

    Returns:
        The same dictionary, with "mask_inputs" float [B, 1, s, s], without gradient, "point_coords" int64
        [B, point_num, 2] and "point_labels" int64 [B, point_num], on the CPU, and "boxes" None.
    """
    predicted = (masks.detach().sigmoid() > 0.5).to(masks.dtype)
    points, point_labels = select_random_points(predicted, labels, point_num=point_num)
    batched_input["mask_inputs"] = low_res_masks.detach().sigmoid()
    batched_input["point_coords"], batched_input["point_labels"] = (
        torch.from_numpy(points),
        torch.from_numpy(point_labels),
    )
    batched_input["boxes"] = None
    return batched_input


def setting_prompt_none(batched_input: dict[str, Any]) -> dict[str, Any]:
    """Set "point_coords", "point_labels" and "boxes" of a batch to None; returns the same dictionary."""
    batched_input.update(point_coords=None, point_labels=None, boxes=None)
    return batched_input


# --- pictures -------------------------------------------------------------------------------------------------


def train_transforms(img_size: int, ori_h: int, ori_w: int) -> Callable[..., dict[str, Tensor]]:
    """SAM-Med2D's way to the model frame: zeros around a picture that is smaller than S, else stretched, nearest.

    Args:
        img_size: Side S of the model frame.
        ori_h: Height of the picture.
        ori_w: Width of the picture.

    Returns:
        A function of `image`, [H, W, C], and `mask`, [H, W] or None, given by name: a dictionary with "image", tensor
        [C, S, S], and "mask", tensor [S, S], of the types that they had.
    """
    frame = Preprocessing(img_size, "sam_med2d").frame(np.empty((ori_h, ori_w, 3), np.uint8))

    def transform(*, image: np.ndarray, mask: np.ndarray | None = None) -> dict[str, Tensor]:
        given = {"image": image} | ({} if mask is None else {"mask": mask})
        placed = {name: place(resize(array, frame, cv2.INTER_NEAREST), frame) for name, array in given.items()}
        return {
            name: to_tensor(array.transpose(2, 0, 1) if array.ndim == 3 else array) for name, array in placed.items()
        }

    return transform


def save_masks(
    preds: Tensor,
    save_path: str | Path,
    mask_name: str,
    image_size: int,
    original_size: Sequence[int | Tensor],
    pad: tuple[int, int] | None = None,
    boxes: Tensor | None = None,
    points: tuple[Tensor, Tensor] | None = None,
    visual_prompt: bool = False,
) -> None:
    """Write a mask of 0 and 255 as a picture of three channels.

    Args:
        preds: Logits float [1, 1, H, W] at the picture's own size.
        save_path: Folder, which is made.
        mask_name: File name; its suffix says the format.
        image_size: Side S of the model frame.
        original_size: (H, W).
        pad: (top, left) of the picture in the model frame where it was padded; None where it was stretched.
        boxes: Half-open x0, y0, x1, y1 in model-frame pixels, [..., 4] with one box; drawn with `visual_prompt`.
        points: coords [1, P, 2] (x, y in model-frame pixels) and labels [1, P]; drawn with `visual_prompt`.
        visual_prompt: Draw the prompts: boxes and foreground clicks green, background clicks red.

    Raises:
        OSError: Where the file cannot be written.
    """
    predicted = (preds.detach().sigmoid() > 0.5).squeeze().cpu().numpy()
    picture = cv2.cvtColor(predicted.astype(np.uint8) * 255, cv2.COLOR_GRAY2BGR)
    if visual_prompt:
        height, width = (int(side) for side in original_size)

        def to_picture(xy: Tensor) -> list[list[int]]:
            positions = xy.detach().cpu().numpy().reshape(-1, 2)
            if pad is not None:
                return (positions - (int(pad[1]), int(pad[0])) + 0.5).astype(int).tolist()
            return (positions * (width / image_size, height / image_size)).astype(int).tolist()

        _draw_prompts(picture, boxes, points, to_picture)
    path = Path(save_path) / mask_name
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), picture):
            raise OSError(f"{path} cannot be written")


def _draw_prompts(
    picture: np.ndarray,
    boxes: Tensor | None,
    points: tuple[Tensor, Tensor] | None,
    to_picture: Callable[[Tensor], list[list[int]]],
) -> None:
    """Draw a box and clicks on a picture [H, W, 3]; `to_picture` brings model-frame positions to it."""
    if boxes is not None:
        cv2.rectangle(picture, *to_picture(boxes), GREEN, 2)
    if points is not None:
        for position, label in zip(to_picture(points[0]), points[1].flatten().tolist(), strict=True):
            if label >= 0:
                colour = GREEN if label == 1 else RED
                cv2.drawMarker(picture, position, colour, markerType=cv2.MARKER_CROSS, markerSize=7, thickness=2)


# --- logging --------------------------------------------------------------------------------------------------


def get_logger(filename: str | Path, verbosity: int = 1, name: str | None = None) -> logging.Logger:
    """A logger that writes to a new file and to standard error, each message with time, place and level.

    Args:
        filename: Log file; its folder is made, an earlier file is replaced.
        verbosity: 0: debug, 1: info, 2: warnings.
        name: Of the logger; None: the root logger.

    Returns:
        The logger.
    """
    path = Path(filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(name)
    logger.setLevel(LEVELS[verbosity])
    formatter = logging.Formatter("[%(asctime)s][%(filename)s][line:%(lineno)d][%(levelname)s] %(message)s")
    for handler in (logging.FileHandler(path, "w", encoding="utf-8"), logging.StreamHandler()):
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    return logger


# --- the training loss: over the batch as a whole -------------------------------------------------------------


def _as_one(pred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and masks [B, 1, H, W] as one of B H rows, [1, 1, B H, W]. Raises ValueError for different shapes."""
    if pred.shape != mask.shape:
        raise ValueError(f"pred and mask have the shapes {list(pred.shape)} and {list(mask.shape)}: give one shape.")
    return tuple(part.float().reshape(1, 1, -1, part.shape[-1]) for part in (pred, mask))


class FocalLoss(nn.Module):
    """Focal loss of Lin et al. 2017, a mean over all pixels of the batch; finite for any finite logit."""

    def __init__(self, gamma: float = 2.0, alpha: float = FOCAL_ALPHA) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, pred: Tensor, mask: Tensor) -> Tensor:
        """Scalar; pred: logits [B, 1, H, W]; mask: {0, 1}, of the same shape."""
        pred, mask = _as_one(pred, mask)
        on_mask = self.alpha * mask * (-pred).sigmoid() ** self.gamma * F.logsigmoid(pred)
        elsewhere = (1 - self.alpha) * (1 - mask) * pred.sigmoid() ** self.gamma * F.logsigmoid(-pred)
        return -(on_mask + elsewhere).mean()


class DiceLoss(nn.Module):
    """1 - soft Dice of the batch as a whole; `smooth` is added to overlap and areas."""

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, pred: Tensor, mask: Tensor) -> Tensor:
        """Scalar; pred: logits [B, 1, H, W]; mask: {0, 1}, of the same shape."""
        return segmentation_losses(*_as_one(pred, mask), smooth=self.smooth)[1].squeeze()


class MaskIoULoss(nn.Module):
    """Squared difference of the predicted IoUs to the soft IoU of the batch as a whole, a mean over its masks."""

    def forward(self, pred_mask: Tensor, ground_truth_mask: Tensor, pred_iou: Tensor) -> Tensor:
        """Scalar; pred_mask: logits [B, 1, H, W]; ground_truth_mask: {0, 1}, of the same shape; pred_iou: [B, 1]."""
        return (soft_iou(*_as_one(pred_mask, ground_truth_mask)) - pred_iou).square().mean()


class FocalDiceloss_IoULoss(nn.Module):
    """`weight` x focal loss + Dice loss + `iou_scale` x IoU loss."""

    def __init__(self, weight: float = FOCAL_WEIGHT, iou_scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.iou_scale = weight, iou_scale
        self.focal_loss, self.dice_loss, self.maskiou_loss = FocalLoss(), DiceLoss(), MaskIoULoss()

    def forward(self, pred: Tensor, mask: Tensor, pred_iou: Tensor) -> Tensor:
        """Scalar; pred: logits [B, 1, H, W]; mask: {0, 1}, of the same shape; pred_iou: [B, 1]."""
        pixels = self.weight * self.focal_loss(pred, mask) + self.dice_loss(pred, mask)
        return pixels + self.iou_scale * self.maskiou_loss(pred, mask, pred_iou)
