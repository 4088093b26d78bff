"""Small things that both scripts need: flags, seeds, devices, processes, logging, run folders."""

import argparse
import ctypes
import importlib.metadata
import logging
import mmap
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from sam_med2d.data.records import DataError
from segment_anything.checkpoint import CheckpointError
from segment_anything.modeling import Sam

SHIPPED_WEIGHTS = Path(__file__).parent / "pretrain_model" / "fundus_vit_t.safetensors"
PACKAGES = ("torch", "numpy", "opencv-python-headless", "albumentations", "safetensors", "scipy")


class UsageError(ValueError):
    """Flags or surroundings that cannot work; the message names the flag, its value and what to do."""


def parse_bool(text: str) -> bool:
    """ "True", "False", "1", "0", "yes", "no", "on", "off" in any case; anything else is a usage error."""
    value = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in value:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return value[text.lower()]


def add_bool(group: argparse._ArgumentGroup, flag: str, *, default: bool | None, help: str) -> None:
    """A flag that means what it says: `--flag`, `--flag True` or `--flag False`."""
    group.add_argument(flag, type=parse_bool, nargs="?", const=True, default=default, metavar="BOOL", help=help)


def add_complete(group: argparse._ArgumentGroup) -> None:
    """The flag --complete, as a dictionary for `maps.complete`."""
    group.add_argument(
        "--complete",
        type=parse_complete,
        action=Merge,
        nargs="+",
        default={},
        metavar="DATA_SET=STRUCTURE,...",
        help="data sets in which a structure without a mask is not there (others: was not annotated)",
    )


def parse_complete(text: str) -> dict[str, list[str]]:
    """ "idrid=haemorrhage,hard_exudate" -> {"idrid": ["haemorrhage", "hard_exudate"]}."""
    data_set, separator, names = text.partition("=")
    if not (data_set and separator and all(names.split(","))):
        raise argparse.ArgumentTypeError(f"{text!r}: write a data set, =, and its structures with commas between")
    return {data_set: names.split(",")}


class Merge(argparse.Action):
    """Joins the dictionaries of lists of a flag's values, also of a flag that is given twice."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        joined = {key: list(names) for key, names in (getattr(namespace, self.dest) or {}).items()}
        for key, names in (item for value in values for item in value.items()):
            joined[key] = list(dict.fromkeys((*joined.get(key, ()), *names)))
        setattr(namespace, self.dest, joined)


def parse_with_given(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and keep in `args.given` the names of the flags that were written out."""
    args = parser.parse_args(argv)
    parser.set_defaults(**dict.fromkeys(vars(args)))
    args.given = {name for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return args


def run_main(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a script; what a user can mend ends as one message on standard error and exit code 2."""
    try:
        return main(args)
    except (UsageError, DataError, CheckpointError, OSError) as error:
        print(f"error: {_told_by_loader(str(error)).strip()}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not (told := _cure(error)):
            raise
        print(f"error: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _told_by_loader(message: str) -> str:
    """An error's message without the traceback that a loader process puts before it."""
    return re.split(r"(?m)^[\w.]*Error: ", message)[-1] if message.startswith("Caught ") else message


def _cure(error: RuntimeError) -> str:
    """What to do about an error of PyTorch that a user can mend; empty for others."""
    reason = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in reason:
        cure = "lower --batch_size or --image_size, or train with --grad_checkpointing"
        return f"the device's memory is full ({reason}): {cure}"
    if reason.startswith("DataLoader worker"):
        cure = "free memory (in a container, of /dev/shm too) or give --num_workers 0, and go on with --resume"
        return f"a process that reads photographs has ended ({reason}): {cure}"
    return ""


def resolve_device(name: str | None) -> torch.device:
    """The named device, or the best one present. Raises UsageError for one that is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is not a device name: use cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: this PyTorch finds no CUDA device; use --device cpu or leave it out.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are only {torch.cuda.device_count()} CUDA devices.")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: this PyTorch cannot use it; use cpu, or leave it out.") from error
    return device


def autocast_dtype(device: torch.device) -> torch.dtype:
    """Precision of --use_amp: bfloat16, or float16 on a GPU that has no bfloat16."""
    missing = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.float16 if missing else torch.bfloat16


def warn_of_emulation(use_amp: bool, device: torch.device) -> None:
    """Say that --use_amp does not pay on a processor that has no instructions for bfloat16."""
    if use_amp and device.type == "cpu" and torch.backends.mkldnn.is_available() and not _has_bfloat16():
        logging.warning(
            "--use_amp: this processor emulates bfloat16, which takes far longer than float32: leave the flag out."
        )


def _has_bfloat16() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as torchrun starts them: this one's rank among `count`, of which `here` share its
    machine; one alone without torchrun."""

    rank: int = 0
    count: int = 1
    here: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over the processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, item: Any) -> list[Any]:
        """Every process's `item`, in order of rank."""
        items = [item] * self.count
        if self.count > 1:
            distributed.all_gather_object(items, item)
        return items

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            distributed.barrier()


def join_processes(device_name: str | None) -> tuple[Processes, torch.device]:
    """This process's place and device. Raises UsageError for a device that the processes cannot share.

    Reads what torchrun sets in the environment; each process takes the GPU of its local rank.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "LOCAL_WORLD_SIZE" not in os.environ:
        return Processes(), resolve_device(device_name)
    if device_name not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {device_name}: {count} processes take one GPU each; use cuda, cpu or leave it out.")
    device = resolve_device(device_name)
    if device.type == "cuda":
        device = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    # a process may wait long for another one, which checks the files or validates
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    return Processes(distributed.get_rank(), count, int(os.environ["LOCAL_WORLD_SIZE"])), device


def resume_command(
    script: str, args: argparse.Namespace, defaults: argparse.Namespace, processes: Processes, resume: str
) -> str:
    """The command line of this run with --resume `resume`; of flags that have their defaults, those that were given."""
    launcher = [sys.executable]
    if processes.count > 1:
        launcher = ["torchrun", "--nnodes", str(processes.count // processes.here)]
        launcher += ["--nproc_per_node", str(processes.here)]
    words = [*launcher, script, "--resume", resume]
    for name, value in vars(args).items():
        written = name in getattr(args, "given", ()) or value != getattr(defaults, name)
        if name not in ("resume", "given") and written:
            words += [f"--{name}", *_words(value)]
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    """The value of a flag as it is written on a command line."""
    if isinstance(value, dict):
        return [f"{key}={','.join(names)}" for key, names in value.items()]
    return list(map(str, value if isinstance(value, list) else [value]))


def leave_processes() -> None:
    """Undo `join_processes`."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def compile_encoder(model: Sam, device: torch.device) -> None:
    """Have the image encoder compiled when it is first used. Raises UsageError where a CPU has no compiler for it."""
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise UsageError("--compile: a CPU needs a C++ compiler for it: install g++, or leave --compile out.")
    model.image_encoder.compile()


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch. Raises UsageError for a seed NumPy cannot take."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed {seed}: give a number from 0 to {2**32 - 1}.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def compute_deterministically(device: torch.device) -> None:
    """On a CPU, make sums over several threads repeatable to the bit (gradients of indexing are not, else)."""
    torch.use_deterministic_algorithms(device.type == "cpu", warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False


def make_folder(path: Path, flag: str) -> Path:
    """Create `path` and prove that files can be written there. Raises UsageError that names `flag`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UsageError(f"{flag}: cannot write to {path} ({error.strerror}): choose another folder.") from error


def make_run_folder(args: argparse.Namespace) -> Path:
    """The folder of a training run: without one, or with that which --resume goes on with. Raises UsageError else."""
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
    """Raise UsageError where --resume names a checkpoint that is not in `folder`, or one of other flags, by name."""
    if checkpoint.resolve().parent != folder.resolve():
        raise UsageError(f"--resume {checkpoint} is not in {folder}: give that run's --work_dir and --run_name.")
    differing = [f"{k} {new.get(k)} (was {old.get(k)})" for k in new | old if new.get(k) != old.get(k)]
    if differing:
        raise UsageError(f"--resume {checkpoint} is a run with other flags: {', '.join(differing)}.")


class StopSignals:
    """A context in which SIGINT and SIGTERM do no more than set `asked`, so that a run can stop where it is whole."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self.asked = True


def setup_logging(file: Path | None = None, *, level: int = logging.INFO) -> None:
    """Log messages from `level` on to standard output and, if given, to the end of `file`."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if file:
        handlers.append(logging.FileHandler(file))
    logging.basicConfig(level=level, format="%(message)s", handlers=handlers, force=True)


def record(args: argparse.Namespace) -> dict[str, Any]:
    """The resolved flags and versions of a run, as JSON values."""
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
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git)"


def prepare_training(args: argparse.Namespace, device: torch.device) -> None:
    """Seeds, operations that repeat to the bit and, on a CPU, memory that is kept and a word on --use_amp."""
    seed_everything(args.seed)
    compute_deterministically(device)
    if device.type == "cpu":
        keep_freed_memory()
    warn_of_emulation(args.use_amp, device)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next step, in huge pages, instead of giving it back to the system.

    Mapping large tensors' pages anew takes a tenth of a training step on a CPU. Only glibc has the switch.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block has pages of its own
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks
        page = os.sysconf("SC_PAGE_SIZE")
        _grow_heap_in_huge_pages(libc, os.sysconf("SC_PHYS_PAGES") // 2 * page, page)


def _grow_heap_in_huge_pages(libc: ctypes.CDLL, size: int, page: int) -> None:
    """Grow the heap by `size` bytes of addresses, which take memory only as they are used; does nothing if refused."""
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(size)
    if block:
        libc.madvise(block // page * page + page, size - page, mmap.MADV_HUGEPAGE)
        libc.free(block)


def cpu_workers(requested: int | None, *, here: int = 1) -> int:
    """Loader processes of one of the `here` processes of a machine: as requested, else what its cores leave.

    Raises UsageError for a negative number.
    """
    if requested is not None and requested < 0:
        raise UsageError(f"--num_workers {requested}: give 0 or more.")
    if requested is not None:
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(8, cores // here - 1))
