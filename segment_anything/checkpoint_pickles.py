"""What PyTorch pickled: tensors and plain values alone, or, for a caller who trusts the file, everything in it."""

import pickle
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from .errors import CheckpointError

# what PyTorch raises for files with changed bytes, besides its pickle's own error
DAMAGE = (RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
SAVE_WEIGHTS = "save the weights alone where it was made: torch.save(model.state_dict(), 'weights.pth')"


def unpickle_tensors(path: Path) -> Any:
    """Read a pickle that holds nothing but tensors and plain values; no code in it runs.

    Args:
        path: the file.

    Returns:
        Its content, on the CPU.

    Raises:
        CheckpointError: for a damaged file, and for one that holds other objects.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
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
        if "TorchScript" in str(error):
            raise CheckpointError(f"{path} is a TorchScript program: {SAVE_WEIGHTS}.") from error
        # what PyTorch raises for damaged files; its text is left out because it recommends unsafe loading
        raise CheckpointError(f"{path} is damaged or not a checkpoint: copy it again.") from error


def unpickle_trusted(path: Path) -> Any:
    """Read any pickle, whose code runs.

    Args:
        path: the file.

    Returns:
        Its content, on the CPU. Objects of classes that are not installed are modules that hold the same parameters.

    Raises:
        CheckpointError: for a file that cannot be read.
    """
    tolerant = SimpleNamespace(
        **{**vars(pickle), "Unpickler": _Unpickler, "load": lambda *a, **k: _Unpickler(*a, **k).load()}
    )
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=tolerant)
    except Exception as error:  # the file's own code may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be unpickled ({reason}): it is damaged, or needs a Python package that is not installed; "
            f"then {SAVE_WEIGHTS}."
        ) from error


class _Absent(nn.Module):
    """Stands for a class that is not installed: its objects keep what the pickle says of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


class _Unpickler(pickle.Unpickler):
    """Finds a class in a whole model whose package is not installed, or has another version of it."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (_Absent,), {"__module__": module})
