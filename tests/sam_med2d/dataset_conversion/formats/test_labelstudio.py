"""Exports of Label Studio: files of label-studio-sdk 2.1.2, which annotation counts, and what cannot be used."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam_med2d.dataset_conversion.brush_rle import encode_mask
from sam_med2d.dataset_conversion.drawings import Ellipse, box_corners
from sam_med2d.dataset_conversion.formats.labelstudio import LABELSTUDIO
from sam_med2d.dataset_conversion.polygons import rasterize, snapped
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS
from scripts import prepare_dataset
from tests.helpers.annotation_files import (
    SIZE,
    WRITTEN,
    check_masks,
    fill_ellipse,
    found,
    masks_of,
    photograph,
    ring_and_vessel,
)
from tests.helpers.cases import check_all
from tests.helpers.commands import run_command

RING = ring_and_vessel()["Optic Disc"]


def region(kind: str = "rectanglelabels", label: str = "box", **value: Any) -> dict[str, Any]:
    """A result of a photograph of SIZE; value: such as x=10."""
    value = value or {"x": 10, "y": 10, "width": 25, "height": 50}
    size = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    return {"type": kind, "from_name": "tag", "to_name": "image", **size, "value": {**value, kind: [label]}}


def annotation(*results: dict[str, Any], number: int = 1, by: Any = 1, **more: Any) -> dict[str, Any]:
    times = {"created_at": f"2026-01-0{number}T00:00:00Z", "updated_at": f"2026-02-0{9 - number}T00:00:00Z"}
    return {"id": number, "completed_by": by, "was_cancelled": False, "result": list(results), **times, **more}


def export(path: Path, *tasks: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tasks))
    return path


def task(*annotations: dict[str, Any], number: int = 12, image: Any = "eye.png", **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}, "annotations": list(annotations), "predictions": [], **more}


def test_files_that_label_studio_wrote(tmp_path):
    """As JSON, and what the sdk's Converter makes of it as JSON-MIN."""
    photograph(tmp_path / "eye.png")
    triangle = snapped(np.array([[10, 10], [60, 20], [30, 80]]) * (0.64, 0.48))
    box = snapped(np.reshape(box_corners(6.4, 4.8, 22.4, 14.4), (-1, 2)))
    expected = {"optic_disc": RING, "cup": fill_ellipse(Ellipse(32, 19.2, 12.8, 6, 30), SIZE)}
    expected |= {"polygon": rasterize([triangle], SIZE), "box": rasterize([box], SIZE)}
    for name in ("labelstudio.json", "labelstudio_min.json"):
        path = Path(shutil.copy(WRITTEN / name, tmp_path))
        offer = found(LABELSTUDIO, path)
        [sample] = offer.samples
        assert sample.name == "eye" and not offer.problems and len(sample.masks) == 4
        check_masks(sample, expected)


def test_boxes_turn_about_their_corner_and_ellipses_about_their_middle_in_pixels(tmp_path):
    photograph(tmp_path / "eye.png")
    turned = region(x=50, y=25, width=25, height=25, rotation=90)
    export(tmp_path / "a.json", task(annotation(turned)))
    box = np.zeros(SIZE, bool)
    box[12:28, 20:32] = True
    check_masks(found(LABELSTUDIO, tmp_path).samples[0], {"box": box})


def test_a_region_and_its_labels_may_be_two_results(tmp_path):
    photograph(tmp_path / "eye.png")
    rle = {"format": "rle", "rle": encode_mask(RING)}
    both = [{**region("brush", **rle), "id": "x"}, {**region("labels", "disc", **rle), "id": "x"}]
    both[0]["value"].pop("brush")
    about = [{"type": "choices", "value": {"choices": ["good"]}}, {"type": "relation", "from_id": "x", "to_id": "y"}]
    point = region("keypointlabels", "fovea", x=1, y=2, width=0.3)
    opened = region("polygonlabels", "vessel", points=[[1, 2], [3, 4], [5, 9]], closed=False)
    two = region("brushlabels", "disc", **rle)
    two["value"]["brushlabels"].append("rim")
    export(tmp_path / "a.json", task(annotation(*both, *about, point, opened, two)))
    offer = found(LABELSTUDIO, tmp_path)
    check_masks(offer.samples[0], {"disc": RING, "rim": RING})
    assert len(found(LABELSTUDIO, tmp_path, instances=True).samples[0].masks) == 3
    left_out = "1 choices, 1 relation, 1 keypointlabels of fovea, 1 polygonlabels of vessel (first: "
    assert left_out in offer.notes[0] and not offer.problems


def test_soft_edges_of_a_brush(tmp_path):
    photograph(tmp_path / "eye.png", (2, 3))
    alpha = np.array([[0, 99, 100], [101, 200, 1]])
    header = "".join(f"{number:0{bits}b}" for number, bits in ((24, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4)))
    bits = header + "".join(f"100011{value:08b}" for value in alpha.ravel())  # runs of four
    bits += "0" * (-len(bits) % 8)
    brush = region("brushlabels", "disc", rle=[int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)])
    export(tmp_path / "a.json", task(annotation({**brush, "original_height": 2, "original_width": 3})))
    for threshold, expected in ((0.5, alpha >= 100), (0.005, alpha > 0), (1, alpha >= 200)):
        with REMARKS.collected():
            sample = found(LABELSTUDIO, tmp_path, threshold=threshold).samples[0]
            [(kind, files)] = REMARKS.take().items()
        assert np.array_equal(masks_of(sample, (2, 3))["disc"], expected)
        assert kind == f"soft edges of brushes count from {threshold:g} of their strongest alpha on"
        assert list(files.values()) == ["4 pixels"]


def test_which_annotation_counts(tmp_path):
    photograph(tmp_path / "eye.png")
    people = ({"id": 7, "email": "b@c.d"}, 3)
    several = [annotation(region(label=f"box{i}"), number=i, by=by) for i, by in enumerate(people, start=1)]
    several[1]["ground_truth"] = True
    cancelled = annotation(region(label="wrong"), number=3, was_cancelled=True)
    models = [{"model_version": name, "result": [region(label=name)]} for name in ("v_one", "v_two")]
    export(tmp_path / "a.json", task(*several, cancelled, predictions=models))
    problem = found(LABELSTUDIO, tmp_path).problems[0]
    assert (
        "task 12: it has 2 annotations (1 by 7 or b@c.d; 2 by 3): say which with --annotator or --annotation" in problem
    )

    def check(flags: dict[str, str], structures: set[str]) -> None:
        offer = found(LABELSTUDIO, tmp_path, **flags)
        assert not offer.problems and set(masks_of(offer.samples[0])) == structures

    check_all(
        check,
        [
            ({"annotation": "last"}, {"box1"}),  # by the time of its last change
            ({"annotation": "ground_truth"}, {"box2"}),
            ({"annotation": "union"}, {"box1", "box2"}),
            ({"annotator": "7"}, {"box1"}),
            ({"annotator": "b@c.d"}, {"box1"}),
            ({"annotator": "3"}, {"box2"}),
            ({"annotation": "predictions", "annotator": "v_two"}, {"v_two"}),
        ],
    )
    assert "1 cancelled annotation(s) are left out" in found(LABELSTUDIO, tmp_path, annotation="last").notes
    problem = found(LABELSTUDIO, tmp_path, annotation="predictions").problems[0]
    assert "it has 2 predictions (None by v_one; None by v_two): say which with --annotator" in problem
    export(tmp_path / "a.json", task(annotation(region())), task(number=13, predictions=models))
    notes = found(LABELSTUDIO, tmp_path).notes
    assert "1 task(s) without an annotation are left out" in notes
    assert "1 of these have predictions: --annotation predictions" in notes


def test_json_min_with_two_annotations_of_a_task(tmp_path):
    photograph(tmp_path / "eye.png")
    [entry] = json.loads((WRITTEN / "labelstudio_min.json").read_text())
    export(tmp_path / "a.json", entry, {**entry, "annotation_id": 6, "annotator": "c@d.e"})
    assert "it has 2 annotations (5 by a@b.c; 6 by c@d.e)" in found(LABELSTUDIO, tmp_path).problems[0]
    check_masks(found(LABELSTUDIO, tmp_path, annotator="c@d.e").samples[0], {"optic_disc": RING})


def test_photographs_are_found_by_the_end_of_their_address(tmp_path):
    photograph(tmp_path / "in/train/my eye.png")
    for address in (
        "/data/upload/3/0a1b2c3d-my%20eye.png",
        "/data/local-files/?d=clinic/my%20eye.png",
        "s3://bucket/train/my eye.png",
        "https://host/train/my%20eye.png?token=a.png",
        "C:\\photos\\my eye.png",
    ):
        export(tmp_path / "in/train/a.json", task(annotation(region()), image=address))
        [sample] = found(LABELSTUDIO, tmp_path / "in").samples
        assert (sample.name, sample.split, sample.image.name) == ("my eye", "train", "my eye.png"), address
    two = {"image": "my eye.png", "fluorescein": "other.png", "id": "P1.x"}
    export(tmp_path / "in/a.json", {**task(annotation(region())), "data": two})
    (tmp_path / "in/train/a.json").unlink()
    assert "in image, fluorescein there are 2: say --image_key NAME" in found(LABELSTUDIO, tmp_path / "in").problems[0]
    assert found(LABELSTUDIO, tmp_path / "in", image_key="image").samples[0].name == "my eye"
    assert "in none there are 0" in found(LABELSTUDIO, tmp_path / "in", image_key="img").problems[0]


def test_regions_that_cannot_be_read_are_named(tmp_path):
    photograph(tmp_path / "eye.png")
    brush = region("brushlabels", "disc", rle=encode_mask(RING))
    large = encode_mask(np.ones((49, 64), bool))
    broken = {**brush, "value": {**brush["value"], "rle": brush["value"]["rle"][:40]}}
    unnamed = region()
    unnamed["value"].pop("rectanglelabels")

    def check(one: dict[str, Any], message: str) -> None:
        export(tmp_path / "a.json", task(annotation(region(), one)))
        [problem] = found(LABELSTUDIO, tmp_path).problems
        assert "a.json, task 12, region 2 (" in problem and message in problem

    check_all(
        check,
        [
            (
                {**brush, "original_height": 64, "original_width": 48},
                "drawn on 48 x 64 pixels, the photograph has 64 x",
            ),
            ({**brush, "image_rotation": 90}, "drawn on the photograph turned by 90 degrees: turn it back"),
            ({**brush, "item_index": 1}, "drawn on a further photograph of a task with several"),
            (
                region("brushlabels", "disc", rle=large),
                "a brush of 12544 values, in a picture of 64 x 48 pixels with 4",
            ),
            (broken, "a brush whose run lengths end too early"),
            (region("brushlabels", "disc", rle=[300]), "bytes must be in range"),
            (region("brushlabels", "disc", rle="abc"), ""),
            (unnamed, "it has no label"),
            (region("ellipselabels", "cup", x=1, y=2, radiusX=0, radiusY=2), "radii above 0"),
            (region("ellipselabels", "cup", x=1, y=2, radiusX=3), "it has no radiusY"),
            (region("polygonlabels", "cup", points=[[1, 2]]), "a polygon is a list x, y"),
            (region("bitmasklabels", "cup", imageDataURL="data:"), "this kind of region is not read"),
        ],
    )


def test_runs_that_are_too_long(tmp_path):
    photograph(tmp_path / "eye.png")
    rle = encode_mask(np.ones((48, 65), bool))
    rle[:4] = (48 * 64 * 4).to_bytes(4, "big")
    export(tmp_path / "a.json", task(annotation(region("brushlabels", "disc", rle=rle))))
    assert "a brush whose runs are longer than its 12288 values" in found(LABELSTUDIO, tmp_path).problems[0]


def test_exports_that_cannot_be_used(tmp_path, capsys):
    photograph(tmp_path / "in/eye.png")
    export(tmp_path / "in/a.json", task(annotation(region())), task(annotation(region()), image="other/eye.png"))
    with pytest.raises(DataError, match="several tasks have the id 12: export each once"):
        found(LABELSTUDIO, tmp_path / "in")
    assert run_command(prepare_dataset, ["labelstudio", tmp_path / "in", tmp_path / "out"]) == 2
    assert "several tasks have the id 12" in capsys.readouterr().err and not (tmp_path / "out").exists()
    export(tmp_path / "in/a.json", task(annotation(region())), task(annotation(region()), number=13))
    with pytest.raises(DataError, match=r"eye\.png is annotated in task 12 and task 13 of .*a\.json: keep one of them"):
        found(LABELSTUDIO, tmp_path / "in")
    export(tmp_path / "in/a.json", task(annotation(region()), image="nowhere.png"))
    assert "a.json, task 12: the image nowhere.png is not there" in found(LABELSTUDIO, tmp_path / "in").problems[0]
    (tmp_path / "in/a.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match="no export of Label Studio"):
        found(LABELSTUDIO, tmp_path / "in")


def test_a_copy_of_an_annotation_keeps_its_ids(tmp_path):
    """The union has the shapes of both."""
    photograph(tmp_path / "eye.png")
    one, other = region(x=0, y=0, width=25, height=50), region(x=50, y=0, width=25, height=50)
    both = task(annotation({**one, "id": "a"}), annotation({**other, "id": "a"}, number=2, by=2))
    export(tmp_path / "a.json", both)
    box = np.zeros(SIZE, bool)
    box[:24, :16] = box[:24, 32:48] = True
    check_masks(found(LABELSTUDIO, tmp_path, annotation="union").samples[0], {"box": box})
