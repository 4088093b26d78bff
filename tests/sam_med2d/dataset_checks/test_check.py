"""Checking a data set: each kind of fault is named, sound files are not, and a broken file stops nothing."""

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.image_io import read_image
from sam_med2d.dataset_checks.check import check
from sam_med2d.dataset_checks.class_balance import ClassBalance
from sam_med2d.dataset_checks.file_checks import check_photograph
from sam_med2d.dataset_checks.map_checks import find_maps, read_maps
from scripts import check_dataset
from segment_anything.preprocessing import Preprocessing
from tests.helpers.commands import run_command
from tests.helpers.photographs import texture

SIZE = 96


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def spot(top: int, left: int, side: int = 12, *, size: int = SIZE, value: int = 255) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = value
    return mask


class DataSet:
    """A small sound data set, with maps that can be changed before `check`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.splits: dict[str, dict[str, list[str]]] = {}
        for i, split in enumerate(("train", "train", "train", "val", "test")):
            self.add(split, f"eye{i}", texture(i))

    def add(self, split: str, name: str, picture: np.ndarray, structure: str = "lesion") -> str:
        image, mask = f"images/{name}.png", f"masks/{name}_{structure}_000.png"
        write(self.folder / image, picture)
        write(self.folder / mask, spot(40, 40))
        self.splits.setdefault(split, {})[image] = [mask]
        return image

    def write_maps(self) -> None:
        for split, images in self.splits.items():
            if split == "test":
                inverse = {mask: image for image, masks in images.items() for mask in masks}
                (self.folder / "label2image_test.json").write_text(json.dumps(inverse))
            else:
                (self.folder / f"image2label_{split}.json").write_text(json.dumps(images))

    def check(self, image_size: int = 64) -> dict[str, list[tuple[str, ...]]]:
        """Files of the findings by kind, relative to the folder."""
        self.write_maps()
        return self.findings(image_size)

    def findings(self, image_size: int = 64) -> dict[str, list[tuple[str, ...]]]:
        found: dict[str, list[tuple[str, ...]]] = {}
        for finding in check([self.folder], image_size=image_size, workers=1).findings:
            files = tuple(file.removeprefix(f"{self.folder}/") for file in finding.files)
            found.setdefault(finding.kind, []).append(files)
            assert all(file in finding.message for file in files[:1])
        return found


@pytest.fixture
def data(tmp_path) -> DataSet:
    return DataSet(tmp_path / "data")


def run(folder: Path, out: Path, *more: str) -> int:
    words = [folder, "--out", out, "--image_size", "64", "--num_workers", "1", *more]
    return run_command(check_dataset, words)


MASK = "masks/eye1_lesion_000.png"


def test_a_sound_data_set_passes(data, tmp_path, capsys):
    assert not data.check()
    before = {path: path.stat().st_mtime_ns for path in data.folder.rglob("*")}
    assert run(data.folder, tmp_path / "out") == 0
    assert before == {path: path.stat().st_mtime_ns for path in data.folder.rglob("*")}
    text = capsys.readouterr().out
    assert "SOUND: no fault and 0 warning(s) in 5 photographs" in text and "| lesion | 3 / 3 / 1.56% |" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"check.json", "overlays.png", "sizes.png"}
    found = json.loads((tmp_path / "out/check.json").read_text())
    assert found["sound"] and found["findings"] == [] and found["photographs"] == {"train": 3, "val": 1, "test": 1}
    assert found["flags"]["image_size"] == 64 and "numpy" in found["versions"]
    share = found["structures"]["lesion"]["splits"]["train"]
    assert share == {"masks": 3, "images": 3, "mean_share": pytest.approx(144 / SIZE**2)}


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["images/eye1.png", MASK, pytest.param("images/eye4.png", marks=pytest.mark.slow)])
def test_a_missing_and_a_cut_file_are_told_apart(data, file):
    content = (data.folder / file).read_bytes()
    (data.folder / file).unlink()
    assert data.check() == {"missing_file": [(file,)]}
    for length in (0, len(content) // 2, len(content) - 4):
        (data.folder / file).write_bytes(content[:length])
        assert data.check() == {"unreadable": [(file,)]}


def test_a_cut_jpeg_is_found(data):
    name = "images/photo.jpg"
    write(data.folder / name, texture(9))
    data.splits["train"][name] = data.splits["train"].pop("images/eye1.png")
    assert not data.check()
    content = (data.folder / name).read_bytes()
    for length in (len(content) // 3, len(content) - 40):
        (data.folder / name).write_bytes(content[:length])
        assert data.check() == {"unreadable": [(name,)]}


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (spot(10, 10, size=SIZE + 1), "wrong_size"),
        (spot(10, 10, value=128), "not_binary"),
        (spot(40, 40) // 2 + spot(30, 30), "not_binary"),
        (spot(0, 0, 0), "empty_mask"),
    ],
)
def test_a_faulty_mask_is_named(data, mask, kind):
    write(data.folder / MASK, mask)
    assert data.check() == {kind: [(MASK,)]}


def test_a_mask_of_ones_is_sound(data):
    write(data.folder / MASK, spot(40, 40, value=1))
    assert not data.check()


def test_a_pipe_is_not_waited_for(data):
    (data.folder / MASK).unlink()
    os.mkfifo(data.folder / MASK)
    assert data.check() == {"missing_file": [(MASK,)]}


@pytest.mark.slow
def test_all_faults_are_reported_in_one_go(data, tmp_path, capsys):
    """A broken map, a broken entry and broken files do not hide each other."""
    (data.folder / "images/eye4.png").write_bytes(b"no picture")
    (data.folder / MASK).unlink()
    data.splits["train"]["images/eye2.png"] = "masks/eye2_lesion_000.png"
    data.write_maps()
    (data.folder / "image2label_val.json").write_text("{")
    found = data.findings()
    assert set(found) == {"unreadable_map", "wrong_entry", "missing_file", "unreadable"}
    assert found["wrong_entry"] == [("images/eye2.png", "image2label_train.json")]
    assert run(data.folder, tmp_path / "out") == 1
    text = capsys.readouterr().out
    assert "NOT SOUND: 4 fault(s)" in text and "give a list of mask paths" in text and MASK in text
    assert cv2.imread(str(tmp_path / "out/overlays.png")) is not None


def test_a_mask_listed_as_a_photograph_is_named(data):
    write(data.folder / "images/eye1.png", spot(30, 30, 40))
    assert data.check()["mask_as_photograph"] == [("images/eye1.png",)]
    write(data.folder / "images/eye1.png", np.full((SIZE, SIZE), 90, np.uint8))
    assert "mask_as_photograph" not in data.check()  # one level is no mask


def test_one_mask_for_two_structures_is_named(data):
    write(data.folder / "masks/eye1_drusen_000.png", spot(40, 40))
    data.splits["train"]["images/eye1.png"].append("masks/eye1_drusen_000.png")
    assert data.check() == {"equal_masks": [(MASK, "masks/eye1_drusen_000.png")]}


def test_a_photograph_whose_depth_is_guessed_is_named(data):
    write(data.folder / "images/eye1.png", texture(1).astype(np.uint16) * 16)
    assert data.check() == {"as_read": [("images/eye1.png",)]}


def test_rows_of_the_index_and_files_beside_are_named(data, tmp_path, capsys):
    rows = ["images/lost.png,", "images/eye0.png,leson", "images/eye1.png,drusen", "eye2.png,Lesions"]
    (data.folder / "index.csv").write_text("\n".join(["image,absent", *rows]))
    (data.folder / "images/scan.dcm").touch()
    write(data.folder / "images/more.png", texture(50))
    assert data.check() == {
        "index_row": [("images/lost.png", "index.csv")],
        "absent_name": [("images/eye0.png", "index.csv"), ("eye2.png", "index.csv")],
        "passed_over": [("images/scan.dcm",)],
    }
    assert run(data.folder, tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "checked: maps and index.csv" in text
    assert f"not looked at, in no map: more.png, scan.dcm in {data.folder}/images" in text


# --- maps ---------------------------------------------------------------------------------------------------------


def test_a_mask_listed_twice_is_named(data):
    data.splits["train"]["images/eye0.png"] *= 2
    data.splits["train"]["images/eye2.png"].append(MASK)
    assert sorted(files[0] for files in data.check()["listed_twice"]) == ["masks/eye0_lesion_000.png", MASK]


def test_an_entry_given_twice_is_named(data):
    data.write_maps()
    entry = '"images/eye0.png": ["masks/eye0_lesion_000.png"]'
    (data.folder / "image2label_train.json").write_text(f"{{{entry}, {entry}}}")
    assert data.findings()["wrong_entry"] == [("images/eye0.png", "image2label_train.json")]


def test_an_empty_map_is_a_fault_and_an_image_without_masks_a_warning(data):
    data.splits["val"] = {}
    data.splits["train"]["images/eye0.png"] = []
    found = data.check()
    assert found == {
        "empty_map": [("image2label_val.json",)],
        "no_mask": [("images/eye0.png", "image2label_train.json")],
    }


def test_both_directions_of_a_split_are_read_and_compared(data):
    data.write_maps()
    inverse = {masks[0]: image for image, masks in data.splits["train"].items()}
    path = data.folder / "label2image_train.json"
    path.write_text(json.dumps(inverse))
    assert not data.findings()
    write(data.folder / "masks/eye0_lesion_001.png", spot(60, 30, value=9))
    path.write_text(json.dumps(inverse | {"masks/eye0_lesion_001.png": "images/eye0.png"}))
    assert data.findings() == {
        "maps_differ": [("image2label_train.json", "label2image_train.json")],
        "not_binary": [("masks/eye0_lesion_001.png",)],
    }


# --- splits -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_in_two_splits_is_a_fault_and_in_one_a_warning(data, tmp_path):
    twin = data.add("train", "twin", texture(0))
    shutil.copy(data.folder / "images/eye0.png", data.folder / twin)
    assert data.check() == {"repeated": [("images/eye0.png", twin)]}
    assert run(data.folder, tmp_path / "out") == 0
    data.splits["test"][twin] = data.splits["train"].pop(twin)
    assert data.check() == {"same_bytes": [("images/eye0.png", twin)]}


def test_one_path_in_two_splits_is_found(data):
    data.splits["test"]["images/eye0.png"] = data.splits["train"]["images/eye0.png"]
    assert data.check() == {"same_bytes": [("images/eye0.png", "images/eye0.png")]}


def test_a_photograph_in_two_folders_is_found(data, tmp_path):
    other = DataSet(tmp_path / "other")
    for one in (data, other):
        one.write_maps()
    findings = check([data.folder, other.folder], image_size=64, workers=1).findings
    assert [finding.kind for finding in findings] == ["repeated"] * 5  # the two folders have the same splits
    other.splits["test"], other.splits["val"] = other.splits["val"], other.splits["test"]
    other.write_maps()
    findings = check([data.folder, other.folder], image_size=64, workers=1).findings
    assert sorted(finding.kind for finding in findings) == ["repeated"] * 3 + ["same_bytes"] * 2


def test_a_photograph_saved_again_is_found(data):
    larger = cv2.resize(texture(1), (2 * SIZE, 2 * SIZE), interpolation=cv2.INTER_CUBIC)
    twin = data.add("test", "twin", larger)
    write(data.folder / "masks/twin_lesion_000.png", spot(80, 80, size=2 * SIZE))
    assert data.check() == {"same_picture": [("images/eye1.png", twin)]}


@pytest.mark.parametrize("column", ["patient", "patient_or_image_id"])
def test_a_patient_in_two_splits_is_found(data, column):
    rows = [("eye0", "a", "7"), ("eye1", "a", "8"), ("eye3", "b", "7"), ("eye4", "a", "7"), ("eye2", "a", "")]
    lines = [f"image,dataset,{column}", *(f"images/{name}.png,{data_set},{id_}" for name, data_set, id_ in rows)]
    (data.folder / "index.csv").write_text("\n".join(lines))
    assert data.check() == {"same_patient": [("images/eye0.png", "images/eye4.png")]}


def test_eyes_of_one_person_in_two_splits_are_a_doubt_unless_the_index_says_who_it_is(data, tmp_path, capsys):
    pairs = [
        data.add(split, f"p7_{eye}", texture(30 + i)) for i, (split, eye) in enumerate((("val", "L"), ("test", "R")))
    ]
    data.add("val", "p8_L", texture(32))
    assert data.check() == {"same_name": [tuple(pairs)]}
    assert run(data.folder, tmp_path / "out") == 0 and "look like several photographs of p7" in capsys.readouterr().out
    (data.folder / "index.csv").write_text(f"image,patient\n{pairs[0]},a\n{pairs[1]},b\n")
    assert not data.check()


# --- sizes --------------------------------------------------------------------------------------------------------


def test_a_mask_outside_the_field_of_view_vanishes(data):
    write(data.folder / MASK, spot(0, 0, 2))
    assert data.check()["vanishes"] == [(MASK,)]


def test_small_parts_are_counted(data):
    """Single pixels of the photograph are a third of one in the model frame, a square of 12 is not small."""
    specks = spot(40, 40)
    specks[30, 20:60:4] = 255
    write(data.folder / MASK, specks)
    assert not data.check()  # the square is most of the mask
    write(data.folder / MASK, np.where(spot(40, 40), 0, specks).astype(np.uint8))
    assert data.check() == {"small_parts": [(MASK,)]}
    balance = check([data.folder], image_size=64, workers=1).balance.as_dict()["lesion"]["model_frame"]
    assert (balance["masks"], balance["parts"], balance["small_parts"]) == (5, 14, 10)
    assert sum(balance["part_sizes"]) == 14 and sum(balance["mask_sizes"]) == 5
    assert not data.check(image_size=512).get("small_parts")


def test_all_small_masks_are_named_and_less_than_a_pixel_is_a_fault(data):
    """A pixel of the photograph is half of one in the model frame."""
    names = [data.splits["train"][image][0] for image in data.splits["train"]]
    for side, name in zip((1, 2, 2), names, strict=True):
        write(data.folder / name, spot(40, 40, side))
    found = data.check()
    assert found["too_small"] == [(names[0],)] and set(found["small_parts"][0]) == set(names)
    assert "too_small" not in data.check(image_size=256)


def test_sizes_are_those_of_the_model_frame(data):
    data.write_maps()
    photograph = read_maps([data.folder])[0][0]
    mask = check_photograph(photograph, 64).masks[0]
    frame = Preprocessing(64).frame(read_image(photograph.image))
    assert mask.pixels == 144 and mask.parts == 1
    assert mask.pixels * mask.scale == pytest.approx(144 * (64 / frame.crop_size[0]) ** 2, rel=0.02)
    assert mask.left == pytest.approx(mask.pixels * mask.scale, rel=0.1)


def test_a_structure_that_is_only_tested_is_named(data):
    data.add("test", "extra", texture(20), structure="drusen")
    assert data.check() == {"not_trained": [("masks/extra_drusen_000.png",)]}


def test_shares_of_several_masks_of_a_structure_add_up(data):
    data.write_maps()
    photographs = read_maps([data.folder])[0]
    balance = ClassBalance()
    for photograph in photographs:
        facts = check_photograph(photograph, 64).masks
        balance.add(photograph, facts * 2)
    share = balance.shares["lesion"]["train"]
    assert (share.masks, share.images) == (6, 3) and share.covered == pytest.approx(6 * 144 / SIZE**2)


# --- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "more", "part"),
    [
        (["none"], [], "no folder"),
        (["."], [], "image2label_*.json"),
        (["data", "data/../data"], [], "given twice"),
        (["data"], ["--image_size", "8"], "--image_size 8"),
        (["data"], ["--out", "data/out"], "only read"),
        (["data"], ["--num_workers", "-1"], "--num_workers -1"),
    ],
)
def test_wrong_usage_ends_with_one_message(data, monkeypatch, capsys, folders, more, part):
    data.write_maps()
    monkeypatch.chdir(data.folder.parent)
    assert run_command(check_dataset, [*folders, *more]) == 2
    assert part in capsys.readouterr().err and not (data.folder / "out").exists()


def test_the_default_folder_has_the_data_sets_name(data, monkeypatch):
    data.write_maps()
    monkeypatch.chdir(data.folder.parent)
    assert run_command(check_dataset, ["data", "--num_workers", "1"]) == 0
    assert (data.folder.parent / "workdir/check/data/check.json").is_file()


def test_maps_are_found_by_split(data):
    data.write_maps()
    (data.folder / "label2image_extra.json").write_text("{}")
    assert list(find_maps(data.folder)) == ["train", "val", "test", "extra"]


# --- broken files ----------------------------------------------------------------------------------------------------


def check_or_die(photograph, image_size):
    """`check_photograph`, with a photograph that breaks the decoder."""
    if photograph.image.name == "eye1.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return check_photograph(photograph, image_size)


def test_a_file_that_kills_a_process_is_named(data, monkeypatch):
    data.write_maps()
    monkeypatch.setattr("sam_med2d.dataset_checks.check.check_photograph", check_or_die)  # processes are forked
    findings = check([data.folder], image_size=64, workers=1).findings
    assert [finding.kind for finding in findings] == ["check_failed"] and "eye1.png" in findings[0].message


def test_processes_find_the_same(data):
    write(data.folder / MASK, spot(10, 10, value=128))
    data.write_maps()
    alone, together = (check([data.folder], image_size=64, workers=n) for n in (1, 3))
    assert alone.findings == together.findings and alone.balance.as_dict() == together.balance.as_dict()
