"""Checkpoint files of any published layout: read safely, written atomically.

Accepted files: a raw state dict (SAM), {"model": state dict} (SAM-Med2D and its descendants), safetensors (ours), and
the wrappers and prefixes of other programs (see `checkpoint_layouts.take_out`). Nothing is unpickled beyond what
`torch.load(weights_only=True)` allows, unless a caller says `trust`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .checkpoint_layouts import refuse_other_models, take_out
from .checkpoint_pickles import unpickle_tensors, unpickle_trusted
from .choices import MASK_RULES
from .errors import CheckpointError, listing
from .modeling import Sam
from .preprocessing import Preprocessing
from .utils.atomic import atomic_path
from .utils.digest import digest

METADATA_KEY = "sam_med2d_fundus"
ADAPTER = ".Adapter."
POSITIONS = "image_encoder.pos_embed"
STRUCTURES = "prompt_encoder.structure_embeddings.weight"
DETAIL = "mask_decoder.detail."
PYRAMID = f"{DETAIL}pyramid."
DETAIL_OF_STRUCTURES = f"{DETAIL}named.weight"
# parts that a model or a file may do without, by what their tensors' names contain
OPTIONAL = {
    ADAPTER: "the adapters",
    STRUCTURES: "the structures",
    "mask_decoder.presence_head.": "the structures' presence",
    DETAIL_OF_STRUCTURES: "the structures' detail",
    DETAIL: "the detail head",
}
POINTER = b"version https://git-lfs"
WEIGHTS_NAME = "model.safetensors"
BASE = "base"  # metadata of a file that holds what was trained on a base, see checkpoint_conversion.py
HUB_POSITIONS = "vision_encoder.pos_embed"
FOREIGN = {HUB_POSITIONS: "named as by HuggingFace", BASE: "to be merged onto its base"}


@dataclass(frozen=True)
class Checkpoint:
    """What one file holds.

    Attributes:
        path: the file.
        state: {name: tensor}, on the CPU.
        metadata: what `model_metadata` wrote; {} where the file has none.
        note: what was taken off the file's layout, in words; "" for nothing.
    """

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, Any]
    note: str = ""

    @property
    def has_adapters(self) -> bool:
        """Whether its image encoder has adapters."""
        return any(ADAPTER in key for key in self.state)

    @property
    def detail(self) -> str | None:
        """The kind of its mask decoder's detail head, "pyramid" or "light"; None for none."""
        if not any(key.startswith(DETAIL) for key in self.state):
            return None
        return "pyramid" if any(key.startswith(PYRAMID) for key in self.state) else "light"

    def without_detail(self) -> "Checkpoint":
        """The same without its detail head."""
        state = {key: value for key, value in self.state.items() if not key.startswith(DETAIL)}
        notes = [self.note] * bool(self.note) + [f"its {self.detail} detail head left out"]
        return replace(self, state=state, note=", ".join(notes))

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures that its prompt encoder knows; CheckpointError where they are not named."""
        count = len(self.state[STRUCTURES]) if STRUCTURES in self.state else 0
        names = self.metadata.get("structures", [])
        if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"{self.path} has {count} structure tokens and the names {names!r}: one name each.")
        return tuple(names)

    def presence_thresholds(self, structures: Iterable[str]) -> dict[str, float]:
        """Probabilities below which these structures are predicted absent, of those of which the file says it.

        Raises:
            CheckpointError: for values that are no probabilities.
        """
        stored = self.metadata.get("presence_thresholds", {})
        numbers = isinstance(stored, dict) and all(isinstance(value, int | float) for value in stored.values())
        if not numbers or not all(0 <= value <= 1 for value in stored.values()):
            raise CheckpointError(f"{self.path}: its presence thresholds {stored!r} are no probabilities.")
        return {name: float(stored[name]) for name in structures if name in stored}

    @property
    def mask_rule(self) -> str:
        """Where its masks begin, one of MASK_RULES, "half" where it does not say; CheckpointError: unknown."""
        stored = self.metadata.get("mask_rule", "half")
        if stored not in MASK_RULES:
            raise CheckpointError(f"{self.path}: its mask rule {stored!r} is none of {', '.join(MASK_RULES)}.")
        return stored

    @property
    def image_size(self) -> int:
        """Side S in pixels of the input of these weights; CheckpointError where no table of positions says it."""
        if not is_grid(self.state[POSITIONS]):
            shape = list(self.state[POSITIONS].shape)
            raise CheckpointError(f"{self.path}: {POSITIONS} has shape {shape}, and should have [1, h, w, C].")
        return 16 * self.state[POSITIONS].shape[1]

    def preprocessing(self, image_size: int) -> tuple[Preprocessing, str]:
        """How its photographs were prepared, for an input side in pixels, and one line that says what it rests on.

        Raises:
            CheckpointError: for metadata that are not understood.
        """
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
            "override with --preprocess, --channel_order and --pixel_scale"
        )
        return Preprocessing(image_size, "sam_med2d", **guess), line


def read_checkpoint(
    path: str | Path, *, trust: bool = False, flag: str = "--sam_checkpoint", entry: str | None = None
) -> Checkpoint:
    """Read the weights of a model, to the CPU.

    Args:
        path: a file of any published layout, or a folder with `model.safetensors`.
        trust: load a pickle that holds more than tensors, too; any code in it runs.
        flag: what gave the path, for messages.
        entry: which weights are meant where the file has several, such as "ema" or "state_dict/model.".

    Raises:
        CheckpointError: for a file that is missing, damaged, not of this family of models, or such a pickle, and for
            numbers that are not finite.
    """
    return require_model(read_tensors(path, trust=trust, flag=flag, entry=entry))


def require_model(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint. Raises CheckpointError for one that lacks SAM's table of positions."""
    if POSITIONS not in checkpoint.state:
        reason = f"it has no {POSITIONS!r} (it has {listing(checkpoint.state, 3) or 'no tensor'})"
        for key, what in FOREIGN.items():
            if key in checkpoint.state or key in checkpoint.metadata:
                reason = f"it is {what}, convert it with scripts/convert_checkpoint.py"
        raise CheckpointError(f"{checkpoint.path} is not a SAM or SAM-Med2D state dict: {reason}.")
    return checkpoint


def read_tensors(
    path: str | Path, *, trust: bool = False, flag: str = "--sam_checkpoint", entry: str | None = None
) -> Checkpoint:
    """Read tensors of any names, as `read_checkpoint` does those of a model.

    Raises:
        CheckpointError: as there; also for no state dict, and for another model that is known.
    """
    path = Path(path)
    path = path / WEIGHTS_NAME if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} does not exist: check {flag}.")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise CheckpointError(f"{path} is a pointer of Git LFS, not the file itself: run git lfs pull.")
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path} is an exported file: give the weights that it was exported from.")
    safe = path.suffix == ".safetensors"
    content, metadata = (
        _read_safetensors(path) if safe else ((unpickle_trusted if trust else unpickle_tensors)(path), {})
    )
    weights = take_out(path, content, entry)
    state = dict(weights.state)
    if odd := [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]:
        raise CheckpointError(f"{path} is not a SAM or SAM-Med2D state dict: entry {odd[0]!r} is no named tensor.")
    refuse_other_models(path, state)
    _refuse_not_finite(path, state)
    beside = content.get("metadata") if not safe and weights.entry == "model" else None
    return Checkpoint(path, state, beside if isinstance(beside, dict) else metadata, weights.note)


def _refuse_not_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for tensors with NaN or infinity: a sum tells, at a fraction of the time of `isfinite`."""
    large = [key for key, value in state.items() if value.is_floating_point() and not _sum(value).isfinite()]
    if bad := [key for key in large if not state[key].isfinite().all()]:
        raise CheckpointError(
            f"{path} has NaN or infinite numbers in {len(bad)} of {len(state)} tensors: {listing(bad)}. Its training "
            "failed or the file is damaged: take an earlier checkpoint, or copy it again."
        )


def _sum(value: Tensor) -> Tensor:
    return value.sum(dtype=torch.float32 if value.dtype.itemsize < 4 else None)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file."""
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


def is_grid(table: Tensor) -> bool:
    """Whether a tensor may be a position embedding, [1, h, w, C]."""
    return table.ndim == 4 and len(table) == 1 and table.numel() > 0


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits of names, types, shapes and values of tensors by name; the order counts."""
    return digest(_described(tensors))


def _described(tensors: Mapping[str, Tensor]) -> Iterator[bytes | np.ndarray]:
    """The description and the values of each tensor, one after the other."""
    for name, tensor in tensors.items():
        yield f"{name} {tensor.dtype} {list(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def save_weights(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write weights as safetensors, atomically; the file is no larger than its tensors.

    Args:
        path: the file.
        state: {name: tensor}.
        metadata: JSON values, such as those of `model_metadata`.
    """
    own = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(own, temporary, metadata={METADATA_KEY: json.dumps(metadata)})


def save_pth(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write weights in SAM-Med2D's layout {"model": state dict}, with our metadata beside it, atomically.

    Args:
        path: the file.
        state: {name: tensor}.
        metadata: plain values, such as those of `model_metadata`.
    """
    _save_pickle(path, {"model": _copies(state), "metadata": dict(metadata)})


def save_raw(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Write weights in SAM's layout, a pickled state dict of plain tensors and nothing else, atomically.

    Args:
        path: the file.
        state: {name: tensor}.
    """
    _save_pickle(path, _copies(state))


def _copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in state.items()}


def _save_pickle(path: str | Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def model_metadata(model: Sam, model_type: str, *, multimask: bool = True) -> dict[str, Any]:
    """What a checkpoint says of itself, as JSON values.

    Args:
        model: whose weights are saved.
        model_type: a key of MODEL_SPECS.
        multimask: whether the three candidates were trained, and answer by default.
    """
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
