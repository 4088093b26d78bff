"""The maps of a data set become its photographs, whatever way their paths are written."""

import json
from pathlib import Path

import pytest

from sam_med2d.dataset_checks.map_checks import ListedPhotograph, find_maps, read_maps
from sam_med2d.errors import DataError


def write_map(folder: Path, name: str, content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    """A data set with one listed photograph and an index.csv that names its patient. No picture is read."""
    folder = write_map(tmp_path / "data", "image2label_train.json", {"images/a.png": ["masks/a_vessel_000.png"]})
    (folder / "images").mkdir()
    (folder / "images/a.png").touch()
    (folder / "index.csv").write_text("image,dataset,patient\nimages/a.png,clinic,7\nimages/b.png,clinic,8\n")
    return folder


def patients(folder: Path) -> list[tuple[str, str] | None]:
    return [photograph.patient for photograph in read_maps([folder])[0]]


def test_a_photograph_has_its_masks_and_its_patient(data):
    mask = data / "masks/a_vessel_000.png"
    assert read_maps([data]) == (
        [ListedPhotograph(data / "images/a.png", "train", ((mask, "vessel"),), ("clinic", "7"), "clinic")],
        [],
    )


def test_both_maps_of_a_split_give_one_photograph(data):
    inverse = {"masks/a_vessel_000.png": "images/a.png", "masks/a_optic_disc_000.png": "images/a.png"}
    write_map(data, "label2image_train.json", inverse)
    photographs, findings = read_maps([data])
    assert [[structure for _, structure in photograph.masks] for photograph in photographs] == [
        ["vessel", "optic_disc"]
    ]
    assert [(finding.kind, finding.warning) for finding in findings] == [("maps_differ", True)]


def test_a_patient_is_known_however_the_map_writes_the_path(data, monkeypatch):
    monkeypatch.chdir(data.parent)
    masks = ["masks/a_vessel_000.png"]
    for image in ("images/a.png", "data/images/a.png", "./images/a.png", "images\\a.png", str(data / "images/a.png")):
        write_map(data, "image2label_train.json", {image: masks})
        assert patients(data) == [("clinic", "7")], image


def test_a_patient_is_known_in_a_folder_of_maps_alone(data, tmp_path):
    """Tiles have maps of their own for photographs of another folder."""
    maps = write_map(tmp_path / "tiles", "label2image_test.json", {"../data/masks/a_x_000.png": "../data/images/a.png"})
    assert patients(maps) == [("clinic", "7")]
    (maps / "index.csv").write_text("image,patient\n../data/images/a.png,9\n")
    assert patients(maps) == [("tiles", "9")]  # its own index comes first


@pytest.mark.parametrize("index", ["", "image,dataset\nimages/a.png,x\n", "name\n7\n", "image,patient\nimages/a.png\n"])
def test_an_index_that_does_not_say_is_no_fault(data, index):
    (data / "index.csv").write_text(index)
    assert patients(data) == [None]


def test_an_index_that_a_spreadsheet_has_saved_says_the_patients(data):
    (data / "index.csv").write_text("image,dataset,patient\nimages/a.png,clinic,7\n", encoding="utf-8-sig")
    assert patients(data) == [("clinic", "7")]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_healthy_photograph_is_looked_at_and_no_fault(data, split):
    """Training and testing use it; one of which nothing is known they do not."""
    write_map(data, f"image2label_{split}.json", {"images/a.png": []})
    if split == "test":
        (data / "image2label_train.json").unlink()
    assert [finding.kind for finding in read_maps([data])[1]] == ["empty_map", "no_mask"]
    (data / "index.csv").write_text("image,dataset,patient,absent\nimages/a.png,clinic,7,drusen\n")
    assert read_maps([data]) == ([ListedPhotograph(data / "images/a.png", split, (), ("clinic", "7"), "clinic")], [])


def test_an_index_that_is_no_table_is_named(data):
    (data / "index.csv").write_text(f"image,patient\nimages/a.png,{'7' * 200_000}\n")
    with pytest.raises(DataError, match=r"index\.csv cannot be read as a table \(field larger"):
        patients(data)


@pytest.mark.parametrize("content", [[], "text", 3, None])
def test_a_map_of_another_shape_hides_nothing(data, content):
    write_map(data, "label2image_test.json", content)
    photographs, findings = read_maps([data])
    assert len(photographs) == 1
    assert [(finding.kind, finding.files) for finding in findings] == [
        ("unreadable_map", (str(data / "label2image_test.json"),))
    ]


def test_wrong_entries_leave_the_others(data):
    good = {"images/a.png": ["masks/a_vessel_000.png"]}
    write_map(data, "image2label_train.json", good | {"images/b.png": "masks/b.png", "images/c.png": [1]})
    photographs, findings = read_maps([data])
    assert [photograph.image.name for photograph in photographs] == ["a.png"]
    assert [(finding.kind, finding.files[0]) for finding in findings] == [
        ("wrong_entry", "images/b.png"),
        ("wrong_entry", "images/c.png"),
    ]


def test_splits_have_an_order(tmp_path):
    for name in ("label2image_test", "image2label_extra", "image2label_val", "image2label_train", "notes"):
        write_map(tmp_path, f"{name}.json", {})
    assert list(find_maps(tmp_path)) == ["train", "val", "test", "extra"]
