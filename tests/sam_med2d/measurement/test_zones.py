"""Zones around discs of known size, vessels that cross zone B, and the formulas of Knudtson by hand."""

import math

import numpy as np
import pytest

from sam_med2d.measurement.retinal_equivalents import ARTERY, VEIN, trunk_width, zone_b_widths
from sam_med2d.measurement.vessel_geometry import centre_lines
from sam_med2d.measurement.vessel_segments import find_skeleton
from sam_med2d.measurement.zones import DiscCircle, find_disc
from tests.helpers.shapes import bar, ellipse, spokes

SIDE = 500
MIDDLE = (250.25, 249.5)
INSIDE = np.ones((SIDE, SIDE), bool)
DISC = DiscCircle(*MIDDLE, 80)


def widths_in_zone_b(mask: np.ndarray) -> list[float]:
    return zone_b_widths(centre_lines(mask, find_skeleton(mask, INSIDE)), DISC)


@pytest.mark.parametrize("radii", [(40, 40), (35, 50)])
def test_the_circle_of_an_ellipse_has_its_centre_and_area(radii):
    circle, reason = find_disc(ellipse(SIDE, MIDDLE, radii), INSIDE)
    assert (circle.x, circle.y) == pytest.approx(MIDDLE, abs=0.05) and not reason
    assert circle.diameter == pytest.approx(2 * math.sqrt(radii[0] * radii[1]), abs=0.1)


def test_a_disc_without_its_cup_is_the_same_disc():
    disc = ellipse(SIDE, MIDDLE, (40, 40))
    assert find_disc(disc & ~ellipse(SIDE, MIDDLE, (20, 20)), INSIDE) == find_disc(disc, INSIDE)


def test_zones_reach_from_half_a_disc_from_the_margin_to_one_and_two():
    assert DISC.radii("b") == (80, 120) and DISC.radii("c") == (80, 200)
    for zone in ("b", "c"):
        assert DISC.zone(zone, (SIDE, SIDE)).sum() == pytest.approx(DISC.area(zone), rel=2e-3)
    assert DISC.area("b") == pytest.approx(math.pi * (120**2 - 80**2))


def test_no_disc_two_discs_and_one_that_is_cut_off_have_no_circle():
    one, other = ellipse(SIDE, MIDDLE, (40, 40)), ellipse(SIDE, (100, 100), (20, 20))
    assert find_disc(np.zeros_like(one), INSIDE)[0] is None and find_disc(one | other, INSIDE)[0] is None
    for cut in (ellipse(SIDE, (20, 250), (40, 40)), ellipse(SIDE, (250, 480), (40, 40))):
        circle, reason = find_disc(cut, INSIDE)
        assert circle is None and "at the edge of the field of view" in reason
    inside = ellipse(SIDE, (250, 250), (200, 200))
    assert find_disc(ellipse(SIDE, (440, 250), (40, 40)) & inside, inside)[0] is None
    assert find_disc(ellipse(SIDE, (405, 250), (40, 40)), inside)[0] is not None  # near the edge, and whole


def test_knudtsons_formulas_by_hand():
    widths = [10, 12, 9, 14, 11, 13, 3, 4]
    for branching in (ARTERY, VEIN):
        first = [branching * math.hypot(*pair) for pair in ((14, 9), (13, 10), (12, 11))]
        low, middle, high = sorted(first)
        last = branching * math.hypot(branching * math.hypot(high, low), middle)
        assert trunk_width(widths, branching) == pytest.approx(last)
    assert (ARTERY, VEIN) == (0.88, 0.95)


def test_six_equal_vessels():
    c, w = ARTERY, 10.0
    pair = c * w * math.sqrt(2)
    assert trunk_width([w] * 6, c) == pytest.approx(c * math.hypot(c * math.hypot(pair, pair), pair))


def test_fewer_than_six_vessels_have_no_trunk():
    assert math.isnan(trunk_width([10] * 5, ARTERY)) and math.isnan(trunk_width([], VEIN))


def test_widths_of_vessels_that_cross_zone_b():
    widths = [4, 5, 6, 7, 8, 9, 10, 11]
    found = widths_in_zone_b(spokes(SIDE, MIDDLE, widths, start=60, end=180))
    assert sorted(found) == pytest.approx(widths, abs=0.2)
    assert trunk_width(found, ARTERY) == pytest.approx(trunk_width(widths, ARTERY), rel=0.02)


def test_a_vessel_that_ends_before_the_middle_of_zone_b_does_not_count():
    assert len(widths_in_zone_b(spokes(SIDE, MIDDLE, [6] * 5, start=60, end=92))) == 0
    assert len(widths_in_zone_b(spokes(SIDE, MIDDLE, [6] * 5, start=60, end=115))) == 5


def test_branches_in_zone_b_count_once():
    """A trunk that becomes two at 85 pixels, inside of the middle circle, counts as two, one at 115 as one."""
    for at, count in ((85, 2), (115, 1)):
        fork = (MIDDLE[0] + at, MIDDLE[1])
        mask = bar(SIDE, (MIDDLE[0] + at / 2 + 20, MIDDLE[1]), width=8, length=at - 40, degrees=0)
        for degrees in (35, -35):
            reach, angle = 45, math.radians(degrees)
            place = fork[0] + reach * math.cos(angle), fork[1] - reach * math.sin(angle)
            mask |= bar(SIDE, place, width=6, length=2 * reach, degrees=degrees)
        assert len(widths_in_zone_b(mask)) == count, at


def test_a_branch_does_not_widen_its_trunk():
    """Six vessels with a branch of 20 degrees, within zone B and beyond its middle: the widths are the trunks'."""
    widths = [5, 5.5, 6, 6.5, 7, 7.5]
    mask = spokes(SIDE, MIDDLE, widths, start=40, end=200)
    for i, width in enumerate(widths):
        degrees = 7 + 60 * i
        angles = math.radians(degrees), math.radians(degrees + 20)
        place = [105 * trig(angles[0]) + 40 * trig(angles[1]) for trig in (math.cos, math.sin)]
        centre = MIDDLE[0] + place[0], MIDDLE[1] - place[1]
        mask |= bar(SIDE, centre, width=0.8 * width, length=80, degrees=degrees + 20)
    assert trunk_width(widths_in_zone_b(mask), ARTERY) == pytest.approx(trunk_width(widths, ARTERY), rel=0.02)
