"""The demo data set: the drawing code, the script and the files in data_demo/."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_med2d.data.demo_dataset import split_of, write_dataset
from sam_med2d.data.synthetic_fundus import STRUCTURES, field_of_view, make_eye, synthetic_fundus
from sam_med2d.data.synthetic_geometry import MAX_SIDE
from scripts import make_demo_data
from tests.helpers.commands import run_command
from tests.helpers.paths import ROOT

DEMO = ROOT / "data_demo"
LESIONS = {"microaneurysm", "haemorrhage", "hard_exudate"}
MAPS = ("image2label_train.json", "image2label_val.json", "label2image_test.json")


def pairs_of(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """{map file: [(image path, mask path)]} from the three maps of a data set."""
    listed = {}
    for name in MAPS[:2]:
        content = json.loads((folder / name).read_text())
        listed[name] = [(image, mask) for image, masks in content.items() for mask in masks]
    test = json.loads((folder / MAPS[2]).read_text())
    return listed | {MAPS[2]: [(image, mask) for mask, image in test.items()]}


def all_pairs(folder: Path) -> list[tuple[str, str]]:
    return [pair for pairs in pairs_of(folder).values() for pair in pairs]


def check_picture(image: np.ndarray, masks: dict[str, np.ndarray], height: int, width: int) -> None:
    """What holds for every synthetic picture of any size."""
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    fov = field_of_view(height=height, width=width)
    assert {"optic_disc", "optic_cup", "vessel"} <= set(masks) <= set(STRUCTURES)
    for name, mask in masks.items():
        assert mask.dtype == bool and mask.shape == (height, width), name
        assert mask.any(), name
        assert not (mask & ~fov).any(), name
    assert not (masks["optic_cup"] & ~masks["optic_disc"]).any()
    assert image[~fov].mean() < 10 < image[fov].mean()


def test_same_seed_gives_the_same_bytes_and_another_seed_another_eye():
    image, masks = synthetic_fundus(height=120, width=150, seed=3)
    again, masks_again = synthetic_fundus(height=120, width=150, seed=3)
    other, masks_other = synthetic_fundus(height=120, width=150, seed=4)
    assert np.array_equal(image, again) and masks.keys() == masks_again.keys()
    assert all(np.array_equal(masks[name], masks_again[name]) for name in masks)
    assert not np.array_equal(image, other)
    assert not np.array_equal(masks["vessel"], masks_other["vessel"])


@pytest.mark.slow
@given(height=st.integers(64, 260), width=st.integers(64, 260), seed=st.integers(0, 2**32), lesions=st.booleans())
def test_any_size_and_seed(height, width, seed, lesions):
    image, masks = synthetic_fundus(height=height, width=width, seed=seed, lesions=lesions)
    check_picture(image, masks, height, width)
    assert lesions or not LESIONS & set(masks)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 640), (640, 64), (1000, 1200)])
def test_sizes_at_the_edges(height, width):
    check_picture(*synthetic_fundus(height=height, width=width, seed=1), height, width)


@pytest.mark.parametrize("side", [0, 63, MAX_SIDE + 1])
def test_size_out_of_range_is_named(side):
    with pytest.raises(ValueError, match=f"width must be .* got {side}"):
        synthetic_fundus(height=100, width=side, seed=0)


def test_the_same_eye_at_two_sizes():
    _, small = synthetic_fundus(height=200, width=200, seed=5)
    _, large = synthetic_fundus(height=400, width=400, seed=5)
    for name in ("optic_disc", "optic_cup", "vessel"):
        shrunk = cv2.resize(large[name].astype(np.float32), (200, 200), interpolation=cv2.INTER_AREA) >= 0.5
        dice = 2 * (shrunk & small[name]).sum() / (shrunk.sum() + small[name].sum())
        assert dice > 0.9, (name, dice)


def test_disc_mask_has_the_area_of_its_ellipse():
    seed, size = 8, 600
    eye = make_eye(np.random.default_rng(seed).spawn(5)[0])
    _, masks = synthetic_fundus(height=size, width=size, seed=seed)
    expected = np.pi * eye.disc_axes.prod() * (0.48 * size) ** 2
    assert masks["optic_disc"].sum() == pytest.approx(expected, rel=0.02)


def test_structures_look_as_they_should():
    image, masks = synthetic_fundus(height=400, width=400, seed=0)
    near = cv2.dilate(masks["vessel"].astype(np.uint8), np.ones((9, 9))).astype(bool)
    retina = field_of_view(height=400, width=400) & ~np.logical_or.reduce(list(masks.values()))
    green = image[..., 1].astype(float)
    assert green[masks["vessel"] & ~masks["optic_disc"]].mean() < 0.85 * green[near & retina].mean()
    assert green[masks["haemorrhage"]].mean() < 0.75 * green[retina].mean()
    assert green[masks["hard_exudate"]].mean() > 1.25 * green[retina].mean()
    assert green[masks["optic_cup"]].mean() > green[masks["optic_disc"]].mean() > 1.2 * green[retina].mean()


@pytest.mark.parametrize("count", [3, 4, 11, 50])
def test_every_split_has_pictures(count):
    splits = [split_of(index, count) for index in range(count)]
    assert set(splits) == {"train", "val", "test"}
    assert splits.count("train") >= splits.count("val") == splits.count("test")


@pytest.mark.slow
def test_committed_files_are_what_the_script_writes(tmp_path):
    for name in ("images/retina.jpg", "masks/retina_optic_disc_000.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(DEMO / name, tmp_path / name)
    assert run_command(make_demo_data, ["--out", str(tmp_path)]) == 0
    assert all((tmp_path / name).read_bytes() == (DEMO / name).read_bytes() for name in MAPS)
    made, committed = ({str(path.relative_to(folder)) for path in folder.rglob("*.*g")} for folder in (tmp_path, DEMO))
    assert made == committed
    for name in made:
        mine, theirs = (cv2.imread(str(f / name), cv2.IMREAD_UNCHANGED) for f in (tmp_path, DEMO))
        # JPEG bytes may differ between OpenCV builds; masks may not.
        limit = 2 if name.endswith(".jpg") else 0
        assert mine.shape == theirs.shape
        assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= limit, name


def test_retina_is_what_the_script_writes(tmp_path):
    pytest.importorskip("skimage")
    listing = write_dataset(tmp_path, count=3, size=100, with_retina=True)
    assert listing["test"]["retina"] == ["optic_disc"]
    for name, limit in (("images/retina.jpg", 2), ("masks/retina_optic_disc_000.png", 0)):
        mine, theirs = (cv2.imread(str(f / name), cv2.IMREAD_UNCHANGED) for f in (tmp_path, DEMO))
        assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= limit


def test_second_run_gives_identical_bytes_and_no_left_overs(tmp_path):
    arguments = ["--out", str(tmp_path), "--count", "3", "--size", "100"]
    assert run_command(make_demo_data, arguments) == 0
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # Another seed in between changes which lesion masks exist; these must not stay behind.
    assert run_command(make_demo_data, [*arguments, "--seed", "7"]) == 0
    assert run_command(make_demo_data, arguments) == 0
    assert first == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_maps_list_sound_files():
    pairs = all_pairs(DEMO)
    listed = {path for pair in pairs for path in pair}
    on_disk = {path.relative_to(DEMO).as_posix() for path in DEMO.rglob("*.*g")}
    assert listed == on_disk
    for image_path, mask_path in pairs:
        mask = cv2.imread(str(DEMO / mask_path), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}, mask_path
        assert cv2.imread(str(DEMO / image_path)).shape[:2] == mask.shape, mask_path
        stem = Path(image_path).stem
        assert mask_path in {f"masks/{stem}_{structure}_000.png" for structure in STRUCTURES}


def test_splits_share_no_picture_and_have_the_promised_sizes():
    images = [{image for image, _ in pairs} for pairs in pairs_of(DEMO).values()]
    assert [len(split) for split in images] == [7, 2, 3]
    assert len(set.union(*images)) == 12
    assert "images/retina.jpg" in images[2]


def test_demo_data_is_small():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 3_000_000


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--size", "10"), ("--size", "99999"), ("--count", "0"), ("--seed", "-1"), ("--count", "100000")],
)
def test_number_out_of_range_exits_2(flag, value, tmp_path, capsys):
    assert run_command(make_demo_data, ["--out", str(tmp_path / "new"), flag, value]) == 2
    message = capsys.readouterr().err
    assert flag in message and value in message and message.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_folder_that_cannot_be_written_exits_2(tmp_path, capsys):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    assert run_command(make_demo_data, ["--out", str(blocker / "data"), "--count", "3", "--size", "100"]) == 2
    message = capsys.readouterr().err
    assert "--out" in message and str(blocker) in message and message.count("\n") == 1


def test_retina_without_scikit_image_exits_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    assert run_command(make_demo_data, ["--out", str(tmp_path / "new"), "--retina"]) == 2
    message = capsys.readouterr().err
    assert "--retina" in message and "scikit-image" in message and message.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_script_runs_as_a_file_from_any_folder(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "make_demo_data.py"), "--count", "3", "--size"]
    good = subprocess.run([*command, "100"], cwd=tmp_path, capture_output=True, text=True)
    assert good.returncode == 0 and "1 train, 1 val, 1 test" in good.stdout
    assert len(list((tmp_path / "data_demo" / "images").glob("*.jpg"))) == 3
    bad = subprocess.run([*command, "10"], cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 2 and "Traceback" not in bad.stderr and "--size" in bad.stderr


def test_snippet_in_the_readme_maps_every_file_once(tmp_path):
    code = (DEMO / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    for folder in ("images", "masks"):
        shutil.copytree(DEMO / folder, tmp_path / "my_data" / folder)
    # A name that begins with another picture's name must not take that picture's masks.
    for name in ("images/retina.jpg", "masks/retina_optic_disc_000.png"):
        copy = tmp_path / "my_data" / name.replace("retina", "retina_2")
        shutil.copy(DEMO / name, copy)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    pairs = all_pairs(tmp_path / "my_data")
    assert len(pairs) == len(all_pairs(DEMO)) + 1
    assert ("images/retina_2.jpg", "masks/retina_2_optic_disc_000.png") in pairs
    assert ("images/retina.jpg", "masks/retina_optic_disc_000.png") in pairs
    assert {path for pair in pairs for path in pair} == {
        path.relative_to(tmp_path / "my_data").as_posix() for path in (tmp_path / "my_data").rglob("*.*g")
    }
