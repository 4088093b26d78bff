"""Rims between ellipses whose widths are known."""

import math

import numpy as np
import pytest

from sam_med2d.measurement.rim_sectors import QUADRANTS, rim_ratios
from sam_med2d.measurement.zones import find_disc
from tests.helpers.shapes import ellipse

SIDE = 300
MIDDLE = (150.2, 149.6)
INSIDE = np.ones((SIDE, SIDE), bool)


def ratios_of(disc: np.ndarray, cup: np.ndarray) -> dict[str, float]:
    return rim_ratios(disc, cup, find_disc(disc, INSIDE)[0])


@pytest.mark.parametrize("radii", [(60, 60), (50, 65)])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_cup_of_the_discs_shape_leaves_the_same_rim_all_around(radii, share):
    disc, cup = ellipse(SIDE, MIDDLE, radii), ellipse(SIDE, MIDDLE, (share * radii[0], share * radii[1]))
    for name, ratio in ratios_of(disc, cup).items():
        assert ratio == pytest.approx((1 - share) / 2, abs=0.005), name


@pytest.mark.parametrize(("shift", "thin"), [((15, 0), "right"), ((-15, 0), "left"), ((0, 15), "inferior")])
def test_a_cup_aside_thins_the_rim_on_its_side(shift, thin):
    """Mean over a quadrant of the distance from the centre to a circle whose centre lies aside."""
    disc, cup = ellipse(SIDE, MIDDLE, (60, 60)), ellipse(SIDE, (MIDDLE[0] + shift[0], MIDDLE[1] + shift[1]), (30, 30))
    found, angles = ratios_of(disc, cup), np.radians(np.linspace(-45, 45, 2001))
    to_cup = 15 * np.cos(angles) + np.sqrt(30**2 - (15 * np.sin(angles)) ** 2)
    assert found[thin] == pytest.approx(((60 - to_cup) / 120).mean(), abs=0.005)
    assert min(QUADRANTS, key=found.get) == thin
    assert found["thinnest"] == pytest.approx(15 / 120, abs=0.01)


def test_no_cup_leaves_half_the_diameter_and_a_full_one_nothing():
    disc = ellipse(SIDE, MIDDLE, (60, 50))
    assert list(ratios_of(disc, np.zeros_like(disc)).values()) == pytest.approx([0.5] * 5, abs=0.004)
    assert set(ratios_of(disc, disc).values()) == {0}


def test_what_the_cup_has_beyond_the_disc_does_not_count():
    disc, cup = ellipse(SIDE, MIDDLE, (60, 60)), ellipse(SIDE, (190, 150), (40, 40))
    found = ratios_of(disc, cup)
    assert found["right"] == pytest.approx(0, abs=0.02) and not any(map(math.isnan, found.values()))
