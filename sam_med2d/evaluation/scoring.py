"""Predictions -> masks and scores at the original size of the photograph."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sam_med2d.data.dataset import Batch
from sam_med2d.data.image_io import read_image
from sam_med2d.evaluation.batch_prediction import STRUCTURE, Prediction
from sam_med2d.evaluation.case_row import CaseRow
from sam_med2d.evaluation.cup_to_disc import VCDR, CupToDisc
from sam_med2d.evaluation.grid_ceiling import Ceilings
from sam_med2d.evaluation.mask_pair import MaskPair
from sam_med2d.evaluation.metrics import SOFT, score
from sam_med2d.visualization import overlays
from sam_med2d.visualization.labels import prompt_heading
from segment_anything.preprocessing import OUTSIDE_LOGIT

Save = Callable[[CaseRow, np.ndarray, np.ndarray], None]


def _logits_at_original_size(batch: Batch, i: int, predictions: Sequence[Prediction]) -> Tensor:
    """Logits of mask `i` in the photograph's pixels, float [modes, H, W], by its predictions, one for each prompt mode.

    A mask that vanished in the model frame had neither box nor clicks: its logits are OUTSIDE_LOGIT, but for a
    structure prompt. Those of a structure that is predicted absent are not withheld: they rank its pixels all the
    same.
    """
    vanished = _vanished(batch, i)
    logits = []
    for prediction in predictions:
        if vanished and prediction.mode.opening != STRUCTURE:
            logits.append(prediction.low_res.new_full(prediction.frame.original, OUTSIDE_LOGIT))
        else:
            logits.append(prediction.logits())
    return torch.stack(logits)


def _masks(logits: Tensor, predictions: Sequence[Prediction]) -> np.ndarray:
    """Bool masks [modes, H, W] of logits; all False where the structure is predicted absent."""
    there = torch.tensor([not prediction.absent for prediction in predictions], device=logits.device)
    return ((logits > 0) & there[:, None, None]).cpu().numpy()


def masks_at_original_size(batch: Batch, i: int, predictions: Sequence[Prediction]) -> np.ndarray:
    """Masks of mask `i` in the photograph's pixels, bool [modes, H, W], by its predictions, one for each prompt mode.

    All False where the mask vanished or its structure is predicted absent.
    """
    return _masks(_logits_at_original_size(batch, i, predictions), predictions)


def score_batch(
    batch: Batch,
    predictions: Sequence[Sequence[Prediction]],
    metrics: Sequence[str],
    *,
    tolerance: float = 2.0,
    save: Save | None = None,
    ceilings: bool = False,
    cut: bool = False,
) -> list[list[CaseRow]]:
    """Score all predictions of a batch at the photographs' original size.

    Args:
        batch: the photographs and masks that were predicted.
        predictions: those of each mask, one for each prompt mode; none for a mask that was not prompted.
        metrics: names of METRICS to compute.
        tolerance: of nsd and nsd_length, in pixels of the photograph.
        save: called with each row of a structure that is not known to be absent, with its mask, bool [H, W], and its
            probabilities, float32 [H, W]. Masks of a whole photograph are never in memory together.
        ceilings: also compute the best Dice that the grid of logits can hold.
        cut: score the pixels of `batch.inside` alone, not only the probabilities of auc and aupr there; what is saved
            stays whole.

    Returns:
        The rows of each photograph, one for each of its masks and modes.
    """
    rows: list[list[CaseRow]] = [[] for _ in batch.records]
    ratios = [CupToDisc() for _ in batch.records]
    soft = save is not None or any(name in SOFT for name in metrics)
    for i, own in enumerate(predictions):
        j = int(batch.image_index[i])
        region = batch.inside[j] if cut else None
        limits = Ceilings(batch.frames[j], region) if ceilings else None
        for prediction, pair, ceiling in _pairs(batch, i, own, tolerance=tolerance, soft=soft, limits=limits):
            scored = pair if region is None else pair.within(region)
            row = _row(batch, i, prediction, scored, metrics, ceiling)
            rows[j].append(row)
            if VCDR in metrics and not row.absent:
                ratios[j].add(row.structure, row.prompt, scored.predicted, scored.truth)
            if save and not row.absent:
                save(row, pair.predicted, pair.probability)
    return [ratio.added_to(own) for ratio, own in zip(ratios, rows, strict=True)]


def _pairs(
    batch: Batch, i: int, predictions: Sequence[Prediction], *, tolerance: float, soft: bool, limits: Ceilings | None
) -> Iterator[tuple[Prediction, MaskPair, float | None]]:
    """Each prediction of mask `i` with what it is scored on, and its ceiling; soft: with probabilities.

    A structure prompt is scored on all masks of the structure as one.
    """
    if not predictions:
        return
    j = int(batch.image_index[i])
    truth = batch.truth[i].astype(bool)
    whole = _whole(batch, i) if any(p.mode.opening == STRUCTURE for p in predictions) else truth
    logits = _logits_at_original_size(batch, i, predictions)
    probabilities = logits.sigmoid().cpu().numpy() if soft else [None] * len(logits)
    for prediction, mask, probability in zip(predictions, _masks(logits, predictions), probabilities, strict=True):
        target = whole if prediction.mode.opening == STRUCTURE else truth
        pair = MaskPair(
            mask,
            target,
            structure=batch.refs[i].structure,
            tolerance=tolerance,
            probability=probability,
            inside=batch.inside[j] if batch.inside else None,
        )
        yield prediction, pair, limits.of(target, prediction.frame, len(prediction.low_res)) if limits else None


def _row(
    batch: Batch, i: int, prediction: Prediction, pair: MaskPair, metrics: Sequence[str], ceiling: float | None
) -> CaseRow:
    """The row of a prediction of mask `i`; VCDR stays NaN: it needs the photograph's other masks."""
    record = batch.records[int(batch.image_index[i])]
    absent, vanished = bool(batch.structure_label[i] >= 0), _vanished(batch, i)
    known = {} if absent else score(pair, [name for name in metrics if name != VCDR])
    prompted = prediction.mode.opening == STRUCTURE or not vanished
    return CaseRow(
        mask=batch.refs[i].name,
        image=str(record.image),
        data_set=record.data_set,
        structure=batch.refs[i].structure,
        prompt=prediction.mode.name,
        scores={name: known.get(name, math.nan) for name in metrics},
        predicted_iou=prediction.predicted_iou if prompted else math.nan,
        area=int(np.count_nonzero(batch.truth[i])),
        vanished=vanished,
        predicted_area=int(pair.predicted.sum()),
        presence=prediction.presence,
        absent=absent,
        ceiling=ceiling,
        missed=pair.counts.missed,
    )


def _vanished(batch: Batch, i: int) -> bool:
    """Whether mask `i`, of a structure that is there, has no pixel in the model frame."""
    return bool(not batch.mask[i].any() and batch.structure_label[i] < 0)


def _whole(batch: Batch, i: int) -> np.ndarray:
    """All masks of the structure that mask `i` belongs to, in its photograph, as one: bool [H, W]."""
    own = [
        truth
        for ref, image, truth in zip(batch.refs, batch.image_index.tolist(), batch.truth, strict=True)
        if ref.structure == batch.refs[i].structure and image == int(batch.image_index[i])
    ]
    return np.logical_or.reduce(own)


def draw_predictions(batch: Batch, i: int, predictions: Sequence[Prediction]) -> list[np.ndarray]:
    """Draw the predictions of a mask on its photograph.

    Args:
        batch: the photographs and masks that were predicted.
        i: number of the mask in the batch.
        predictions: those of the mask, one for each prompt mode.

    Returns:
        A tile (`overlays.draw_case`) for each prediction, RGB uint8.
    """
    image_index = int(batch.image_index[i])
    image, frame = read_image(batch.records[image_index].image), batch.frames[image_index]
    truth = batch.truth[i].astype(bool)
    tiles = []
    for prediction, mask in zip(predictions, masks_at_original_size(batch, i, predictions), strict=True):
        coords, labels = (part.cpu().numpy() for part in prediction.points)
        dice = score(MaskPair(mask, truth), ["dice"])["dice"]
        caption = f"{batch.refs[i].structure} {prompt_heading(prediction.mode.name)}: Dice {dice:.2f}"
        tiles.append(overlays.draw_case(image, truth, mask, frame.points_to_original(coords), labels, caption))
    return tiles
