"""Files of labelme written from our maps: read back bit by bit, and read by labelme itself."""

import json

import numpy as np
import pytest

from tests.helpers.round_trips import SIZE, lost, masks_in, read_back, small_data, written


@pytest.mark.parametrize("flags", [[], ["--polygons"]])
def test_round_trip(tmp_path, capsys, flags):
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "out", "labelme", *flags)
    text = capsys.readouterr().out
    assert "3 files" in text and ("| microaneurysm |" in text) == bool(flags)
    back = read_back("labelme", out, tmp_path / "back", "--image_root", data, "--missing", "absent", "--split", "1/1/1")
    assert not lost(masks_in(data), masks_in(back))


def test_shapes(tmp_path):
    out = written(small_data(tmp_path / "data"), tmp_path / "out", "labelme")
    content = json.loads((out / "eye_0.json").read_text())
    assert content["imagePath"] == "../data/images/eye_0.png" and content["imageHeight"] == SIZE[0]
    [spots] = [shape for shape in content["shapes"] if shape["label"] == "microaneurysm"]
    assert spots["points"] == [[0, 0], [59, 39]] and spots["shape_type"] == "mask"  # the last pixel, not one beyond


def test_labelme_reads_them(tmp_path):
    labelme = pytest.importorskip("labelme", reason="pip install labelme")
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "out", "labelme")
    for path in sorted(out.glob("*.json")):
        file = labelme.LabelFile(str(path))
        for shape in file.shapes:
            labels, _ = labelme.utils.shapes_to_label((*SIZE, 3), [shape], {shape["label"]: 1})
            assert np.array_equal(labels > 0, masks_in(data)[path.stem, shape["label"]])
