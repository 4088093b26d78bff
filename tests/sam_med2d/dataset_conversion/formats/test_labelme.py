"""Files of labelme: one that labelme 6.3.1 wrote, each kind of shape, and what cannot be used."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam_med2d.dataset_conversion.drawings import Ellipse
from sam_med2d.dataset_conversion.formats.labelme import LABELME
from sam_med2d.dataset_conversion.polygons import rasterize, snapped
from sam_med2d.errors import DataError
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

TRIANGLE = [[5.5, 10.25], [20.0, 12.0], [15.75, 30.5]]


def written(path: Path, *shapes: dict[str, Any], **more: Any) -> Path:
    """A file as labelme writes it, of the photograph eye.png."""
    about = {"version": "6.3.1", "flags": {}, "imagePath": "eye.png", "imageData": None}
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, **size, "shapes": shapes, **more}))
    return path


def shape(label: str = "disc", kind: str | None = "polygon", points: Any = TRIANGLE, **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, "flags": {}, **more}


def mask_shape() -> dict[str, Any]:
    return json.loads((WRITTEN / "labelme.json").read_text())["shapes"][0]


def test_a_file_that_labelme_wrote(tmp_path):
    """Its photograph lies in the file; its masks were made by labelme 6.3.1 from those expected here."""
    shutil.copy(WRITTEN / "labelme.json", tmp_path)
    offer = found(LABELME, tmp_path)
    [sample] = offer.samples
    assert not offer.problems and sample.name == "eye" and sample.image.name == "labelme.png"
    masks = ring_and_vessel()
    expected = {"optic_disc": masks["Optic Disc"], "vessel": masks["vessel"]}
    expected["haemorrhage"] = rasterize([snapped(TRIANGLE)], SIZE)
    expected["haemorrhage"][30:44, 40:50] = True
    expected["rectangle"] = np.zeros(SIZE, bool)
    expected["rectangle"][10:20, 20:30] = True
    expected["circle"] = fill_ellipse(Ellipse(32.5, 24, 8, 8), SIZE)
    expected["oriented"] = rasterize([np.array([[30, 10], [40, 20], [30, 30], [20, 20]])], SIZE)
    check_masks(sample, expected)
    [note] = offer.notes
    assert "without an area are left out: 1 linestrip of vessel, 1 point of fovea, 1 line of vessel" in note
    assert "labelme.json, shape 7 (linestrip of vessel)" in note
    each = found(LABELME, tmp_path, instances=True).samples[0].masks
    assert [source.structure for source in each].count("haemorrhage") == 1  # they are one group


def test_the_photograph_beside_the_file_comes_first(tmp_path):
    content = json.loads((WRITTEN / "labelme.json").read_text())
    photograph(tmp_path / "in/photos/eye.png")
    written(tmp_path / "in/train/labels/eye.json", **{**content, "imagePath": "..\\..\\photos\\eye.png"})
    [sample] = found(LABELME, tmp_path / "in").samples
    assert (sample.image, sample.split) == (tmp_path / "in/photos/eye.png", "train")
    for name, root in (("/home/me/eye.png", None), ("C:\\eyes\\eye.png", None), ("x.png", tmp_path / "in/photos")):
        (tmp_path / "in/photos/eye.png").rename(
            photograph(tmp_path / "in/photos" / name.replace("\\", "/").split("/")[-1])
        )
        written(tmp_path / "in/train/labels/eye.json", shape(), imagePath=name)
        [sample] = found(LABELME, tmp_path / "in", image_root=root).samples
        assert sample.image.parent == tmp_path / "in/photos"
        sample.image.rename(tmp_path / "in/photos/eye.png")


def test_other_kinds_of_shapes(tmp_path):
    photograph(tmp_path / "eye.png")
    square = np.zeros(SIZE, bool)
    square[10:20, 20:30] = True
    corners = [[20, 10], [30, 10], [30, 20], [20, 20]]
    for one in (shape(points=corners), shape(kind=None, points=corners), shape(kind="rotation", points=corners)):
        written(tmp_path / "eye.json", one, shape(kind="rectangle", points=corners, label="four"))
        check_masks(found(LABELME, tmp_path).samples[0], {"disc": square, "four": square})
    written(tmp_path / "eye.json", shape("disc"), shape("rim", points=corners), shape("artefact"))
    masks = masks_of(found(LABELME, tmp_path, classes="disc=optic_disc,rim=optic_disc,artefact=void").samples[0])
    assert list(masks) == ["optic_disc"] and np.array_equal(
        masks["optic_disc"], square | rasterize([snapped(TRIANGLE)], SIZE)
    )


def test_shapes_that_cannot_be_read_are_named(tmp_path):
    photograph(tmp_path / "eye.png")
    mask = mask_shape()

    def check(one: Any, message: str) -> None:
        written(tmp_path / "eye.json", shape("vessel"), one)
        [problem] = found(LABELME, tmp_path).problems
        assert "eye.json, shape 1 (" in problem and message in problem

    check_all(
        check,
        [
            (shape(points=TRIANGLE[:2]), "a polygon is a list x, y, x, y, ... of three points or more"),
            (shape(points=[[1, 2], [3, float("nan")], [4, 5]]), "points are pairs of finite numbers x, y"),
            (shape(points=[1, 2, 3]), "points are pairs of finite numbers x, y"),
            (shape(kind="circle", points=TRIANGLE), "a circle of 3 points is not read"),
            (shape(kind="circle", points=[[3, 3], [3, 3]]), "radii above 0"),
            (shape(kind="cuboid"), "a cuboid of 3 points is not read"),
            (shape(label=7), "its label is no text"),
            (shape(label="--"), "'--' is no name of a structure"),
            ("nothing", "its label is no text"),
            ({"label": "disc"}, "it has no points"),
            ({**mask, "mask": None}, "no base64"),
            ({**mask, "mask": "####"}, "no base64"),
            ({**mask, "mask": "ABCD"}, "no picture in base64"),
            ({**mask, "points": [[28, 8], [53, 33]]}, "its mask is 25 x 25 pixels, its box 26 x 26"),
        ],
    )


def test_files_that_cannot_be_used(tmp_path):
    photograph(tmp_path / "eye.png")
    other = {"imageHeight": SIZE[1], "imageWidth": SIZE[0]}
    written(tmp_path / "eye.json", shape(), **other)
    assert "eye.json: drawn on 48 x 64 pixels, the photograph" in found(LABELME, tmp_path).problems[0]
    far = {**mask_shape(), "points": [[50, 40], [74, 64]]}
    written(tmp_path / "eye.json", shape("vessel"), far)
    with pytest.raises(DataError, match=r"shape 1 \(mask of Optic Disc\): 25 x 25 pixels from \(50, 40\) on leave"):
        masks_of(found(LABELME, tmp_path).samples[0])
    written(tmp_path / "eye.json", shape(), imagePath="nowhere.png")
    assert "eye.json: the image nowhere.png is not there" in found(LABELME, tmp_path).problems[0]
    written(tmp_path / "eye.json", shape(), imagePath="nowhere.png", imageData="R0lGODlh")
    with pytest.raises(
        DataError, match=r"eye\.json: its imageData is neither PNG nor JPEG: put nowhere\.png beside it"
    ):
        found(LABELME, tmp_path)
    written(tmp_path / "eye.json", shape())
    written(tmp_path / "again.json", shape())
    with pytest.raises(DataError, match=r"eye\.png is annotated in .*again\.json and .*eye\.json: keep one of them"):
        found(LABELME, tmp_path)
    (tmp_path / "again.json").write_text("{")
    with pytest.raises(DataError, match=r"again\.json cannot be read as JSON"):
        found(LABELME, tmp_path)
    with pytest.raises(DataError, match="no file of labelme"):
        found(LABELME, photograph(tmp_path / "none" / "eye.png").parent)


def test_the_command(tmp_path, capsys):
    for i in range(3):
        photograph(tmp_path / f"in/eye{i}.png")
        written(tmp_path / f"in/eye{i}.json", shape("Disc"), shape("fovea", "point", [[1, 2]]), imagePath=f"eye{i}.png")
    flags = ["--split", "2/0/1", "--classes", "Disc=optic_disc"]
    assert run_command(prepare_dataset, ["labelme", tmp_path / "in", tmp_path / "out", *flags]) == 0
    assert "3 point of fovea" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == [
        f"eye{i}_optic_disc_000.png" for i in range(3)
    ]
    written(
        tmp_path / "in/eye1.json", shape("Disc"), {**mask_shape(), "points": [[50, 40], [74, 64]]}, imagePath="eye1.png"
    )
    assert run_command(prepare_dataset, ["labelme", tmp_path / "in", tmp_path / "bad"]) == 2
    assert "shape 1 (mask of Optic Disc)" in capsys.readouterr().err and not (tmp_path / "bad").exists()


def test_photographs_in_the_files_are_copied_and_not_linked_to(tmp_path, capsys):
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        content = json.loads((WRITTEN / "labelme.json").read_text())
        written(tmp_path / "in" / name / f"{name}.json", **{**content, "imagePath": f"{name}.png"})
    command = ["labelme", tmp_path / "in", tmp_path / "out", "--split", "1/1/1"]
    assert run_command(prepare_dataset, [*command, "--link"]) == 2
    assert "--link: photographs in archives or in annotation files cannot be linked to" in capsys.readouterr().err
    assert run_command(prepare_dataset, command) == 0
    assert len(list((tmp_path / "out/images").glob("*.png"))) == 3
