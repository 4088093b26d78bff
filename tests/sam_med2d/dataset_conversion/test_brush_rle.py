"""Label Studio's run lengths are those of its own package."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_med2d.dataset_conversion.brush_rle import decode_alpha, encode_mask

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=16))


@given(MASKS)
@example(np.ones((300, 300), bool))  # longer than the longest run
@example(np.zeros((128, 128), bool))  # as long
def test_there_and_back(mask):
    assert np.array_equal(decode_alpha(encode_mask(mask), mask.shape), mask * np.uint8(255))


@given(MASKS)
@example(np.ones((300, 300), bool))
@example(np.zeros((128, 128), bool))
def test_bytes_are_those_of_the_sdk(mask):
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="pip install label-studio-sdk")
    encoded = encode_mask(mask)
    assert encoded == brush.mask2rle(mask.astype(np.uint8) * 255)
    assert np.array_equal(brush.decode_rle(encoded).reshape(*mask.shape, 4)[..., 3], mask * 255)


def test_bytes_of_a_small_mask():
    """As label-studio-sdk 2.1.2 encodes it."""
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert encode_mask(mask) == [0, 0, 0, 24, 57, 27, 252, 96, 19, 255, 206, 1, 31, 248]


@given(st.lists(st.integers(0, 255), max_size=30), st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_what_is_no_brush_is_refused(data, size):
    try:
        assert decode_alpha(data, size).shape == size
    except ValueError as error:
        assert "brush" in str(error)
