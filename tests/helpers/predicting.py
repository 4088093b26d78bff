"""What the tests of scripts/predict.py share: weights, photographs, runs and their results."""

import csv
from pathlib import Path

import cv2
import numpy as np
import torch

from sam_med2d.data.image_io import read_image
from sam_med2d.runtime import cli
from scripts import predict
from segment_anything import SamPredictor
from segment_anything.build_sam import build_network, build_sam
from segment_anything.checkpoint import model_metadata, save_weights
from tests.helpers.photographs import photograph
from tests.helpers.tiny_models import TINY_SPEC

STRUCTURES = ("optic_disc", "vessel", "drusen")
SIZE = (73, 91)


def write_weights(path: Path, *, detail: str | None = None) -> Path:
    """A tiny model that knows STRUCTURES and holds drusen to be absent everywhere."""
    torch.manual_seed(0)
    model = build_network(TINY_SPEC, image_size=64, encoder_adapter=False, structures=STRUCTURES, detail=detail)
    if detail:
        for mlp in model.mask_decoder.detail.weights:
            torch.nn.init.normal_(mlp.layers[-1].weight, std=0.1)
    model.prompt_encoder.presence_thresholds |= {"optic_disc": 0.0, "vessel": 0.0, "drusen": 1.0}
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t"))
    return path


def write_picture(path: Path, pixels: np.ndarray | None = None, *, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = photograph(SIZE[0] + seed, SIZE[1]) if pixels is None else pixels
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


def write_folder(folder: Path) -> Path:
    """Three photographs, two of one name."""
    for seed, name in enumerate(("left/eye.png", "right/eye.png", "third.png")):
        write_picture(folder / name, seed=seed)
    return folder


def words_for(folder: Path, weights: Path, out: Path, *more: object) -> list[str]:
    return [str(word) for word in (folder, "--sam_checkpoint", weights, "--out", out, *more)]


def run(folder: Path, weights: Path, *more: object, out: str = "out") -> int:
    words = words_for(folder, weights, folder.parent / out, *more)
    return cli.run_main(predict.main, predict.parse_args(words))


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def mask_of(out: Path, row: dict[str, str]) -> np.ndarray:
    mask = cv2.imread(str(out / row["mask"]), cv2.IMREAD_UNCHANGED)
    assert mask.ndim == 2 and set(np.unique(mask)) <= {0, 255}
    return mask > 0


def predictor_of(weights: Path, path: Path) -> SamPredictor:
    predictor = SamPredictor(build_sam("vit_t", weights))
    predictor.set_image(read_image(path))
    return predictor


def best_of(answer: tuple) -> np.ndarray:
    masks, iou, _ = answer
    return masks[iou.argmax()]


def contents(out: Path) -> dict[str, bytes]:
    """What a run leaves, but for the times of the photographs in its state."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "state" not in path.parts
    }
