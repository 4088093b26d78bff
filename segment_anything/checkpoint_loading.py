"""A checkpoint's weights into a model: position tables resized, optional parts kept or dropped, all else refused."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from .checkpoint import DETAIL_OF_STRUCTURES, OPTIONAL, POSITIONS, STRUCTURES, Checkpoint, is_grid
from .errors import CheckpointError, listing
from .modeling import Sam


@dataclass
class LoadReport:
    """What became of each tensor, by its name, when a checkpoint was loaded.

    Attributes:
        path: the checkpoint's file.
        note: what was taken off its layout.
        loaded: copied.
        resized: copied after a table of positions was resized.
        initialised: not in the file, so that the model's initial values stay.
        dropped: in the file and not in the model.
    """

    path: Path
    note: str = ""
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    initialised: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The report in one line."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.resized:
            parts.append(f"{len(self.resized)} position tables resized")
        if self.initialised:
            parts.append(f"{len(self.initialised)} tensors of {_parts(self.initialised)} absent, new")
        if self.dropped:
            parts.append(f"{len(self.dropped)} tensors of {_parts(self.dropped)} dropped")
        return f"{self.path}: {', '.join([self.note] * bool(self.note) + parts)}"


def _parts(keys: Iterable[str]) -> str:
    """What optional parts of the model the keys belong to, in words."""
    return ", ".join(dict.fromkeys(OPTIONAL[_optional(key)] for key in keys))


def load_into(model: Sam, checkpoint: Checkpoint) -> LoadReport:
    """Copy a checkpoint's weights into a model; tables of positions are resized.

    Optional parts (adapters, structures, the detail head) that the file lacks keep their initial value; those that the
    model lacks are dropped.

    Args:
        model: changed in place, unless an error is raised.
        checkpoint: what is copied.

    Returns:
        What became of each tensor.

    Raises:
        CheckpointError: with the keys, for anything else that is missing, unexpected or of another shape.
    """
    own = model.state_dict()
    report = LoadReport(checkpoint.path, checkpoint.note)
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
    if not value.is_floating_point():
        wrong.append(f"{key} holds {str(value.dtype).removeprefix('torch.')}, no fractions (quantised?)")
        return value
    if value.shape == shape:
        report.loaded.append(key)
        return value
    if key == POSITIONS and is_grid(value) and value.shape[-1] == shape[-1]:
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


def resize_positions(table: Tensor, grid: int) -> Tensor:
    """Resize a position embedding, bilinear (align_corners=False).

    Args:
        table: [1, h, w, C].
        grid: tokens along a side.

    Returns:
        [1, grid, grid, C], of the table's type.
    """
    moved = F.interpolate(table.permute(0, 3, 1, 2).float(), (grid, grid), mode="bilinear", align_corners=False)
    return moved.permute(0, 2, 3, 1).to(table.dtype).contiguous()


def resize_relative(table: Tensor, rows: int) -> Tensor:
    """Resize relative positions, linear along the rows (align_corners=False).

    Args:
        table: [n, C].
        rows: 2 * tokens along a side - 1.

    Returns:
        [rows, C], of the table's type.
    """
    moved = F.interpolate(table.float().T[None], rows, mode="linear", align_corners=False)
    return moved[0].T.to(table.dtype).contiguous()
