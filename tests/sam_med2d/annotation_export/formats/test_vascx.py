"""Crops for vascx: labels, geometry, what is left out; and what the package reads."""

import csv
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.annotation_export.formats.vascx import SIDE, Crop
from sam_med2d.data.image_io import read_image, read_mask
from scripts import export_annotations
from segment_anything.utils.field_of_view import FieldOfView, find_field_of_view
from tests.helpers.commands import run_command
from tests.helpers.paths import DATA_DEMO
from tests.helpers.round_trips import small_data, written

READ = """
import sys
from pathlib import Path
import numpy as np
from vascx.cli import make_examples
from vascx.utils.analysis import _load_retina_input
for example in make_examples(Path(sys.argv[1])):
    retina = _load_retina_input(example)
    np.savez(f"{sys.argv[1]}/{retina.id}.npz", artery=retina.arteries.mask, vein=retina.veins.mask,
             disc=retina.disc.mask, roi=retina.roi_mask, fovea=(retina.fovea_location.x, retina.fovea_location.y))
"""


def eyes(folder: Path) -> Path:
    """Two of the demo's photographs, with vessels divided at the disc into arteries and veins, and a fovea."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    content = []
    for name in ("synthetic_02", "synthetic_09"):
        shutil.copy(DATA_DEMO / f"images/{name}.jpg", folder / "images")
        vessel, disc = (read_mask(DATA_DEMO / f"masks/{name}_{kind}_000.png") for kind in ("vessel", "optic_disc"))
        middle, half = int(np.argwhere(disc).mean(axis=0)[0]), np.zeros_like(vessel)
        half[: middle + 8] = 1
        fovea = cv2.circle(np.zeros_like(vessel), (vessel.shape[1] // 2, vessel.shape[0] // 2), 6, 1, -1)
        late = np.flip(half, axis=0) if middle > len(half) else 1 - half
        late[middle - 8 : middle + 8] = 1
        masks = {"artery": vessel * half, "vein": vessel * late, "optic_disc": disc, "fovea": fovea}
        for structure, mask in masks.items():
            cv2.imwrite(str(folder / f"masks/{name}_{structure}_000.png"), mask * 255)
        listed = ", ".join(f'"masks/{name}_{structure}_000.png"' for structure in masks)
        content.append(f'"images/{name}.jpg": [{listed}]')
    (folder / "image2label_test.json").write_text(f"{{{', '.join(content)}}}")
    return folder


def test_labels_and_files(tmp_path, capsys):
    out = written(eyes(tmp_path / "data"), tmp_path / "out", "vascx")
    told = capsys.readouterr().out
    assert "2 photographs" in told and "| artery | 2 |" in told and "no fovea" not in told
    for folder in ("preprocessed_rgb", "artery_vein", "vessels", "disc"):
        pictures = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((out / folder).glob("*.png"))]
        assert [picture.shape[:2] for picture in pictures] == [(SIDE, SIDE)] * 2
        assert set(np.unique(pictures[0])) == {0, 1, 2, 3} or folder != "artery_vein"
    with (out / "bounds.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["synthetic_02", "synthetic_09"]
    with (out / "fovea.csv").open() as file:
        rows = list(csv.DictReader(file))
    view = find_field_of_view(read_image(tmp_path / "data/images/synthetic_02.jpg"))
    scale = SIDE / (2 * view.radius)
    expected = [(side // 2 + 0.5 - c) * scale + SIDE / 2 for side, c in zip(view.size[::-1], view.centre, strict=True)]
    assert np.allclose([float(rows[0]["x_fovea"]), float(rows[0]["y_fovea"])], expected, atol=1.5)


@pytest.mark.parametrize("centre", [(250.3, 200.7), (120.0, 210.0), None])
def test_the_crop_is_the_one_that_bounds_stand_for(centre):
    """vascx moves the centre of bounds to the middle of its crop, and counts from the middle of the first pixel."""
    size, radius = (400, 500), 190.4 if centre else None
    crop = Crop(FieldOfView(size, (20, 0, 400, 500), centre, radius))
    bounds = crop.bounds()
    scale = SIDE / (2 * bounds["radius"])
    points = np.array([[10.0, 30.0], [333.0, 250.0]])
    theirs = (points - bounds["center"]) * scale + SIDE / 2
    ours = (points + 0.5 - (crop.left, crop.top)) * SIDE / crop.side - 0.5
    assert np.allclose(theirs, ours)
    if centre:
        assert abs(bounds["radius"] - radius) <= 0.5 and np.abs(np.subtract(bounds["center"], centre)).max() < 1.2
        assert crop.lines == ({"top": [[0, 20], [500, 20]]} if centre[1] - radius < 19 else {})
    mask = np.zeros(size, np.uint8)
    mask[150:260, 200:300] = 1
    assert np.array_equal(
        crop.back(cv2.resize(crop.of(mask), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT)), mask
    )


def test_what_is_missing_is_told(tmp_path, capsys):
    data = eyes(tmp_path / "data")
    (data / "image2label_train.json").write_text('{"images/x.jpg": ["masks/x_optic_disc_000.png"]}')
    shutil.copy(data / "images/synthetic_02.jpg", data / "images/x.jpg")
    shutil.copy(data / "masks/synthetic_02_optic_disc_000.png", data / "masks/x_optic_disc_000.png")
    flags = ("--structures", "artery", "optic_disc")
    written(data, tmp_path / "out", "vascx", *flags)
    told = capsys.readouterr().out
    for line in (
        "1 photograph(s) without artery and vein are left out",
        "2 photograph(s) have no vein",
        "no fovea, and",
    ):
        assert line in told
    small = small_data(tmp_path / "small")
    assert run_command(export_annotations, [small, tmp_path / "x", "--format", "vascx"]) == 2
    assert (
        "SOURCE has hard_exudate, microaneurysm, optic_disc, vessel, and no mask of artery" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_vascx_reads_them(tmp_path):
    if find_spec("vascx") is None:
        pytest.skip("retinalysis-vascx is not installed")
    out = written(eyes(tmp_path / "data"), tmp_path / "out", "vascx")
    subprocess.run([sys.executable, "-c", READ, str(out)], check=True)
    for name in ("synthetic_02", "synthetic_09"):
        read = np.load(out / f"{name}.npz")
        label = cv2.imread(str(out / f"artery_vein/{name}.png"), cv2.IMREAD_UNCHANGED)
        inside = read["roi"]
        assert np.array_equal(read["artery"], np.isin(label, (1, 3)) & inside) and read["artery"].sum() > 1000
        assert np.array_equal(read["vein"], np.isin(label, (2, 3)) & inside) and read["disc"].sum() > 1000
        assert abs(inside.mean() - np.pi / 4) < 0.06 and read["fovea"].min() > 0
