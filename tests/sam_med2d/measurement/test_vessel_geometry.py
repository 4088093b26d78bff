"""Width, length and curvature of lines whose numbers theory gives, and the segments of lines that meet."""

import math

import numpy as np
import pytest

from sam_med2d.measurement.vessel_geometry import CentreLine, centre_lines, mean, summarise
from sam_med2d.measurement.vessel_segments import find_skeleton
from tests.helpers.shapes import arc, bar, curve, ellipse

SIDE = 300
MIDDLE = (149.7, 150.1)
ANGLES = (0, 7, 15, 22.5, 30, 60, 75, 90, 133)


def lines_of(mask: np.ndarray) -> list[CentreLine]:
    return centre_lines(mask, find_skeleton(mask, np.ones_like(mask)))


def curvature_of(line: CentreLine) -> float:
    return float((line.curvature * line.steps).sum() / line.length)


@pytest.mark.parametrize("width", [3, 4, 5, 8, 12])
def test_mean_widths_of_straight_bars_are_right_to_a_tenth_of_a_pixel(width):
    wrong = []
    for degrees in ANGLES:
        (line,) = lines_of(bar(SIDE, MIDDLE, width=width, length=200, degrees=degrees))
        if abs(mean(line.widths) - width) > 0.1:
            wrong.append((degrees, mean(line.widths)))
        assert line.tortuosity == pytest.approx(1, abs=1e-3) and curvature_of(line) < 1e-3
    assert not wrong


def test_widths_along_rows_and_diagonals_are_right_on_average():
    """A raster makes a bar of 6.5 pixels along a row 6 or 7 wide, as it lies, and others along a diagonal."""
    for degrees in (0, 45, 90):
        found = []
        for shift in np.linspace(0, 1, 12, endpoint=False) + 0.01:
            mask = bar(SIDE, (150 + shift, 150 - shift), width=6.5, length=200, degrees=degrees)
            found += [mean(line.widths) for line in lines_of(mask)]
        assert np.mean(found) == pytest.approx(6.5, abs=0.1) and np.ptp(found) <= 1.01, degrees


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.0), (0.25, 0.25), (0.3, 0.1)])
def test_no_line_along_a_diagonal_is_lost(offset):
    """Zhang and Suen's thinning leaves one pixel of some."""
    for width in range(2, 21):
        mask = bar(SIDE, (149.5 + offset[0], 149.5 + offset[1]), width=width, length=200, degrees=45)
        assert find_skeleton(mask, np.ones_like(mask)).lines.sum() > 100, width


@pytest.mark.parametrize(("radius", "degrees"), [(30, 180), (60, 90), (60, 180), (120, 90), (120, 130)])
def test_arcs_of_circles(radius, degrees):
    """An arc by its chord is phi / (2 sin(phi / 2)). The line ends up to a width before the arc, on either side."""
    (line,) = lines_of(arc(SIDE, (150.3, 130.2), radius=radius, width=4, degrees=degrees))
    whole, phi = radius * math.radians(degrees), line.length / radius
    assert whole - 8 <= line.length <= whole
    assert line.tortuosity == pytest.approx(phi / (2 * math.sin(phi / 2)), rel=0.015)
    assert curvature_of(line) * radius == pytest.approx(1, abs=0.06)
    assert mean(line.widths) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(("height", "period"), [(10, 60), (20, 100), (8, 100)])
def test_sine_curves(height, period):
    """Length by integration; a sine turns by 2 atan(height k) in each half of a period."""
    k, length = 2 * math.pi / period, 200
    mask = curve(SIDE, lambda x: 150 + height * np.sin(k * (x - 50)), start=50, end=50 + length, width=4)
    (line,) = lines_of(mask)
    x = np.linspace(0, length, 100_001)
    whole = np.hypot(1, height * k * np.cos(k * x)).mean() * length
    assert line.tortuosity == pytest.approx(whole / length, rel=0.015)
    turn = 2 * length / period * 2 * math.atan(height * k)
    assert curvature_of(line) == pytest.approx(turn / whole, rel=0.08)


def test_a_ring_is_a_closed_line():
    (line,) = lines_of(arc(SIDE, (150.3, 149.8), radius=60, width=5, degrees=360))
    assert math.isnan(line.tortuosity) and line.length == pytest.approx(2 * math.pi * 60, rel=0.02)
    assert mean(line.widths) == pytest.approx(5, abs=0.1) and curvature_of(line) * 60 == pytest.approx(1, abs=0.05)


def test_lines_that_cross_are_four_and_keep_their_width():
    mask = bar(SIDE, MIDDLE, width=5, length=200, degrees=20) | bar(SIDE, MIDDLE, width=5, length=200, degrees=110)
    lines = lines_of(mask)
    assert len(lines) == 4 and all(mean(line.widths) == pytest.approx(5, abs=0.15) for line in lines)
    assert all(line.tortuosity < 1.01 for line in lines)


def test_a_neighbour_does_not_widen_a_line():
    mask = bar(SIDE, MIDDLE, width=5, length=200, degrees=0) | bar(SIDE, (150, 157), width=5, length=200, degrees=0)
    assert [mean(line.widths) for line in lines_of(mask)] == pytest.approx([5, 5], abs=0.01)


def test_a_bump_of_the_outline_makes_no_twig():
    mask = bar(SIDE, MIDDLE, width=12, length=200, degrees=0)
    (plain,) = lines_of(mask)
    (line,) = lines_of(mask | ellipse(SIDE, (150, 143), (3, 3)))
    assert line.length == pytest.approx(plain.length, abs=2) and mean(line.widths) == pytest.approx(12, abs=0.2)


def test_a_line_that_is_cut_by_the_picture_has_its_width():
    (line,) = lines_of(bar(SIDE, MIDDLE, width=6, length=900, degrees=30))
    assert mean(line.widths) == pytest.approx(6, abs=0.1)


def test_specks_and_nothing_are_no_lines():
    speck, nothing = ellipse(SIDE, MIDDLE, (3, 3)), np.zeros((SIDE, SIDE), bool)
    assert lines_of(speck) == [] == lines_of(nothing)
    assert all(math.isnan(value) for value in summarise([]).values())


def test_a_summary_counts_places_not_vessels():
    """A long thin line and a short wide one: the mean is that along the vessels."""
    mask = bar(SIDE, (150, 60), width=3, length=200, degrees=0) | bar(SIDE, (150, 200), width=9, length=50, degrees=0)
    values = summarise(lines_of(mask))
    assert values["width_median_px"] == pytest.approx(3, abs=0.01)
    assert values["width_mean_px"] == pytest.approx((3 * 199 + 9 * 42) / (199 + 42), abs=0.2)
    assert values["tortuosity"] == pytest.approx(1, abs=1e-3) and values["curvature_per_px"] < 1e-3
