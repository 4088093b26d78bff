"""Files of CVAT written from our maps: read back bit by bit, and their masks decoded by CVAT's own sdk."""

import shutil
from xml.etree.ElementTree import parse

import numpy as np
import pytest

from tests.helpers.round_trips import SIZE, lost, masks_in, read_back, small_data, splits_in, written

pytest.importorskip("defusedxml")


def test_round_trip(tmp_path, capsys):
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "annotations.xml", "cvat")
    assert '{"name": "hard_exudate", "attributes": []}' in capsys.readouterr().out
    back = read_back("cvat", out, tmp_path / "back", "--image_root", data, "--missing", "absent")
    assert not lost(masks_in(data), masks_in(back)) and splits_in(back) == splits_in(data)


def test_masks_are_those_of_the_sdk(tmp_path):
    masks = pytest.importorskip("cvat_sdk.masks", reason="pip install cvat-sdk")
    data = small_data(tmp_path / "data")
    root = parse(written(data, tmp_path / "annotations.xml", "cvat")).getroot()
    names = [image.get("name") for image in root.findall("image")]
    assert names == ["eye_0.png", "eye_1.png", "eye_2.png"]
    seen = 0
    for image in root.findall("image"):
        for element in image:
            left, top, width, height = (int(element.get(key)) for key in ("left", "top", "width", "height"))
            points = [*map(int, element.get("rle").split(",")), left, top, left + width - 1, top + height - 1]
            mask = masks_in(data)[image.get("name").removesuffix(".png"), element.get("label")]
            assert np.array_equal(masks.decode_mask(points, image_width=SIZE[1], image_height=SIZE[0]), mask)
            assert points == masks.encode_mask(mask)
            seen += 1
    assert seen == 11


def test_datumaro_reads_them(tmp_path):
    datumaro = pytest.importorskip("datumaro", reason="pip install datumaro")
    data = small_data(tmp_path / "data")
    written(data, tmp_path / "cvat/annotations.xml", "cvat")
    shutil.copytree(data / "images", tmp_path / "cvat/images")
    read = datumaro.Dataset.import_from(str(tmp_path / "cvat"), "cvat")
    names = [label.name for label in read.categories()[datumaro.AnnotationType.label].items]
    found = {(item.id, names[one.label]): one.image.astype(bool) for item in read for one in item.annotations}
    expected = masks_in(data)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
