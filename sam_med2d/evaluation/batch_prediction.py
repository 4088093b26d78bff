"""Batches -> one row per mask and prompt mode. Each image is encoded once, whatever the number of modes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sam_med2d.data.dataset import Batch
from sam_med2d.data.records import MaskRef
from sam_med2d.prompts.click_loop import ClickPolicy, Round, run
from sam_med2d.prompts.prompt_file import Prompts, stream
from sam_med2d.prompts.simulation import Points, box_points, pad_points
from segment_anything.modeling import Sam
from segment_anything.preprocessing import Frame
from segment_anything.refinement.mirroring import mirrored
from segment_anything.refinement.tiling import Tiles, blend_tiles, tiled_frame
from segment_anything.refinement.zoom import zoom_in

MASKS_AT_ONCE = 64  # that go through the decoder together: a photograph may have hundreds, and memory has an end
BOX, STRUCTURE, POINTS = "box", "structure", "points"  # kinds of opening prompts
FOLDERS = {BOX: "boxes_prompt", STRUCTURE: "structure_prompt"}


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
        return model.prompt_encoder.structure_points([ref.structure for ref in refs])
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
    for i in torch.nonzero(batch.structure_label < 0)[:, 0].tolist() if opening != STRUCTURE else ():
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
    for i in torch.nonzero(batch.structure_label < 0)[:, 0].tolist():
        entry, mask = prompts[batch.refs[i].name], batch.mask[i, 0]
        for (x, y), label in zip(entry["point_coords"], entry["point_labels"], strict=True):
            inside = x < mask.shape[1] and y < mask.shape[0] and bool(mask[int(y), int(x)])
            count += label == 1 and not inside
    return count


# --- scores at original size ----------------------------------------------------------------------------------
