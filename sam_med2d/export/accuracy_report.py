"""What a smaller file costs and gains: size, difference, Dice on photographs, time, all against PyTorch."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from sam_med2d.export.onnx_files import run
from sam_med2d.export.onnx_parts import Named, Part
from sam_med2d.prompts.prompt_file import make_prompts
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.preprocessing import to_tensor
from segment_anything.refinement.refine import Refinement

SPLITS_TO_TEST = ("val", "test", "train")
TIMED_ROUNDS = 7
MODES = [parse_mode("box"), parse_mode("1")]


@dataclass(frozen=True)
class Measured:
    """A file's size in bytes, its largest difference to PyTorch, mean Dice, milliseconds; None where not measured."""

    name: str
    size: int | None = None
    difference: float | None = None
    dice: float | None = None
    ms: float | None = None


def table(rows: Sequence[Measured], masks: int) -> str:
    """The rows as text; the first one is PyTorch, to which the others are compared."""
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


def in_turn(calls: dict[str, Callable[[], object]], rounds: int = TIMED_ROUNDS) -> dict[str, float]:
    """Median milliseconds of each call, one of each in turn, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(1 + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def latencies(part: Part, model: Sam, files: dict[str, onnxruntime.InferenceSession]) -> dict[str, float]:
    """Median milliseconds of PyTorch ("torch") and of each file on the first of the part's fresh inputs."""
    inputs, _ = next(part.checks())
    calls: dict[str, Callable[[], object]] = {"torch": lambda: _torch_call(part, model, inputs)}
    return in_turn(calls | {name: lambda f=file: run(f, inputs) for name, file in files.items()})


@torch.no_grad()
def _torch_call(part: Part, model: Sam, inputs: Named) -> object:
    if part.name == "decoder":
        return part.module(**inputs)
    image = inputs["input_image"]
    image = part.module.preprocess(image) if part.module.preprocess is not None else image
    return model.encode_all(image)[1]


# --- photographs ----------------------------------------------------------------------------------------------


def photographs(folder: Path, flag: str, limit: int) -> list[Record]:
    """Photographs with masks to measure Dice on, evenly drawn from a folder's map. Raises UsageError without one."""
    split = next((split for split in SPLITS_TO_TEST if has_map(folder, split)), None)
    if split is None:
        raise UsageError(f"{flag} {folder}: it has no map of photographs and masks (image2label_val.json).")
    return _spread(load_checked(folder, split), limit)


def calibration_images(folder: Path, model: Sam, limit: int) -> Iterator[Tensor]:
    """Model inputs [1, 3, S, S] of photographs: of the training map, else of all pictures in the folder.

    Raises UsageError where there is none.
    """
    if has_map(folder, "train"):
        paths = [record.image for record in load_index(folder, "train")]
    else:
        paths = photographs_in(folder)
    if not paths:
        raise UsageError(f"--calibration {folder}: there is no photograph in it.")
    for path in _spread(paths, limit):
        pixels = read_image(path)
        prepared = model.preprocessing.image(pixels, model.preprocessing.frame(pixels))
        yield to_tensor(prepared, model.device)[None]


def _spread(items: list, limit: int) -> list:
    """At most `limit` of the items, evenly spaced."""
    if len(items) <= limit:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


class FileSam:
    """A model of which one part is an ONNX file, for `predict_batch`; all else is the PyTorch model's."""

    def __init__(self, model: Sam, file: onnxruntime.InferenceSession) -> None:
        self._model, self._file = model, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class EncoderFileSam(FileSam):
    """The image encoder is a file, see `OnnxEncoder`."""

    def encode_all(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """`Sam.encode_all` by the file."""
        found = run(self._file, {"input_image": image})
        return found["image_embeddings"], found.get("detail_features")


class DecoderFileSam(FileSam):
    """Prompt encoder and mask decoder are a file that returns the candidates, see `SamOnnxModel`."""

    def decode_points(
        self,
        embedding: Tensor,
        coords: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        image_index: Tensor | None = None,
        multimask: bool | None = True,
        features: Tensor | None = None,
    ) -> Decoded:
        """`Sam.decode_points` by the file; absent structures are withheld already, `multimask` is the file's own."""
        size, side = self._model.image_size, self._model.prompt_encoder.mask_size
        if image_index is not None:
            embedding, features = embedding[image_index], None if features is None else features[image_index]
        inputs = {
            "image_embeddings": embedding,
            "point_coords": coords.float(),
            "point_labels": labels.float(),
            "mask_input": torch.zeros(1, 1, side, side) if masks is None else masks.float(),
            "has_mask_input": torch.zeros(1) if masks is None else torch.ones(len(masks)),
            "orig_im_size": torch.tensor([size, size]).float(),
        }
        found = run(self._file, inputs | ({} if features is None else {"detail_features": features}))
        logits = found["low_res_masks"] if features is None else found["masks"]
        return Decoded(logits, found["iou_predictions"], None)


def with_file(model: Sam, part: Part, file: onnxruntime.InferenceSession) -> FileSam:
    """The model with its encoder, or its decoder, replaced by a file.

    Args:
        model: the PyTorch model, which is not changed.
        part: "encoder" or "decoder" by its name.
        file: of the part. A decoder must return the candidates.
    """
    return (EncoderFileSam if part.name == "encoder" else DecoderFileSam)(model, file)


def dice_of(
    models: dict[str, Sam | FileSam], records: Sequence[Record], *, multimask: bool
) -> tuple[dict[str, float], int]:
    """Mean Dice of each model over the same masks, by a box and by a click; and the number of cases."""
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
