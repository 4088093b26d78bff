"""The sides of a comparison: this code, and the reference code or another checkout of this project."""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS, REFERENCE, OTHER = "fast", "oracle", "other"
OLDER_COMMAND = "scripts/benchmark.py"  # what a checkout has in place of the package benchmarks
PART_WORKER = ROOT / "benchmarks" / "part_worker.py"


@dataclass(frozen=True)
class Side:
    """How to start a process that does one side's work.

    Attributes:
        command: its words.
        checkout: the folder whose code it runs, and in which it starts.
    """

    command: tuple[str, ...]
    checkout: Path = ROOT

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
    """How to start benchmarks/part_worker.py with these words for a side: REFERENCE, OTHER or OURS."""
    more = ("--reference",) if side == REFERENCE else ()
    command = (sys.executable, "-P", str(PART_WORKER), *map(str, words), "--threads", str(args.threads), *more)
    return Side(command, args.against if side == OTHER else ROOT)
