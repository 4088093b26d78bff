"""coco.json of scripts/predict.py against truth of scripts/export_annotations.py, in pycocotools' COCOeval."""

import json
import shutil
from pathlib import Path

import pytest

from scripts import export_annotations
from tests.helpers.commands import run_command
from tests.helpers.paths import ROOT
from tests.helpers.predicting import rows_of, run, write_weights

coco = pytest.importorskip("pycocotools.coco")
NAMES = ("synthetic_01", "synthetic_02", "synthetic_04")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def photographs(tmp_path, tiny_type) -> Path:
    """Two of the demo's photographs, elsewhere."""
    (tmp_path / "clinic").mkdir()
    for name in NAMES[1:]:
        shutil.copy(ROOT / f"data_demo/images/{name}.jpg", tmp_path / "clinic")
    return tmp_path / "clinic"


def precision(truth: Path, out: Path) -> dict[str, float]:
    """AP of each category of the truth that has masks in the predicted photographs."""
    from pycocotools.cocoeval import COCOeval

    reader = coco.COCO(str(truth))
    evaluation = COCOeval(reader, reader.loadRes(json.loads((out / "coco.json").read_text())["annotations"]), "segm")
    evaluation.params.imgIds = [image["id"] for image in json.loads((out / "coco.json").read_text())["images"]]
    evaluation.evaluate()
    evaluation.accumulate()
    categories = reader.loadCats(evaluation.params.catIds)
    values = {category["name"]: evaluation.eval["precision"][:, :, k, 0, 2] for k, category in enumerate(categories)}
    return {name: float(value.mean()) for name, value in values.items() if (value > -1).any()}


def test_predictions_that_are_the_truth_have_precision_one(photographs, weights):
    """The truth has a photograph more, artery and haemorrhage, and no disc: counted ids would shift with each."""
    assert run(photographs, weights, "--structures", "all") == 0
    data, out = photographs.parent / "data", photographs.parent / "out"
    shutil.copytree(ROOT / "data_demo", data)
    masks = {f"images/{name}.jpg": [f"masks/{name}_haemorrhage_000.png"] for name in NAMES}
    for row in rows_of(out):
        if row["label"] == "vessel":
            shutil.copy(out / row["mask"], data / f"masks/{row['name']}_vessel_000.png")
            masks[f"images/{row['name']}.jpg"].append(f"masks/{row['name']}_vessel_000.png")
    shutil.copy(data / "masks/synthetic_01_vessel_000.png", data / "masks/synthetic_01_artery_000.png")
    masks["images/synthetic_01.jpg"].append("masks/synthetic_01_artery_000.png")
    (data / "image2label_train.json").write_text(json.dumps(masks))
    truth = data / "truth.json"
    assert run_command(export_annotations, [str(data), str(truth), "--split", "train", "--format", "coco"]) == 0
    assert precision(truth, out) == {"vessel": 1.0, "haemorrhage": 0.0}

    content = json.loads(truth.read_text())  # the same with ids of another program
    images = {image["id"]: number for number, image in enumerate(content["images"], start=70)}
    categories = {category["id"]: number for number, category in enumerate(content["categories"])}
    for part, key, ids in (("images", "id", images), ("categories", "id", categories)):
        content[part] = [item | {key: ids[item[key]]} for item in content[part]]
    content["categories"].append({"id": 90, "name": "Optic Disc"})
    content["categories"].append({"id": 91, "name": "drusen"})
    for item in content["annotations"]:
        item |= {"image_id": images[item["image_id"]], "category_id": categories[item["category_id"]]}
    truth.write_text(json.dumps(content))
    before = json.loads((out / "coco.json").read_text())
    assert run(photographs, weights, "--structures", "all", "--coco_gt", truth) == 0
    assert precision(truth, out) == {"vessel": 1.0, "haemorrhage": 0.0}
    after = json.loads((out / "coco.json").read_text())
    assert {image["id"] for image in after["images"]} == {71, 72}
    assert {item["id"]: item["name"] for item in after["categories"]}[90] == "optic_disc"
    assert [item["segmentation"] for item in after["annotations"]] == [i["segmentation"] for i in before["annotations"]]


def test_bad_files_are_refused_before_anything_is_predicted(photographs, weights, tmp_path, capsys):
    image = {"id": 1, "file_name": f"{NAMES[1]}.jpg"}
    categories = [{"id": i, "name": name} for i, name in enumerate(("optic_disc", "vessel", "drusen"))]
    whole = {"images": [image, {"id": 2, "file_name": f"{NAMES[2]}.jpg"}], "annotations": [], "categories": categories}
    file = tmp_path / "gt.json"
    for content, message in (
        (None, "cannot be read as JSON"),
        ("[", "cannot be read as JSON"),
        ("[]", "is no COCO file"),
        (json.dumps(whole | {"categories": categories[:2]}), "0 categories are called drusen"),
        (json.dumps(whole | {"images": [image]}), f"0 images fit {photographs / NAMES[2]}.jpg"),
        (json.dumps(whole | {"images": [*whole["images"], image]}), "several images have the id 1"),
        (json.dumps(whole | {"images": [*whole["images"], image | {"id": 3}]}), "2 images fit"),
    ):
        if content is not None:
            file.write_text(content)
        assert run(photographs, weights, "--structures", "all", "--coco_gt", file) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error and str(file) in error
        assert not (photographs.parent / "out/predictions.csv").exists()
    sizes = [item | {"width": 8, "height": 9} for item in whole["images"]]
    file.write_text(json.dumps(whole | {"images": sizes}))
    assert run(photographs, weights, "--structures", "all", "--coco_gt", file) == 2
    assert "and 8 x 9 in that file" in capsys.readouterr().err
    assert not (photographs.parent / "out/coco.json").exists() and not (photographs.parent / "out/masks").exists()
    file.write_text(json.dumps(whole))
    assert run(photographs, weights, "--structures", "all", "--coco_gt", file) == 0
    content = json.loads((photographs.parent / "out/coco.json").read_text())
    assert {item["image_id"] for item in content["annotations"]} == {1, 2}
