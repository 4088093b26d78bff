"""Masks of one bit a pixel, read by everything that reads masks."""

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_med2d.data.image_io import read_mask, read_values
from sam_med2d.data.mask_png import write_mask
from segment_anything.utils.column_runs import ColumnRuns
from segment_anything.utils.rle import mask_to_rle


def _runs(mask: np.ndarray) -> ColumnRuns:
    return ColumnRuns(mask.shape, np.cumsum(mask_to_rle(mask, compressed=False)["counts"])[:-1])


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 64), (65, 130)])
def test_every_reader_gets_the_mask(size, tmp_path):
    mask = np.random.default_rng(0).random(size) > 0.4
    write_mask(tmp_path / "of" / "mask.png", _runs(mask))
    path = tmp_path / "of" / "mask.png"
    for flag in (cv2.IMREAD_UNCHANGED, cv2.IMREAD_GRAYSCALE):
        assert (cv2.imread(str(path), flag) == 255 * mask).all()
    with Image.open(path) as picture:
        picture.load()
        assert (np.asarray(picture) == mask).all() and (np.asarray(picture.convert("L")) == 255 * mask).all()
    assert (read_mask(path, may_be_empty=True) == mask).all()
    assert ((read_values(path) > 0) == mask).all()


def test_a_mask_without_foreground_is_black(tmp_path):
    write_mask(tmp_path / "mask.png", ColumnRuns.empty((300, 200)))
    found = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert found.shape == (300, 200) and not found.any()
