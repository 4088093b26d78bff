"""Say whether everything here can run on this machine, and how fast.

    python -m sam_med2d.doctor
    python -m sam_med2d.doctor --json

Takes some seconds: it imports the packages, and times half precision. Run it in the folder of this project. It says
- which packages are installed, which versions are required, and which commands need those that are optional;
- what the processor, memory, GPU and disk are, and whether --use_amp is faster here;
- whether the shipped weights are there and whole.

Exit code: 0 all that is needed is there, 2 something is missing, damaged or of another version; each is told with what
to do.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import make_parser, run_main
from sam_med2d.runtime.installation import ROOT, RequirementFile, installation_problems, read_requirements

WEIGHTS = ROOT / "pretrain_model"  # with SHA256SUMS
AS_SHIPPED = "is as it was shipped"
LITTLE_DISK, LITTLE_SHARED = 2.0, 0.5  # gigabytes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--json", action="store_true", help="print everything as JSON, for programs")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Print what was found: exit code 0. Raises UsageError that lists what has to be mended."""
    files = read_requirements()
    unusable, weights = installation_problems(files), _weights()
    problems = unusable + [f"{path} {state}" for path, state in weights.items() if state != AS_SHIPPED]
    found = {"packages": _packages(files), "weights": weights, **({} if unusable else _machine())}
    found |= {"notes": [] if unusable else list(_notes(found)), "problems": problems}
    lines = (
        [json.dumps(found, indent=1)] if args.json else [*_lines(files, found), *map("note: {}".format, found["notes"])]
    )
    print("\n".join(lines))
    if problems:
        raise UsageError("\n  ".join([f"{len(problems)} problem(s) on this machine:", *problems]))
    return 0


# --- what is found --------------------------------------------------------------------------------------------------


def _packages(files: Sequence[RequirementFile]) -> list[dict[str, Any]]:
    """The files of requirements as JSON values."""
    return [
        {
            "file": file.name,
            "for": file.purpose,
            "packages": {p.name: {"version": p.version, "required": p.wanted, "fits": p.fits} for p in file.packages},
        }
        for file in files
    ]


def _machine() -> dict[str, Any]:
    """The machine; needs PyTorch."""
    from sam_med2d.runtime import machine
    from sam_med2d.runtime.devices import resolve_device
    from sam_med2d.runtime.reproducibility import versions

    return {
        "versions": versions(),
        "processor": machine.processor(),
        "memory": machine.memory(),
        "accelerators": machine.accelerators(),
        "use_amp": machine.half_precision(resolve_device(None)),
        "disk": {"folder": str(Path.cwd()), "free": round(shutil.disk_usage(Path.cwd()).free / machine.GIGA, 1)},
    }


def _weights() -> dict[str, str]:
    """The shipped weights by path, each with AS_SHIPPED or what is wrong and what to do."""
    states = {}
    for line in (WEIGHTS / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, name = line.split()
        path = WEIGHTS / name
        if not path.is_file():
            states[str(path)] = "is not there: take it from the repository again"
        elif hashlib.sha256(path.read_bytes()).hexdigest() == expected:
            states[str(path)] = AS_SHIPPED
        else:
            size = path.stat().st_size
            states[str(path)] = (
                f"({size} bytes) is not what was shipped, by its SHA-256: take it from the repository again"
            )
    return states


def _notes(found: dict[str, Any]) -> Iterator[str]:
    """Sentences about what works, but not well."""
    processor, memory, gpus = found["processor"], found["memory"], found["accelerators"]
    if gpus["nvidia_driver"] and not gpus["gpus"]:
        why = f"is built for CUDA {gpus['built_for_cuda']}" if gpus["built_for_cuda"] else "is a build for CPUs"
        yield f"there is an NVIDIA driver, and this PyTorch {why} and finds no GPU: install the build that fits it"
    if gpus["mps"]:
        yield "MPS is there, and used with --device mps only: nothing was tried on it"
    quota = processor["cores_of_container"]
    if quota and quota < processor["threads"]:
        number = max(1, int(quota))
        yield f"the container may use {quota:g} cores: set OMP_NUM_THREADS={number}, or threads wait for each other"
    if memory["shared"] is not None and memory["shared"] < LITTLE_SHARED:
        size = f"{memory['shared']:g} GB"
        yield f"/dev/shm has {size}: give --num_workers 0, or the container more of it (docker: --shm-size 2g)"
    if found["disk"]["free"] < LITTLE_DISK:
        yield f"{found['disk']['free']:g} GB are free in {found['disk']['folder']}: a checkpoint of vit_b takes one"


# --- the text -------------------------------------------------------------------------------------------------------


def _lines(files: Sequence[RequirementFile], found: dict[str, Any]) -> Iterator[str]:
    """What is printed."""
    for file in files:
        yield f"{file.name}: {file.purpose}"
        yield from (f"  {package.name:<24} {package.describe()}" for package in file.packages)
        if any(package.version is None for package in file.packages):
            yield f"  {file.install}"
    yield from (f"{Path(path).name} {state}" for path, state in found["weights"].items())
    if "processor" in found:
        yield from _machine_lines(found)


def _machine_lines(found: dict[str, Any]) -> Iterator[str]:
    """A line for each part of the machine."""
    processor, memory, amp, gpus = (found[name] for name in ("processor", "memory", "use_amp", "accelerators"))
    features = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in processor["features"].items())
    yield f"code: {found['versions']['code']}, Python {found['versions']['python']}"
    yield f"processor: {processor['name']}, {processor['cores']} cores, {processor['threads']} threads; {features}"
    sizes = ("all", "free", "of_container", "shared")
    yield "memory: " + ", ".join(f"{memory[name]:g} GB {name}" for name in sizes if memory[name] is not None)
    shown = [f"{gpu['device']} {gpu['name']}, {gpu['free']:g} of {gpu['memory']:g} GB free" for gpu in gpus["gpus"]]
    built_for = f"CUDA {gpus['built_for_cuda']}" if gpus["built_for_cuda"] else "CPUs"
    yield f"GPU: {'; '.join(shown) or 'none'} (PyTorch built for {built_for})"
    verdict = "pays" if amp["pays"] else "does not pay: leave it out"
    yield f"--use_amp: {verdict}; {amp['dtype']} is {amp['speed']:g} times as fast as float32 on {amp['device']}"
    yield f"disk: {found['disk']['free']:g} GB free in {found['disk']['folder']}"


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
