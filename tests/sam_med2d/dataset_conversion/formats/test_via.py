"""Files of the VGG Image Annotator, versions 1 to 3: no package writes them; these are as its exports are."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam_med2d.dataset_conversion.drawings import Ellipse
from sam_med2d.dataset_conversion.formats.via import VIA
from sam_med2d.dataset_conversion.polygons import rasterize
from sam_med2d.errors import DataError
from scripts import prepare_dataset
from tests.helpers.annotation_files import SIZE, check_masks, fill_ellipse, found, masks_of, photograph
from tests.helpers.cases import check_all
from tests.helpers.commands import run_command

TRIANGLE = [(5, 10), (20, 12), (15, 30)]
DISC = {"name": "Optic Disc"}
POLYGON = {"name": "polygon", "all_points_x": [5, 20, 15], "all_points_y": [10, 12, 30]}
SHAPES = {
    "polygon": POLYGON,
    "rect": {"name": "rect", "x": 10, "y": 12, "width": 20, "height": 8},
    "circle": {"name": "circle", "cx": 32, "cy": 24, "r": 8.5},
    "ellipse": {"name": "ellipse", "cx": 30, "cy": 20, "rx": 12, "ry": 6, "theta": 0.5236},
}
LINES = ({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [3, 4]}, {"name": "point", "cx": 3, "cy": 4})


def expected(theta: float = 0.5236) -> dict[str, np.ndarray]:
    masks = {name: np.zeros(SIZE, bool) for name in SHAPES}
    masks["rect"][12:20, 10:30] = True
    masks["polygon"] = rasterize([np.array(TRIANGLE)], SIZE)
    masks["circle"] = fill_ellipse(Ellipse(32, 24, 8.5, 8.5), SIZE)
    masks["ellipse"] = fill_ellipse(Ellipse(30, 20, 12, 6, float(np.rad2deg(theta))), SIZE)
    return masks


def regions(attribute: str = "structure") -> list[dict[str, Any]]:
    every = [(shape, name) for name, shape in SHAPES.items()] + [(shape, "vessel") for shape in LINES]
    return [{"shape_attributes": shape, "region_attributes": {attribute: name}} for shape, name in every]


def entry(*drawn: dict[str, Any], name: str = "eye.png", old: bool = False) -> dict[str, Any]:
    """One photograph's, as VIA 2 or VIA 1 has it."""
    listed = {str(i): region for i, region in enumerate(drawn)} if old else list(drawn)
    return {f"{name}1234": {"filename": name, "size": 1234, "regions": listed, "file_attributes": {}}}


def region(shape: dict[str, Any] = POLYGON, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def saved(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def table(path: Path, *drawn: dict[str, Any], head: str = "filename") -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        names = "file_size file_attributes region_count region_id region_shape_attributes region_attributes"
        rows.writerow([head, *names.split()])
        for i, one in enumerate(drawn):
            shapes = [json.dumps(one[key]) for key in ("shape_attributes", "region_attributes")]
            rows.writerow(["eye.png", 1234, "{}", len(drawn), i, *shapes])
        if not drawn:
            rows.writerow(["eye.png", 1234, "{}", 0, 0, "{}", "{}"])
    return path


def test_versions_1_and_2(tmp_path):
    photograph(tmp_path / "eye.png")
    project = {"_via_settings": {}, "_via_img_metadata": entry(*regions()), "_via_attributes": {"region": {}}}
    old, new = entry(*regions(), old=True), entry(*regions())
    for content in (project, new, old):
        saved(tmp_path / "via.json", content)
        check_masks(found(VIA, tmp_path).samples[0], expected())
    (tmp_path / "via.json").unlink()
    for head in ("filename", "#filename"):
        table(tmp_path / "via.csv", *regions(), head=head)
        offer = found(VIA, tmp_path)
        check_masks(offer.samples[0], expected())
    assert offer.notes == [
        f"shapes without an area are left out: 1 polyline, 1 point (first: {tmp_path}/via.csv, image eye.png, region 4 "
        "(polyline))"
    ]


def test_version_3(tmp_path):
    photograph(tmp_path / "eye.png")
    names = [*SHAPES]
    drawn = [[7, 5, 10, 20, 12, 15, 30], [2, 10, 12, 20, 8], [3, 32, 24, 8.5], [4, 30, 20, 12, 6], [6, 1, 3, 2, 4]]
    metadata = {f"1_{i}": {"vid": "1", "flg": 0, "z": [], "xy": xy, "av": {"1": str(i)}} for i, xy in enumerate(drawn)}
    metadata["1_x"] = {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"2": "good"}}
    options = {str(i): name for i, name in enumerate([*names, "vessel"])}
    content = {
        "project": {"data_format_version": "3.1.1", "vid_list": ["1"]},
        "attribute": {"1": {"aname": "structure", "type": 4, "options": options}, "2": {"aname": "quality"}},
        "file": {"1": {"fid": 1, "fname": "eye.png", "type": 2, "loc": 1, "src": ""}},
        "view": {"1": {"fid_list": [1]}},
        "metadata": metadata,
    }
    saved(tmp_path / "via.json", content)
    offer = found(VIA, tmp_path)
    check_masks(offer.samples[0], expected(theta=0))
    assert "1 polyline (first: " in offer.notes[0] and not offer.problems
    metadata["1_0"]["av"]["1"] = "0,1"  # two boxes are ticked
    saved(tmp_path / "via.json", content)
    check_masks(found(VIA, tmp_path).samples[0], {"rect": expected()["rect"] | expected()["polygon"]})
    saved(tmp_path / "via.json", {**content, "view": {}})
    with pytest.raises(DataError, match=r"via\.json is no whole project of VIA 3 \(KeyError"):
        found(VIA, tmp_path)


def test_which_attribute_is_the_structure(tmp_path):
    photograph(tmp_path / "eye.png")

    def check(attributes: dict[str, Any], flags: dict[str, str], found_or_problem: Any) -> None:
        saved(tmp_path / "via.json", entry(region(**attributes)))
        offer = found(VIA, tmp_path, **flags)
        if isinstance(found_or_problem, str):
            assert found_or_problem in offer.problems[0]
        else:
            assert not offer.problems and set(masks_of(offer.samples[0])) == found_or_problem

    both = {"name": "Optic Disc", "quality": "good"}
    check_all(
        check,
        [
            (DISC, {}, {"optic_disc"}),
            ({**DISC, "note": " "}, {}, {"optic_disc"}),
            (both, {"attribute": "name"}, {"optic_disc"}),
            (both, {}, "region 0 (polygon): it has the attributes name, quality: say with --attribute NAME which is"),
            ({"name": {"disc": True, "rim": True, "cup": False}}, {}, {"disc", "rim"}),
            ({}, {"structure": "disc"}, {"disc"}),
            ({}, {}, "no attribute says what it shows: give it one in VIA, or say --structure NAME"),
            (DISC, {"classes": "Optic Disc=disc"}, {"disc"}),
        ],
    )


def test_regions_that_cannot_be_read_are_named(tmp_path):
    photograph(tmp_path / "eye.png")

    def check(shape: dict[str, Any], message: str) -> None:
        saved(tmp_path / "via.json", entry(region(**DISC), region(shape, **DISC)))
        [problem] = found(VIA, tmp_path).problems
        assert "via.json, image eye.png, region 1 (" in problem and message in problem

    check_all(
        check,
        [
            ({**POLYGON, "all_points_x": [1, 2]}, "it has 2 x and 3 y"),
            ({"name": "rect", "x": 1, "y": 2, "width": 3}, "it has no height"),
            (
                {"name": "rect", "x": 1, "y": 2, "width": 300, "height": 3},
                "(301, 2) lies outside of the photograph of 64",
            ),
            ({"name": "circle", "cx": 1, "cy": 200, "r": 3}, "(1, 200) lies outside"),
            ({"name": "circle", "cx": 1, "cy": 2, "r": 0}, "radii above 0"),
            ({"name": "blob"}, "this kind of region is not read"),
            ({}, "it has no name"),
        ],
    )


def test_files_that_cannot_be_used(tmp_path, capsys):
    photograph(tmp_path / "in/eye.png")
    saved(tmp_path / "in/a.json", entry(region(**DISC)))
    saved(tmp_path / "in/b.json", entry(region(**DISC), name="https://host/photos/eye.png"))
    assert run_command(prepare_dataset, ["via", tmp_path / "in", tmp_path / "out"]) == 2
    message = capsys.readouterr().err
    assert "the images eye.png and photos/eye.png are both" in message and not (tmp_path / "out").exists()
    saved(tmp_path / "in/b.json", entry(region(**DISC)))
    with pytest.raises(DataError, match=r"eye\.png is annotated in .*a\.json and again in .*b\.json: keep one of them"):
        found(VIA, tmp_path / "in")
    saved(tmp_path / "in/b.json", entry(region(**DISC), name="other.png"))
    assert "b.json: the image other.png is not there, or several are" in found(VIA, tmp_path / "in").problems[0]
    broken = ([{"shape_attributes": 1}], {"0": None}, 5, None)
    for listed in broken:
        saved(tmp_path / "in/b.json", {"eye.png1": {"filename": "eye.png", "regions": listed}})
        with pytest.raises(DataError, match=r"b\.json: a region without its two attributes"):
            found(VIA, tmp_path / "in")
    (tmp_path / "in/b.json").write_text("[]")
    table(tmp_path / "in/b.csv")
    assert len(found(VIA, tmp_path / "in" / "a.json").samples) == 1
    (tmp_path / "in/a.json").unlink()
    assert "has no mask (--missing absent" in found(VIA, tmp_path / "in").problems[0]
    (tmp_path / "in/b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"no file of VIA \(\.json or \.csv with regions\)"):
        found(VIA, tmp_path / "in")
    head = "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)\n# CSV_HEADER = "
    columns = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"
    (tmp_path / "in/b.csv").write_text(
        head + columns + '\n"1_a","[""eye.png""]",0,"[]","[2,1,2,3,4]","{""1"":""0""}"\n'
    )
    with pytest.raises(DataError, match=r"b\.csv is a table of VIA 3, .*: save the project as JSON"):
        found(VIA, tmp_path / "in")
