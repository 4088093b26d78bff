"""Shapes that people draw become masks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.dataset_conversion.drawings import (
    Bitmap,
    Drawing,
    Ellipse,
    bitmap_of,
    box_corners,
    united,
)
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS
from tests.helpers.annotation_files import fill_ellipse

SIZE = (40, 60)


def drawn(drawing: Drawing) -> np.ndarray:
    return drawing(Path("a.json"), SIZE)


@pytest.mark.parametrize("ellipse", [Ellipse(30, 20, 12, 7, 30), Ellipse(55, 2, 12.5, 9, -75), Ellipse(5.5, 5.5, 2, 3)])
def test_an_ellipse_has_the_pixels_whose_middle_lies_inside(ellipse):
    x, y, radius_x, radius_y, degrees = ellipse
    expected = np.zeros(SIZE, bool)
    for row, column in np.ndindex(SIZE):
        along = np.exp(-1j * np.deg2rad(degrees)) * complex(column + 0.5 - x, row + 0.5 - y)
        expected[row, column] = (along.real / radius_x) ** 2 + (along.imag / radius_y) ** 2 <= 1
    assert np.array_equal(fill_ellipse(ellipse, SIZE), expected) and expected.any()


def test_an_ellipse_turns_clockwise_as_opencv_says():
    by_opencv = cv2.ellipse(np.zeros(SIZE, np.uint8), ((30, 20), (40, 10), 30), 1, -1).astype(bool)
    mask = fill_ellipse(Ellipse(30.5, 20.5, 20, 5, 30), SIZE)
    assert 2 * (mask & by_opencv).sum() / (mask.sum() + by_opencv.sum()) > 0.9
    assert not fill_ellipse(Ellipse(200, 200, 3, 3), SIZE).any()


def test_boxes_turn_clockwise():
    assert box_corners(1, 2, 4, 7) == (1, 2, 4, 2, 4, 7, 1, 7)
    assert np.allclose(box_corners(10, 10, 20, 14, 90), (17, 7, 17, 17, 13, 17, 13, 7))
    assert np.allclose(box_corners(10, 10, 20, 14, 90, (10, 10)), (10, 10, 10, 20, 6, 20, 6, 10))


def test_a_drawing_is_a_union():
    mask = np.zeros((3, 4), bool)
    mask[0, 0] = mask[2, 3] = True
    parts = [
        Drawing("one", (SIZE,), polygons=((1, 1, 5, 1, 5, 4, 1, 4),)),
        Drawing("two", (SIZE,), ellipses=(Ellipse(30, 20, 4, 4),)),
        Drawing("three", bitmaps=(bitmap_of(mask, 50, 30), bitmap_of(mask))),
    ]
    expected = fill_ellipse(Ellipse(30, 20, 4, 4), SIZE)
    expected[1:4, 1:5] = True
    expected[30:33, 50:54] |= mask
    expected[:3, :4] |= mask
    assert np.array_equal(drawn(united(parts)), expected) and united(parts).where == "one and 2 more"


def test_drawings_of_another_photograph_are_refused():
    with pytest.raises(DataError, match=r"a\.json, x: drawn on 40 x 60 pixels, the photograph has 60 x 40: .*turn it"):
        drawn(Drawing("x", ((60, 40),)))
    for left, top in ((58, 0), (0, 39), (-1, 0), (0, -3), (90, 90)):
        with pytest.raises(DataError, match=rf"x: 4 x 3 pixels from \({left}, {top}\) on leave the photograph of 60 x"):
            drawn(Drawing("x", bitmaps=(bitmap_of(np.ones((3, 4), bool), left, top),)))
    with pytest.raises(DataError, match=r"a\.json, x: runs of"):
        drawn(Drawing("x", bitmaps=(Bitmap(0, 0, 3, 5, bitmap_of(np.ones((3, 4), bool)).runs),)))


def test_ellipses_without_a_pixel_are_noted():
    with REMARKS.collected():
        drawn(Drawing("x", ellipses=(Ellipse(3, 3, 0.2, 0.2), Ellipse(9, 9, 3, 3))))
        assert REMARKS.take() == {"ellipses that hold no pixel are lost": {"a.json, x": "1 of 2"}}
