"""--region: which pixels the scores of test.py count."""

import json

import cv2
import numpy as np
import pytest

from sam_med2d.evaluation.mask_pair import MaskPair
from sam_med2d.evaluation.metrics import score
from segment_anything.utils.field_of_view import find_field_of_view
from tests.helpers.evaluation_runs import SCRIPT, cases, run, summary

METRICS = ("dice", "specificity", "accuracy", "hd95", "boundary_iou", "auc", "aupr")
pytestmark = pytest.mark.usefixtures("tiny_type", "quick_figures")


@pytest.fixture
def data(tmp_path):
    """A photograph with a black surround, and a true mask that reaches into it."""
    folder = tmp_path / "data"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    disc = cv2.circle(np.zeros((120, 160), np.uint8), (80, 60), 50, 1, -1)
    noise = np.random.default_rng(0).integers(90, 200, (120, 160, 3), np.uint8)
    cv2.imwrite(str(folder / "images/a.png"), noise * disc[..., None])
    mask = np.zeros((120, 160), np.uint8)
    mask[40:80, 10:90] = 255
    cv2.imwrite(str(folder / "masks/a_vessel_000.png"), mask)
    (folder / "label2image_test.json").write_text(json.dumps({"masks/a_vessel_000.png": "images/a.png"}))
    return folder


def scored(checkpoint, data, name, *flags):
    """The row of the box, and the mask that was saved for it."""
    more = ("--prompts", "box", "--save_pred", "True", "--metrics", *METRICS, *flags)
    assert run(checkpoint, data, name, *more) == 0
    (row,) = cases(checkpoint.parent / name)
    (path,) = (checkpoint.parent / name).rglob("a_vessel_000.png")
    return {metric: float(row[metric]) for metric in METRICS} | {"ceiling": float(row["ceiling"])}, cv2.imread(path, 0)


def test_each_region_counts_its_own_pixels(checkpoint, data, tmp_path):
    runs = {region: scored(checkpoint, data, region, "--region", region) for region in ("photograph", "field_of_view")}
    runs["default"] = scored(checkpoint, data, "default")
    (whole, saved), (inside, _), (default, _) = runs.values()
    assert all(np.array_equal(mask, saved) for _, mask in runs.values())  # what is saved stays whole
    soft = ("auc", "aupr")
    assert {name: default[name] for name in default if name not in soft} == {
        name: whole[name] for name in whole if name not in soft
    }
    assert {name: default[name] for name in soft} == {name: inside[name] for name in soft}
    assert all(whole[name] != inside[name] for name in (*METRICS, "ceiling") if name != "boundary_iou")

    truth = cv2.imread(data / "masks/a_vessel_000.png", 0) > 0
    field = find_field_of_view(cv2.imread(data / "images/a.png")).mask()
    expected = score(MaskPair(saved > 0, truth).within(field), METRICS[:5])
    assert {name: inside[name] for name in expected} == pytest.approx(expected)
    assert "All metrics count the pixels of the field of view." in (tmp_path / "field_of_view/report.md").read_text()
    assert "All metrics count" not in (tmp_path / "default/report.md").read_text()
    assert summary(tmp_path / "field_of_view")["settings"]["--region"] == "field_of_view"


def test_an_unknown_region_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        SCRIPT.parse_args(["--region", "disc"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "--region" in message and "photograph" in message and "field_of_view" in message


def test_the_masks_may_lie_outside_the_region():
    truth, region = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    truth[:5], region[10:] = True, True
    assert np.isnan(score(MaskPair(truth, truth).within(region), ["dice"])["dice"])
    assert score(MaskPair(truth, truth).within(region), ["accuracy"]) == {"accuracy": 1}
