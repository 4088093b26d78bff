"""YOLO's labels: layouts of ultralytics and Roboflow, classes, splits, and what is no polygon."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples
from sam_med2d.dataset_conversion.formats.yolo import YOLO
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

SIZE = (40, 80)  # height, width
SQUARE = "0 0.25 0.25 0.375 0.25 0.5 0.25 0.5 0.5 0.25 0.5"  # columns 20 to 40, rows 10 to 20


def put(folder: Path, files: dict[str, str]) -> Path:
    """Text files, and a photograph for each name of a picture."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jpg"):
            cv2.imwrite(str(path), np.full((*SIZE, 3), 90, np.uint8))
        else:
            path.write_text(text)
    return folder


def found(folder: Path, **options: object) -> FoundSamples:
    return YOLO.find(Tree(folder), Choice(options=options))


def splits(offer: FoundSamples) -> dict[str, str]:
    return {sample.name: sample.split for sample in offer.samples}


def test_a_polygon_has_the_pixels_that_it_goes_through(tmp_path):
    put(tmp_path, {"images/a.jpg": "", "labels/a.txt": f"{SQUARE}\n\n1.0 0 0 0.01 0 0.01 0.02\n"})
    put(tmp_path, {"data.yaml": "names: [Optic Disc, vessel]"})
    [sample] = found(tmp_path).samples
    masks = {source.structure: source.decode(source.path, SIZE) for source in sample.masks}
    expected = np.zeros(SIZE, bool)
    expected[10:21, 20:41] = True
    assert np.array_equal(masks["optic_disc"], expected) and masks["vessel"].sum() == 1


def test_layouts_and_their_splits(tmp_path):
    two = {"train/{}/a.{}": "train", "valid/{}/a.{}": "val", "test/{}/b.{}": "test"}
    pairs = [(one.format("images", "jpg"), one.format("labels", "txt")) for one in two]
    files = {name: SQUARE for pair in pairs for name in pair}
    roboflow = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['disc']\n"
    put(tmp_path / "roboflow", files | {"data.yaml": roboflow, "README.roboflow.txt": "x"})
    assert splits(found(tmp_path / "roboflow")) == {
        "train_train_images_a": "train",
        "val_valid_images_a": "val",
        "b": "test",
    }

    files = {f"{kind}/{name}.{end}": SQUARE for kind, end in (("images", "jpg"), ("labels", "txt")) for name in "abc"}
    lists = {"train.txt": "./images/a.jpg\n", "val.txt": "/far/away/images/b.jpg\nimages/c.jpg\n"}
    yaml = "path: ../datasets/x\ntrain: train.txt\nval: val.txt\ntest:\nnames: {0: disc}\n"
    put(tmp_path / "lists", files | lists | {"x.yaml": yaml, "other.yaml": "key: 1"})
    assert splits(found(tmp_path / "lists")) == {"a": "train", "b": "val", "c": "val"}

    put(tmp_path / "same", files | {"data.yaml": "train: images\nval: images\nnames: [disc]"})
    offer = found(tmp_path / "same")
    assert splits(offer) == dict.fromkeys("abc", "train")
    assert offer.notes == [f"{tmp_path}/same/data.yaml: val is the same as train: its photographs are train"]

    put(tmp_path / "flat", {"a.jpg": "", "a.txt": SQUARE, "classes.txt": "disc\nvessel\n"})
    assert splits(found(tmp_path / "flat")) == {"a": ""}


def test_a_split_is_not_lost_where_data_yaml_was_written_elsewhere(tmp_path):
    parts = ("train", "val", "test")
    files = {f"images/{part}/{part}1.jpg": "" for part in parts} | {
        f"labels/{part}/{part}1.txt": SQUARE for part in parts
    }
    put(tmp_path, files)
    expected = {f"{part}1": part for part in parts}
    for lines in (
        ["train: images/train", "val: images/val"],  # test is there, and not in the file
        [f"{part}: /content/datasets/eyes/images/{part}" for part in parts],
        [f"{part}: C:\\eyes\\images\\{part}" for part in parts],
    ):
        put(tmp_path, {"data.yaml": "\n".join([*lines, "names: [disc]"])})
        assert splits(found(tmp_path)) == expected, lines
    put(tmp_path, {"data.yaml": "train: images/train\nval: ../valid/images\nnames: [disc]"})
    assert f"{tmp_path}/data.yaml: val is ../valid/images, which SOURCE has not" in found(tmp_path).notes


def test_labels_of_photographs_called_test_or_in_capitals(tmp_path):
    put(tmp_path, {"images/test.jpg": "", "images/b.jpg": "", "labels/test.txt": SQUARE, "labels/b.TXT": SQUARE})
    put(tmp_path, {"data.yaml": "test: test.txt\nnames: [disc]", "test.txt": "images/test.jpg\n"})
    offer = found(tmp_path, missing="absent")
    assert [len(sample.masks) for sample in offer.samples] == [1, 1] and not offer.problems


def test_photographs_below_the_root_without_labels_are_there(tmp_path):
    put(tmp_path / "photos", {"a.jpg": "", "val/b.jpg": ""})
    put(tmp_path / "in", {"a.txt": SQUARE, "classes.txt": "disc"})
    offer = found(tmp_path / "in", missing="absent", image_root=tmp_path / "photos")
    assert [(sample.name, sample.split, sample.absent) for sample in offer.samples] == [
        ("a", "", ()),
        ("b", "val", ("disc",)),
    ]


def test_photographs_without_labels_are_there(tmp_path):
    files = {"images/a.jpg": "", "images/b.jpg": "", "images/c.jpg": "", "labels/a.txt": SQUARE, "labels/b.txt": "\n"}
    put(tmp_path, files | {"data.yaml": "names: [disc]"})
    problems = found(tmp_path).problems
    assert len(problems) == 2 and all("has no mask (--missing absent" in problem for problem in problems)
    offer = found(tmp_path, missing="absent")
    assert [sample.absent for sample in offer.samples] == [(), ("disc",), ("disc",)] and not offer.problems


def test_classes(tmp_path):
    put(tmp_path, {"images/a.jpg": "", "labels/a.txt": SQUARE})
    assert (
        "nothing names class 0 (data.yaml has no class): say it with --classes 0=STRUCTURE"
        in found(tmp_path).problems[0]
    )
    [sample] = found(tmp_path, classes="0=optic_cup").samples
    assert [source.structure for source in sample.masks] == ["optic_cup"]
    put(tmp_path, {"data.yaml": "names: {0: disc}"})
    [sample] = found(tmp_path, classes="disc=optic_disc").samples
    assert [source.structure for source in sample.masks] == ["optic_disc"]


def test_what_is_no_polygon_is_named_and_counted(tmp_path):
    lines = [SQUARE, "0 0.5 0.5 0.1 0.1", "0 0.4 0.4 0.1 0.1 0.9", "0 12 4 30 4 30 9", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4"]
    lines += ["0 a b c d e f", "7 0.1 0.1 0.2 0.2 0.3 0.1", "x 0.1 0.1 0.2 0.2 0.3 0.1", "0 nan 0.1 0.2 0.2 0.3 0.1"]
    put(tmp_path, {"images/a.jpg": "", "labels/a.txt": "\n".join(lines), "labels/z.txt": SQUARE})
    put(tmp_path, {"data.yaml": "names: [disc]"})
    problems = dict(enumerate(found(tmp_path).problems))
    for i, text in enumerate(
        (
            "line 4: coordinates from 4 to 30: YOLO has shares",
            "line 5: 7 numbers after the class",
            "line 6: could not convert",
            "line 7: nothing names class 7 (data.yaml has 0 disc)",
            "line 8: nothing names class x",
            "line 9: 6 numbers",
            "2 line(s) are boxes, which are no masks (first: line 2)",
            "z.txt: its photograph is not there",
        )
    ):
        assert text in problems[i]


def test_turned_boxes_are_doubted(tmp_path):
    put(tmp_path, {"a.jpg": "", "a.txt": "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n", "classes.txt": "disc"})
    assert found(tmp_path).notes == ["all 1 polygons have four corners: are they turned boxes?"]
    put(tmp_path, {"a.txt": f"0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n{SQUARE}"})
    assert not found(tmp_path).notes


def test_bad_input(tmp_path):
    put(tmp_path / "boxes", {"images/a.jpg": "", "labels/a.txt": "0 0.5 0.5 0.1 0.1\n", "data.yaml": "names: [disc]"})
    put(tmp_path / "none", {"images/a.jpg": "", "README.txt": "x"})
    put(tmp_path / "yaml", {"a.jpg": "", "a.txt": SQUARE, "data.yaml": "names: [disc\n"})
    put(tmp_path / "pose", {"a.jpg": "", "a.txt": SQUARE, "data.yaml": "names: [disc]\nkpt_shape: [2, 3]"})
    put(tmp_path / "two", {"a.jpg": "", "a.txt": SQUARE, "x/data.yaml": "names: [a]", "y/data.yaml": "names: [b]"})
    for name, message in (
        ("boxes", r"the labels hold 1 box\(es\) and no polygon: boxes are no masks.*--boxes_csv"),
        ("none", "no YOLO labels"),
        ("yaml", r"data\.yaml cannot be read as YAML"),
        ("pose", r"is of pose labels \(kpt_shape\)"),
        ("two", "name other classes"),
    ):
        with pytest.raises(DataError, match=message):
            found(tmp_path / name)
