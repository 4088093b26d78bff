"""Box-counting dimensions that theory gives."""

import math

import numpy as np
import pytest

from sam_med2d.measurement.fractal_dimension import box_dimension, fractal_dimension


def sierpinski_carpet(level: int) -> np.ndarray:
    pattern, mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]), np.ones((1, 1))
    for _ in range(level):
        mask = np.kron(mask, pattern)
    return mask.astype(bool)


def sierpinski_triangle(level: int) -> np.ndarray:
    row, column = np.mgrid[: 2**level, : 2**level]
    return (row & column) == 0


def test_boxes_that_fit_give_the_exact_dimension():
    carpet = sierpinski_carpet(6)
    assert box_dimension(carpet, [3**k for k in range(1, 6)]) == pytest.approx(math.log(8) / math.log(3), abs=1e-9)
    assert box_dimension(sierpinski_triangle(9), [2**k for k in range(1, 8)]) == pytest.approx(math.log2(3), abs=1e-9)


@pytest.mark.parametrize("side", [512, 1024, 700])
def test_a_line_has_dimension_1_and_a_plane_2(side):
    plane, line = np.ones((side, side), bool), np.eye(side, dtype=bool)
    box = (0, 0, side, side)
    assert fractal_dimension(plane, box) == pytest.approx(2, abs=0.02)
    assert fractal_dimension(line, box) == pytest.approx(1, abs=0.02)
    row = np.zeros_like(line)
    row[side // 3] = True
    assert fractal_dimension(row, box) == pytest.approx(1, abs=0.01)


def test_boxes_that_do_not_fit_are_near():
    assert fractal_dimension(sierpinski_carpet(6), (0, 0, 729, 729)) == pytest.approx(1.893, abs=0.05)


def test_the_photographs_size_does_not_matter():
    triangle = sierpinski_triangle(8)
    large = np.kron(triangle, np.ones((4, 4), bool))
    assert fractal_dimension(large, (0, 0, 1024, 1024)) == pytest.approx(fractal_dimension(triangle, (0, 0, 256, 256)))


def test_boxes_lie_in_the_field_of_view():
    triangle = sierpinski_triangle(9)
    placed = np.pad(triangle, ((37, 20), (51, 90)))
    assert fractal_dimension(placed, (37, 51, 549, 563)) == fractal_dimension(triangle, (0, 0, 512, 512))


def test_nothing_and_small_photographs_have_no_dimension():
    assert math.isnan(fractal_dimension(np.zeros((512, 512), bool), (0, 0, 512, 512)))
    assert math.isnan(fractal_dimension(np.ones((60, 60), bool), (0, 0, 60, 60)))
