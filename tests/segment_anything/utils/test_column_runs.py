"""Masks as runs down the columns, against logits at full size and known masks."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segment_anything.preprocessing import OUTSIDE_LOGIT, Frame, inside_square
from segment_anything.utils.column_runs import ColumnRuns, runs_above
from segment_anything.utils.rle import mask_to_rle, rle_to_mask

NEAR = 1e-5  # logits so near the threshold may fall on either side


def _frame(rng: np.random.Generator, image_size: int, largest: int) -> Frame:
    """A frame of any part of a photograph of any size up to the largest side."""
    height, width = (int(side) for side in rng.integers(1, largest, 2))
    top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
    bottom, right = int(rng.integers(top + 1, height + 1)), int(rng.integers(left + 1, width + 1))
    inner = inside_square(image_size, bottom - top, right - left)
    return Frame(image_size, (height, width), (top, left, bottom, right), inner)


@pytest.mark.parametrize("seed", range(60))
def test_runs_are_those_of_logits_at_the_photographs_size(seed):
    """For crops, photographs smaller and larger than the frame, both grids of logits, and noise."""
    rng = np.random.default_rng(seed)
    image_size = 4 * int(rng.integers(4, 20))
    frame, side = _frame(rng, image_size, 120), image_size // (1 + 3 * int(rng.integers(2)))
    logits = torch.from_numpy(rng.normal(rng.normal(), 1, (side, side)).astype(np.float32))
    threshold = float(rng.choice([0, -1.5, 0.3]))
    whole = frame.logits_to_original(logits[None, None])[0, 0].numpy()
    runs = frame.runs_above(logits, threshold)
    differs = runs.mask() != (whole > threshold)
    assert (np.abs(whole - threshold)[differs] < NEAR).all() and differs.mean() < 0.01
    assert runs.rle() == mask_to_rle(runs.mask())


def test_no_pixel_of_a_large_photograph_differs():
    """A smooth map is enlarged eight times: 0.4 million pixels, of which none is near the threshold but by chance."""
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = 5 * F.interpolate(noise, (64, 64), mode="bicubic")[0, 0]
    frame = Frame(64, (600, 700), (20, 30, 532, 670), inside_square(64, 512, 640))
    whole = frame.logits_to_original(logits[None, None])[0, 0].numpy()
    differs = frame.runs_above(logits, 0.0).mask() != (whole > 0)
    assert (np.abs(whole)[differs] < NEAR).all()
    assert differs.sum() <= 2


def test_logits_at_the_threshold_are_outside_and_flat_ones_have_no_edge():
    frame = Frame(8, (40, 40), (0, 0, 40, 40), (0, 0, 8, 8))
    assert not frame.runs_above(torch.zeros(8, 8), 0.0).mask().any()
    assert frame.runs_above(torch.full((8, 8), 1e-30), 0.0).mask().all()


def test_logits_without_a_number_are_background():
    logits = torch.full((8, 8), 3.0)
    logits[2:4, 2:4] = torch.tensor([[float("nan"), -float("inf")], [float("inf"), float("nan")]])
    mask = Frame(8, (8, 8), (0, 0, 8, 8), (0, 0, 8, 8)).runs_above(logits, 0.0).mask()
    assert mask.tolist() == (logits > 0).tolist()


def test_a_threshold_below_what_was_not_seen_is_refused():
    frame = Frame(8, (8, 8), (0, 0, 8, 8), (0, 0, 8, 8))
    with pytest.raises(ValueError, match=r"threshold -21.0: give -20.0 or more"):
        frame.runs_above(torch.zeros(8, 8), OUTSIDE_LOGIT - 1)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((3, 5), bool),
        np.ones((3, 5), bool),  # one run over all columns
        np.ones((1, 1), bool),
        np.eye(9, dtype=bool),
        np.arange(130).reshape(2, 65) % 3 == 0,  # more than one word in a row
        np.arange(130).reshape(65, 2) < 70,  # runs end at a column's end
    ],
    ids=["empty", "full", "pixel", "diagonal", "wide", "tall"],
)
def test_pixels_and_runs_of_known_masks(mask):
    rle = mask_to_rle(mask, compressed=False)
    changes = np.cumsum(rle["counts"])[:-1]
    runs = ColumnRuns(mask.shape, changes)
    assert (runs.mask() == mask).all() and runs.counts.tolist() == rle["counts"]
    assert (rle_to_mask(runs.rle()) == mask).all()
    assert (np.unpackbits(runs.bits(), axis=1)[:, mask.shape[1] :] == 0).all()
    assert (runs.sampled(mask.shape) == mask).all()


def test_a_smaller_picture_has_the_pixels_under_its_middles():
    mask = np.random.default_rng(0).random((60, 90)) > 0.5
    runs = ColumnRuns(mask.shape, np.cumsum(mask_to_rle(mask, compressed=False)["counts"])[:-1])
    assert (runs.sampled((20, 30)) == mask[1::3, 1::3]).all()


@pytest.mark.parametrize("logits", [[np.nan, 5], [5, np.nan], [-np.inf, 5], [np.inf, -5], [np.nan, np.inf]])
def test_logits_that_are_not_finite_add_nothing_but_themselves(logits):
    """NaN is background, and an edge beside an infinite logit lies at the finite one or in the middle of two."""
    found = runs_above(np.array([logits]), 0.0, 16, (0, 0), (16, 1)).mask()[:, 0]
    expected = np.interp(np.arange(16), [3.5, 11.5], np.nan_to_num(logits, nan=-1e9, posinf=1e9, neginf=-1e9)) > 0
    assert (found == expected).all()
