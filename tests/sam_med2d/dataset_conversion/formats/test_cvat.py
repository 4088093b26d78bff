"""Files of CVAT: one that datumaro 1.13.12 wrote, masks of cvat-sdk, each kind of shape, and what cannot be used."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from sam_med2d.dataset_conversion.drawings import Ellipse, box_corners
from sam_med2d.dataset_conversion.formats.cvat import CVAT
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

pytest.importorskip("defusedxml")

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=16))
RING = [10, 5, 17, 11, 12, 15, 9, 17, 7, 19, 5, 21, 4, 21, 3, 9, 5, 9, 2, 8, 7, 8, 2, 7, 9, 7, 1, 7, 11, 14, 11, 14, 11]
RING += [14, 11, 14, 11, 7, 1, 7, 9, 7, 2, 8, 7, 8, 2, 9, 5, 9, 3, 21, 4, 21, 5, 19, 7, 17, 9, 15, 12, 11, 17, 5, 10]
RING += [28, 8, 52, 32]
POLYGON = '<polygon label="disc" points="10.00,10.00;20.00,10.00;20.00,20.00;10.00,20.00" z_order="0"/>'


def written(path: Path, shapes: str = POLYGON, image: str = "", size: tuple[int, int] = SIZE) -> Path:
    """A file as CVAT exports it, of the photograph eye.png."""
    image = image or f'id="0" name="eye.png" width="{size[1]}" height="{size[0]}"'
    labels = "<label><name>disc</name></label><label><name>vessel</name></label>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta><job><labels>{labels}</labels></job></meta><image {image}>{shapes}</image></annotations>\n"
    )
    return path


def mask_element(label: str, points: list[float]) -> str:
    """The mask of a shape's `points` as CVAT's dump_as_cvat_annotation writes it."""
    *runs, left, top, right, bottom = map(int, points)
    box = f'left="{left}" top="{top}" width="{right - left + 1}" height="{bottom - top + 1}"'
    return f'<mask label="{label}" source="manual" occluded="0" rle="{str(runs)[1:-1]}" {box} z_order="0"></mask>'


def test_a_file_that_datumaro_wrote(tmp_path):
    """Its masks are those expected here, drawn on the whole photograph."""
    shutil.copy(WRITTEN / "cvat_datumaro.xml", tmp_path)
    photograph(tmp_path / "images/eye.png")
    offer = found(CVAT, tmp_path)
    [sample] = offer.samples
    assert not offer.problems and sample.name == "eye"
    masks = ring_and_vessel()
    box, turned = ([snapped(np.reshape(box_corners(*c), (-1, 2)))] for c in ((10, 12, 30, 20), (20, 15, 40, 25, 30)))
    triangle = [snapped([(5.5, 10.25), (20, 12), (15.75, 30.5)])]
    expected = {"optic_disc": masks["Optic Disc"], "vessel": masks["vessel"]}
    expected |= {name: rasterize(p, SIZE) for name, p in {"box": box, "turned": turned, "polygon": triangle}.items()}
    check_masks(sample, expected)
    assert "1 polyline of vessel, 1 points of Optic Disc (first: " in offer.notes[0]


@given(MASKS)
def test_masks_of_the_sdk(tmp_path_factory, mask):
    masks = pytest.importorskip("cvat_sdk.masks", reason="pip install cvat-sdk")
    folder = tmp_path_factory.mktemp("cvat")
    photograph(folder / "eye.png", mask.shape)
    written(folder / "annotations.xml", mask_element("disc", masks.encode_mask(mask)), size=mask.shape)
    assert np.array_equal(masks_of(found(CVAT, folder).samples[0], mask.shape)["disc"], mask)


def test_a_mask_as_the_sdk_encodes_it(tmp_path):
    """RING is what encode_mask of cvat_sdk 2.80.0 gives."""
    photograph(tmp_path / "eye.png")
    written(tmp_path / "annotations.xml", mask_element("disc", RING))
    check_masks(found(CVAT, tmp_path).samples[0], {"disc": ring_and_vessel()["Optic Disc"]})


def test_each_kind_of_shape(tmp_path):
    photograph(tmp_path / "images/Train/eye.png")
    shapes = (
        '<ellipse label="ellipse" cx="30.00" cy="20.00" rx="12.00" ry="6.00" rotation="30.00" z_order="1"/>'
        '<box label="box" xtl="1.00" ytl="2.00" xbr="11.00" ybr="7.00" group_id="4"/>'
        '<box label="box" xtl="21.00" ytl="2.00" xbr="31.00" ybr="7.00" group_id="4"/>'
        '<box label="box" xtl="41.00" ytl="2.00" xbr="51.00" ybr="7.00" group_id="0"/>'
        '<tag label="gradable"/><cuboid label="box" xtl1="1"/>'
        '<skeleton label="eye"><points label="fovea" points="1,2"/></skeleton>'
    )
    image = 'id="0" name="eye.png" subset="Train" task_id="3" width="64" height="48"'
    written(tmp_path / "annotations.xml", shapes, image)
    offer = found(CVAT, tmp_path)
    [sample] = offer.samples
    assert (sample.split, sample.image) == ("train", tmp_path / "images/Train/eye.png") and not offer.problems
    box = np.zeros(SIZE, bool)
    box[2:7, [*range(1, 11), *range(21, 31), *range(41, 51)]] = True
    check_masks(sample, {"ellipse": fill_ellipse(Ellipse(30, 20, 12, 6, 30), SIZE), "box": box})
    assert "left out: 1 tag of gradable, 1 cuboid of box, 1 skeleton of eye (first: " in offer.notes[0]
    each = found(CVAT, tmp_path, instances=True).samples[0].masks
    assert [source.structure for source in each].count("box") == 2


def test_the_file_alone_and_labels_that_nothing_shows(tmp_path):
    photograph(tmp_path / "photos/eye.png")
    path = written(tmp_path / "in/annotations.xml", POLYGON)
    written(tmp_path / "in/other.xml", POLYGON)
    [sample] = found(CVAT, path, image_root=tmp_path / "photos", classes="disc=optic_disc,vessel=artery").samples
    assert list(masks_of(sample)) == ["optic_disc"]
    with pytest.raises(
        DataError, match=r"--classes dics=optic_disc: there is no label dics \(those of SOURCE: disc, ve"
    ):
        found(CVAT, path, image_root=tmp_path / "photos", classes="dics=optic_disc")
    assert "the image eye.png is not there, or several are: export with images" in found(CVAT, path).problems[0]


def test_shapes_that_cannot_be_read_are_named(tmp_path):
    photograph(tmp_path / "eye.png")

    def check(shape: str, message: str) -> None:
        written(tmp_path / "annotations.xml", POLYGON + shape)
        [problem] = found(CVAT, tmp_path).problems
        assert "annotations.xml, image eye.png, shape 1 (" in problem and message in problem

    mask = '<mask label="disc" rle="{}" left="{}" top="0" width="{}" height="{}"/>'
    check_all(
        check,
        [
            ('<polygon label="disc" points="1,2;3,4"/>', "a polygon is a list x, y"),
            ('<polygon label="disc" points="1,2;3,4;5"/>', "a polygon is a list x, y"),
            ('<polygon points="1,2;3,4;5,6"/>', "it has no label"),
            ('<polygon label="disc"/>', "it has no points"),
            ('<box label="disc" xtl="1" ytl="2" xbr="3" ybr="nan"/>', "a box has finite numbers"),
            ('<ellipse label="disc" cx="1" cy="2" rx="3" ry="0"/>', "radii above 0"),
            ('<sphere label="disc"/>', "this kind of shape is not read"),
            (mask.format("3, 4", 0, 4, 2), "runs of 7 pixels in a mask of 4 x 2"),
            (mask.format("3, 4, 5", 0, 4, 2), "runs of 12 pixels in a mask of 4 x 2"),
            (mask.format("9, -1", 0, 4, 2), "runs are a list of whole numbers from 0 on"),
            (mask.format("0, 8", 61, 4, 2), "4 x 2 pixels from (61, 0) on leave the photograph of 64 x 48"),
            (mask.format("0, 1000000000000", 0, 1000000, 1000000), "leave the photograph of 64 x 48"),
            (mask.format("a", 0, 4, 2), "invalid literal"),
        ],
    )


def test_files_that_cannot_be_used(tmp_path):
    photograph(tmp_path / "eye.png")
    path = written(tmp_path / "annotations.xml", size=(50, 64))
    assert (
        "annotations.xml, image eye.png: drawn on 64 x 50 pixels, the photograph" in found(CVAT, tmp_path).problems[0]
    )
    image = '<image id="0" name="eye.png" width="64" height="48"/>'
    for body, message in (
        ("<track/>", r"annotations\.xml has tracks, of CVAT for video: export the task as CVAT for images 1\.1"),
        (image + image, r"annotations\.xml: several images have the id 0"),
        (image + image.replace('"0"', '"1"'), r"annotations\.xml: several images have the name eye\.png"),
    ):
        path.write_text(f"<annotations>{body}</annotations>")
        with pytest.raises(DataError, match=message):
            found(CVAT, tmp_path)
    path.write_text("<annotation/>")
    with pytest.raises(DataError, match=r"no file of CVAT \(\.xml with annotations\)"):
        found(CVAT, tmp_path)
    path.write_text("<annotations>")
    with pytest.raises(DataError, match=r"annotations\.xml cannot be read as XML: no element found"):
        found(CVAT, tmp_path)


def test_entities_are_refused_and_nothing_is_written(tmp_path, capsys):
    """A "billion laughs", and the content of another file."""
    photograph(tmp_path / "in/eye.png")
    laughs = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    for entities, used in ((laughs, "&a9;"), ('<!ENTITY x SYSTEM "file:///etc/passwd">', "&x;"), ("", "")):
        (tmp_path / "in/annotations.xml").write_text(
            f"<!DOCTYPE annotations [{entities}]><annotations><meta>{used}</meta></annotations>"
        )
        assert run_command(prepare_dataset, ["cvat", tmp_path / "in", tmp_path / "out"]) == 2
        message = capsys.readouterr().err
        assert "annotations.xml declares a document type or entities" in message and message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_without_defusedxml(tmp_path, monkeypatch):
    written(tmp_path / "annotations.xml")
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    with pytest.raises(DataError, match=r"cvat needs defusedxml: install it with pip install -r requirements-formats"):
        found(CVAT, tmp_path)
