"""Runs of test.py on small photographs: their data, command line and rows."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.runtime import cli
from tests.helpers.tiny_models import make_tiny_model, save_model
from tests.helpers.training_runs import load_test_script

SCRIPT = load_test_script()


def make_data(folder: Path, count: int = 7, seed: int = 0) -> Path:
    """Photographs of noise with a disc, a cup inside, and in every second one a vessel."""
    rng = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    pairs = {}
    for i in range(count):
        image = f"images/{folder.name}_{i}.jpg"
        shape = (60 + i, 80)
        cv2.imwrite(str(folder / image), rng.integers(40, 255, (*shape, 3), np.uint8))
        boxes = {"optic_disc": (10, 40, 15, 50), "optic_cup": (20, 34, 24, 40)}
        boxes |= {"vessel": (5, 55, 60, 63)} if i % 2 else {}
        for structure, (top, bottom, left, right) in boxes.items():
            mask = np.zeros(shape, np.uint8)
            mask[top:bottom, left:right] = 255
            name = f"masks/{folder.name}_{i}_{structure}_000.png"
            cv2.imwrite(str(folder / name), mask)
            pairs[name] = image
    (folder / "label2image_test.json").write_text(json.dumps(pairs))
    return folder


def words(checkpoint: Path, data: Path | list[Path], run_name: str, *more: str) -> list[str]:
    folders = data if isinstance(data, list) else [data]
    flags = f"--sam_checkpoint {checkpoint} --work_dir {checkpoint.parent} --run_name {run_name} --num_workers 0"
    return ["--data_path", *map(str, folders), *flags.split(), "--device", "cpu", *more]


def cases(folder: Path) -> list[dict[str, str]]:
    """Rows of a run, without the time that they took."""
    rows = csv.DictReader((folder / "cases.csv").open())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def run(checkpoint: Path, data: Path | list[Path], run_name: str, *more: str) -> int:
    return cli.run_main(SCRIPT.main, SCRIPT.parse_args(words(checkpoint, data, run_name, *more)))


def summary(folder: Path) -> dict:
    """The numbers of a run that do not depend on the clock or on the command line."""
    content = json.loads((folder / "summary.json").read_text())
    return {name: content[name] for name in ("overall", "structures", "data_sets", "images", "failed", "settings")}


def large_logits_weights(folder: Path) -> Path:
    """A checkpoint of the tiny model with larger logits: masks of all sizes."""
    model = make_tiny_model()
    for parameter in model.mask_decoder.output_hypernetworks_mlps.parameters():
        parameter.data.mul_(1.5)
    return save_model(model, folder / "w.safetensors")
