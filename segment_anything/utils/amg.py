"""Parts of automatic mask generation: grids of points, crops, filters for masks and boxes.

Boxes are half-open, x0, y0, x1, y1 in pixels. Kirillov et al. 2023, appendix B ("Automatic mask generation details").
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

EDGE_TOLERANCE = 20.0  # pixels


def build_point_grid(n_per_side: int) -> np.ndarray:
    """Centres of n x n equal cells of the unit square: float64 [n * n, 2] in x, y order, row by row."""
    steps = (np.arange(n_per_side) + 0.5) / n_per_side
    x, y = np.meshgrid(steps, steps)
    return np.stack((x, y), axis=-1).reshape(-1, 2)


def build_all_layer_point_grids(n_per_side: int, n_layers: int, scale_per_layer: int) -> list[np.ndarray]:
    """A grid for the whole picture and for each layer of crops, with ever fewer points a side, at least one."""
    return [build_point_grid(max(1, int(n_per_side / scale_per_layer**layer))) for layer in range(n_layers + 1)]


def generate_crop_boxes(
    im_size: Sequence[int], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """Boxes of the whole picture, (height, width) pixels, and of the crops of each layer; the layer of each box.

    Layer i has 2 ** i crops a side, which overlap by `overlap_ratio` * 2 / 2 ** i of the picture's shorter side; fewer
    where a picture has not so many pixels.
    """
    height, width = im_size
    boxes, layers = [[0, 0, width, height]], [0]
    for layer in range(1, n_layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(height, width) * 2 / count)
        crop_width, crop_height = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        for x in ((crop_width - overlap) * i for i in range(count)):
            for y in ((crop_height - overlap) * i for i in range(count)):
                if x < width and y < height:
                    boxes.append([x, y, min(x + crop_width, width), min(y + crop_height, height)])
                    layers.append(layer)
    return boxes, layers


def calculate_stability_score(masks: Tensor, mask_threshold: float, threshold_offset: float) -> Tensor:
    """Agreement of masks, logits [..., h, w], cut a little above and a little below the threshold: IoU [...].

    NaN where both are empty.
    """
    inner = (masks > mask_threshold + threshold_offset).sum((-2, -1))
    outer = (masks > mask_threshold - threshold_offset).sum((-2, -1))
    return inner / outer


def boxes_around(masks: Tensor) -> Tensor:
    """Boxes of masks, bool [N, h, w] -> int64 [N, 4]; all 0 for an empty one."""
    sides = []
    for axis in (1, 2):  # columns, rows
        filled = masks.any(axis).int()
        length = filled.shape[1]
        sides.append((filled.argmax(1), length - filled.flip(1).argmax(1)))
    (left, right), (top, bottom) = sides
    return torch.stack((left, top, right, bottom), 1) * masks.flatten(1).any(1, keepdim=True)


def is_box_near_crop_edge(
    boxes: np.ndarray, crop_box: Sequence[int], orig_box: Sequence[int], atol: float = EDGE_TOLERANCE
) -> np.ndarray:
    """Which boxes [N, 4] have a side within `atol` pixels of the crop's that is not as near to the picture's: bool [N].

    All boxes are of the whole picture.
    """
    at_crop = np.abs(boxes - np.array(crop_box)) <= atol
    at_picture = np.abs(boxes - np.array(orig_box)) <= atol
    return (at_crop & ~at_picture).any(axis=1)


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, device: torch.device | str = "cpu") -> np.ndarray:
    """Non-maximum suppression: indexes, best score first, of boxes [N, 4] that overlap no better one too much.

    A box is dropped when its IoU with a better one that is kept is above the threshold; of equal scores the first
    is the better one. (OpenCV's NMSBoxes rounds to float32, and drops boxes whose IoU is the threshold itself.)
    """
    if torch.device(device).type == "cuda":
        from torchvision.ops import nms as nms_on_gpu  # does not import beside a CPU-only torch

        on_gpu = [torch.as_tensor(array, dtype=torch.float32, device=device) for array in (boxes, scores)]
        return nms_on_gpu(*on_gpu, threshold).cpu().numpy()
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    rest = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        corners = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        union = areas[best] + areas[rest] - common
        rest = rest[common / np.where(union > 0, union, 1) <= threshold]
    return np.array(kept, np.int64)


def remove_small_regions(mask: np.ndarray, area_thresh: float, mode: str) -> tuple[np.ndarray, bool]:
    """Fill the holes of a mask, bool [H, W], or drop its islands, that have less than `area_thresh` pixels.

    mode: "holes" or "islands"; regions are 8-connected. The largest island stays. Returns the mask and whether it
    changed.
    """
    if mode not in ("holes", "islands"):
        raise ValueError(f"mode={mode!r} is unknown: choose holes or islands.")
    holes = mode == "holes"
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ holes).astype(np.uint8), connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    small = sizes < area_thresh
    if not small.any():
        return mask, False
    if not holes and small.all():
        small[sizes.argmax()] = False
    regions = np.concatenate(([False], small if holes else ~small))[labels]
    return (mask | regions if holes else regions), True
