"""What a smaller file costs and gains: size, difference, Dice on photographs, time, all against PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from sam_med2d.data.dataset import Batch, FundusDataset, collate
from sam_med2d.data.image_io import read_image
from sam_med2d.data.photographs import photographs_in
from sam_med2d.data.record_checks import load_checked
from sam_med2d.data.records import Record, has_map, load_index
from sam_med2d.errors import UsageError
from sam_med2d.evaluation.batch_prediction import parse_mode, predict_batch
from sam_med2d.evaluation.scoring import score_batch
from sam_med2d.export.onnx_files import run_session
from sam_med2d.export.onnx_parts import OnnxPart, Tensors
from sam_med2d.notes import REMARKS
from sam_med2d.prompts.prompt_file import make_prompts
from sam_med2d.runtime.timing import interleaved
from segment_anything.modeling import Sam
from segment_anything.preprocessing import to_tensor
from segment_anything.refinement.refine import Refinement

SPLITS_TO_TEST = ("val", "test", "train")
TIMED_ROUNDS = 7
MODES = [parse_mode("box"), parse_mode("1")]


@dataclass(frozen=True)
class Measured:
    """A row of the report, None where not measured: size in bytes, largest difference, Dice 0 to 1, ms of a call."""

    name: str
    size: int | None = None
    difference: float | None = None
    dice: float | None = None
    ms: float | None = None


def table(rows: Sequence[Measured], masks: int) -> str:
    """The report as text.

    Args:
        rows: the first one is PyTorch, to which the others are compared.
        masks: how many cases the Dice is a mean of.

    Returns:
        Lines.
    """
    first = rows[0]
    heads = ["", "size MB", "max diff", f"Dice ({masks} cases)" if masks else "Dice", "change", "ms", "times as fast"]
    lines = [heads]
    for row in rows:
        change = None if row.dice is None or first.dice is None or row is first else 100 * (row.dice - first.dice)
        lines.append(
            [
                row.name,
                _shown(row.size, lambda size: f"{size / 1e6:.2f}"),
                _shown(row.difference, lambda value: f"{value:.1e}"),
                _shown(row.dice, lambda dice: f"{100 * dice:.2f}"),
                _shown(change, lambda points: f"{points:+.2f}"),
                _shown(row.ms, lambda ms: f"{ms:.1f}"),
                _shown(row.ms, lambda ms: f"{first.ms / ms:.2f}"),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _shown(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)


def latencies(part: OnnxPart, model: Sam, files: dict[str, onnxruntime.InferenceSession]) -> dict[str, float]:
    """Time PyTorch and files, interleaved, on the first of the part's fresh inputs.

    Args:
        part: what the files compute.
        model: the PyTorch model.
        files: by name.

    Returns:
        Median milliseconds of "torch" and of each file.
    """
    inputs, _ = next(part.checks())
    calls: dict[str, Callable[[], object]] = {"torch": lambda: _torch_call(part, model, inputs)}
    calls |= {name: lambda f=file: run_session(f, inputs) for name, file in files.items()}
    return interleaved(calls, TIMED_ROUNDS)


@torch.no_grad()
def _torch_call(part: OnnxPart, model: Sam, inputs: Tensors) -> object:
    if part.name == "decoder":
        return part.module(**inputs)
    image = inputs["input_image"]
    image = part.module.preprocess(image) if part.module.preprocess is not None else image
    return model.encode_all(image)[1]


# --- photographs ----------------------------------------------------------------------------------------------


def photographs(folder: Path, flag: str, limit: int) -> list[Record]:
    """Photographs with masks to measure Dice on.

    Args:
        folder: with a map of photographs and masks.
        flag: that named the folder, for messages.
        limit: of photographs, which are drawn evenly.

    Returns:
        Their records.

    Raises:
        UsageError: there is no map.
    """
    split = next((split for split in SPLITS_TO_TEST if has_map(folder, split)), None)
    if split is None:
        raise UsageError(f"{flag} {folder}: it has no map of photographs and masks (image2label_val.json).")
    return _spread(load_checked(folder, split), limit)


def calibration_images(folder: Path, model: Sam, limit: int) -> Iterator[Tensor]:
    """Model inputs of photographs.

    Args:
        folder: with a training map, or with photographs.
        model: whose preprocessing is used.
        limit: of photographs, which are drawn evenly.

    Yields:
        [1, 3, S, S].

    Raises:
        UsageError: there is no photograph.
    """
    if has_map(folder, "train"):
        paths = [record.image for record in load_index(folder, "train")]
    else:
        paths = photographs_in(folder)
    if not paths:
        raise UsageError(f"--calibration {folder}: there is no photograph in it.")
    with REMARKS.collected():
        for path in _spread(paths, limit):
            pixels = read_image(path)
            prepared = model.preprocessing.image(pixels, model.preprocessing.frame(pixels))
            yield to_tensor(prepared, model.device)[None]


def _spread(items: list, limit: int) -> list:
    """At most `limit` of the items, evenly spaced."""
    if len(items) <= limit:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def dice_of(models: dict[str, Sam], records: Sequence[Record], *, multimask: bool) -> tuple[dict[str, float], int]:
    """Mean Dice of models over the same masks, by a box and by a click.

    Args:
        models: by name.
        records: photographs with masks.
        multimask: take the best of three candidates, else the single mask.

    Returns:
        The mean of each model, and the number of cases.
    """
    totals: dict[str, list[float]] = {name: [] for name in models}
    first = next(iter(models.values()))
    dataset = FundusDataset(records, first.preprocessing, keep_truth=True)
    for i in range(len(dataset)):
        batch: Batch = collate([dataset[i]])
        prompts = make_prompts(batch, point_num=1, seed=0)
        for name, model in models.items():
            found = predict_batch(model, batch, prompts, MODES, seed=0, refinement=Refinement(multimask=multimask))
            totals[name] += [row.scores["dice"] for rows in score_batch(batch, found, ["dice"]) for row in rows]
    return {name: float(np.mean(values)) for name, values in totals.items()}, len(totals[next(iter(models))])
