"""`SamAutomaticMaskGenerator`: masks of everything in a photograph, from a grid of clicks.

Kirillov et al. 2023, appendix B ("Automatic mask generation details").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .modeling import Sam
from .predictor import SamPredictor, check_image
from .preprocessing import to_tensor
from .utils.amg import (
    boxes_around,
    build_all_layer_point_grids,
    calculate_stability_score,
    generate_crop_boxes,
    is_box_near_crop_edge,
    nms,
    remove_small_regions,
)
from .utils.rle import Rle, area_from_rle, box_from_rle, mask_to_rle, rle_to_mask, run_lengths

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")
CHUNK_PIXELS = 2**25  # of float32 logits at the photograph's size at a time


@dataclass(frozen=True)
class Candidate:
    """One mask."""

    rle: Rle  # compressed run lengths of the mask [H, W]
    box: np.ndarray  # half-open x0, y0, x1, y1 around it, in pixels of the photograph
    predicted_iou: float  # of the decoder
    stability: float  # ioU of the masks a little above and below the threshold
    point: np.ndarray  # x, y of the click
    crop_box: Sequence[int]  # half-open x0, y0, x1, y1 of the crop that it was found in


class SamAutomaticMaskGenerator:
    """Clicks on a grid of points, and keeps masks that are good, stable and not twice there.

    Names and defaults of the arguments are those of Segment Anything.

    Args:
        model: in evaluation mode.
        points_per_side: clicks along each side of the photograph, or None and `point_grids`.
        points_per_batch: clicks that are decoded together.
        pred_iou_thresh: masks have a higher predicted IoU; 0 keeps all.
        stability_score_thresh: masks have at least this stability score; 0 keeps all.
        stability_score_offset: of the two logits whose masks are compared for the stability score, up and down.
        box_nms_thresh: IoU of boxes above which the worse mask is dropped, within a crop.
        crop_n_layers: also 2 ** i x 2 ** i crops for i up to this, each encoded by itself.
        crop_nms_thresh: as `box_nms_thresh`, between crops.
        crop_overlap_ratio: overlap of the crops of the first layer, in shares of the shorter side.
        crop_n_points_downscale_factor: layer i has this many times fewer clicks a side, to the power of i.
        point_grids: positions [P, 2] in the unit square, x, y, for the photograph and for each layer of crops.
        min_mask_region_area: smaller holes are filled and smaller islands dropped, in pixels; 0 keeps them.
        output_mode: one of OUTPUT_MODES.

    Raises:
        ValueError: for values that cannot work.
    """

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise ValueError("points_per_side and point_grids: give one of them, and None for the other.")
        if output_mode not in OUTPUT_MODES:
            raise ValueError(f"output_mode={output_mode!r} is unknown: choose one of {', '.join(OUTPUT_MODES)}.")
        least = {"points_per_batch": 1, "crop_n_layers": 0, "crop_n_points_downscale_factor": 1}
        least |= {"min_mask_region_area": 0} | ({} if points_per_side is None else {"points_per_side": 1})
        given = locals()
        for name, lowest in least.items():
            if given[name] < lowest:
                raise ValueError(f"{name}={given[name]}: give {lowest} or more.")
        if point_grids is None:
            point_grids = build_all_layer_point_grids(points_per_side, crop_n_layers, crop_n_points_downscale_factor)
        elif len(point_grids) <= crop_n_layers:
            raise ValueError(f"{len(point_grids)} point_grids for {crop_n_layers} layers of crops: give one more.")
        self.predictor = SamPredictor(model)
        self.point_grids = point_grids
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode

    @torch.no_grad()
    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Find the masks of a photograph.

        Args:
            image: RGB uint8 [H, W, 3].

        Returns:
            A record for each mask, best predicted IoU first; with several crops those of the smallest crops first.
            `segmentation`: bool [H, W], or an RLE with its runs as a list or as pycocotools' string; `area` in pixels;
            `bbox`: x, y, width, height in pixels; `predicted_iou`; `point_coords`: [[x, y]] of the click;
            `stability_score`; `crop_box`: x, y, width, height of the crop that the mask was found in.

        Raises:
            ValueError: for another image.
        """
        check_image(image)
        found: list[Candidate] = []
        boxes, layers = generate_crop_boxes(image.shape[:2], self.crop_n_layers, self.crop_overlap_ratio)
        for box, layer in zip(boxes, layers, strict=True):
            found += self._of_crop(image, box, self.point_grids[layer])
        self.predictor.reset_image()
        if len(boxes) > 1:
            found = self._distinct(found, [1 / _area(one.crop_box) for one in found], self.crop_nms_thresh)
        if self.min_mask_region_area:
            found = self._tidied(found)
        return [self._record(one) for one in found]

    def _distinct(self, found: Sequence[Candidate], scores: Sequence[float], threshold: float) -> list[Candidate]:
        """Those of the best scores among masks whose boxes are nearly the same, best first."""
        boxes = np.array([one.box for one in found]).reshape(-1, 4)
        return [found[i] for i in nms(boxes, np.array(scores), threshold, self.predictor.device)]

    def _of_crop(self, image: np.ndarray, box: Sequence[int], grid: np.ndarray) -> list[Candidate]:
        """Masks from a grid of clicks, in the unit square, on a part of the photograph."""
        self.predictor.set_image(image, window=box)
        points = self._inside(np.array(box[:2]) + grid * (box[2] - box[0], box[3] - box[1]))
        found: list[Candidate] = []
        for start in range(0, len(points), self.points_per_batch):
            found += self._of_points(points[start : start + self.points_per_batch], box)
        return self._distinct(found, [one.predicted_iou for one in found], self.box_nms_thresh)

    def _inside(self, points: np.ndarray) -> np.ndarray:
        """The points [P, 2] that the model sees: in the used part, and in the field of view where that is cut out."""
        view, (top, left, bottom, right) = self.predictor.frame.view, self.predictor.frame.crop
        seen = ((points >= (left, top)) & (points < (right, bottom))).all(axis=1)
        if view is not None:
            x, y = points[seen].astype(int).T
            seen[seen] = view.mask()[y, x]
        return points[seen]

    def _of_points(self, points: np.ndarray, box: Sequence[int]) -> list[Candidate]:
        """Good and stable masks of a batch of clicks [P, 2], in pixels of the photograph."""
        model, predictor = self.predictor.model, self.predictor
        coords = to_tensor(predictor.frame.points_to_model(points).astype(np.float32), predictor.device)[:, None]
        labels = torch.ones(coords.shape[:2], dtype=torch.int, device=predictor.device)
        logits, iou, _ = model.decode(predictor.features, points=(coords, labels), features=predictor.detail)
        logits, iou = logits.flatten(0, 1).float(), iou.flatten().float()
        clicked = np.repeat(points, len(iou) // len(points), axis=0)
        if self.pred_iou_thresh > 0:
            good = iou > self.pred_iou_thresh
            logits, iou, clicked = logits[good], iou[good], clicked[good.cpu().numpy()]
        found: list[Candidate] = []
        for part, masks, stability in self._at_full_size(logits):
            numbers = (values.cpu().numpy() for values in (boxes_around(masks), stability, iou[part], masks))
            for own, steady, value, mask, point in zip(*numbers, clicked[part], strict=True):
                if mask.any():
                    found.append(self._candidate(mask, own, (float(value), float(steady)), point, box))
        near = is_box_near_crop_edge(
            np.array([one.box for one in found]).reshape(-1, 4), box, (0, 0, *predictor.frame.original[::-1])
        )
        return [one for one, at_edge in zip(found, near, strict=True) if not at_edge]

    def _at_full_size(self, logits: Tensor) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Masks of low logits [N, s, s] at the photograph's scale, so many at a time that memory is bounded.

        Yields indexes [K], masks bool [K, h, w] of the part that the frame uses, and stability scores [K]; unstable
        masks are left out.
        """
        frame, threshold = self.predictor.frame, self.predictor.model.mask_threshold
        height, width = frame.crop_size
        local = replace(frame, original=(height, width), crop=(0, 0, height, width))
        count = max(1, CHUNK_PIXELS // max(height * width, frame.image_size**2))
        for start in range(0, len(logits), count):
            full = local.logits_to_original(logits[start : start + count, None])[:, 0]
            stability = calculate_stability_score(full, threshold, self.stability_score_offset)
            stable = torch.ones_like(stability, dtype=torch.bool)
            if self.stability_score_thresh > 0:
                stable = stability >= self.stability_score_thresh
            part = start + np.flatnonzero(stable.cpu().numpy())
            yield part, full[stable] > threshold, stability[stable]

    def _candidate(
        self,
        mask: np.ndarray,
        box: np.ndarray,
        scores: tuple[float, float],
        point: np.ndarray,
        crop_box: Sequence[int],
    ) -> Candidate:
        """A mask of the used part, bool [h, w], and its box there, brought to the photograph."""
        top, left, bottom, right = self.predictor.frame.crop
        whole = np.zeros(self.predictor.frame.original, bool)
        whole[top:bottom, left:right] = mask
        return Candidate(mask_to_rle(whole), box + np.array([left, top, left, top]), *scores, point, crop_box)

    def _tidied(self, found: Sequence[Candidate]) -> list[Candidate]:
        """Masks without small holes and islands; of masks that are then alike, those that had none are preferred."""
        tidied, scores = [], []
        for one in found:
            mask, filled = remove_small_regions(rle_to_mask(one.rle), self.min_mask_region_area, "holes")
            mask, cleared = remove_small_regions(mask, self.min_mask_region_area, "islands")
            if filled or cleared:
                rle = mask_to_rle(mask)
                x, y, width, height = box_from_rle(rle)
                one = replace(one, rle=rle, box=np.array([x, y, x + width, y + height]))
            tidied.append(one)
            scores.append(float(not (filled or cleared)))
        return self._distinct(tidied, scores, max(self.box_nms_thresh, self.crop_nms_thresh))

    def _record(self, one: Candidate) -> dict[str, Any]:
        outputs = {
            "binary_mask": rle_to_mask,
            "uncompressed_rle": lambda rle: {"size": list(rle["size"]), "counts": run_lengths(rle).tolist()},
            "coco_rle": dict,
        }
        return {
            "segmentation": outputs[self.output_mode](one.rle),
            "area": area_from_rle(one.rle),
            "bbox": _as_xywh(one.box),
            "predicted_iou": one.predicted_iou,
            "point_coords": [one.point.tolist()],
            "stability_score": one.stability,
            "crop_box": _as_xywh(one.crop_box),
        }


def _area(box: Sequence[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _as_xywh(box: Sequence[int]) -> list[int]:
    x0, y0, x1, y1 = (int(edge) for edge in box)
    return [x0, y0, x1 - x0, y1 - y0]
