"""scripts/prepare_dataset.py: a data set as downloaded becomes maps, whole or not at all."""

import csv
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.record_checks import load_checked
from sam_med2d.dataset_conversion.convert_sample import starts
from sam_med2d.dataset_conversion.formats import FORMATS
from sam_med2d.dataset_conversion.public import PUBLIC_SETS
from sam_med2d.dataset_conversion.request import find_data_set
from sam_med2d.dataset_conversion.samples import Choice, MaskSource, Sample
from sam_med2d.dataset_conversion.splits import carve, divide, parse_shares
from sam_med2d.runtime.journal import Journal
from scripts import prepare_dataset as script
from tests.helpers.commands import run_command
from tests.helpers.paths import ROOT

SIZE = 96, 120  # height, width


def picture(seed: int) -> np.ndarray:
    """A lit circle with noise: RGB uint8 [H,W,3]."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = (x - 60) ** 2 + (y - 48) ** 2 < 40**2
    noise = np.random.default_rng(seed).integers(90, 200, (*SIZE, 3))
    return (noise * inside[..., None]).astype(np.uint8)


def drawing(seed: int) -> np.ndarray:
    """A bar and three specks inside the circle: bool [H,W]."""
    mask = np.zeros(SIZE, bool)
    mask[30 + seed % 10, 35:85] = True
    mask[60, [50, 60, 70]] = True
    return mask


def drive(folder: Path, training: int = 3, test: int = 2) -> Path:
    """A miniature DRIVE."""
    for part, first, count in (("training", 21, training), ("test", 1, test)):
        for name in ("images", "1st_manual", "2nd_manual", "mask"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            Image.fromarray(picture(i)).save(folder / part / "images" / f"{i:02d}_{part}.tif")
            Image.fromarray(drawing(i)).convert("L").save(folder / part / "1st_manual" / f"{i:02d}_manual1.gif")
            view = np.zeros(SIZE, np.uint8)
            view[8:88, 20:100] = 255
            Image.fromarray(view).save(folder / part / "mask" / f"{i:02d}_{part}_mask.gif")
    return folder


def lab(folder: Path, count: int = 6) -> Path:
    """A lab's own folder: JPEG photographs, a folder of masks for each structure."""
    for name in ("images", "optic_disc", "vessel"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"images/p{i}.jpg"), picture(i)[..., ::-1])
        disc = np.zeros(SIZE, np.uint8)
        disc[40:60, 50:70] = 255
        cv2.imwrite(str(folder / f"optic_disc/p{i}.png"), disc)
        cv2.imwrite(str(folder / f"vessel/p{i}.png"), drawing(i) * np.uint8(255))
    return folder


def run(*arguments: object) -> int:
    return run_command(script, [*map(str, arguments), "--num_workers", "1"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- what comes out -------------------------------------------------------------------------------------------


def test_an_official_split_becomes_maps_that_load(tmp_path, capsys):
    assert run("drive", drive(tmp_path / "DRIVE"), tmp_path / "out") == 0
    train, test = load_checked(tmp_path / "out", "train"), load_checked(tmp_path / "out", "test")
    assert [record.image.stem for record in train] == ["drive_21_training", "drive_22_training", "drive_23_training"]
    assert [record.image.stem for record in test] == ["drive_01_test", "drive_02_test"]
    assert {mask.structure for record in train for mask in record.masks} == {"vessel"}
    for record in train:
        number = int(record.image.stem.split("_")[1])
        np.testing.assert_array_equal(read_image(record.image), picture(number))
        np.testing.assert_array_equal(read_mask(record.masks[0].path), drawing(number))
    printed = capsys.readouterr().out
    assert "3 train, 2 test photographs, split official" in printed
    assert "note: the whole data set has 20 train, 20 test photographs" in printed


def test_both_directions_of_the_maps_and_the_index_agree(tmp_path):
    assert run("folder", lab(tmp_path / "lab"), tmp_path / "out", "--split", "50/17/33") == 0
    rows = {row["image"]: row for row in csv.DictReader((tmp_path / "out/index.csv").open())}
    assert len(rows) == 6
    for split in ("train", "val", "test"):
        forward = json.loads((tmp_path / f"out/image2label_{split}.json").read_text())
        backward = json.loads((tmp_path / f"out/label2image_{split}.json").read_text())
        assert {mask: image for image, masks in forward.items() for mask in masks} == backward
        assert all(rows[image]["split"] == split for image in forward)
        assert all(rows[image]["structures"] == "optic_disc vessel" for image in forward)


def test_an_unchanged_photograph_keeps_its_bytes(tmp_path):
    run("folder", lab(tmp_path / "lab"), tmp_path / "out")
    copies = {path.stem.split("_")[-1]: path.read_bytes() for path in (tmp_path / "out/images").iterdir()}
    assert copies == {path.stem: path.read_bytes() for path in (tmp_path / "lab/images").iterdir()}


def test_link_points_to_the_source(tmp_path):
    run("folder", lab(tmp_path / "lab"), tmp_path / "out", "--link")
    for path in (tmp_path / "out/images").iterdir():
        assert path.is_symlink() and path.resolve().parent == (tmp_path / "lab/images").resolve()


def test_dicom_files_are_told(tmp_path, caplog):
    source = lab(tmp_path / "lab")
    (source / "images/EYE").write_bytes(bytes(128) + b"DICM")
    (source / "notes").touch()
    assert run("folder", source, tmp_path / "out") == 0
    assert "passed over: 1 DICOM files" in caplog.text and "images/EYE" in caplog.text


def test_photographs_in_an_archive_are_not_linked_to(tmp_path, capsys):
    archive = shutil.make_archive(str(tmp_path / "lab"), "zip", lab(tmp_path / "lab"))
    assert "--link: photographs in archives" in refused(capsys, "folder", archive, tmp_path / "out", "--link")
    assert run("folder", archive, tmp_path / "out") == 0
    assert not (tmp_path / ".out.unfinished").exists()


def test_the_same_input_gives_the_same_bytes(tmp_path):
    source = lab(tmp_path / "lab", 40)
    run_command(script, ["folder", str(source), str(tmp_path / "a"), "--max_side", "60", "--num_workers", "1"])
    run_command(script, ["folder", str(source), str(tmp_path / "b"), "--max_side", "60", "--num_workers", "2"])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_fov_crop_cuts_photograph_and_masks_alike(tmp_path):
    run("folder", lab(tmp_path / "lab"), tmp_path / "out", "--fov_crop")
    for record in load_checked(tmp_path / "out", "train"):
        seed = int(record.image.stem[-1])
        row = next(
            r for r in csv.DictReader((tmp_path / "out/index.csv").open()) if r["image"].endswith(record.image.name)
        )
        x0, y0, x1, y1 = (int(row[key]) for key in ("x0", "y0", "x1", "y1"))
        assert abs(x0 - 20) <= 4 and abs(y1 - 88) <= 4
        vessel = next(mask for mask in record.masks if mask.structure == "vessel")
        np.testing.assert_array_equal(read_mask(vessel.path), drawing(seed)[y0:y1, x0:x1])


def test_fov_crop_uses_the_data_sets_own_field_of_view(tmp_path):
    run("drive", drive(tmp_path / "DRIVE"), tmp_path / "out", "--fov_crop")
    for record in load_checked(tmp_path / "out", "train"):
        number = int(record.image.stem.split("_")[1])
        np.testing.assert_array_equal(read_image(record.image), picture(number)[8:88, 20:100])
        np.testing.assert_array_equal(read_mask(record.masks[0].path), drawing(number)[8:88, 20:100])


def test_lesions_of_a_pixel_survive_resizing(tmp_path):
    run("drive", drive(tmp_path / "DRIVE", 2, 1), tmp_path / "out", "--max_side", "24")
    for record in load_checked(tmp_path / "out", "train"):
        mask = read_mask(record.masks[0].path)
        assert mask.shape == (19, 24) and read_image(record.image).shape == (19, 24, 3)
        assert mask[11, [10, 12, 14]].all()
        assert cv2.connectedComponents(mask, connectivity=8)[0] - 1 == 4


def test_instances_are_the_components_and_min_area_counts_what_it_drops(tmp_path, capsys):
    run("drive", drive(tmp_path / "DRIVE"), tmp_path / "out", "--instances", "--min_area", "2")
    record = load_checked(tmp_path / "out", "train")[0]
    assert [mask.key for mask in record.masks] == ["drive_21_training_vessel_000.png"]
    assert read_mask(record.masks[0].path).sum() == 50
    assert json.loads((tmp_path / "out/prepared.json").read_text())["lost"] == {"vessel": 15}
    run("drive", tmp_path / "DRIVE", tmp_path / "all", "--instances")
    record = load_checked(tmp_path / "all", "train")[0]
    assert sum(read_mask(mask.path).astype(int) for mask in record.masks).max() == 1
    np.testing.assert_array_equal(sum(read_mask(mask.path) for mask in record.masks), drawing(21))


def test_tiles_show_the_photograph_at_its_own_resolution(tmp_path):
    run("drive", drive(tmp_path / "DRIVE"), tmp_path / "out", "--tile", "48", "--overlap", "8")
    records = load_checked(tmp_path / "out", "train")
    assert len(records) > 3
    covered = np.zeros(SIZE, bool)
    for record in records:
        name, y, x = record.image.stem.rsplit("_", 2)
        top, left, number = int(y[1:]), int(x[1:]), int(name.split("_")[1])
        np.testing.assert_array_equal(read_image(record.image), picture(number)[top : top + 48, left : left + 48])
        np.testing.assert_array_equal(
            read_mask(record.masks[0].path), drawing(number)[top : top + 48, left : left + 48]
        )
        covered[top : top + 48, left : left + 48] |= number == 21
    assert covered[drawing(21)].all()


def test_a_structure_that_a_tile_does_not_show_is_absent_there(tmp_path):
    run("folder", lab(tmp_path / "lab", 1), tmp_path / "out", "--tile", "32", "--keep_empty", "--split", "100/0/0")
    rows = list(csv.DictReader((tmp_path / "out/index.csv").open()))
    assert any(row["absent"] == "optic_disc vessel" and not row["structures"] for row in rows)
    assert all(set(row["absent"].split()) | set(row["structures"].split()) == {"optic_disc", "vessel"} for row in rows)


@given(st.integers(1, 500), st.integers(2, 200), st.data())
def test_windows_cover_the_whole_length(length, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    first = starts(length, tile, overlap)
    covered = {pixel for start in first for pixel in range(start, min(length, start + tile))}
    assert covered == set(range(length))
    assert all(0 <= start <= max(0, length - tile) for start in first) and len(set(first)) == len(first)
    assert all(b - a <= tile - overlap for a, b in itertools.pairwise(first))


def test_an_empty_mask_file_means_absent(tmp_path, capsys):
    source = lab(tmp_path / "lab")
    cv2.imwrite(str(source / "vessel/p3.png"), np.zeros(SIZE, np.uint8))
    run("folder", source, tmp_path / "out", "--split", "100/0/0")
    rows = {row["image"]: row for row in csv.DictReader((tmp_path / "out/index.csv").open())}
    assert [row["absent"] for image, row in rows.items() if "p3" in image] == ["vessel"]
    assert json.loads((tmp_path / "out/prepared.json").read_text())["empty"] == {"vessel": 1}
    assert "empty in the source" in capsys.readouterr().out


def test_a_healthy_photograph_of_the_test_split_is_tested(tmp_path):
    """label2image cannot list it."""
    source = lab(tmp_path / "lab")
    for folder in ("optic_disc", "vessel"):
        for i in (1, 3, 5):
            (source / folder / f"p{i}.png").unlink()
    assert run("folder", source, tmp_path / "out", "--missing", "absent", "--split", "0/0/100") == 0
    records = load_checked(tmp_path / "out", "test", without_masks=True)
    assert len(records) == 6 and sum(record.absent == ("optic_disc", "vessel") for record in records) == 3


# --- splits ---------------------------------------------------------------------------------------------------


def samples(patients: list[str], kinds: list[str] | None = None) -> list[Sample]:
    masks = [(MaskSource(kind, Path(kind), Path.exists),) for kind in kinds] if kinds else [()] * len(patients)
    return [Sample(f"s{i}", Path("x"), masks[i], patient=patient) for i, patient in enumerate(patients)]


def eyes(folder: Path, *names: str) -> Path:
    """A lab's folder with photographs of these names."""
    lab(folder, len(names))
    for i, name in enumerate(names):
        for path in folder.glob(f"*/p{i}.*"):
            path.rename(path.with_name(name + path.suffix))
    return folder


def split_of_patients(out: Path) -> dict[str, set[str]]:
    """Splits of the photographs, by the name before the underscore."""
    found: dict[str, set[str]] = {}
    for row in csv.DictReader((out / "index.csv").open()):
        found.setdefault(Path(row["image"]).stem.split("_")[0], set()).add(row["split"])
    return found


def test_both_eyes_are_in_one_split_by_their_names(tmp_path, capsys):
    source = eyes(tmp_path / "lab", *(f"s{i}_{eye}" for i in range(8) for eye in ("left", "right")))
    assert run("folder", source, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "split 70/10/20 by patient, seed 0" in printed
    assert "note: 16 photographs are of 8 patient(s), told by left and right (s0_left and s0_right: s0)" in printed
    assert all(len(splits) == 1 for splits in split_of_patients(tmp_path / "out").values())
    assert {row["patient"] for row in csv.DictReader((tmp_path / "out/index.csv").open())} == {
        f"s{i}" for i in range(8)
    }
    run("folder", source, tmp_path / "apart", "--by", "image")
    assert "split 70/10/20 by photograph, seed 0" in capsys.readouterr().out
    assert any(len(splits) > 1 for splits in split_of_patients(tmp_path / "apart").values())
    assert not any(row["patient"] for row in csv.DictReader((tmp_path / "apart/index.csv").open()))


def test_where_no_patient_is_known_the_split_is_by_photograph_and_says_so(tmp_path, capsys):
    assert run("folder", eyes(tmp_path / "lab", "1_1", "1_2", "2_1", "2_2", "3_1"), tmp_path / "out") == 0
    printed = capsys.readouterr().out
    recorded = json.loads((tmp_path / "out/prepared.json").read_text())["split"]
    assert f"split {recorded}" in printed and recorded == "70/10/20 by photograph, seed 0"
    assert "note: the names, such as 1_1.jpg and 1_2.jpg, tell no patient" in printed and "--patient REGEX" in printed
    says = refused(capsys, "folder", tmp_path / "lab", tmp_path / "none", "--by", "patient")
    assert "--by patient: the names, such as 1_1.jpg and 1_2.jpg, tell no patient: say with --patient REGEX" in says
    says = refused(capsys, "drive", drive(tmp_path / "DRIVE"), tmp_path / "none", "--val", "30", "--by", "patient")
    assert "tell no patient: leave it out, or divide --by image" in says and not (tmp_path / "none").exists()
    assert run("folder", tmp_path / "lab", tmp_path / "said", "--patient", r"(\d)_\d") == 0
    assert r"5 photographs are of 3 patient(s), told by --patient (\d)_\d" in capsys.readouterr().out
    assert all(len(splits) == 1 for splits in split_of_patients(tmp_path / "said").values())


def test_photographs_of_unknown_patients_are_counted(tmp_path, capsys):
    run("folder", eyes(tmp_path / "lab", "a1_OD", "a1_OS", "scan", "other"), tmp_path / "out")
    assert "2 photographs are of 1 patient(s), told by OS and OD" in (printed := capsys.readouterr().out)
    assert "; 2 of unknown patients are taken one by one" in printed


@given(st.lists(st.integers(0, 15), min_size=1, max_size=60), st.integers(0, 5))
def test_no_patient_is_in_two_splits(patients, seed):
    found = divide(samples([f"p{p}" for p in patients]), parse_shares("60/20/20"), by="patient", seed=seed)
    of_patient = {p: {s for q, s in zip(patients, found, strict=True) if q == p} for p in patients}
    assert all(len(splits) == 1 for splits in of_patient.values())
    if len(set(patients)) >= 3:
        assert set(found) == {"train", "val", "test"}


def test_shares_are_met_for_every_kind_of_photograph():
    kinds = ["vessel"] * 100 + ["hard_exudate"] * 20
    found = divide(samples([""] * 120, kinds), parse_shares("70/10/20"), by="patient", seed=3)
    for kind in set(kinds):
        own = [split for split, k in zip(found, kinds, strict=True) if k == kind]
        for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
            assert abs(own.count(split) - share * len(own)) <= 2
    assert found == divide(samples([""] * 120, kinds), parse_shares("70/10/20"), by="patient", seed=3)
    assert found != divide(samples([""] * 120, kinds), parse_shares("70/10/20"), by="patient", seed=4)


def test_validation_is_carved_from_training_alone(tmp_path):
    official = ["train"] * 20 + ["test"] * 5
    found = carve(samples([""] * 25), official, 0.25, by="patient", seed=0)
    assert found.count("val") == 5 and found[20:] == official[20:]
    run("drive", drive(tmp_path / "DRIVE", 4, 2), tmp_path / "out", "--val", "25")
    assert [len(load_checked(tmp_path / "out", split)) for split in ("train", "val", "test")] == [3, 1, 2]


@pytest.mark.parametrize("text", ["", "70", "a/b/c", "-1/50/51", "0/0/0", "1/2/3/4"])
def test_a_split_that_is_none_is_named(text):
    with pytest.raises(ValueError, match="write three percentages"):
        parse_shares(text)


# --- interruption ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_leaves_no_data_set_and_goes_on(tmp_path):
    source = lab(tmp_path / "lab", 200)
    out, unfinished = tmp_path / "out", tmp_path / ".out.unfinished"
    command = [sys.executable, "scripts/prepare_dataset.py", "folder", source, out, "--num_workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not any(path.stat().st_size for path in unfinished.glob("done/*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not out.exists()
    images = [unfinished / "data" / value["rows"][0]["image"] for _, value in Journal(unfinished / "done").values()]
    times = {path.name: path.stat().st_mtime_ns for path in images}
    assert 0 < len(times) < 200
    time.sleep(1)  # its worker ends by itself
    assert run("folder", source, out) == 0
    assert not unfinished.exists()
    assert times == {name: (out / "images" / name).stat().st_mtime_ns for name in times}
    run("folder", source, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path):
    source = lab(tmp_path / "lab", 300)
    command = [sys.executable, "scripts/prepare_dataset.py", "folder", source, tmp_path / "out", "--num_workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while process.poll() is None and not any((tmp_path / ".out.unfinished").glob("data/images/*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    message = process.communicate()[1]
    assert process.returncode == 130 and "the same command goes on" in message and "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_other_options_convert_again(tmp_path):
    source = lab(tmp_path / "lab")
    (source / "images/p5.jpg").write_bytes(b"no picture")
    assert run("folder", source, tmp_path / "out", "--max_side", "50", "--tile", "30") == 2
    assert run("folder", source, tmp_path / "out", "--max_side", "40", "--leave_out") == 0
    run("folder", source, tmp_path / "fresh", "--max_side", "40", "--leave_out")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_files_of_other_options_in_between_do_not_count_as_done(tmp_path):
    source = lab(tmp_path / "lab")
    whole = (source / "vessel/p5.png").read_bytes()
    (source / "vessel/p5.png").write_bytes(b"no picture")
    assert run("folder", source, tmp_path / "out", "--max_side", "60") == 2
    assert run("folder", source, tmp_path / "out", "--max_side", "40") == 2
    (source / "vessel/p5.png").write_bytes(whole)
    assert run("folder", source, tmp_path / "out", "--max_side", "60") == 0
    run("folder", source, tmp_path / "fresh", "--max_side", "60")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_linked_photographs_are_not_written_to_by_a_run_with_other_options(tmp_path):
    source = lab(tmp_path / "lab")
    (source / "vessel/p5.png").write_bytes(b"no picture")
    before = contents(source)
    assert run("folder", source, tmp_path / "out", "--link") == 2
    assert run("folder", source, tmp_path / "out", "--max_side", "40", "--leave_out") == 0
    assert contents(source) == before


# --- bad input ------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert message.count("error: ") >= 1 and "Traceback" not in message
    return message


@pytest.mark.parametrize(
    "name, nearest",
    [("IDIRD", "idrid"), ("drisht", "drishti"), ("refug", "refuge"), ("chase1", "chase"), ("flder", "folder")],
)
def test_a_wrong_name_suggests_the_nearest(tmp_path, capsys, name, nearest):
    assert f"did you mean {nearest}?" in refused(capsys, name, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", ["DRIVE", "RIM-ONE DL", "Drishti-GS1", "CHASE_DB1", "e-ophtha", "LES-AV", "SMDG-19"])
def test_official_spellings_of_names_work(name):
    assert find_data_set(name).title.startswith(name)


def test_another_data_set_is_told_from_this_one(tmp_path, capsys):
    message = refused(capsys, "idrid", drive(tmp_path / "DRIVE"), tmp_path / "out")
    assert "is not IDRiD" in message and "1. Original Images" in message and "training/images/: 3 .tif" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DRIVE"]


def test_a_mask_that_two_photographs_could_have_is_named(tmp_path, capsys):
    source = lab(tmp_path / "lab", 1)
    for place in "ab":
        (source / "images" / place).mkdir()
        shutil.copy(source / "images/p0.jpg", source / f"images/{place}/p0.jpg")
    (source / "images/p0.jpg").unlink()
    message = refused(capsys, "folder", source, tmp_path / "out")
    assert "vessel/p0.png has no photograph: " in message and "a/p0.jpg and " in message


def test_masks_of_two_photographs_never_have_one_name(tmp_path, capsys):
    """The optic_disc of p0 and the disc of p0_optic."""
    source = lab(tmp_path / "lab")
    (source / "images/p1.jpg").rename(source / "images/p0_optic.jpg")
    for folder in ("optic_disc", "vessel"):
        (source / folder / "p1.png").rename(source / folder / "p0_optic.png")
    shutil.copytree(source / "optic_disc", source / "disc")
    message = refused(capsys, "folder", source, tmp_path / "out")
    assert "masks of two photographs would have the name p0_optic_disc: rename the photographs" in message


def test_missing_masks_are_all_named_and_may_be_left_out(tmp_path, capsys):
    source = drive(tmp_path / "DRIVE")
    (source / "training/1st_manual/21_manual1.gif").unlink()
    (source / "test/images/02_test.tif").unlink()
    message = refused(capsys, "drive", source, tmp_path / "out")
    assert "21_training.tif has no vessel mask" in message and "02_manual1.gif has no photograph" in message
    assert "2 problem(s)" in message and "--leave_out" in message.splitlines()[-1]
    assert run("drive", source, tmp_path / "out", "--leave_out") == 0
    assert len(load_checked(tmp_path / "out", "train")) == 2


def test_an_unreadable_file_is_named_and_nothing_is_half_written(tmp_path, capsys):
    source = lab(tmp_path / "lab")
    whole = (source / "vessel/p2.png").read_bytes()
    (source / "vessel/p2.png").write_bytes(whole[: len(whole) // 2])
    message = refused(capsys, "folder", source, tmp_path / "out")
    assert str(source / "vessel/p2.png") in message and not (tmp_path / "out").exists()
    (source / "vessel/p2.png").write_bytes(whole)
    assert run("folder", source, tmp_path / "out") == 0
    assert not (tmp_path / ".out.unfinished").exists()


def test_a_photograph_that_is_cut_off_is_named_and_may_be_left_out(tmp_path, capsys):
    source = lab(tmp_path / "lab")
    (source / "images/p2.jpg").unlink()
    png = cv2.imencode(".png", picture(2))[1].tobytes()
    (source / "images/p2.png").write_bytes(png[: len(png) // 2])
    message = refused(capsys, "folder", source, tmp_path / "out")
    assert f"{source / 'images/p2.png'} is not a whole picture" in message
    assert run("folder", source, tmp_path / "out", "--leave_out") == 0
    assert sum(len(load_checked(tmp_path / "out", split)) for split in ("train", "val")) == 5


def test_a_mask_of_another_size_is_named(tmp_path, capsys):
    source = lab(tmp_path / "lab")
    cv2.imwrite(str(source / "vessel/p4.png"), np.full((50, 60), 255, np.uint8))
    message = refused(capsys, "folder", source, tmp_path / "out")
    assert "p4.png is 60 x 50 pixels, its photograph 120 x 96" in message


def test_an_out_that_exists_is_replaced_only_when_asked(tmp_path, capsys):
    source = lab(tmp_path / "lab")
    run("folder", source, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert "--overwrite" in refused(capsys, "folder", source, tmp_path / "out", "--max_side", "60")
    assert contents(tmp_path / "out") == before
    assert run("folder", source, tmp_path / "out", "--max_side", "60", "--overwrite") == 0
    assert contents(tmp_path / "out") != before


def test_overwrite_never_removes_what_is_no_prepared_data_set(tmp_path, capsys):
    source, home = lab(tmp_path / "lab"), tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    assert "not a prepared data set" in refused(capsys, "folder", source, home, "--overwrite")
    assert (home / "thesis.tex").read_text() == "years of work"
    assert "lie in one another" in refused(capsys, "folder", source, source / "out")
    assert "lie in one another" in refused(capsys, "folder", source, tmp_path, "--overwrite")


@pytest.mark.parametrize("out", [".", "x/..", "/proc"])
def test_an_out_that_cannot_be_renamed_is_refused_at_once(tmp_path, capsys, monkeypatch, out):
    """The current folder, its parent, and a disk's own folder, such as a container's volume."""
    source = lab(tmp_path / "lab")
    (tmp_path / "empty/x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty")
    assert f"{out} cannot be replaced as a whole: give a folder in it" in refused(capsys, "folder", source, out)
    assert [path.name for path in tmp_path.glob("**/*unfinished*")] == []


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--tile", "-1"], "--tile"),
        (["--tile", "64", "--overlap", "64"], "--overlap 64"),
        (["--overlap", "8"], "belong to --tile"),
        (["--threshold", "0.5"], "not soft"),
        (["--threshold", "2"], "--threshold 2.0"),
        (["--observer", "third"], "first, second"),
        (["--split", "a"], "--split"),
        (["--split", "70/10/20", "--val", "10"], "--val"),
        (["--classes", "1=optic_disc"], "--classes"),
    ],
)
def test_flags_that_cannot_work_are_named(tmp_path, capsys, flags, says):
    assert says in refused(capsys, "drive", drive(tmp_path / "DRIVE", 1, 1), tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


# --- the table ------------------------------------------------------------------------------------------------


def test_the_list_shows_every_data_set_with_its_terms(capsys):
    assert run_command(script, ["--list"]) == 0
    printed = capsys.readouterr().out
    for data_set in PUBLIC_SETS.values():
        for fact in (data_set.name, data_set.title, data_set.citation, data_set.terms, data_set.where):
            assert fact and fact in printed
    assert all(data_set.name in printed for data_set in FORMATS.values())


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_an_empty_folder_is_no_data_set(tmp_path, name):
    data_set = PUBLIC_SETS[name]
    assert name == data_set.name
    assert data_set.find(Tree(tmp_path), Choice(next(iter(data_set.observers), ""), data_set.threshold)).samples == []
