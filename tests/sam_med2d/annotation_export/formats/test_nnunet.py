"""Data sets for nnU-Net written from our maps: read back, and accepted by nnU-Net's own check."""

import json

import numpy as np
import pytest

from scripts import export_annotations
from tests.helpers.commands import run_command
from tests.helpers.round_trips import ellipse, lost, masks_in, read_back, small_data, splits_in, written


def nested(number: int) -> dict[str, np.ndarray]:
    return {"optic_disc": ellipse(18, 20 + number, 9, 8), "optic_cup": ellipse(18, 20 + number, 4, 3)}


def apart(number: int) -> dict[str, np.ndarray]:
    return {"artery": ellipse(10, 10, 4, 4), "vein": ellipse(25, 40 + number, 4, 4)}


def test_round_trip(tmp_path, capsys):
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "Dataset501_eyes", "nnunet")
    assert "structures overlap: their labels are regions" in capsys.readouterr().out
    back = read_back("nnunet", out, tmp_path / "back")
    assert not lost(masks_in(data), masks_in(back)) and splits_in(back) == splits_in(data)


def test_nested_structures_are_regions_and_others_labels(tmp_path):
    out = written(small_data(tmp_path / "nested", nested), tmp_path / "Dataset501_cup", "nnunet")
    content = json.loads((out / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "optic_disc": [1, 2], "optic_cup": [2]}
    assert content["regions_class_order"] == [1, 2] and content["numTraining"] == 2
    out = written(small_data(tmp_path / "apart", apart), tmp_path / "Dataset502_av", "nnunet")
    content = json.loads((out / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "artery": 1, "vein": 2} and "regions_class_order" not in content


def test_validation_is_the_first_fold(tmp_path):
    data = small_data(tmp_path / "data")
    (data / "image2label_test.json").rename(data / "image2label_val.json")
    out = written(data, tmp_path / "Dataset501_eyes", "nnunet")
    assert json.loads((out / "splits_final.json").read_text()) == [{"train": ["eye_0", "eye_1"], "val": ["eye_2"]}]
    assert splits_in(read_back("nnunet", out, tmp_path / "back")) == splits_in(data)


def test_some_structures(tmp_path, capsys):
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "some", "nnunet", "--structures", "vessel")
    assert json.loads((out / "dataset.json").read_text())["labels"] == {"background": 0, "vessel": 1}
    assert "nnU-Net wants a folder called like Dataset501_fundus" in capsys.readouterr().out
    words = [data, tmp_path / "x", "--format", "nnunet", "--structures", "drusen"]
    assert run_command(export_annotations, words) == 2
    assert "--structures drusen: SOURCE has hard_exudate, micro" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("draw", [nested, apart])
def test_nnunet_accepts_them(tmp_path, draw):
    verify = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    out = written(small_data(tmp_path / "data", draw), tmp_path / "Dataset501_eyes", "nnunet")
    verify.verify_dataset_integrity(str(out), 1)
