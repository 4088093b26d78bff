"""Batches -> a prediction of each mask under each prompt mode. An image is encoded once for all modes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from sam_med2d.data.dataset import Batch
from sam_med2d.data.records import MaskRef
from sam_med2d.prompts.click_loop import ClickPolicy, Round, click_rounds
from sam_med2d.prompts.prompt_file import PromptEntries, random_stream
from sam_med2d.prompts.simulation import Points, box_points, pad_points
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.refinement.mask_prediction import MaskPrediction
from segment_anything.refinement.refine import NO_REFINEMENT, Refinement, refine

MASKS_AT_ONCE = 64  # that go through the decoder together: a photograph may have hundreds, and memory has an end
BOX, STRUCTURE, POINTS = "box", "structure", "points"  # kinds of opening prompts
FOLDERS = {BOX: "boxes_prompt", STRUCTURE: "structure_prompt"}


@dataclass(frozen=True)
class Mode:
    """A column of the table: a box, a structure prompt, or a sequence of clicks that is read after `clicks` rounds."""

    name: str  # of the column
    opening: str  # kind of the first prompt: BOX, STRUCTURE or POINTS
    clicks: int = 1  # rounds of the click loop, the opening included

    @property
    def folder(self) -> str:
        """Where predictions of this mode are saved."""
        return f"iter{self.clicks}_prompt" if self.opening == POINTS else FOLDERS[self.opening]


def parse_mode(name: str) -> Mode:
    """The mode of "box", "structure", or a number of clicks from 1 to 100; ValueError for anything else."""
    if name in FOLDERS:
        return Mode(name, name)
    if name.isdecimal() and 1 <= int(name) <= 100:
        return Mode(str(int(name)), POINTS, clicks=int(name))
    raise ValueError(f"prompt {name!r} is unknown: use box, structure, or a number of points from 1 to 100.")


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(MaskPrediction):
    """What the model says of one mask under one mode, with the best candidate alone."""

    mode: Mode


def _openings(prompts: PromptEntries, refs: Sequence[MaskRef], opening: str, model: Sam) -> Points:
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
    prompts: PromptEntries,
    modes: Sequence[Mode],
    *,
    seed: int,
    refinement: Refinement = NO_REFINEMENT,
    withhold_absent: bool = True,
) -> list[list[Prediction]]:
    """Predict each mask under each mode, from one encoding of each image.

    The decoder sees up to MASKS_AT_ONCE masks at a time. Masks of one structure in one photograph share the prediction
    of the structure prompt; structures that the model does not know have none.

    Args:
        model: in evaluation mode.
        batch: B photographs with N masks; a refinement needs `batch.photographs`.
        prompts: opening boxes and clicks of the masks, by the masks' names.
        modes: what to predict.
        seed: of the corrective clicks.
        refinement: of each prediction at test time. Clicks are drawn before it.
        withhold_absent: without it no prediction is `absent`, whatever the presence thresholds.

    Returns:
        Predictions of each of the N masks, in the order of the modes.
    """
    embedding, features = model.encode_all(batch.image)
    results: dict[str, dict[int, Prediction]] = {}
    for opening in (BOX, POINTS, STRUCTURE):
        wanted = {mode.clicks: mode for mode in modes if mode.opening == opening}
        if not wanted:
            continue
        policy = ClickPolicy(rounds=max(wanted), multimask=refinement.multimask)
        for rows in _groups(model, prompts, batch, opening):
            refs = [batch.refs[i] for i in rows]
            points = _openings(prompts, refs, opening, model)
            streams = [random_stream(seed, ref.key, "clicks") for ref in refs]
            masks = batch.image_index[rows], batch.mask[rows]
            rounds = click_rounds(model, embedding, *masks, points, policy, streams, features=features)
            for number, result in enumerate(rounds, start=1):
                if mode := wanted.get(number):
                    found = _predictions(model, refinement, batch, rows, mode, result)
                    found = found if withhold_absent else (replace(prediction, absent=False) for prediction in found)
                    results.setdefault(mode.name, {}).update(zip(rows, found, strict=True))
    if STRUCTURE in results:
        results[STRUCTURE] = {i: results[STRUCTURE][first] for i, first in _structure_rows(model, batch).items()}
    every = range(len(batch.refs))
    return [[results[mode.name][i] for mode in modes if i in results.get(mode.name, {})] for i in every]


def _structure_rows(model: Sam, batch: Batch) -> dict[int, int]:
    """Each mask of a structure that the model knows, and the first mask of that structure in its photograph."""
    first: dict[tuple[int, str], int] = {}
    names = model.prompt_encoder.structures
    places = zip(batch.image_index.tolist(), (ref.structure for ref in batch.refs), strict=True)
    return {i: first.setdefault(place, i) for i, place in enumerate(places) if place[1] in names}


def _groups(model: Sam, prompts: PromptEntries, batch: Batch, opening: str) -> list[list[int]]:
    """Indexes of masks that go through the decoder together: filled up, a shorter prompt would mean something else.

    A structure that is not in the photograph has a structure prompt, but no box and no clicks.
    """
    groups: dict[int, list[int]] = {}
    if opening == STRUCTURE:
        groups[1] = sorted(set(_structure_rows(model, batch).values()))
    for i in torch.nonzero(batch.structure_label < 0)[:, 0].tolist() if opening != STRUCTURE else ():
        count = len(prompts[batch.refs[i].name]["point_labels"]) or 1 if opening == POINTS else 1
        groups.setdefault(count, []).append(i)
    return [rows[i : i + MASKS_AT_ONCE] for rows in groups.values() for i in range(0, len(rows), MASKS_AT_ONCE)]


def _predictions(
    model: Sam, refinement: Refinement, batch: Batch, rows: Sequence[int], mode: Mode, result: Round
) -> Iterator[Prediction]:
    """The refined predictions of a round's masks, `rows` of the batch."""
    decoded = Decoded(result.candidates, result.candidate_iou, result.presence)
    views = batch.photographs, batch.frames, decoded, result.points
    for prediction in refine(model, refinement, *views, image_index=batch.image_index[rows]):
        yield Prediction(mode=mode, **vars(prediction.best()))


def misplaced(batch: Batch, prompts: PromptEntries) -> int:
    """Count the foreground clicks of the prompts that lie outside their mask in the model frame.

    Args:
        batch: masks [N, 1, S, S].
        prompts: their clicks, in pixels of the model frame.
    """
    count = 0
    for i in torch.nonzero(batch.structure_label < 0)[:, 0].tolist():
        entry, mask = prompts[batch.refs[i].name], batch.mask[i, 0]
        for (x, y), label in zip(entry["point_coords"], entry["point_labels"], strict=True):
            inside = x < mask.shape[1] and y < mask.shape[0] and bool(mask[int(y), int(x)])
            count += label == 1 and not inside
    return count
