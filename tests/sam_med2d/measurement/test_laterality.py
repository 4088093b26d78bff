"""Which eye it is, from what a photograph shows."""

import numpy as np
import pytest

from sam_med2d.errors import DataError
from sam_med2d.measurement.laterality import Laterality, seen, told
from sam_med2d.measurement.zones import DiscCircle
from segment_anything.utils.field_of_view import FieldOfView

FIELD = FieldOfView((400, 400), (0, 0, 400, 400), (200, 200), 190)
ASIDE, CENTRED = DiscCircle(300, 200, 60), DiscCircle(205, 200, 60)


def vessels(x: int) -> np.ndarray:
    mask = np.zeros((400, 400), bool)
    mask[180:220, x : x + 5] = True
    return mask


def test_the_disc_lies_on_the_noses_side():
    assert seen(ASIDE, None, None, FIELD) == Laterality("R", "disc position")
    assert seen(DiscCircle(100, 200, 60), vessels(120), None, FIELD) == Laterality("L", "disc position")
    whole = FieldOfView((400, 600), (0, 0, 400, 600))  # no rim in view
    assert seen(DiscCircle(400, 200, 60), None, None, whole) == Laterality("R", "disc position")


def test_of_a_photograph_centred_on_the_disc_the_vessels_tell():
    assert seen(CENTRED, vessels(215), None, FIELD) == Laterality("R", "vessels on the disc")
    assert seen(CENTRED, vessels(190), None, FIELD) == Laterality("L", "vessels on the disc")


def test_what_does_not_tell_is_unknown():
    assert seen(CENTRED, vessels(203), None, FIELD) == Laterality()
    assert seen(CENTRED, None, None, FIELD) == seen(CENTRED, vessels(0) & False, None, FIELD) == Laterality()


def test_the_fovea_tells_most():
    assert seen(ASIDE, vessels(215), (350, 210), FIELD) == Laterality("L", "fovea")
    assert seen(CENTRED, None, (60, 210), FIELD) == Laterality("R", "fovea")


@pytest.mark.parametrize(
    ("cell", "eye"), [("R", "R"), ("od", "R"), ("Left", "L"), ("OS", "L"), ("", ""), ("B", ""), ("unknown", "")]
)
def test_words_of_tables(cell, eye):
    assert told(cell, "eye.jpg") == eye


def test_another_word_is_refused():
    with pytest.raises(DataError, match="laterality of eye.jpg is rihgt: write R or L, or nothing"):
        told("rihgt", "eye.jpg")
