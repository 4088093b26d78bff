"""Run-length encoding of masks, against pycocotools and against a loop."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segment_anything.utils.rle import (
    area_from_rle,
    box_from_rle,
    compress,
    decompress,
    mask_to_rle,
    rle_to_mask,
    run_lengths,
)

coco = pytest.importorskip("pycocotools.mask")

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))


def runs_by_a_loop(mask: np.ndarray) -> list[int]:
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@given(MASKS)
@example(np.zeros((3, 5), bool))
@example(np.ones((3, 5), bool))
@example(np.ones((1, 1), bool))
@example(np.zeros((1, 1), bool))
@example(np.eye(1, 9, 4, dtype=bool))
@example(np.eye(9, 9, dtype=bool))
def test_equal_to_pycocotools_byte_for_byte_and_back(mask):
    ours, theirs = mask_to_rle(mask), coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours["size"] == theirs["size"] and ours["counts"].encode() == theirs["counts"]
    runs = mask_to_rle(mask, compressed=False)
    assert runs["counts"] == runs_by_a_loop(mask)
    for rle in (ours, theirs, runs):
        assert np.array_equal(rle_to_mask(rle), mask) and rle_to_mask(rle).dtype == bool
        assert area_from_rle(rle) == mask.sum()
    assert np.array_equal(coco.decode(ours), mask)
    if mask.any():  # pycocotools gives an empty mask a box of some place
        assert list(box_from_rle(runs)) == coco.toBbox(theirs).tolist()
    else:
        assert box_from_rle(ours) == (0, 0, 0, 0)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30))
@example([0, 15, 16, 15, 31, 32, 0, 2**31 - 1, 0])
def test_strings_of_any_lengths(lengths):
    """Groups of 5 bits and their signs at every boundary; pycocotools writes the same.

    It has room for six bytes a run, with a zero at the end, and writes beyond that: longer strings are not given to it.
    """
    text = compress(lengths)
    assert decompress(text).tolist() == lengths == decompress(text.encode()).tolist()
    if sum(lengths) < 2**31 and len(text) < 6 * len(lengths):
        theirs = coco.frPyObjects({"size": [1, sum(lengths)], "counts": lengths}, 1, sum(lengths))
        assert theirs["counts"] == text.encode()


def test_a_large_mask():
    rows, columns = np.ogrid[:1500, :2100]
    mask = ((rows - 700) ** 2 + (columns - 900) ** 2 < 500**2) & ((rows // 7 + columns // 11) % 3 > 0)
    rle = mask_to_rle(mask)
    assert rle["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert np.array_equal(rle_to_mask(rle), mask)


def test_a_mask_without_pixels():
    for shape in ((0, 0), (0, 4), (4, 0)):
        rle = mask_to_rle(np.zeros(shape, bool))
        assert rle_to_mask(rle).shape == shape and area_from_rle(rle) == 0


def test_values_that_are_not_zero_are_foreground():
    mask = np.array([[0, 255], [3, 0]], np.uint8)
    assert np.array_equal(rle_to_mask(mask_to_rle(mask)), mask > 0)


@pytest.mark.parametrize(
    "counts",
    [[3], [3, -1, 2], [1.5, 2.5], [[4]], "a", "\x00", "ÿ", "o" * 30, compress([3]), compress([4, 4])],
)
def test_what_is_no_rle_is_refused(counts):
    with pytest.raises(ValueError):
        rle_to_mask({"size": [2, 2], "counts": counts})


@given(st.binary(max_size=12))
def test_any_string_is_read_or_refused(text):
    try:
        lengths = run_lengths({"counts": text})
    except ValueError:
        return
    assert (lengths >= 0).all()


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2, 2\)"):
        mask_to_rle(np.zeros((1, 2, 2), bool))
