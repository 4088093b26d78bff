"""Scores against the packages that people compute them with, on random masks and drawn discs, vessels and lesions."""

import cv2
import numpy as np
import pytest
import sklearn.metrics as sklearn
import surface_distance
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from medpy.metric import binary as medpy
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from pycocotools import mask as coco

from sam_med2d.evaluation.mask_pair import MaskPair, rim
from sam_med2d.evaluation.metrics import SCORES, score
from tests.helpers.drawn_masks import drawn_pairs

CLOSE = {("hd95", "MONAI"): 1e-4}  # it interpolates the percentile in float32; all others agree to 1e-6
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),  # MONAI's own
    pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage`:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def old_names_of_numpy(monkeypatch):
    """Those that surface-distance 0.1 was written with, where NumPy has them no longer."""
    monkeypatch.setattr(np, "bool", bool, raising=False)
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)


def scores_of_other_tools(predicted, truth, tolerance):
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, truth)]
    flat = truth.ravel(), predicted.ravel()
    surfaces = surface_distance.compute_surface_distances(truth, predicted, (1, 1))
    whole, limits = {"include_background": True}, {"class_thresholds": [tolerance], "include_background": True}
    runs = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in (predicted, truth)]
    return scores_with_background(predicted, truth) | {
        ("iou", "MedPy"): medpy.jc(predicted, truth),
        ("iou", "pycocotools"): coco.iou(runs[:1], runs[1:], [0]).item(),
        ("dice", "MedPy"): medpy.dc(predicted, truth),
        ("dice", "scikit-learn"): sklearn.f1_score(*flat),
        ("sensitivity", "scikit-learn"): sklearn.recall_score(*flat),
        ("accuracy", "scikit-learn"): sklearn.accuracy_score(*flat),
        ("hd95", "MONAI"): compute_hausdorff_distance(*tensors, **whole, percentile=95).item(),
        ("hd95_pooled", "MedPy"): medpy.hd95(predicted, truth),
        ("assd", "MONAI"): compute_average_surface_distance(*tensors, **whole, symmetric=True).item(),
        ("assd", "MedPy"): medpy.assd(predicted, truth),
        ("nsd", "MONAI"): compute_surface_dice(*tensors, **limits).item(),
        ("nsd_length", "MONAI"): compute_surface_dice(*tensors, **limits, use_subvoxels=True).item(),
        ("nsd_length", "surface-distance"): surface_distance.compute_surface_dice_at_tolerance(surfaces, tolerance),
        ("boundary_iou", "erosion"): boundary_iou(predicted, truth),
    }


def scores_with_background(predicted, truth):
    """Of a truth that fills the picture MedPy says 0, and scikit-learn warns."""
    if truth.all():
        return {}
    return {
        ("specificity", "MedPy"): medpy.specificity(predicted, truth),
        ("kappa", "scikit-learn"): sklearn.cohen_kappa_score(truth.ravel(), predicted.ravel()),
    }


def boundary_iou(predicted, truth):
    """As the paper computes it: what a number of erosions by 3 x 3 pixels removes, in a frame of zeros."""
    width = max(1, round(0.02 * float(np.hypot(*truth.shape))))
    first, second = (mask & ~eroded(mask, width) for mask in (predicted, truth))
    return (first & second).sum() / (first | second).sum()


def eroded(mask, times):
    padded = np.pad(mask, 1).astype(np.uint8)
    return cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=times)[1:-1, 1:-1].astype(bool)


def offenders(predicted, truth, tolerance):
    """What differs from another tool, as lines."""
    others = scores_of_other_tools(predicted, truth, tolerance)
    ours = score(MaskPair(predicted, truth, tolerance=tolerance), list({name for name, _ in others}))
    found = []
    for (name, tool), value in others.items():
        close = CLOSE.get((name, tool), 1e-6)
        if ours[name] != pytest.approx(float(value), abs=close, rel=1e-6, nan_ok=True):
            found.append(f"{name} of {tool}: {ours[name]}, {value}")
    return found


def test_drawn_masks_have_the_scores_of_other_tools():
    found = {name: offenders(*pair, 1.0) for name, pair in drawn_pairs().items()}
    assert not any(found.values()), found


@pytest.mark.slow
@given(
    pair=npst.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=14)
    .flatmap(lambda shape: st.tuples(npst.arrays(bool, shape), npst.arrays(bool, shape)))
    .filter(lambda pair: all(mask.any() for mask in pair)),
    tolerance=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]),
)
def test_random_masks_have_the_scores_of_other_tools(pair, tolerance):
    assert not offenders(*pair, tolerance)


@given(mask=npst.arrays(bool, (14, 17)), width=st.integers(1, 6))
def test_a_rim_is_what_erosions_remove(mask, width):
    np.testing.assert_array_equal(rim(mask, width), mask & ~eroded(mask, width))


def test_scores_in_a_region_are_those_of_its_pixels():
    """Counts of the pixels inside, as scikit-learn has them; surfaces of masks that end at the region's edge."""
    region = np.zeros((200, 240), bool)
    region[20:150, 30:170] = True
    names = [name for name in SCORES if name not in ("auc", "aupr")]
    for name, (predicted, truth) in drawn_pairs().items():
        pair = MaskPair(predicted, truth, structure="vessel").within(region)
        found = score(pair, names)
        flat = truth[region], predicted[region]
        assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(*flat), abs=1e-9), name
        assert found["kappa"] == pytest.approx(sklearn.cohen_kappa_score(*flat), abs=1e-9), name
        assert found["specificity"] == pytest.approx(sklearn.recall_score(*flat, pos_label=0), abs=1e-9), name
        cut = score(MaskPair(predicted & region, truth & region, structure="vessel"), names)
        counted = ("accuracy", "kappa", "specificity")
        assert {k: v for k, v in found.items() if k not in counted} == {k: cut[k] for k in names if k not in counted}
        assert found["accuracy"] < cut["accuracy"] or found["accuracy"] == 1


def test_pooled_and_directed_percentiles_are_far_apart_for_a_disc_with_a_speck():
    predicted, truth = drawn_pairs()["disc and speck"]
    found = score(MaskPair(predicted, truth), ["hd95", "hd95_pooled"])
    assert found["hd95"] > 100 and found["hd95_pooled"] == 0
