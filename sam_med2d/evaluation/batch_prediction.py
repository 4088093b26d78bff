"""Batches -> one row per mask and prompt mode. Each image is encoded once, whatever the number of modes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_med2d.data.dataset import Batch
from sam_med2d.data.image_io import read_image
from sam_med2d.data.records import MaskRef
from sam_med2d.evaluation.cup_to_disc import VCDR, CupToDisc
from sam_med2d.evaluation.grid_ceiling import CEILING, Ceilings
from sam_med2d.evaluation.metrics import SCORES, SOFT, Case, score
from sam_med2d.prompts.click_loop import ClickPolicy, Round, run
from sam_med2d.prompts.prompt_file import Prompts, stream
from sam_med2d.prompts.simulation import Points, box_points, pad_points
from sam_med2d.visualization import overlays, plot_style
from segment_anything.modeling import Sam
from segment_anything.refinement.mirroring import mirrored
from segment_anything.refinement.tiling import Tiles, blend_tiles, tiled_frame, zoom_in
from segment_anything.utils.transforms import OUTSIDE_LOGIT, Frame

MASKS_AT_ONCE = 64  # that go through the decoder together: a photograph may have hundreds, and memory has an end
BOX, STRUCTURE, POINTS = "box", "structure", "points"  # kinds of opening prompts
FOLDERS = {BOX: "boxes_prompt", STRUCTURE: "structure_prompt"}
FEW_ABSENT = 10  # photographs without a structure say half as much as many would
METRICS = (*SCORES, VCDR)

Row = dict[str, Any]
Save = Callable[[Row, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Mode:
    """A column of the table: a box, the name of the structure, or a sequence of clicks read after `clicks` rounds."""

    name: str
    opening: str
    clicks: int = 1

    @property
    def folder(self) -> str:
        """Where predictions of this mode are saved."""
        return f"iter{self.clicks}_prompt" if self.opening == POINTS else FOLDERS[self.opening]


def parse_mode(name: str) -> Mode:
    """ "box", "structure", or a number of clicks. Raises ValueError for anything else."""
    if name in FOLDERS:
        return Mode(name, name)
    if name.isdecimal() and 1 <= int(name) <= 100:
        return Mode(str(int(name)), POINTS, clicks=int(name))
    raise ValueError(f"prompt {name!r} is unknown: use box, structure, or a number of points from 1 to 100.")


@dataclass(frozen=True)
class Prediction:
    """Logits [s, s] of the model frame and predicted IoU of one mask under one mode, and the prompts that led to it.

    presence: probability that the structure is there, of weights that know structures; absent: that it was asked for
    and is held not to be there, so that the mask is empty, whatever the logits say. frame: of the window that the
    logits belong to, None for the photograph's. blended: logits [H, W] of the photograph that take their place; then
    the frame is one of the photograph that is as fine as their windows.
    """

    mode: Mode
    low_res: Tensor
    predicted_iou: float
    points: Points
    presence: float = math.nan
    absent: bool = False
    frame: Frame | None = None
    blended: Tensor | None = None


# --- predictions ----------------------------------------------------------------------------------------------


def _openings(prompts: Prompts, refs: Sequence[MaskRef], opening: str, model: Sam) -> Points:
    """The opening prompts of a batch as labelled points; a mask without a prompt gets padding only."""
    if opening == BOX:
        rows = [(prompts[ref.name]["boxes"] or [[0, 0, 0, 0]])[0] for ref in refs]
        return box_points(torch.tensor(rows, dtype=torch.float32, device=model.device))
    if opening == STRUCTURE:
        return model.prompt_encoder.named_points([ref.structure for ref in refs])
    count = max(len(prompts[ref.name]["point_labels"]) for ref in refs) or 1
    coords = torch.zeros(len(refs), count, 2)
    labels = torch.full((len(refs), count), -1)
    for i, ref in enumerate(refs):
        own = torch.tensor(prompts[ref.name]["point_labels"], dtype=torch.int64)
        labels[i, : len(own)] = own
        coords[i, : len(own)] = torch.tensor(prompts[ref.name]["point_coords"], dtype=torch.float32).reshape(-1, 2)
    return pad_points((coords.to(model.device), labels.to(model.device)))


@torch.no_grad()
def predict_batch(
    model: Sam,
    batch: Batch,
    prompts: Prompts,
    modes: Sequence[Mode],
    *,
    seed: int,
    multimask: bool = True,
    zoom: bool = False,
    tiles: Tiles | None = None,
    mirror: bool = False,
) -> list[list[Prediction]]:
    """Predictions of each mask, one per mode, from one encoding of each image.

    Structures that the model does not know have no prediction by name. The decoder sees up to MASKS_AT_ONCE masks at a
    time. With `mirror` structures are answered from mirror images, too (see `mirrors.mirrored`), with `tiles` from
    windows all over the photograph (see `windows.blend_tiles`); with `zoom` all else is answered once more from a
    window around the prompt (see `windows.zoom_in`): tiles and zoom need the batch's photographs.
    """
    embedding, features = model.encode_all(batch.image)
    results: dict[str, dict[int, Prediction]] = {}
    for opening in (BOX, POINTS, STRUCTURE):
        wanted = {mode.clicks: mode for mode in modes if mode.opening == opening}
        if not wanted:
            continue
        policy = ClickPolicy(rounds=max(wanted), multimask=multimask)
        for rows in _groups(model, prompts, batch, opening):
            refs = [batch.refs[i] for i in rows]
            points = _openings(prompts, refs, opening, model)
            streams = [stream(seed, ref.key, "clicks") for ref in refs]
            masks = batch.image_index[rows], batch.mask[rows]
            rounds = run(model, embedding, *masks, points, policy, streams, features=features)
            for number, result in enumerate(rounds, start=1):
                if number in wanted:
                    found = _predictions(model, wanted[number], result)
                    results.setdefault(wanted[number].name, {}).update(zip(rows, found, strict=True))
    for name, found in results.items():
        if mirror and name == STRUCTURE:
            found |= _mirrored(model, batch, found, multimask)
        if tiles and name == STRUCTURE:
            found |= _tiled(model, batch, found, tiles, mirror, multimask)
        if zoom:
            found |= _zoomed(model, batch, found, multimask)
    if STRUCTURE in results:
        results[STRUCTURE] = {i: results[STRUCTURE][first] for i, first in _asked_once(model, batch).items()}
    every = range(len(batch.refs))
    return [[results[mode.name][i] for mode in modes if i in results.get(mode.name, {})] for i in every]


def _asked_once(model: Sam, batch: Batch) -> dict[int, int]:
    """Each mask whose structure can be asked for, and the mask whose question it shares: one for all of a structure."""
    first: dict[tuple[int, str], int] = {}
    names = model.prompt_encoder.structures
    places = zip(batch.image_index.tolist(), (ref.structure for ref in batch.refs), strict=True)
    return {i: first.setdefault(place, i) for i, place in enumerate(places) if place[1] in names}


def _groups(model: Sam, prompts: Prompts, batch: Batch, opening: str) -> list[list[int]]:
    """Indexes of masks that go through the decoder together: filled up, a shorter prompt would mean something else.

    What is not there can be asked for, but not clicked on.
    """
    groups: dict[int, list[int]] = {}
    if opening == STRUCTURE:
        groups[1] = sorted(set(_asked_once(model, batch).values()))
    for i in torch.nonzero(batch.asked < 0)[:, 0].tolist() if opening != STRUCTURE else ():
        count = len(prompts[batch.refs[i].name]["point_labels"]) or 1 if opening == POINTS else 1
        groups.setdefault(count, []).append(i)
    return [rows[i : i + MASKS_AT_ONCE] for rows in groups.values() for i in range(0, len(rows), MASKS_AT_ONCE)]


def _predictions(model: Sam, mode: Mode, result: Round) -> Iterator[Prediction]:
    """What a round says of each of its masks."""
    iou = result.predicted_iou[:, 0].tolist()
    presence = [math.nan] * len(iou) if result.presence is None else result.presence.sigmoid().tolist()
    absent = model.held_absent(result.presence, result.points[1]).tolist()
    masks = zip(result.low_res.float()[:, 0], iou, presence, absent, *result.points, strict=True)
    for low_res, predicted_iou, there, withheld, *points in masks:
        yield Prediction(mode, low_res, predicted_iou, tuple(points), there, withheld)


def _by_photograph(batch: Batch, found: Mapping[int, Prediction]) -> Iterator[tuple[int, dict[str, int]]]:
    """The index of each photograph, and of its masks that were asked for by name, under the name."""
    images = batch.image_index.tolist()
    for j in range(len(batch.frames)):
        if own := {batch.refs[i].structure: i for i in found if images[i] == j}:
            yield j, own


def _mirrored(model: Sam, batch: Batch, found: Mapping[int, Prediction], multimask: bool) -> dict[int, Prediction]:
    """The predictions by name, with those of the photographs' mirror images."""
    answers = {}
    for j, own in _by_photograph(batch, found):
        whole = {name: found[i].low_res for name, i in own.items()}
        for name, logits in mirrored(model, batch.image[j, None], whole, multimask=multimask).items():
            answers[own[name]] = replace(found[own[name]], low_res=logits)
    return answers


def _tiled(
    model: Sam, batch: Batch, found: Mapping[int, Prediction], tiles: Tiles, mirror: bool, multimask: bool
) -> dict[int, Prediction]:
    """The predictions by name that windows all over the photographs answer."""
    answers = {}
    for j, own in _by_photograph(batch, found):
        place = batch.photographs[j], batch.frames[j]
        whole = {name: found[i].low_res for name, i in own.items()}
        blended = blend_tiles(model, *place, whole, tiles, mirror=mirror, multimask=multimask)
        fine = tiled_frame(batch.frames[j], tiles.side_for(model.image_size))
        for name, logits in blended.items():
            answers[own[name]] = replace(found[own[name]], blended=logits, frame=fine)
    return answers


def _zoomed(model: Sam, batch: Batch, found: Mapping[int, Prediction], multimask: bool) -> dict[int, Prediction]:
    """The predictions that are answered from a window around their prompts."""
    groups: dict[int, list[int]] = {}
    for i, prediction in found.items():
        if prediction.blended is None:
            groups.setdefault(len(prediction.points[1]), []).append(i)
    answers = {}
    for rows in groups.values():
        images = batch.image_index[rows].tolist()
        place = [batch.photographs[j] for j in images], [batch.frames[j] for j in images]
        points = tuple(torch.stack([found[i].points[part] for i in rows]) for part in (0, 1))
        first = torch.stack([found[i].low_res for i in rows])
        for answer in zoom_in(model, *place, points, first, multimask=multimask):
            logits, iou = answer.best()
            before = found[rows[answer.index]]
            after = replace(before, low_res=logits, predicted_iou=float(iou), frame=answer.frame)
            answers[rows[answer.index]] = after
    return answers


def misplaced(batch: Batch, prompts: Prompts) -> int:
    """How many foreground clicks of the prompts lie outside their mask in the model frame."""
    count = 0
    for i in torch.nonzero(batch.asked < 0)[:, 0].tolist():
        entry, mask = prompts[batch.refs[i].name], batch.mask[i, 0]
        for (x, y), label in zip(entry["point_coords"], entry["point_labels"], strict=True):
            inside = x < mask.shape[1] and y < mask.shape[0] and bool(mask[int(y), int(x)])
            count += label == 1 and not inside
    return count


# --- scores at original size ----------------------------------------------------------------------------------


def logits_at_original_size(batch: Batch, i: int, predictions: Sequence[Prediction]) -> Tensor:
    """Logits [modes, H, W] of mask `i`; OUTSIDE_LOGIT where it vanished, so that it was neither boxed nor clicked on.

    Those of a structure that is held to be absent are not withheld: they rank its pixels all the same.
    """
    own = batch.frames[int(batch.image_index[i])]
    vanished = not batch.mask[i].any() and batch.asked[i] < 0
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
        absent = bool(batch.asked[i] >= 0)
        vanished = not absent and not bool(batch.mask[i].any())
        facts = {"area": int(truth.sum()), "vanished": vanished}
        best = Ceilings(batch.frames[j])
        for prediction, mask, probability in zip(predictions[i], masks, probabilities, strict=True):
            target = whole if prediction.mode.opening == STRUCTURE else truth
            inside = batch.inside[j] if batch.inside else None
            soft_part = {"probability": probability, "inside": inside}
            case = Case(mask, target, structure=ref.structure, tolerance=tolerance, **soft_part)
            wanted = [name for name in metrics if name != VCDR]
            scores = dict.fromkeys(metrics, math.nan) | ({} if absent else score(case, wanted))
            row = place | {"structure": ref.structure, "prompt": prediction.mode.name}
            asked = prediction.mode.opening == STRUCTURE or not vanished
            predicted_iou = prediction.predicted_iou if asked else math.nan
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


def presence_thresholds(rows: Sequence[Row]) -> dict[str, float]:
    """Probability of each structure from which on it is best held to be there, from cases asked for by name.

    The rows must be of masks that were not withheld. Best is the highest mean Dice of photographs with the structure, 0
    where it is withheld, plus the share of those without it that come back empty; this share weighs n / (n +
    FEW_ABSENT) with n photographs without the structure: two of them cannot withhold it from half of the others. Of
    equal ones it is the lowest threshold, which withholds least. 0, so that nothing is withheld, for a structure that
    is in every photograph.
    """
    there: dict[str, dict[bool, list[tuple[float, float]]]] = {}
    for row in rows:
        if row["prompt"] == STRUCTURE:
            cases = there.setdefault(row["structure"], {True: [], False: []})[not row["absent"]]
            cases.append((row["presence"], row["dice"]))
    return {name: _threshold(np.array(found[True]), np.array(found[False])) for name, found in there.items()}


def _threshold(present: np.ndarray, absent: np.ndarray) -> float:
    """The best threshold for cases [n, 2] of presence and Dice, with and without the structure."""
    if not len(absent) or not len(present):
        return 0.0
    (there, dice), not_there = present.T, absent[:, 0]
    values = np.unique(np.concatenate((there, not_there)))
    candidates = np.concatenate(([0.0], (values[1:] + values[:-1]) / 2))
    weight = len(absent) / (len(absent) + FEW_ABSENT)
    merits = [(dice * (there >= level)).mean() + weight * (not_there < level).mean() for level in candidates]
    return float(candidates[int(np.argmax(merits))])


def draw_predictions(batch: Batch, i: int, predictions: Sequence[Prediction]) -> list[np.ndarray]:
    """A tile (`figures.draw_case`) of each prediction of mask `i`, on its photograph at original size."""
    image_index = int(batch.image_index[i])
    image, frame = read_image(batch.records[image_index].image), batch.frames[image_index]
    truth = batch.truth[i].astype(bool)
    tiles = []
    for prediction, mask in zip(predictions, masks_at_original_size(batch, i, predictions), strict=True):
        coords, labels = (part.cpu().numpy() for part in prediction.points)
        dice = score(Case(mask, truth), ["dice"])["dice"]
        caption = f"{batch.refs[i].structure} {plot_style.heading(prediction.mode.name)}: Dice {dice:.2f}"
        tiles.append(overlays.draw_case(image, truth, mask, frame.points_to_original(coords), labels, caption))
    return tiles
