"""Measure how fast photographs are prepared, and how memory grows: `python -m benchmarks prepare`.

Draws synthetic photographs of 512 pixels with two masks each, and prepares a quarter of them and all of them with
scripts/prepare_dataset.py, each in processes of its own.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.synthetic_fundus import synthetic_fundus

ROOT = Path(__file__).resolve().parent.parent
DRAWN = 16  # different photographs; the others are these, turned up or down by a grey level
STRUCTURES = ("optic_disc", "vessel")


def add_prepare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=10_000, help="photographs")
    parser.add_argument("--folder", type=Path, help="where they are drawn, about 100 KB each (default: temporary)")


def prepare(args: argparse.Namespace) -> dict[str, float]:
    """time the preparation of a data set"""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source, quarter = Path(folder, "all"), Path(folder, "quarter")
        draw(source, args.images)
        draw(quarter, max(1, args.images // 4))
        small, large = (prepare_once(part, Path(folder, "out"), args.threads) for part in (quarter, source))
    cpu = large["cpu_seconds"]
    print(f"{args.images} photographs: {large['seconds']:.1f} s, {cpu:.1f} s of processor time")
    return {
        "images_per_second": args.images / large["seconds"],
        "images_per_cpu_second": args.images / cpu,
        "peak_mb": large["peak_mb"],
        "peak_mb_of_a_quarter": small["peak_mb"],
    }


def draw(folder: Path, count: int) -> None:
    """Photographs as photos/<n>.jpg with masks in a folder for each structure."""
    for part in ("photos", *STRUCTURES):
        (folder / part).mkdir(parents=True)
    eyes = [synthetic_fundus(height=480, width=512, seed=seed) for seed in range(min(DRAWN, count))]
    encoded = [[encode(".png", 255 * masks[kind].astype(np.uint8)) for kind in STRUCTURES] for _, masks in eyes]
    for i in range(count):
        image = cv2.add(eyes[i % DRAWN][0][..., ::-1], (i // DRAWN % 16,) * 3)
        (folder / f"photos/eye_{i}.jpg").write_bytes(encode(".jpg", image))
        for kind, content in zip(STRUCTURES, encoded[i % DRAWN], strict=True):
            (folder / f"{kind}/eye_{i}.png").write_bytes(content)


def encode(suffix: str, picture: np.ndarray) -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def prepare_once(source: Path, out: Path, workers: int) -> dict[str, float]:
    """Seconds, processor seconds of all processes, and the largest one's memory. Raises CalledProcessError."""
    command = [sys.executable, "-c", MEASURED, str(source), str(out), str(workers)]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(out)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": float(told.splitlines()[-1])}


MEASURED = """
import resource, sys
from scripts.prepare_dataset import main
source, out, workers = sys.argv[1:]
code = main(["folder", source, out, "--num_workers", workers])
peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(max(peaks))
sys.exit(code)
"""
