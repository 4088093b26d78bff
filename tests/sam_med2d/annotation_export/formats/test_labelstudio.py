"""Tasks of Label Studio written from our maps: read back bit by bit, and their brushes decoded by its own sdk."""

import csv
import json
import re

import numpy as np
import pytest

from tests.helpers.round_trips import SIZE, lost, masks_in, read_back, small_data, splits_in, written


@pytest.mark.parametrize("flags", [[], ["--write_as", "predictions"]])
def test_round_trip(tmp_path, capsys, flags):
    data = small_data(tmp_path / "my data")
    out = written(data, tmp_path / "tasks.json", "labelstudio", *flags)
    assert '<Label value="hard_exudate"/>' in capsys.readouterr().out
    back = ["--annotation", "predictions"] if flags else []
    back = read_back("labelstudio", out, tmp_path / "back", "--image_root", data, "--missing", "absent", *back)
    assert not lost(masks_in(data), masks_in(back)) and splits_in(back) == splits_in(data)


def test_no_address_leads_out_of_the_folder_that_is_served(tmp_path, capsys):
    data = small_data(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    out = written(data, tmp_path / "elsewhere/tasks.json", "labelstudio")
    images = [task["data"]["image"] for task in json.loads(out.read_text())]
    assert images == [f"/data/local-files/?d=eye_{number}.png" for number in range(3)]
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={data / 'images'}," in capsys.readouterr().out


def test_predictions_have_their_model_and_score(tmp_path, capsys):
    data = small_data(tmp_path / "data")
    with (data / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "state", "mask", "predicted_iou"])
        for structure, score in (("vessel", 0.75), ("optic_disc", 0.25)):
            rows.writerow([data / "images/eye_0.png", structure, "found", f"masks/eye_0_{structure}_000.png", score])
    for path in data.glob("image2label*"):
        path.unlink()
    flags = ["--model_version", "v7", "--image_url", "https://host/"]
    out = written(data, tmp_path / "tasks.json", "labelstudio", *flags)
    [task] = json.loads(out.read_text())
    [prediction] = task["predictions"]
    assert task["data"] == {"image": "https://host/data/images/eye_0.png"} and "annotations" not in task
    assert (prediction["model_version"], prediction["score"]) == ("v7", 0.5)
    assert [result["score"] for result in prediction["result"]] == [0.25, 0.75]
    assert "LOCAL_FILES" not in capsys.readouterr().out


def test_brushes_are_those_of_the_sdk(tmp_path):
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="pip install label-studio-sdk")
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "tasks.json", "labelstudio")
    for number, task in enumerate(json.loads(out.read_text())):
        assert task["data"]["image"] == f"/data/local-files/?d=data/images/eye_{number}.png"
        for result in task["annotations"][0]["result"]:
            layer = np.reshape(brush.decode_rle(result["value"]["rle"]), [*SIZE, 4])[..., 3]
            [label] = result["value"]["brushlabels"]
            assert np.array_equal(layer > 0, masks_in(data)[f"eye_{number}", label])


def test_the_sdk_accepts_predictions_with_the_interface_that_is_printed(tmp_path, capsys):
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="pip install label-studio-sdk")
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "tasks.json", "labelstudio", "--write_as", "predictions")
    [config] = re.findall("<View>.*</View>", capsys.readouterr().out)
    for task in json.loads(out.read_text()):
        assert interface.LabelInterface(config).validate_prediction(task["predictions"][0], return_errors=True) == []
