"""The folder of a run: made, refused, resumed."""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from sam_med2d.errors import UsageError
from sam_med2d.runtime.distributed import Processes


def make_folder(path: Path, flag: str) -> Path:
    """Make a folder, and prove that files can be written there.

    Args:
        path: the folder.
        flag: what gave it.

    Returns:
        `path`.

    Raises:
        UsageError: that names the flag.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UsageError(f"{flag}: cannot write to {path} ({error.strerror}): choose another folder.") from error


def make_run_folder(args: argparse.Namespace) -> Path:
    """The folder of a training run, made; it holds no run, or that which --resume goes on with.

    Raises:
        UsageError: where it holds another run, or cannot be made.
    """
    refuse_run_name(args.run_name)
    folder = make_folder(Path(args.work_dir) / "models" / args.run_name, "--work_dir")
    if (folder / "last").exists() and not args.resume:
        raise UsageError(
            f"{folder} holds a run: go on with it (--resume {folder}/last), give another --run_name, or remove it."
        )
    return folder


def refuse_run_name(name: str) -> None:
    """Raise UsageError for a --run_name that is no folder below --work_dir."""
    parts = Path(name).parts
    if not parts or ".." in parts or Path(name).is_absolute():
        raise UsageError(f"--run_name {name!r}: give the name of a folder of its own, below --work_dir.")


def refuse_other_run(checkpoint: Path, folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to go on with another run.

    Args:
        checkpoint: what --resume names.
        folder: of this run.
        old, new: flags that decide a run, of the checkpoint and of this one.

    Raises:
        UsageError: where the checkpoint is not in the folder; or names the flags that differ, with both values.
    """
    if checkpoint.resolve().parent != folder.resolve():
        raise UsageError(f"--resume {checkpoint} is not in {folder}: give that run's --work_dir and --run_name.")
    differing = [f"{k} {new.get(k)} (was {old.get(k)})" for k in new | old if new.get(k) != old.get(k)]
    if differing:
        raise UsageError(f"--resume {checkpoint} is a run with other flags: {', '.join(differing)}.")


def resume_command(
    script: str, args: argparse.Namespace, defaults: argparse.Namespace, processes: Processes, resume: str
) -> str:
    """The command line that goes on with this run.

    Args:
        script: file of the command.
        args: its flags; those that have their defaults are written only where `args.given` holds them.
        defaults: the flags' values when none is given.
        processes: of the run; torchrun starts several.
        resume: value of --resume.

    Returns:
        The command, as a shell reads it.
    """
    launcher = [sys.executable]
    if processes.count > 1:
        launcher = ["torchrun", "--nnodes", str(processes.count // processes.here)]
        launcher += ["--nproc_per_node", str(processes.here)]
    words = [*launcher, script, "--resume", resume]
    for name, value in vars(args).items():
        written = name in getattr(args, "given", ()) or value != getattr(defaults, name)
        if name not in ("resume", "given") and written and value is not None:
            words += [f"--{name}", *_words(value)]
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    """The value of a flag as words of a command line."""
    if isinstance(value, dict):
        return [f"{key}={','.join(names)}" for key, names in value.items()]
    return list(map(str, value if isinstance(value, list) else [value]))
