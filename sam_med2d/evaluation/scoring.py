"""Predictions -> masks and scores at the original size of the photograph."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_med2d.data.dataset import Batch
from sam_med2d.data.image_io import read_image
from sam_med2d.evaluation.batch_prediction import STRUCTURE, Prediction
from sam_med2d.evaluation.cup_to_disc import VCDR, CupToDisc
from sam_med2d.evaluation.grid_ceiling import CEILING, Ceilings
from sam_med2d.evaluation.metrics import SCORES, SOFT, MaskPair, score
from sam_med2d.visualization import overlays, plot_style
from segment_anything.preprocessing import OUTSIDE_LOGIT

METRICS = (*SCORES, VCDR)
Row = dict[str, Any]
Save = Callable[[Row, np.ndarray, np.ndarray], None]


def logits_at_original_size(batch: Batch, i: int, predictions: Sequence[Prediction]) -> Tensor:
    """Logits [modes, H, W] of mask `i`; OUTSIDE_LOGIT where it vanished, so that it was neither boxed nor clicked on.

    Those of a structure that is held to be absent are not withheld: they rank its pixels all the same.
    """
    own = batch.frames[int(batch.image_index[i])]
    vanished = not batch.mask[i].any() and batch.structure_label[i] < 0
    logits = []
    for prediction in predictions:
        if vanished and prediction.mode.opening != STRUCTURE:
            logits.append(prediction.low_res.new_full(own.original, OUTSIDE_LOGIT))
        elif prediction.blended is not None:
            logits.append(prediction.blended)
        else:
            frame = prediction.frame or own
            logits.append(frame.logits_to_original(prediction.low_res[None, None])[0, 0])
    return torch.stack(logits)


def _masks(logits: Tensor, predictions: Sequence[Prediction]) -> np.ndarray:
    """Bool masks [modes, H, W] of logits; all False where the structure is held to be absent."""
    there = torch.tensor([not prediction.absent for prediction in predictions], device=logits.device)
    return ((logits > 0) & there[:, None, None]).cpu().numpy()


def masks_at_original_size(batch: Batch, i: int, predictions: Sequence[Prediction]) -> np.ndarray:
    """Bool masks [modes, H, W] of mask `i`; all False where the mask vanished."""
    return _masks(logits_at_original_size(batch, i, predictions), predictions)


def score_batch(
    batch: Batch,
    predictions: Sequence[Sequence[Prediction]],
    metrics: Sequence[str],
    *,
    tolerance: float = 2.0,
    save: Save | None = None,
    ceilings: bool = False,
) -> list[list[Row]]:
    """Rows of each image: one for each of its masks and modes, scored at original size.

    tolerance: of nsd, in pixels. ceilings: with the best Dice that the grid of logits can hold. `save` is called
    with each row, its mask and its probabilities, bool and float32 [H, W]: masks of a whole image are never in memory
    together.
    """
    rows: list[list[Row]] = [[] for _ in batch.records]
    ratios = [CupToDisc() for _ in batch.records]
    soft = save is not None or any(name in SOFT for name in metrics)
    for i, ref in enumerate(batch.refs):
        j = int(batch.image_index[i])
        if not predictions[i]:
            continue
        truth = batch.truth[i].astype(bool)
        whole = _whole(batch, i) if any(p.mode.opening == STRUCTURE for p in predictions[i]) else truth
        logits = logits_at_original_size(batch, i, predictions[i])
        masks = _masks(logits, predictions[i])
        probabilities = logits.sigmoid().cpu().numpy() if soft else [None] * len(masks)
        place = {"mask": ref.name, "image": str(batch.records[j].image), "data_set": batch.records[j].data_set}
        absent = bool(batch.structure_label[i] >= 0)
        vanished = not absent and not bool(batch.mask[i].any())
        facts = {"area": int(truth.sum()), "vanished": vanished}
        best = Ceilings(batch.frames[j])
        for prediction, mask, probability in zip(predictions[i], masks, probabilities, strict=True):
            target = whole if prediction.mode.opening == STRUCTURE else truth
            inside = batch.inside[j] if batch.inside else None
            soft_part = {"probability": probability, "inside": inside}
            case = MaskPair(mask, target, structure=ref.structure, tolerance=tolerance, **soft_part)
            wanted = [name for name in metrics if name != VCDR]
            scores = dict.fromkeys(metrics, math.nan) | ({} if absent else score(case, wanted))
            row = place | {"structure": ref.structure, "prompt": prediction.mode.name}
            prompted = prediction.mode.opening == STRUCTURE or not vanished
            predicted_iou = prediction.predicted_iou if prompted else math.nan
            row |= {name: scores[name] for name in metrics} | {"predicted_iou": predicted_iou} | facts
            row |= {"predicted_area": int(mask.sum()), "presence": prediction.presence, "absent": absent}
            if ceilings:
                row[CEILING] = best.of(target, prediction.frame, len(prediction.low_res)) if not absent else math.nan
            rows[j].append(row | {"missed": case.counts.missed})
            if VCDR in metrics and not absent:
                ratios[j].add(ref.structure, prediction.mode.name, mask, truth)
            if save and not absent:
                save(row, mask, probability)
    if VCDR in metrics:
        for image_rows, ratio in zip(rows, ratios, strict=True):
            ratio.write(image_rows)
    return rows


def _whole(batch: Batch, i: int) -> np.ndarray:
    """All masks of the structure that mask `i` belongs to, in its photograph, as one: bool [H, W]."""
    own = [
        truth
        for ref, image, truth in zip(batch.refs, batch.image_index.tolist(), batch.truth, strict=True)
        if ref.structure == batch.refs[i].structure and image == int(batch.image_index[i])
    ]
    return np.logical_or.reduce(own)


def draw_predictions(batch: Batch, i: int, predictions: Sequence[Prediction]) -> list[np.ndarray]:
    """A tile (`figures.draw_case`) of each prediction of mask `i`, on its photograph at original size."""
    image_index = int(batch.image_index[i])
    image, frame = read_image(batch.records[image_index].image), batch.frames[image_index]
    truth = batch.truth[i].astype(bool)
    tiles = []
    for prediction, mask in zip(predictions, masks_at_original_size(batch, i, predictions), strict=True):
        coords, labels = (part.cpu().numpy() for part in prediction.points)
        dice = score(MaskPair(mask, truth), ["dice"])["dice"]
        caption = f"{batch.refs[i].structure} {plot_style.heading(prediction.mode.name)}: Dice {dice:.2f}"
        tiles.append(overlays.draw_case(image, truth, mask, frame.points_to_original(coords), labels, caption))
    return tiles
