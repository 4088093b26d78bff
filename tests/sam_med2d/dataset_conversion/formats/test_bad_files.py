"""Files of other tools that cannot be used: one message, exit code 2, and nothing of OUT."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from scripts import prepare_dataset
from tests.helpers.commands import run_command
from tests.helpers.round_trips import SIZE, small_data, written

RUNS = SIZE[0] * SIZE[1] + 1


def photograph(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images/eye.png"), np.full((*SIZE, 3), 90, np.uint8))


def coco(folder: Path, **more: object) -> None:
    photograph(folder)
    image = {"id": 1, "file_name": "eye.png", "height": SIZE[0], "width": SIZE[1]}
    drawn = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"size": [*SIZE], "counts": [RUNS - 20, 20]}}
    content = {"images": [image], "annotations": [drawn], "categories": [{"id": 1, "name": "disc"}]}
    (folder / "a.json").write_text(json.dumps(content | more))


def long_runs(folder: Path) -> None:
    coco(folder)


def ids_that_repeat(folder: Path) -> None:
    coco(folder, images=[{"id": 1, "file_name": "eye.png"}, {"id": 1, "file_name": "other.png"}])


def boxes(folder: Path) -> None:
    photograph(folder)
    (folder / "images/eye.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (folder / "classes.txt").write_text("disc\n")


def volume(folder: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    photograph(folder)
    (folder / "masks").mkdir()
    labels = np.zeros((*SIZE[::-1], 5), np.uint8)
    labels[5:20, 5:20] = 1
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "masks/eye_disc.nii.gz")


def damaged_nrrd(folder: Path) -> None:
    pytest.importorskip("nrrd")
    photograph(folder)
    (folder / "masks").mkdir()
    (folder / "masks/eye_disc.nrrd").write_bytes(b"NRRD0004\ntype: uchar\n")


def two_of_one_photograph(folder: Path) -> None:
    photograph(folder)
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "eye.geojson").write_text('{"type": "FeatureCollection", "features": []}')


def unknown_labels(folder: Path) -> None:
    written(small_data(folder.with_name("data")), folder, "nnunet")
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"].popitem()
    (folder / "dataset.json").write_text(json.dumps(content))


def bitmap_that_is_none(folder: Path) -> None:
    photograph(folder)
    (folder / "ann").mkdir()
    drawn = {"classTitle": "disc", "geometryType": "bitmap", "bitmap": {"data": "%", "origin": [0, 0]}}
    content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": [drawn]}
    (folder / "ann/eye.png.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("form", "make", "message"),
    [
        ("coco", long_runs, f"runs of {RUNS} pixels in a mask of 60 x 40"),
        ("coco", ids_that_repeat, "several images have the id 1"),
        ("yolo", boxes, "the labels hold 1 box(es) and no polygon"),
        ("nifti", volume, "eye_disc.nii.gz is a volume, or no picture (60 x 40 x 5)"),
        ("nrrd", damaged_nrrd, "eye_disc.nrrd cannot be read as NRRD"),
        ("geojson", two_of_one_photograph, "are both of"),
        ("nnunet", unknown_labels, "holds the value(s)"),
        ("supervisely", bitmap_that_is_none, "its bitmap is damaged"),
    ],
)
def test_nothing_is_written(tmp_path, capsys, form, make, message):
    make(tmp_path / "source")
    words = [form, tmp_path / "source", tmp_path / "made/out", "--num_workers", 1]
    assert run_command(prepare_dataset, words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "made/out").exists()
