"""Seeds, deterministic operations, and the versions that a run records."""

import argparse
import importlib.metadata
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_med2d.errors import UsageError
from sam_med2d.runtime.devices import drop_slow_amp
from sam_med2d.runtime.memory import keep_freed_memory

PACKAGES = ("torch", "numpy", "opencv-python-headless", "albumentations", "safetensors", "scipy")


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch; UsageError for a seed that NumPy cannot take."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed {seed}: give a number from 0 to {2**32 - 1}.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _compute_deterministically(device: torch.device) -> None:
    """On a CPU, make sums over several threads repeatable to the bit (gradients of indexing are not, else)."""
    torch.use_deterministic_algorithms(device.type == "cpu", warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False


def record(args: argparse.Namespace) -> dict[str, Any]:
    """What a run writes down of itself: its flags and versions, as JSON values."""
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    given = {"given": sorted(args.given)} if "given" in flags else {}
    return {"flags": flags | given, "versions": versions()}


def versions() -> dict[str, str]:
    """Versions of this code (git commit, with "+" for local changes), Python and the main packages."""
    found = {"code": _git_version(), "python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def _git_version() -> str:
    """The commit, with "+" for local changes."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git)"


def prepare_training(args: argparse.Namespace, device: torch.device) -> None:
    """Make a training repeatable to the bit and, on a CPU, keep its freed memory; see `drop_slow_amp`.

    Args:
        args: with `seed` and `use_amp`, which may be turned off.
        device: where it computes.

    Raises:
        UsageError: for a seed that cannot be used.
    """
    seed_everything(args.seed)
    _compute_deterministically(device)
    if device.type == "cpu":
        keep_freed_memory()
    drop_slow_amp(args, device)
