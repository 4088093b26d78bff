"""YOLO's labels written from our maps: read back, and filled by ultralytics."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis.extra import numpy as hnp

from sam_med2d.dataset_conversion.polygons import fill_contours, single_contours
from tests.helpers.round_trips import lost, masks_in, read_back, small_data, splits_in, written

FILL = """
import sys
from pathlib import Path
import numpy as np
from ultralytics.data.utils import img2label_paths, polygon2mask, verify_image_label
filled = {}
for image in sorted(Path(sys.argv[1]).glob("images/*/*.png")):
    [label] = img2label_paths([str(image)])
    _, lines, size, segments, *_, message = verify_image_label((str(image), label, "", False, 9, 0, 0, False))
    assert lines is not None, message
    for i, (line, segment) in enumerate(zip(lines, segments, strict=True)):
        filled[f"{image.stem}/{line[0]:.0f}/{i}"] = polygon2mask(size, [(segment * size[::-1]).ravel()])
np.savez(f"{sys.argv[1]}/filled.npz", **filled)
"""
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def test_round_trip(tmp_path, capsys):
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "out", "yolo")
    assert "ultralytics needs val, too" in capsys.readouterr().out
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content["names"] == dict(enumerate(("hard_exudate", "microaneurysm", "optic_disc", "vessel")))
    assert (content["train"], content["test"]) == ("images/train", "images/test") and "val" not in content
    assert (out / "images/test/eye_2.png").read_bytes() == (data / "images/eye_2.png").read_bytes()
    back = read_back("yolo", out, tmp_path / "back")
    assert not lost(masks_in(data), masks_in(back)) and splits_in(back) == splits_in(data)


@given(MASKS)
@example(~np.eye(5, dtype=bool))
@example(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool))
@example(np.kron(np.ones((3, 3)), np.pad([[0]], 1, constant_values=1)).astype(bool))
def test_one_contour_of_each_component_gives_the_mask_back(mask):
    back = [fill_contours([contour], mask.shape) for contour in single_contours(mask)]
    assert np.array_equal(np.logical_or.reduce(back) if back else np.zeros_like(mask), mask)
    assert not back or sum(back).max() == 1  # components stay apart


def test_ultralytics_fills_the_same_masks(tmp_path):
    """In a process of its own: ultralytics replaces functions of Pillow and OpenCV."""
    if find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "out", "yolo")
    subprocess.run([sys.executable, "-c", FILL, str(out)], check=True)
    names = yaml.safe_load((out / "data.yaml").read_text())["names"]
    filled = {}
    for key, inside in np.load(out / "filled.npz").items():
        image, number, _ = key.split("/")
        filled[image, names[int(number)]] = filled.get((image, names[int(number)]), False) | inside.astype(bool)
    assert not lost(masks_in(data), filled)
