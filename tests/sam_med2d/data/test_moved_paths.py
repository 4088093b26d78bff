"""Maps that were written on another machine work as they lie, and no file is taken for another."""

import json
from pathlib import Path

import pytest

from DataLoader import TestingDataset, TrainingDataset
from sam_med2d.data.moved_paths import find_moved
from sam_med2d.data.record_checks import load_checked
from sam_med2d.data.records import load_index, read_map
from sam_med2d.errors import DataError
from scripts import check_dataset, compare, export_annotations, make_demo_data, measure
from tests.helpers.commands import run_command
from tests.helpers.evaluation_runs import cases, large_logits_weights, run
from tests.helpers.tiny_models import tiny_vit_t

PLACES = (
    "C:\\Users\\me\\data_demo\\",
    "/content/drive/MyDrive/sets/data_demo/",
    "data_demo/",
    "//server/share/x/",
    "D:/x/",
)
NAMES = ("images/a.png", "images/b.png", "masks/a_vessel_000.png", "masks/b_vessel_000.png")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A data set, seen from another folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return fill(tmp_path / "set", *NAMES)


def written_at(place: str, name: str) -> str:
    return place + (name.replace("/", "\\") if "\\" in place else name)


def write_maps(folder: Path, place: str) -> None:
    a, b, mask_a, mask_b = (written_at(place, name) for name in NAMES)
    (folder / "image2label_train.json").write_text(json.dumps({a: [mask_a], b: [mask_b]}))
    (folder / "label2image_test.json").write_text(json.dumps({mask_b: b, mask_a: a}))


@pytest.mark.parametrize("place", PLACES)
def test_each_path_is_found_by_its_end(data, caplog, place):
    write_maps(data, place)
    for split in ("train", "test"):
        records = load_index(data, split)
        assert {r.image: [m.path for m in r.masks] for r in records} == {
            data / "images/a.png": [data / "masks/a_vessel_000.png"],
            data / "images/b.png": [data / "masks/b_vessel_000.png"],
        }
        assert [mask.key for record in records for mask in record.masks] in (
            ["a_vessel_000.png", "b_vessel_000.png"],
            ["b_vessel_000.png", "a_vessel_000.png"],
        )
    beginning = place.rstrip("\\/")
    assert f"paths of another place are read as {beginning} -> {data}" in caplog.text and "(4 file(s))" in caplog.text


def test_paths_are_found_below_the_current_folder_too(data, monkeypatch, tmp_path):
    """A map that lies apart from its photographs."""
    (tmp_path / "maps").mkdir()
    write_maps(tmp_path / "maps", "/content/set/")
    with pytest.raises(DataError):
        load_checked(tmp_path / "maps", "train")
    monkeypatch.chdir(tmp_path)
    assert load_index("maps", "train")[0].image.resolve() == data / "images/a.png"


def test_paths_that_are_there_are_not_searched(data, monkeypatch, caplog):
    write_maps(data, "")
    monkeypatch.setattr("sam_med2d.data.moved_paths._ends", lambda *_: pytest.fail("searched"))
    assert len(load_index(data, "train")) == 2 and not caplog.text


def test_the_folder_can_be_the_current_one(data, monkeypatch):
    write_maps(data, PLACES[0])
    monkeypatch.chdir(data)
    assert list(read_map(Path("image2label_train.json"))) == ["images/a.png", "images/b.png"]


def test_an_end_that_two_files_have_is_refused(data, monkeypatch, tmp_path):
    """The current folder has a set of the same layout."""
    write_maps(data, "/content/set/")
    other = fill(tmp_path / "other", *NAMES)
    monkeypatch.chdir(other)
    with pytest.raises(
        DataError, match=r"(?s)4 problem.*'/content/set/images/a.png' is not there, and its end does not say"
    ):
        load_index(data, "train")


def test_a_file_of_the_same_name_in_another_folder_is_not_taken(data):
    """Where most lie below images/, one that is missing there is not the one that lies beside the map."""
    fill(data, "a.png")
    (data / "images/a.png").unlink()
    found = find_moved([f"/content/{name}" for name in NAMES], data)
    assert "/content/images/a.png" not in found.found and len(found.found) == 3


def test_a_missing_file_of_a_map_of_here_is_not_replaced(data):
    fill(data, "a.png", "a_vessel_000.png")
    for name in ("images/a.png", "masks/a_vessel_000.png"):
        (data / name).unlink()
    assert not find_moved(NAMES, data).found
    here = [str(data / name) for name in NAMES]
    assert not find_moved(here, data).found


def test_a_photograph_is_not_taken_for_its_mask(data):
    """Masks with their photograph's name, all copied into one folder."""
    fill(data / "flat", "a.png", "b.png")
    found = find_moved(["/x/images/a.png", "/x/optic-disc/a.png", "/x/optic-disc/b.png"], data / "flat")
    assert "/x/images/a.png" not in found.found and "/x/optic-disc/a.png" not in found.found


def test_two_folders_may_have_moved_each_its_way(data, tmp_path):
    found = find_moved(["/p/images/a.png", "/p/images/b.png", "C:\\m\\masks\\a_vessel_000.png"], data)
    assert [move.beginning for move in found.moves] == ["/p", "C:\\m"] and len(found.found) == 3


def test_nothing_outside_is_found(data, tmp_path):
    fill(tmp_path, "secret.png")
    for name in ("/x/../secret.png", "..\\..\\secret.png", "/x/set/../../secret.png", "x" * 5000, "\0", ""):
        assert not find_moved([name], data).found, name


def test_links_to_photographs_are_found(data):
    (data / "images/a.png").rename(data.parent / "photo.png")
    (data / "images/a.png").symlink_to(data.parent / "photo.png")
    assert len(find_moved([f"/x/{name}" for name in NAMES], data).found) == 4


def results(weights: Path, name: str) -> None:
    """What test.py and measure.py say of "set"."""
    with tiny_vit_t():
        assert run(weights, Path("set"), name, "--prompts", "box", "1") == 0
    assert run_command(measure, ["set", "--out", "measured", "--pictures", "False"]) == 0
    Path("measured/measurements.csv").rename(f"{name}.csv")


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES[:2])
def test_commands_and_loaders_read_such_maps(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    run_command(make_demo_data, ["--count", 3, "--size", 96, "--out", "set"])
    expected = {split: load_checked("set", split) for split in ("train", "val", "test")}
    weights = large_logits_weights(tmp_path)
    results(weights, "plain")
    for path in Path("set").glob("*.json"):
        content = json.loads(path.read_text())
        if path.name.startswith("image2label"):
            moved = {written_at(place, k): [written_at(place, name) for name in v] for k, v in content.items()}
        else:
            moved = {written_at(place, mask): written_at(place, image) for mask, image in content.items()}
        path.write_text(json.dumps(moved))
    assert {split: load_checked("set", split) for split in expected} == expected
    assert run_command(check_dataset, ["set", "--num_workers", 1, "--out", "out"]) in (0, 1)
    assert "missing_file" not in capsys.readouterr().out
    assert run_command(export_annotations, ["set", "coco.json", "--format", "coco"]) == 0
    results(weights, "moved")
    assert run_command(compare, ["plain", "moved", "--out", "compared"]) == 0
    assert cases(tmp_path / "plain") == cases(tmp_path / "moved")
    assert Path("plain.csv").read_text() == Path("moved.csv").read_text()
    assert TestingDataset("set", 64)[0]["name"] == next(iter(expected["test"])).masks[0].path.name
    assert TrainingDataset("set", 64)[0]["image"].shape == (1, 3, 64, 64)
