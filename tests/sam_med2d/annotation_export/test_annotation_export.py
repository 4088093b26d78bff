"""Exports in general: what is exported, OUT whole or not at all, and what is refused."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from sam_med2d.annotation_export.annotation_source import load_source
from sam_med2d.annotation_export.export_format import Written
from sam_med2d.annotation_export.formats import EXPORTS
from sam_med2d.errors import DataError
from scripts import export_annotations, prepare_dataset
from tests.helpers.commands import run_command
from tests.helpers.round_trips import small_data, written


@pytest.fixture
def data(tmp_path) -> Path:
    return small_data(tmp_path / "data")


def predictions(data: Path, folder: Path) -> Path:
    """A folder as predict.py writes it: a mask, one that is absent, a photograph that failed."""
    (folder / "masks/eye_0").mkdir(parents=True)
    shutil.copy(data / "masks/eye_0_vessel_000.png", folder / "masks/eye_0")
    about = {"image": str(data / "images/eye_0.png"), "name": "eye_0", "predicted_iou": 0.875}
    rows = [
        about | {"label": "vessel", "state": "found", "mask": "masks/eye_0/eye_0_vessel_000.png"},
        about | {"label": "optic_cup", "state": "absent", "mask": ""},
        {"image": str(data / "images/eye_1.png"), "name": "eye_1", "state": "failed"},
    ]
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_what_a_data_set_offers(data):
    source = load_source(data)
    assert [(one.name, one.split, len(one.masks)) for one in source.photographs] == [
        ("eye_0", "train", 4),
        ("eye_1", "train", 4),
        ("eye_2", "test", 3),
    ]
    assert source.photographs[2].absent == ("hard_exudate",) and not source.notes
    assert source.structures == ["hard_exudate", "microaneurysm", "optic_disc", "vessel"]
    for path, split in ((data / "image2label_test.json", None), (data, "test")):
        assert [one.name for one in load_source(path, split).photographs] == ["eye_2"]


def test_what_was_not_annotated_is_counted(data):
    (data / "index.csv").unlink()
    image, masks = "images/eye_0.png", [f"masks/eye_0_{name}_000.png" for name in ("optic_disc", "vessel")]
    assert load_source(data).notes == [
        "not annotated: hard_exudate in 1 photograph(s), which look as if they had none in most formats"
    ]
    content = json.loads((data / "image2label_train.json").read_text())
    (data / "image2label_train.json").write_text(json.dumps({image: [] for image in content} | {image: masks}))
    assert load_source(data).notes == [
        "1 photograph(s) without masks, of which nothing is known to be absent, are left out",
        "not annotated: microaneurysm in 1 photograph(s), which look as if they had none in most formats",
    ]


def test_predictions(data, tmp_path):
    source = load_source(predictions(data, tmp_path / "found"))
    [photograph] = source.photographs
    [mask] = photograph.masks
    assert (photograph.name, photograph.split, photograph.absent) == ("eye_0", "", ("optic_cup",))
    assert (mask.structure, mask.score) == ("vessel", 0.875)
    assert source.notes == ["1 photograph(s) failed or had no prompt, and are left out"]
    content = json.loads(written(tmp_path / "found", tmp_path / "coco.json", "coco").read_text())
    assert [item["score"] for item in content["annotations"]] == [0.875]
    (data / "images/eye_0.png").unlink()
    with pytest.raises(DataError, match="the photograph .*eye_0.png is not there"):
        load_source(tmp_path / "found")


def test_photographs_of_one_name_are_told_apart(data):
    content = {}
    for place in ("left/eye.png", "right/eye.png", "right/eye.jpg"):
        (data / place).parent.mkdir(exist_ok=True)
        shutil.copy(data / "images/eye_0.png", data / place)
        content[place] = ["masks/eye_0_vessel_000.png"]
    (data / "image2label_test.json").write_text(json.dumps(content))
    assert [one.name for one in load_source(data, "test").photographs] == ["eye", "left_eye", "right_eye"]


@pytest.mark.parametrize("form", EXPORTS.values(), ids=EXPORTS)
def test_a_failed_export_leaves_nothing(data, tmp_path, form, capsys):
    """A mask that cannot be read stops it; what was there before stays."""
    path = data / "image2label_test.json"
    [(image, masks)] = json.loads(path.read_text()).items()
    shutil.copy(data / "masks/eye_2_vessel_000.png", data / "masks/eye_2_artery_000.png")  # which vascx needs
    path.write_text(json.dumps({image: [*masks, "masks/eye_2_artery_000.png"]}))
    (data / "masks/eye_2_vessel_000.png").write_bytes(b"")
    out = tmp_path / f"exported/out{form.suffix}"
    assert run_command(export_annotations, [data, out, "--format", form.name]) == 2
    error = capsys.readouterr().err
    assert "eye_2_vessel_000.png" in error and "Traceback" not in error
    assert not list(out.parent.iterdir())


def test_an_interrupted_export_leaves_nothing(data, tmp_path, monkeypatch):
    def interrupted(export, target) -> Written:
        (target / "half").write_text("")
        raise KeyboardInterrupt

    form = EXPORTS["geojson"]
    monkeypatch.setitem(EXPORTS, "geojson", type(form)(name="geojson", title="", write=interrupted))
    assert run_command(export_annotations, [data, tmp_path / "exported/out", "--format", "geojson"]) == 130
    assert not list((tmp_path / "exported").iterdir())


def test_bad_input(data, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    both = predictions(data, tmp_path / "both")
    shutil.copy(data / "image2label_test.json", both)
    alone = predictions(data, tmp_path / "alone")
    other = json.dumps({"masks/eye_0_vessel_000.png": "images/eye_0.png"})
    (data / "label2image_test.json").write_text(other)
    for words, message in (
        ([data, tmp_path / "full", "--format", "geojson"], "full exists: give a folder that does not"),
        ([data, tmp_path / "a", "--format", "geojson", "--polygons"], "--polygons is of no use for --format geojson"),
        ([both, tmp_path / "a", "--format", "geojson"], "has maps and a predictions.csv: give one of its maps"),
        ([alone, tmp_path / "a", "--format", "geojson", "--split", "test"], "predictions have no splits"),
        (
            [data, tmp_path / "a", "--format", "geojson", "--split", "val"],
            "has no image2label_val.json: it has train, test",
        ),
        ([tmp_path / "full", tmp_path / "a", "--format", "geojson"], "has no map, such as image2label_train.json, and"),
        ([data / "index.csv", tmp_path / "a", "--format", "geojson"], "index.csv is no map"),
        ([data / "image2label_test.json", tmp_path / "a", "--format", "geojson"], "list different files"),
        (
            [data / "image2label_train.json", tmp_path / "a", "--format", "geojson", "--split", "test"],
            "is the map of train",
        ),
    ):
        assert run_command(export_annotations, words) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("form", ["geojson", "labelme"])
def test_files_are_called_as_their_photographs(data, tmp_path, form, capsys):
    """A tool finds them by that name, whatever letters it has; that no split is in them is said."""
    (data / "images/eye_2.png").rename(data / "images/Müller's eye #2 & 50%.png")
    masks = [str(path) for path in (data / "masks").glob("eye_2_*")]
    (data / "image2label_test.json").write_text(json.dumps({"images/Müller's eye #2 & 50%.png": masks[:1]}))
    assert run_command(export_annotations, [data, tmp_path / "out", "--format", form]) == 0
    names = {path.stem for path in (tmp_path / "out").rglob("*.*json")}
    assert names == {"Müller's eye #2 & 50%", "eye_0", "eye_1"}
    note = "note: labelme does not hold the splits test, train: export each with --split"
    assert (note in capsys.readouterr().out) == (form == "labelme")
    back = [form, tmp_path / "out", tmp_path / "back", "--image_root", data / "images", "--num_workers", 1]
    assert run_command(prepare_dataset, back) == 0
