"""Batches -> one row per mask and prompt mode. Each image is encoded once, whatever the number of modes."""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import report
from DataLoader import Batch
from maps import DataError, MaskRef, read_image
from metrics import score
from segment_anything.checkpoint import listing
from segment_anything.modeling import Sam
from segment_anything.training.interactive import ClickPolicy, Round, run
from segment_anything.training.prompts import (
    Points,
    box_points,
    first_points,
    pad_points,
)
from segment_anything.utils.atomic import write_text

Prompts = dict[str, dict[str, list[Any]]]
MASKS_AT_ONCE = 64  # that go through the decoder together: a photograph may have hundreds, and memory has an end


@dataclass(frozen=True)
class Mode:
    """A column of the table: a box, or a sequence of clicks read after `clicks` rounds."""

    name: str
    box: bool
    clicks: int = 1

    @property
    def folder(self) -> str:
        """Where predictions of this mode are saved."""
        return "boxes_prompt" if self.box else f"iter{self.clicks}_prompt"


def parse_mode(name: str) -> Mode:
    """ "box", or a number of clicks. Raises ValueError for anything else."""
    if name == "box":
        return Mode(name, box=True)
    if name.isdigit() and 1 <= int(name) <= 100:
        return Mode(name, box=False, clicks=int(name))
    raise ValueError(f"prompt {name!r} is unknown: use box, or a number of points from 1 to 100.")


@dataclass(frozen=True)
class Prediction:
    """Logits [S/4, S/4] and predicted IoU of one mask under one mode, with the prompts that led to it."""

    mode: Mode
    low_res: Tensor
    predicted_iou: float
    points: Points


# --- prompts --------------------------------------------------------------------------------------------------


def stream(seed: int, key: str, purpose: str) -> torch.Generator:
    """Random stream of one mask: the same in any batch, order or process.

    `seed` starts the checksum, as a CPU generator reads no more than 32 bits of its seed.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{purpose}:{key}".encode(), seed))


def make_prompts(batches: Iterable[Batch], *, point_num: int, seed: int) -> Prompts:
    """Opening prompts of every mask, {mask key: {"boxes", "point_coords", "point_labels"}}, in model-frame pixels.

    A mask that vanished in the model frame gets empty lists.
    """
    prompts: Prompts = {}
    for batch in batches:
        streams = [stream(seed, ref.key, "opening") for ref in batch.refs]
        coords, labels = first_points(batch.mask[:, 0], point_num, streams)
        for i, ref in enumerate(batch.refs):
            exists = bool(batch.mask[i].any())
            prompts[ref.key] = {
                "boxes": batch.box[i : i + 1].int().tolist() if exists else [],
                "point_coords": coords[i].int().tolist() if exists else [],
                "point_labels": labels[i].tolist() if exists else [],
            }
    return prompts


def write_prompts(path: Path, prompts: Prompts) -> None:
    """Write a prompt file, atomically."""
    write_text(path, json.dumps(prompts, indent=1))


def read_prompts(path: Path, refs: Sequence[MaskRef], image_size: int) -> Prompts:
    """The prompts of `refs` from a prompt file, whose keys may be plain basenames.

    Raises DataError that names the masks without an entry, or with points outside the frame.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"--prompt_path {path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise DataError(f"--prompt_path {path} holds a JSON {kind}: give an object of mask file names.")
    names = Counter(Path(ref.key).name for ref in refs)  # a name that two masks share stands for neither
    plain = {ref.key: content.get(Path(ref.key).name) for ref in refs if names[Path(ref.key).name] == 1}
    prompts = {ref.key: content.get(ref.key, plain.get(ref.key)) for ref in refs}
    missing = [key for key, entry in prompts.items() if entry is None]
    if missing:
        raise DataError(f"--prompt_path {path} has no entry for {len(missing)} mask(s): {listing(missing)}.")
    entries = {key: _read_entry(entry) for key, entry in prompts.items()}
    odd = [key for key, entry in entries.items() if entry is None]
    if odd:
        wanted = '{"boxes": [[x0, y0, x1, y1]], "point_coords": [[x, y], ...], "point_labels": [1, ...]}'
        raise DataError(f"--prompt_path {path}: the entry of {listing(odd)} is not {wanted}.")
    outside = [key for key, entry in entries.items() if not _inside(entry, image_size)]
    if outside:
        raise DataError(f"--prompt_path {path}: prompts outside 0..{image_size} for {listing(outside)}.")
    return entries


def _read_entry(entry: Any) -> dict[str, list[Any]] | None:
    """An entry with its lists in our nesting (SAM-Med2D wrote one more level), None if it is something else."""
    try:
        boxes = np.asarray(entry["boxes"], float).reshape(-1, 4)
        coords = np.asarray(entry["point_coords"], float).reshape(-1, 2)
        labels = np.asarray(entry["point_labels"], float).ravel()
    except (KeyError, TypeError, ValueError):
        return None
    fits = len(boxes) <= 1 and len(labels) == len(coords) and np.isin(labels, (-1, 0, 1)).all()
    if not fits or (boxes[:, 2:] <= boxes[:, :2]).any():
        return None
    return {"boxes": boxes.tolist(), "point_coords": coords.tolist(), "point_labels": labels.astype(int).tolist()}


def _inside(entry: dict[str, list[Any]], image_size: int) -> bool:
    values = [np.asarray(entry[name], float).ravel() for name in ("boxes", "point_coords")]
    return all(((value >= 0) & (value <= image_size)).all() for value in values)


def _openings(prompts: Prompts, refs: Sequence[MaskRef], *, box: bool, device: torch.device) -> Points:
    """The opening prompts of a batch as labelled points; a mask without a prompt gets padding only."""
    if box:
        rows = [(prompts[ref.key]["boxes"] or [[0, 0, 0, 0]])[0] for ref in refs]
        return box_points(torch.tensor(rows, dtype=torch.float32, device=device))
    count = max(len(prompts[ref.key]["point_labels"]) for ref in refs) or 1
    coords = torch.zeros(len(refs), count, 2)
    labels = torch.full((len(refs), count), -1)
    for i, ref in enumerate(refs):
        own = torch.tensor(prompts[ref.key]["point_labels"], dtype=torch.int64)
        labels[i, : len(own)] = own
        coords[i, : len(own)] = torch.tensor(prompts[ref.key]["point_coords"], dtype=torch.float32).reshape(-1, 2)
    return pad_points((coords.to(device), labels.to(device)))


# --- predictions ----------------------------------------------------------------------------------------------


@torch.no_grad()
def predict_batch(
    model: Sam, batch: Batch, prompts: Prompts, modes: Sequence[Mode], *, seed: int, multimask: bool = True
) -> list[list[Prediction]]:
    """Predictions of each mask, one per mode, from one encoding of each image.

    The decoder sees up to MASKS_AT_ONCE masks at a time.
    """
    embedding = model.encode(batch.image)
    results: dict[tuple[str, int], Prediction] = {}
    for box in (True, False):
        wanted = {mode.clicks: mode for mode in modes if mode.box == box}
        if not wanted:
            continue
        policy = ClickPolicy(rounds=max(wanted), multimask=multimask)
        for rows in _groups(prompts, batch.refs, box=box):
            refs = [batch.refs[i] for i in rows]
            opening = _openings(prompts, refs, box=box, device=batch.image.device)
            streams = [stream(seed, ref.key, "clicks") for ref in refs]
            rounds = run(model, embedding, batch.image_index[rows], batch.mask[rows], opening, policy, streams)
            for number, result in enumerate(rounds, start=1):
                if number in wanted:
                    mode = wanted[number]
                    results |= {(mode.name, i): p for i, p in zip(rows, _predictions(mode, result), strict=True)}
    return [[results[mode.name, i] for mode in modes] for i in range(len(batch.refs))]


def _groups(prompts: Prompts, refs: Sequence[MaskRef], *, box: bool) -> list[list[int]]:
    """Indexes of masks that go through the decoder together: filled up, a shorter prompt would mean something else."""
    groups: dict[int, list[int]] = {}
    for i, ref in enumerate(refs):
        groups.setdefault(1 if box else len(prompts[ref.key]["point_labels"]) or 1, []).append(i)
    return [rows[i : i + MASKS_AT_ONCE] for rows in groups.values() for i in range(0, len(rows), MASKS_AT_ONCE)]


def _predictions(mode: Mode, result: Round) -> Iterator[Prediction]:
    """What a round says of each of its masks."""
    iou = result.predicted_iou[:, 0].tolist()
    for low_res, predicted_iou, *points in zip(result.low_res[:, 0].float(), iou, *result.points, strict=True):
        yield Prediction(mode, low_res, predicted_iou, tuple(points))


def misplaced(batch: Batch, prompts: Prompts) -> int:
    """How many foreground clicks of the prompts lie outside their mask in the model frame."""
    count = 0
    for ref, mask in zip(batch.refs, batch.mask[:, 0], strict=True):
        entry = prompts[ref.key]
        for (x, y), label in zip(entry["point_coords"], entry["point_labels"], strict=True):
            inside = x < mask.shape[1] and y < mask.shape[0] and bool(mask[int(y), int(x)])
            count += label == 1 and not inside
    return count


def masks_at_original_size(batch: Batch, i: int, predictions: Sequence[Prediction]) -> np.ndarray:
    """Bool masks [modes, H, W] of mask `i`; all False where the mask vanished and so nothing was asked for."""
    frame = batch.frames[int(batch.image_index[i])]
    if not batch.mask[i].any():
        return np.zeros((len(predictions), *frame.original), bool)
    logits = torch.stack([prediction.low_res for prediction in predictions])[:, None]
    return (frame.logits_to_original(logits)[:, 0] > 0).cpu().numpy()


def score_batch(
    batch: Batch, predictions: Sequence[Sequence[Prediction]], metrics: list[str]
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """A row and the predicted mask, bool [H, W], for each mask and mode, at original size."""
    for i, ref in enumerate(batch.refs):
        truth = batch.truth[i].astype(bool)
        record = batch.records[int(batch.image_index[i])]
        facts = {"area": int(truth.sum()), "vanished": not bool(batch.mask[i].any())}
        for prediction, mask in zip(predictions[i], masks_at_original_size(batch, i, predictions[i]), strict=True):
            row = {"mask": ref.key, "image": str(record.image), "structure": ref.structure}
            row |= {"prompt": prediction.mode.name} | score(mask, truth, metrics)
            yield row | {"predicted_iou": prediction.predicted_iou} | facts, mask


def draw_predictions(batch: Batch, i: int, predictions: Sequence[Prediction]) -> list[np.ndarray]:
    """A tile (`report.draw_case`) of each prediction of mask `i`, on its photograph at original size."""
    image_index = int(batch.image_index[i])
    image, frame = read_image(batch.records[image_index].image), batch.frames[image_index]
    truth = batch.truth[i].astype(bool)
    tiles = []
    for prediction, mask in zip(predictions, masks_at_original_size(batch, i, predictions), strict=True):
        coords, labels = (part.cpu().numpy() for part in prediction.points)
        dice = score(mask, truth, ["dice"])["dice"]
        caption = f"{batch.refs[i].structure} {report.heading(prediction.mode.name)}: Dice {dice:.2f}"
        tiles.append(report.draw_case(image, truth, mask, frame.points_to_original(coords), labels, caption))
    return tiles
