"""Scores against golden numbers, set formulas and SciPy."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial import distance

from metrics import SCORES, Counts, count, score

GOLDEN = np.load(Path(__file__).parent / "golden" / "golden_losses_transforms.npz")
shapes = npst.array_shapes(min_dims=2, max_dims=2, max_side=8)


def pairs():
    return shapes.flatmap(lambda shape: st.tuples(npst.arrays(bool, shape), npst.arrays(bool, shape)))


@pytest.mark.parametrize("name", ["iou", "dice"])
@pytest.mark.parametrize("case", range(3))
def test_golden_scores(case, name):
    predicted, truth = GOLDEN[f"c{case}_logits"][:, 0] > 0, GOLDEN[f"c{case}_mask"][:, 0] > 0
    found = [score(p, t, [name])[name] for p, t in zip(predicted, truth, strict=True)]
    np.testing.assert_allclose(found, GOLDEN[f"c{case}_{name}_metric"], atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(pair=pairs())
def test_counts_and_scores_equal_set_formulas(pair):
    predicted, truth = ({tuple(pixel) for pixel in np.argwhere(mask)} for mask in pair)
    everything = pair[0].size
    counts = count(*pair)
    assert counts == Counts(
        len(predicted & truth), len(predicted - truth), len(truth - predicted), everything - len(predicted | truth)
    )
    found = score(*pair, list(SCORES))
    assert list(found) == ["iou", "dice", "sensitivity", "specificity"]
    expected = {
        "iou": (len(predicted & truth), len(predicted | truth)),
        "dice": (2 * len(predicted & truth), len(predicted) + len(truth)),
        "sensitivity": (len(predicted & truth), len(truth)),
        "specificity": (everything - len(predicted | truth), everything - len(truth)),
    }
    for name, (part, whole) in expected.items():
        assert found[name] == pytest.approx(part / whole if whole else math.nan, abs=1e-6, nan_ok=True), name
    if predicted | truth:
        assert found["dice"] == pytest.approx(1 - distance.dice(*(mask.ravel() for mask in pair)), abs=1e-6)
        assert found["iou"] == pytest.approx(1 - distance.jaccard(*(mask.ravel() for mask in pair)), abs=1e-6)


def test_both_empty_is_not_a_score():
    found = score(np.zeros((5, 5), bool), np.zeros((5, 5), bool), list(SCORES))
    assert all(math.isnan(found[name]) for name in ("iou", "dice", "sensitivity")) and found["specificity"] == 1


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_scores_almost_zero(swap):
    pair = [np.zeros((9, 9), bool), np.eye(9, dtype=bool)]
    found = score(*(pair[::-1] if swap else pair), ["iou", "dice"])
    assert 0 < found["iou"] < 1e-7 and 0 < found["dice"] < 1e-7


def test_perfect_prediction_scores_one():
    mask = np.eye(6, dtype=bool)
    assert set(score(mask, mask, list(SCORES)).values()) == {1.0}


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4), bool)),
        (np.zeros((4, 4), bool), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4), bool), np.zeros((4, 5), bool)),
        (np.zeros((1, 4, 4), bool), np.zeros((4, 4), bool)),
    ],
)
def test_other_types_and_shapes_are_refused(predicted, truth):
    with pytest.raises(ValueError, match="two bool arrays of one shape") as error:
        count(predicted, truth)
    assert all(f"{mask.dtype} {list(mask.shape)}" in str(error.value) for mask in (predicted, truth))


def test_unknown_metrics_are_named_before_anything_is_counted():
    with pytest.raises(ValueError, match="Unknown metric f1, auc: choose from iou, dice"):
        score(np.zeros(3), np.zeros(4), ["dice", "f1", "auc"])


def test_counts_do_not_overflow():
    ones = np.ones((3000, 3000), bool)
    assert count(ones, ones).tp == 9_000_000 and count(ones, ~ones).fp == 9_000_000
