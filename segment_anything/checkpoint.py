"""Any published checkpoint layout -> a model, and atomic saving.

Accepted files: a raw state dict (SAM), {"model": state dict} (SAM-Med2D and its descendants) and safetensors
(ours). Nothing is unpickled beyond what `torch.load(weights_only=True)` allows, unless a caller says `trust`.
"""

import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from .choices import MASK_RULES
from .errors import CheckpointError
from .modeling import Sam
from .preprocessing import Preprocessing
from .utils.atomic import atomic_path
from .utils.digest import digest

METADATA_KEY = "sam_med2d_fundus"
ADAPTER = ".Adapter."
POSITIONS = "image_encoder.pos_embed"
STRUCTURES = "prompt_encoder.structure_embeddings.weight"
DETAIL = "mask_decoder.detail."
DETAIL_OF_STRUCTURES = f"{DETAIL}named.weight"
# parts that a model or a file may do without, by what their tensors' names contain
OPTIONAL = {
    ADAPTER: "the adapters",
    STRUCTURES: "the structures",
    "mask_decoder.presence_head.": "the structures' presence",
    DETAIL_OF_STRUCTURES: "the structures' detail",
    DETAIL: "the detail head",
}
WEIGHTS_NAME = "model.safetensors"
# what PyTorch raises for files with changed bytes, besides its pickle's own error
DAMAGE = (RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
BASE = "base"  # metadata of a file that holds what was trained on a base, see conversion.py
HUB_POSITIONS = "vision_encoder.pos_embed"
FOREIGN = {HUB_POSITIONS: "named as by HuggingFace", BASE: "to be merged onto its base"}


@dataclass(frozen=True)
class Checkpoint:
    """State dict and metadata ({} when the file has none) of one file."""

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, Any]

    @property
    def has_adapters(self) -> bool:
        return any(ADAPTER in key for key in self.state)

    @property
    def has_detail(self) -> bool:
        return any(key.startswith(DETAIL) for key in self.state)

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures that its prompt encoder knows. Raises CheckpointError where they are not named."""
        count = len(self.state[STRUCTURES]) if STRUCTURES in self.state else 0
        names = self.metadata.get("structures", [])
        if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"{self.path} has {count} structure tokens and the names {names!r}: one name each.")
        return tuple(names)

    def presence_thresholds(self, structures: Iterable[str]) -> dict[str, float]:
        """Probability from which on each of the structures is held to be there, where the file says it.

        Raises CheckpointError for values that are no probabilities.
        """
        stored = self.metadata.get("presence_thresholds", {})
        numbers = isinstance(stored, dict) and all(isinstance(value, int | float) for value in stored.values())
        if not numbers or not all(0 <= value <= 1 for value in stored.values()):
            raise CheckpointError(f"{self.path}: its presence thresholds {stored!r} are no probabilities.")
        return {name: float(stored[name]) for name in structures if name in stored}

    @property
    def mask_rule(self) -> str:
        """Where its masks begin, "half" where the file does not say. Raises CheckpointError for an unknown rule."""
        stored = self.metadata.get("mask_rule", "half")
        if stored not in MASK_RULES:
            raise CheckpointError(f"{self.path}: its mask rule {stored!r} is none of {', '.join(MASK_RULES)}.")
        return stored

    @property
    def image_size(self) -> int:
        """Side S of the input the weights were made for, in pixels. Raises CheckpointError where no table says it."""
        if not _is_grid(self.state[POSITIONS]):
            shape = list(self.state[POSITIONS].shape)
            raise CheckpointError(f"{self.path}: {POSITIONS} has shape {shape}, and should have [1, h, w, C].")
        return 16 * self.state[POSITIONS].shape[1]

    def preprocessing(self, image_size: int) -> tuple[Preprocessing, str]:
        """How its photographs were prepared, for inputs of `image_size`, and one line that says why."""
        stored = self.metadata.get("preprocessing")
        if stored:
            try:
                return Preprocessing(**{**stored, "image_size": image_size}), f"preprocessing as stored in {self.path}"
            except (TypeError, ValueError) as error:
                raise CheckpointError(f"{self.path}: its stored preprocessing is not understood ({error}).") from error
        if self.has_adapters:
            guess, name = {"channel_order": "bgr", "mask_prompt": "probability"}, "the published SAM-Med2D"
        else:
            guess, name = {"channel_order": "rgb", "mask_prompt": "logits"}, "SAM"
        line = (
            f"{self.path} has no metadata: taken for {name} (sam_med2d preprocessing, {guess['channel_order']}); "
            "override with --preprocess and --channel_order"
        )
        return Preprocessing(image_size, "sam_med2d", **guess), line


@dataclass
class LoadReport:
    """What became of each key when a checkpoint was loaded."""

    path: Path
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    initialised: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def summary(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.resized:
            parts.append(f"{len(self.resized)} position tables resized")
        if self.initialised:
            parts.append(f"{len(self.initialised)} tensors of {_parts(self.initialised)} absent, new")
        if self.dropped:
            parts.append(f"{len(self.dropped)} tensors of {_parts(self.dropped)} dropped")
        return f"{self.path}: {', '.join(parts)}"


def _parts(keys: Iterable[str]) -> str:
    """What optional parts of the model the keys belong to, in words."""
    return ", ".join(dict.fromkeys(OPTIONAL[_optional(key)] for key in keys))


def read_checkpoint(path: str | Path, *, trust: bool = False, flag: str = "--sam_checkpoint") -> Checkpoint:
    """Read a checkpoint file, or the `model.safetensors` of a checkpoint folder, onto the CPU.

    Raises CheckpointError when the file is missing (`flag` is what gave it), damaged, no state dict of this family, or
    a pickle that holds more than tensors. With `trust` such a pickle is loaded, and any code in it runs.
    """
    checkpoint = read_tensors(path, trust=trust, flag=flag)
    if POSITIONS not in checkpoint.state:
        reason = f"it has no {POSITIONS!r}"
        for key, what in FOREIGN.items():
            if key in checkpoint.state or key in checkpoint.metadata:
                reason = f"it is {what}, convert it with scripts/convert_checkpoint.py"
        raise CheckpointError(f"{checkpoint.path} is not a SAM or SAM-Med2D state dict: {reason}.")
    return checkpoint


def read_tensors(path: str | Path, *, trust: bool = False, flag: str = "--sam_checkpoint") -> Checkpoint:
    """As `read_checkpoint`, whatever the tensors' names."""
    path = Path(path)
    path = path / WEIGHTS_NAME if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} does not exist: check {flag}.")
    state, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path, trust)
    if odd := [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]:
        raise CheckpointError(f"{path} is not a SAM or SAM-Med2D state dict: entry {odd[0]!r} is no named tensor.")
    return Checkpoint(path, state, metadata)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
        metadata = json.loads(header.get(METADATA_KEY, "{}"))
        state = load_file(path)
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error}): copy it again.") from error
    kinds = ("preprocessing", dict), ("model_type", str)
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(k, kind()), kind) for k, kind in kinds):
        raise CheckpointError(f"{path}: its metadata is not understood: {str(metadata)[:80]}.")
    return state, metadata


def _read_pickle(path: Path, trust: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    content = _unpickle_trusted(path) if trust else _unpickle_tensors(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
    state = content.get("model", content)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: its 'model' entry is a {type(state).__name__}, not a state dict.")
    metadata = content.get("metadata", {}) if "model" in content else {}
    return dict(state), metadata if isinstance(metadata, dict) else {}


def _unpickle_tensors(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if not refused:
            raise CheckpointError(f"{path} is damaged or not a checkpoint: copy it again.") from error
        raise CheckpointError(
            f"{path} holds pickled objects besides tensors ({refused[1]}), and unpickling them can run any code: not "
            f"loaded. If you trust its origin, convert it once: python scripts/convert_checkpoint.py --trust {path} "
            "OUT.safetensors"
        ) from error
    except (*DAMAGE, OSError) as error:
        # what PyTorch raises for damaged files; its text is left out because it recommends unsafe loading
        raise CheckpointError(f"{path} is damaged or not a checkpoint: copy it again.") from error


def _unpickle_trusted(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the file's own code may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be unpickled ({reason}): it is damaged, or needs a Python package that is not installed."
        ) from error


def load_into(model: Sam, checkpoint: Checkpoint) -> LoadReport:
    """Copy a checkpoint's weights into `model`, resizing position tables; returns what was done.

    Optional parts (adapters, structures, the detail head) that the file lacks keep their initial value; those that the
    model lacks are dropped. Raises CheckpointError, with the keys, for anything else that is missing, unexpected or of
    another shape.
    """
    own = model.state_dict()
    report = LoadReport(checkpoint.path)
    state: dict[str, Tensor] = {}
    wrong: list[str] = []
    for key, value in checkpoint.state.items():
        if key in own:
            state[key] = _fit(key, value, own[key], report, wrong)
        elif _optional(key) and not any(_optional(other) == _optional(key) for other in own):
            report.dropped.append(key)
        else:
            wrong.append(f"unexpected {key}")
    absent = [key for key in own if key not in checkpoint.state]
    report.initialised = [key for key in absent if _optional(key)]
    wrong += [f"missing {key}" for key in absent if not _optional(key)]
    if wrong:
        raise CheckpointError(
            f"{checkpoint.path} does not fit the model ({len(wrong)} keys): {listing(wrong)}. "
            "Check --model_type and that the file is a whole SAM state dict."
        )
    model.load_state_dict(state, strict=False)
    return report


def _optional(key: str) -> str:
    """The optional part of the model that a tensor belongs to, "" for none."""
    return next((part for part in OPTIONAL if part in key), "")


def _fit(key: str, value: Tensor, own: Tensor, report: LoadReport, wrong: list[str]) -> Tensor:
    """The tensor in the model's shape; position tables are resized, other differences noted in `wrong`.

    Structures that the model has beyond the file's keep their initial value.
    """
    shape = own.shape
    if value.shape == shape:
        report.loaded.append(key)
        return value
    if key == POSITIONS and _is_grid(value) and value.shape[-1] == shape[-1]:
        report.resized.append(key)
        return resize_positions(value, shape[1])
    if key.endswith(("rel_pos_h", "rel_pos_w")) and value.ndim == 2 and len(value) and value.shape[1] == shape[1]:
        report.resized.append(key)
        return resize_relative(value, shape[0])
    per_structure = key in (STRUCTURES, DETAIL_OF_STRUCTURES) and value.ndim == 2
    if per_structure and value.shape[1:] == shape[1:] and len(value) < len(own):
        report.loaded.append(key)
        return torch.cat((value.to(own), own[len(value) :]))
    wrong.append(f"{key} has shape {list(value.shape)} in the file and {list(shape)} in the model")
    return value


def _is_grid(table: Tensor) -> bool:
    """Whether a tensor may be a position embedding, [1, h, w, C]."""
    return table.ndim == 4 and len(table) == 1 and table.numel() > 0


def resize_positions(table: Tensor, grid: int) -> Tensor:
    """Position embedding [1, h, w, C] -> [1, grid, grid, C], bilinear (align_corners=False)."""
    moved = F.interpolate(table.permute(0, 3, 1, 2).float(), (grid, grid), mode="bilinear", align_corners=False)
    return moved.permute(0, 2, 3, 1).to(table.dtype).contiguous()


def resize_relative(table: Tensor, rows: int) -> Tensor:
    """Relative positions [n, C] -> [rows, C], linear along the rows (align_corners=False)."""
    moved = F.interpolate(table.float().T[None], rows, mode="linear", align_corners=False)
    return moved[0].T.to(table.dtype).contiguous()


def listing(items: Iterable[str], limit: int = 8) -> str:
    """The first items, comma-separated, and how many more there are."""
    items = list(items)
    rest = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + rest


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Digest of names, types, shapes and values of tensors.

    Args:
        tensors: {name: tensor}, such as a state dict; the order counts.

    Returns:
        32 hexadecimal digits.
    """
    return digest(_described(tensors))


def _described(tensors: Mapping[str, Tensor]) -> Iterator[bytes | np.ndarray]:
    """The description and the values of each tensor, one after the other."""
    for name, tensor in tensors.items():
        yield f"{name} {tensor.dtype} {list(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def save_weights(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a state dict and its metadata as safetensors, atomically; the file is no larger than its tensors."""
    own = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(own, temporary, metadata={METADATA_KEY: json.dumps(metadata)})


def save_pth(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write SAM-Med2D's layout {"model": state dict} with our metadata beside it, atomically."""
    own = {key: value.detach().cpu().clone() for key, value in state.items()}
    with atomic_path(path) as temporary:
        torch.save({"model": own, "metadata": dict(metadata)}, temporary)


def model_metadata(model: Sam, model_type: str, *, multimask: bool = True) -> dict[str, Any]:
    """What a checkpoint says of itself: model type, adapters, whether the candidates were trained, preprocessing."""
    return {
        "format_version": 1,
        "model_type": model_type,
        "encoder_adapter": any(ADAPTER in name for name, _ in model.named_parameters()),
        "multimask": multimask,
        "structures": list(model.prompt_encoder.structures),
        "presence_thresholds": model.prompt_encoder.presence_thresholds,
        "mask_rule": model.mask_decoder.mask_rule,
        "preprocessing": model.preprocessing.as_dict(),
    }
