"""scripts/predict.py on photographs of several sizes, against another checkout."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks.sides import OTHER, OURS, ROOT, Side, add_against
from sam_med2d.data.photographs import photographs_in
from sam_med2d.data.synthetic_fundus import synthetic_fundus
from sam_med2d.errors import UsageError

QUALITY = 92  # of the JPEGs
GRAIN = 8  # grey levels of a camera's noise, without which enlarged photographs are read too quickly
SPEED = re.compile(r"photographs in ([\d.]+) s, ")


class _Run(NamedTuple):
    """What a run took for each photograph, and its peak memory."""

    seconds: float
    cpu_seconds: float
    peak_gb: float


def add_predict_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "predict"."""
    parser.add_argument("--sides", type=int, nargs="+", default=[4000, 512], help="longer sides, pixels")
    parser.add_argument("--count", type=int, default=8, help="photographs of each side")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are reported")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="resize those of a folder, draw none")
    add_against(parser)


def predict(args: argparse.Namespace) -> dict[str, float]:
    """Compare predict.py --structures all with that of another checkout (--against).

    Args:
        args: the flags.

    Returns:
        {"ratio_4000", "cpu_ratio_4000", "images_per_second_4000", "peak_gb_4000", ...} for each side: the other
        checkout's seconds and processor seconds over ours, and ours.

    Raises:
        UsageError: without --against.
    """
    if args.against is None:
        raise UsageError("predict compares with another checkout of the project: give --against CHECKOUT.")
    found: dict[str, float] = {}
    for side in args.sides:
        with tempfile.TemporaryDirectory() as name:
            folder = make_photographs(Path(name, "photographs"), side, args.count, args.photographs)
            runs: dict[str, list[_Run]] = {OTHER: [], OURS: []}
            for number in range(args.rounds):
                for who, checkout in ((OTHER, args.against), (OURS, ROOT)):
                    runs[who].append(_run(args, checkout, folder, Path(name, f"{who}{number}")))
        middle = {who: _Run(*map(median, zip(*own, strict=True))) for who, own in runs.items()}
        found |= _told(side, args.count, middle)
    return found


def _told(side: int, count: int, middle: dict[str, _Run]) -> dict[str, float]:
    """Print the medians for photographs of a side, and return what the JSON object has of them."""
    other, ours = middle[OTHER], middle[OURS]
    for who, run in middle.items():
        words = f"{run.seconds:.3f} s, {run.cpu_seconds:.3f} processor s, peak {run.peak_gb:.2f} GB"
        print(f"{side} px, {count} photographs  {who:>5}  {words}", flush=True)
    return {
        f"ratio_{side}": round(other.seconds / ours.seconds, 3),
        f"cpu_ratio_{side}": round(other.cpu_seconds / ours.cpu_seconds, 3),
        f"images_per_second_{side}": round(1 / ours.seconds, 3),
        f"peak_gb_{side}": round(ours.peak_gb, 3),
    }


def make_photographs(folder: Path, side: int, count: int, source: Path | None = None) -> Path:
    """JPEGs with grain whose longer side is `side`.

    Args:
        folder: is made, for the JPEGs.
        side: pixels.
        count: of photographs.
        source: folder of photographs that are resized, evenly chosen; None to draw them.

    Returns:
        The folder.
    """
    folder.mkdir()
    paths = photographs_in(source) if source else []
    for number in range(count):
        picture = (
            cv2.imread(str(paths[number * len(paths) // count]))
            if paths
            else synthetic_fundus(height=480, width=512, seed=number)[0][..., ::-1]
        )
        scale = side / max(picture.shape[:2])
        size = [max(1, round(length * scale)) for length in picture.shape[1::-1]]
        large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(number).integers(0, GRAIN, (*large.shape[:2], 1), np.uint8)
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), cv2.add(large, np.repeat(grain, 3, axis=2)), options)
    return folder


def _run(args: argparse.Namespace, checkout: Path, folder: Path, out: Path) -> _Run:
    """Predict a folder; the processor time of a second run, which finds all done, is that of starting."""
    words = ("scripts/predict.py", str(folder), "--structures", "all", "--out", str(out))
    side = Side((sys.executable, *words), checkout)
    seconds, whole, peak = _timed(side, args.threads)
    _, start, _ = _timed(side, args.threads)
    return _Run(seconds / args.count, (whole - start) / args.count, peak)


def _timed(side: Side, threads: int) -> tuple[float, float, float]:
    """Seconds that a run told (0: nothing was to do), its processor seconds, and its peak memory in GB."""
    environment = side.environment | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(side.command, cwd=side.checkout, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(side.command)} ended with {process.returncode}: {text[-2000:]}")
    told = SPEED.search(text)
    return float(told[1]) if told else 0.0, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9
