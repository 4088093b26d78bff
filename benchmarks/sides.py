"""The sides of a comparison: this code, and the reference code or another checkout, each in a process of its own."""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS, REFERENCE, OTHER = "fast", "oracle", "other"
OLDER_COMMAND = "scripts/benchmark.py"  # what a checkout has in place of the package benchmarks
PART_WORKER = ROOT / "benchmarks" / "part_worker.py"


@dataclass(frozen=True)
class Side:
    """How to start a process that does one side's work."""

    command: tuple[str, ...]  # its words
    checkout: Path = ROOT  # the folder whose code it runs, and in which it starts

    @property
    def environment(self) -> dict[str, str]:
        """This process's variables, with the checkout's packages before all others."""
        return os.environ | {"PYTHONPATH": str(self.checkout)}


def add_against(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names another checkout."""
    parser.add_argument(
        "--against",
        type=_checkout,
        metavar="CHECKOUT",
        help="compare with this other checkout of the project instead of the reference code",
    )


def _checkout(folder: str) -> Path:
    if not Path(folder, "segment_anything", "build_sam.py").is_file():
        raise argparse.ArgumentTypeError(f"{folder} is no checkout of this project: it has no segment_anything/")
    return Path(folder).resolve()


def baseline(args: argparse.Namespace) -> str:
    """Name of what this code is compared with: REFERENCE, or OTHER with --against."""
    return REFERENCE if args.against is None else OTHER


def same_command(args: argparse.Namespace) -> dict[str, Side]:
    """The command that was given, for the baseline, then OURS: another checkout runs its own benchmark of that name."""
    flag = argparse.ArgumentParser(add_help=False)
    flag.add_argument("--against")
    words = flag.parse_known_args(args.given)[1]
    own = (sys.executable, "-m", "benchmarks", *words, "--only")
    if args.against is None:
        return {REFERENCE: Side((*own, REFERENCE)), OURS: Side((*own, OURS))}
    older = args.against / OLDER_COMMAND
    command = (sys.executable, str(older), *words, "--only") if older.is_file() else own
    return {OTHER: Side((*command, OURS), args.against), OURS: Side((*own, OURS))}


def part_worker(args: argparse.Namespace, side: str, *words: str | int) -> Side:
    """One side's encoder or decoder: benchmarks/part_worker.py.

    Args:
        args: with `against` and `threads`.
        side: REFERENCE, OTHER or OURS.
        words: for the worker.

    Returns:
        What to start.
    """
    more = ("--reference",) if side == REFERENCE else ()
    command = (sys.executable, "-P", str(PART_WORKER), *map(str, words), "--threads", str(args.threads), *more)
    return Side(command, args.against if side == OTHER else ROOT)


def peak_memory() -> float:
    """Largest resident size of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB


class Worker:
    """A process that calls `serve` and prints a JSON object last."""

    def __init__(self, side: Side) -> None:
        """Start the process and wait until it is ready; RuntimeError where it ends early."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(side.command, cwd=side.checkout, env=side.environment, **pipes)
        self._wait()  # the next one must not start while this one does

    def ask(self, request: int = 1) -> None:
        """Have the work of this number done, and wait for it; RuntimeError where the process ends early."""
        if self._process.poll() is None:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
        self._wait()

    def finish(self) -> dict:
        """End the process: what it has measured itself."""
        return json.loads(self._process.communicate()[0])

    def _wait(self) -> None:
        if not self._process.stdout.readline():
            raise RuntimeError("a benchmark process ended early: its message is above")


def serve(work: Callable[[int], object]) -> None:
    """Do the work for each number of the standard input, until it ends; say when it can start and when it is done."""
    print("ready", flush=True)
    for request in sys.stdin:
        work(int(request))
        print("done", flush=True)
