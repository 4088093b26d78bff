"""Checkpoint folders of a training run: whole or absent, whatever interrupts it.

A checkpoint is a folder with `model.safetensors` (weights and preprocessing), `state.pt` (optimizer, position in
the run) and, on request, `model.pth` (the weights in SAM-Med2D's layout). It is written under a temporary name and
renamed; `last` and `best` are links that are replaced atomically.
"""

import os
import pickle
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from segment_anything.checkpoint import WEIGHTS_NAME, CheckpointError, save_pth, save_weights
from segment_anything.checkpoint_pickles import DAMAGE
from segment_anything.utils.atomic import sync

STATE_NAME = "state.pt"
PTH_NAME = "model.pth"
STEP = r"step-\d{7,}\+*"  # names of checkpoints; what is called otherwise is not ours to remove


def save_checkpoint(
    run: Path,
    name: str,
    weights: dict[str, Tensor],
    metadata: dict[str, Any],
    state: dict[str, Any],
    links: list[str],
    *,
    keep: int = 0,
    pth: bool = False,
) -> Path:
    """Write a checkpoint, and point links at it. One process of a run saves at a time.

    Args:
        run: Folder of the run.
        name: Of the checkpoint's folder, "step-" and seven digits; gets a "+" where one of this name is there.
        weights: Of the model, by name.
        metadata: Of the weights, see `segment_anything.checkpoint.model_metadata`.
        state: What a run needs to go on.
        links: "last", "best" or both.
        keep: How many checkpoints without a link stay, the newest; the others are removed.
        pth: Write `model.pth`, too.

    Raises:
        OSError: It cannot be written; earlier checkpoints are whole.
    """
    while (run / name).exists():  # the same step again, by a resumed run: nothing whole is ever removed first
        name += "+"
    final, temporary = run / name, run / f".{name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save_weights(temporary / WEIGHTS_NAME, weights, metadata)
        if pth:
            save_pth(temporary / PTH_NAME, weights, metadata)
        torch.save(state, temporary / STATE_NAME)
        sync(temporary / STATE_NAME)
        sync(temporary)
        temporary.rename(final)
        sync(run)
    except (SafetensorError, RuntimeError) as error:  # how the writers report a full disk
        raise OSError(f"cannot save {final} ({error}): free some space; earlier checkpoints are whole") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for link in sorted(links):  # "last" after "best": a run that is killed between them saves this step again
        _point_link(run / link, name)
    _remove_leftovers(run)
    _remove_unlinked(run, keep)
    return final


def _point_link(link: Path, target: str) -> None:
    """Make or replace a link, atomically."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)
    sync(link.parent)


def _remove_unlinked(run: Path, keep: int) -> None:
    """Remove the checkpoints without a link, but for the `keep` newest."""
    linked = {entry.resolve() for entry in run.iterdir() if entry.is_symlink()}
    ours = (entry for entry in run.iterdir() if re.fullmatch(STEP, entry.name))
    unlinked = sorted(entry for entry in ours if entry.is_dir() and entry.resolve() not in linked)
    for entry in unlinked[: max(0, len(unlinked) - keep)]:
        shutil.rmtree(entry)


def _remove_leftovers(run: Path) -> None:
    """Remove what killed runs left: unfinished checkpoints, and links (each would keep a checkpoint alive)."""
    for entry in run.glob(".*"):
        if entry.is_symlink() and re.fullmatch(r"\.(last|best)\.\d+", entry.name):
            entry.unlink()
        elif re.fullmatch(rf"\.{STEP}\.\d+\.tmp", entry.name):
            shutil.rmtree(entry)


def load_state(folder: Path) -> dict[str, Any]:
    """The `state` of a checkpoint's folder, or a link to it; CheckpointError where there is none or a damaged one."""
    path = folder / STATE_NAME
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # PyTorch does not look at the check sums that it writes
                raise zipfile.BadZipFile(f"its part {damaged} has changed")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"--resume {folder}: there is no {STATE_NAME}; give a checkpoint folder such as models/<run>/last."
        ) from error
    except (*DAMAGE, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"--resume {path} is damaged ({error}): resume from another checkpoint.") from error
    if not isinstance(state, dict) or not isinstance(state.get("flags"), dict):
        raise CheckpointError(f"--resume {path} is not the state of a training run of this program.")
    return state
