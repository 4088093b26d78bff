"""ONNX files: traced, given their metadata, compared with PyTorch, and only then put in place."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.external_data_helper import (
    load_external_data_for_model,
    load_external_data_for_tensor,
    set_external_data,
    uses_external_data,
)
from torch import Tensor

from sam_med2d.errors import UsageError
from sam_med2d.export.onnx_parts import COUNTS, IOU_TOLERANCE, TOLERANCE, Check, OnnxPart
from sam_med2d.runtime.run_folder import make_folder
from segment_anything.checkpoint import METADATA_KEY, model_metadata
from segment_anything.modeling import Sam
from segment_anything.utils.atomic import sync
from segment_anything.utils.digest import digest

LIMITS = COUNTS | {"iou_predictions": IOU_TOLERANCE}  # of outputs that are compared as they are
SMALLEST_RANGE = 1e-3  # of an output that is constant
ONE_FILE_LIMIT = 2**31 - 2**20  # bytes; protocol buffers end at 2 GB
SMALLEST_OUTSIDE = 1024  # bytes of a weight that goes to the second file
PAGE = 4096  # bytes; weights that start at a multiple can be mapped into memory
FORMAT_VERSION, FORMAT_WITH_SCALE = 1, 2  # the second for pixels in 0..1, which older programs would not heed
FORMAT_PLAIN = 3  # for files in SAM's own form, which programs of ours do not take


class ExportError(UsageError):
    """An export that is not good enough to be put in place; the message says by how much."""


def _weight_parts(model: Sam) -> Iterator[bytes | np.ndarray]:
    """Description and values of each tensor, by name: of both files of a model, whatever the order of the tensors."""
    for name, value in sorted(model.state_dict().items()):
        yield f"{name} {value.dtype} {list(value.shape)}\n".encode()
        yield value.detach().cpu().contiguous().view(torch.uint8).numpy()


def file_metadata(model: Sam, model_type: str, part: OnnxPart, **more: Any) -> dict[str, Any]:
    """What a file says of itself.

    Args:
        model: with the weights.
        model_type: its name in `MODEL_SPECS`.
        part: of the model.
        more: other entries.

    Returns:
        Entries for `save`.
    """
    version = FORMAT_VERSION if model.preprocessing.pixel_scale == "sam" else FORMAT_WITH_SCALE
    about = {"image_size": model.image_size, "detail": model.mask_decoder.detail is not None, "precision": "fp32"}
    about = model_metadata(model, model_type) | about | part.about | more
    about |= {"part": part.name, "weights": digest(_weight_parts(model))}
    return about | {"format_version": FORMAT_PLAIN if part.about.get("plain") else version}


def export(part: OnnxPart, path: Path, opset: int) -> None:
    """Trace a part into an ONNX file, weights above the limit beside it. The file is not checked.

    Args:
        part: to trace.
        path: of the file.
        opset: its version of the operators.
    """
    names = tuple(part.example)
    module = _Ordered(part.module, names).eval()  # the exporter leaves the mode in which it finds a module
    with warnings.catch_warnings():
        # shapes that Python sees are meant to be constant; the tracing exporter is the one that keeps opset 17
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(part.example.values()),
            str(path),
            input_names=list(names),
            output_names=list(part.outputs),
            dynamic_axes=part.dynamic,
            opset_version=opset,
            dynamo=False,
        )


class _Ordered(torch.nn.Module):
    """Calls a module with its inputs by name: an exporter passes them in order."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.module(**dict(zip(self.names, inputs, strict=True)))


def save(model: onnx.ModelProto, path: Path, metadata: Mapping[str, Any], *, source: Path | None = None) -> None:
    """Write a model with its metadata, its weights in a second file where they are larger than the limit.

    Args:
        model: to write.
        path: of the file.
        metadata: entries; "weights" and "precision" name the second file.
        source: folder of the weights that `model` was loaded without.
    """
    entries = {entry.key: entry.value for entry in model.metadata_props} | {METADATA_KEY: json.dumps(metadata)}
    onnx.helper.set_model_props(model, entries)
    if _weight_bytes(model) < ONE_FILE_LIMIT:
        if source is not None:
            load_external_data_for_model(model, str(source))
    else:
        # named after its content: until the new file is in place, the old one must find its own weights
        location = f"{path.stem}.{metadata['weights'][:8]}.{metadata['precision']}.data"
        _move_weights(model, path.parent / location, source)
    onnx.save(model, path)


def _move_weights(model: onnx.ModelProto, target: Path, source: Path | None) -> None:
    """Write the weights to a file of their own, one at a time: of the largest models two copies would fill a memory."""
    with target.open("wb") as file:
        for tensor in model.graph.initializer:
            if uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(source))
                tensor.data_location = onnx.TensorProto.DEFAULT  # else onnx 1.20 saves it to a file again
                del tensor.external_data[:]
            if len(tensor.raw_data) >= SMALLEST_OUTSIDE:
                file.write(bytes(-file.tell() % PAGE))
                set_external_data(tensor, target.name, offset=file.tell(), length=len(tensor.raw_data))
                file.write(tensor.raw_data)
                tensor.ClearField("raw_data")


def _weight_bytes(model: onnx.ModelProto) -> int:
    sizes = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.INT64: 8}
    return sum(int(np.prod(tensor.dims)) * sizes.get(tensor.data_type, 1) for tensor in model.graph.initializer)


def _weights_beside(path: Path) -> list[Path]:
    """The files of weights that a file needs beside it, sorted."""
    return sorted(path.parent.glob(f"{path.stem}.*.data"))


def is_large(path: Path) -> bool:
    """Whether a file and the weights beside it are past the limit of one file."""
    return sum(part.stat().st_size for part in (path, *_weights_beside(path))) >= ONE_FILE_LIMIT


def session(path: Path, threads: int | None = None, *, lean: bool = False) -> onnxruntime.InferenceSession:
    """Make a file ready to run on the CPU.

    Args:
        path: of the file.
        threads: default: as many as PyTorch uses.
        lean: weights stay on the disk, without copies in an order of the runtime's own; slower.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
    options.log_severity_level = 3
    if lean:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(file: onnxruntime.InferenceSession, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a file.

    Args:
        file: ready to run.
        inputs: by name.

    Returns:
        Outputs by name.
    """
    arrays = {name: value.cpu().numpy() for name, value in inputs.items()}
    names = [output.name for output in file.get_outputs()]
    return {name: torch.from_numpy(value) for name, value in zip(names, file.run(None, arrays), strict=True)}


class Difference(NamedTuple):
    """The largest difference of an output to PyTorch's."""

    absolute: float  # in the output's own unit; of areas as a share of the pixels
    share: float  # of the range of PyTorch's values for logits and embeddings, else as `absolute`


def differences(file: onnxruntime.InferenceSession, checks: Iterable[Check]) -> dict[str, Difference]:
    """Compare a file with the PyTorch model.

    Args:
        file: the file, ready to run.
        checks: inputs and PyTorch's outputs.

    Returns:
        The largest difference of each output.

    Raises:
        ExportError: for outputs of another shape, or that are no numbers.
    """
    worst: dict[str, Difference] = {}
    for inputs, expected in checks:
        for name, found in run_session(file, inputs).items():
            wanted = expected[name].cpu()
            if found.shape != wanted.shape:
                raise ExportError(f"{name} has shape {list(found.shape)}, PyTorch gives {list(wanted.shape)}.")
            if not bool(found.isfinite().all()):
                raise ExportError(f"{name} holds values that are no numbers.")
            absolute = (found - wanted).abs().max().item()
            if name == "areas":
                absolute /= expected["masks"][0, 0].numel()
            scale = 1.0 if name in LIMITS else max((wanted.max() - wanted.min()).item(), SMALLEST_RANGE)
            own = Difference(absolute, absolute / scale)
            worst[name] = Difference(*map(max, own, worst.get(name, own)))
    return worst


def verify(path: Path, checks: Iterable[Check]) -> dict[str, Difference]:
    """`differences` of a file that must equal the PyTorch model; ExportError where one is above its limit."""
    found = differences(session(path, lean=is_large(path)), checks)
    wrong = {name: value for name, value in found.items() if value.share > LIMITS.get(name, TOLERANCE)}
    if wrong:
        listed = ", ".join(
            f"{name} by {value.share:.2g} (limit {LIMITS[name]:g})"
            if name in LIMITS
            else f"{name} by {value.share:.2g} of its range (limit {TOLERANCE:g})"
            for name, value in wrong.items()
        )
        raise ExportError(f"it differs from PyTorch: {listed}; nothing is written.")
    return found


@contextmanager
def temporary_folder(target: Path, flag: str) -> Iterator[Path]:
    """A folder beside a target that is gone afterwards, whatever happens.

    Args:
        target: a file that is to be made.
        flag: that named it, for messages.

    Yields:
        The folder.

    Raises:
        UsageError: it cannot be made.
    """
    make_folder(target.parent, flag)
    with tempfile.TemporaryDirectory(prefix=f".{target.stem[:40]}.", dir=target.parent) as folder:
        yield Path(folder)


def place(made: Path, target: Path) -> int:
    """Move a finished file, and first the weights beside it, to its place.

    Args:
        made: the file.
        target: its place.

    Returns:
        Their size in bytes.
    """
    weights = _weights_beside(made)
    for path in [*weights, made]:
        path.chmod(0o644)
        sync(path)
        os.replace(path, target.parent / path.name if path in weights else target)
    sync(target.parent)
    return sum((target.parent / path.name).stat().st_size for path in weights) + target.stat().st_size


def make_checked(
    part: OnnxPart, folder: Path, name: str, opset: int, metadata: Mapping[str, Any]
) -> tuple[Path, dict[str, Difference]]:
    """Export a part in float32, and compare the file with PyTorch.

    Args:
        part: to export.
        folder: where.
        name: of the file.
        opset: its version of the operators.
        metadata: its metadata.

    Returns:
        Its path, and its differences to PyTorch.

    Raises:
        ExportError: a difference is above its limit.
    """
    raw = folder / "traced"
    raw.mkdir()
    export(part, raw / "model.onnx", opset)
    model = onnx.load(raw / "model.onnx", load_external_data=False)
    path = folder / "fp32" / name
    path.parent.mkdir()
    save(model, path, metadata, source=raw)
    shutil.rmtree(raw)
    return path, verify(path, part.checks())
