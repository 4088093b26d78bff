"""Scores against golden numbers, set formulas, MONAI, sums over all pairs, and shapes with a known score."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.spatial import distance
from skimage.draw import disk
from skimage.morphology import skeletonize

from sam_med2d.evaluation import mask_pair
from sam_med2d.evaluation.mask_pair import VESSEL_WORDS, Counts, MaskPair, count
from sam_med2d.evaluation.metrics import SCORES, SOFT, score, vertical_cup_to_disc_ratio
from tests.helpers import paths

GOLDEN = np.load(paths.GOLDEN / "golden_losses_transforms.npz")
DISTANCES = ("hd95", "hd95_pooled", "assd")
HARD = [name for name in SCORES if name not in SOFT]
EMPTY, DIAGONAL = np.zeros((9, 12), bool), np.eye(9, 12, dtype=bool)
shapes = npst.array_shapes(min_dims=2, max_dims=2, max_side=8)
larger_shapes = npst.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=16)
# few levels, so that most of them are shared by true and other pixels
probabilities = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]).map(np.float32)


def pairs(shapes=shapes):
    return shapes.flatmap(lambda shape: st.tuples(npst.arrays(bool, shape), npst.arrays(bool, shape)))


def blobs(mask, times):
    """Closed shapes rather than scattered pixels."""
    return binary_dilation(mask, iterations=times) if times else mask


def surface_pairs():
    """Two masks of one size, neither of them empty: scattered pixels or blobs, some at the border."""
    masks = st.tuples(pairs(larger_shapes), st.integers(0, 2), st.integers(0, 2))
    both = masks.map(lambda drawn: (blobs(drawn[0][0], drawn[1]), blobs(drawn[0][1], drawn[2])))
    return both.filter(lambda pair: all(mask.any() for mask in pair))


def soft_cases():
    """A truth, a probability with many ties and the pixels that count, all of one size."""
    return shapes.flatmap(
        lambda shape: st.tuples(
            npst.arrays(bool, shape), npst.arrays(np.float32, shape, elements=probabilities), npst.arrays(bool, shape)
        )
    )


def one(case, name):
    return score(case, [name])[name]


def square(top, left, side=10, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


# --- counts and their scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iou", "dice"])
@pytest.mark.parametrize("case", range(3))
def test_golden_scores(case, name):
    predicted, truth = GOLDEN[f"c{case}_logits"][:, 0] > 0, GOLDEN[f"c{case}_mask"][:, 0] > 0
    found = [one(MaskPair(p, t), name) for p, t in zip(predicted, truth, strict=True)]
    np.testing.assert_allclose(found, GOLDEN[f"c{case}_{name}_metric"], atol=1e-6)


@given(pair=pairs())
def test_counts_and_scores_equal_set_formulas(pair):
    predicted, truth = ({tuple(pixel) for pixel in np.argwhere(mask)} for mask in pair)
    everything = pair[0].size
    counts = count(*pair)
    assert counts == Counts(
        len(predicted & truth), len(predicted - truth), len(truth - predicted), everything - len(predicted | truth)
    )
    assert counts.nothing_to_find == (not predicted and not truth)
    assert counts.missed == (not predicted and bool(truth))
    assert counts.one_is_empty == (bool(predicted) != bool(truth))
    expected = {
        "iou": (len(predicted & truth), len(predicted | truth)),
        "dice": (2 * len(predicted & truth), len(predicted) + len(truth)),
        "sensitivity": (len(predicted & truth), len(truth)),
        "specificity": (everything - len(predicted | truth), everything - len(truth)),
    }
    found = score(MaskPair(*pair), list(expected))
    for name, (part, whole) in expected.items():
        assert found[name] == pytest.approx(part / whole if whole else math.nan, abs=1e-6, nan_ok=True), name
    if predicted | truth:
        assert found["dice"] == pytest.approx(1 - distance.dice(*(mask.ravel() for mask in pair)), abs=1e-6)
        assert found["iou"] == pytest.approx(1 - distance.jaccard(*(mask.ravel() for mask in pair)), abs=1e-6)


def test_counts_do_not_overflow():
    ones = np.ones((3000, 3000), bool)
    assert count(ones, ones).tp == 9_000_000 and count(ones, ~ones).fp == 9_000_000


def test_kappa_is_zero_by_chance_and_undefined_without_a_choice():
    half = np.zeros((4, 8), bool)
    half[:, :4] = True
    other = np.zeros_like(half)
    other[:2] = True  # half of each half
    assert one(MaskPair(half, other), "kappa") == 0 and one(MaskPair(half, ~half), "kappa") == -1
    assert math.isnan(one(MaskPair(np.ones_like(half), np.ones_like(half)), "kappa"))


# --- empty and perfect masks ----------------------------------------------------------------------------------


def test_both_empty_is_not_a_score():
    case = MaskPair(EMPTY, EMPTY, structure="vessel", probability=np.zeros(EMPTY.shape))
    found = score(case, list(SCORES))
    assert found.pop("specificity") == 1
    assert (found.pop("accuracy"), len(found)) == (1, 13) and all(math.isnan(value) for value in found.values()), found


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_is_the_worst_score(swap):
    pair = [DIAGONAL, EMPTY] if swap else [EMPTY, DIAGONAL]
    found = score(MaskPair(*pair, structure="vessel"), HARD)
    assert 0 < found["iou"] < 1e-7 and 0 < found["dice"] < 1e-7
    assert [found[name] for name in DISTANCES] == [15, 15, 15]  # 9 and 12 pixels give a diagonal of 15
    assert not any(found[name] for name in ("nsd", "nsd_length", "cldice", "kappa", "boundary_iou"))
    assert found["accuracy"] == 99 / 108


def test_perfect_prediction():
    case = MaskPair(DIAGONAL, DIAGONAL, structure="vessel", probability=DIAGONAL.astype(np.float32))
    assert score(case, list(SCORES)) == dict.fromkeys(SCORES, 1.0) | dict.fromkeys(DISTANCES, 0.0)


def test_full_masks_have_a_surface_at_the_border():
    full, hole = np.ones((20, 20), bool), np.ones((20, 20), bool)
    hole[3:-3, 3:-3] = False
    # both have the 76 pixels at the border; the frame also has the 4 * 14 around its hole, 2 pixels from the border
    assert score(MaskPair(hole, full, tolerance=1.0), ["hd95", "nsd"]) == {"hd95": 2, "nsd": 2 * 76 / (2 * 76 + 56)}


# --- surfaces -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI's own
@given(pair=surface_pairs(), tolerance=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]))
def test_surface_scores_equal_monai(pair, tolerance):
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in pair]
    found = score(MaskPair(*pair, tolerance=tolerance), ["hd95", "nsd"])
    hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95)
    nsd = compute_surface_dice(*tensors, class_thresholds=[tolerance], include_background=True)
    assert found["hd95"] == pytest.approx(hd95.item(), abs=1e-3)  # MONAI interpolates the percentile in float32
    assert found["nsd"] == pytest.approx(nsd.item(), abs=1e-6)


@given(pair=surface_pairs(), tolerance=st.sampled_from([0.0, 1.0, math.sqrt(5), math.sqrt(13)]))
def test_surface_scores_equal_all_pairs_of_edge_pixels(pair, tolerance):
    """Tolerances at a distance that occurs: exact, or pixels at it would be lost."""
    edges = [np.argwhere(mask & ~binary_erosion(mask)) for mask in pair]
    distances = distance.cdist(*edges)
    forth, back = distances.min(1), distances.min(0)
    found = score(MaskPair(*pair, tolerance=tolerance), ["hd95", "nsd"])
    assert found["hd95"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert found["nsd"] == np.mean(np.concatenate([forth, back]) <= tolerance)


@pytest.mark.parametrize("shift", [1, 3, 7])
def test_shifted_squares(shift):
    """The facing sides of two squares are `shift` apart, and more than 5 % of the pixels lie on each."""
    pair = square(5, 8), square(5, 8 + shift)
    assert one(MaskPair(*pair), "hd95") == shift
    assert one(MaskPair(*pair, tolerance=shift), "nsd") == 1
    assert one(MaskPair(*pair, tolerance=shift - 0.1), "nsd") < 1
    assert (one(MaskPair(*pair), "nsd") == 1) == (shift <= 2)  # the default


def test_surface_scores_are_the_same_from_both_sides():
    small, large = square(10, 10, side=3), square(5, 5, side=25)
    forth, back = (score(MaskPair(*pair), ["hd95", "nsd"]) for pair in [(small, large), (large, small)])
    assert forth == back
    assert forth["hd95"] > 17  # from the far corner; from the small square alone it would be 7


# --- probabilities --------------------------------------------------------------------------------------------


@given(drawn=soft_cases())
def test_auc_is_the_share_of_ordered_pairs(drawn):
    truth, probability, inside = drawn
    probability = probability.astype(np.float64)
    true, others = probability[truth & inside], probability[~truth & inside]
    ordered = np.sign(true[:, None] - others[None]) / 2 + 0.5
    expected = ordered.mean() if ordered.size else math.nan
    found = one(MaskPair(truth, truth, probability=probability, inside=inside), "auc")
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(drawn=soft_cases())
def test_aupr_is_the_sum_over_thresholds(drawn):
    truth, probability, inside = drawn
    expected, last_recall = 0.0, 0.0
    for threshold in sorted(set(probability[inside].tolist()), reverse=True):
        chosen = inside & (probability >= threshold)
        precision = (truth & chosen).sum() / chosen.sum()
        recall = (truth & chosen).sum() / max((truth & inside).sum(), 1)
        expected += (recall - last_recall) * precision
        last_recall = recall
    expected = expected if (truth & inside).any() else math.nan
    found = one(MaskPair(truth, truth, probability=probability, inside=inside), "aupr")
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_soft_scores_of_known_rankings():
    truth = np.array([[True, True, False, False]])
    known = {
        (0.9, 0.8, 0.2, 0.1): (1, 1),
        (0.9, 0.2, 0.8, 0.1): (3 / 4, (1 + 2 / 3) / 2),
        (0.1, 0.2, 0.8, 0.9): (0, (1 / 3 + 2 / 4) / 2),
        (0.5, 0.5, 0.5, 0.5): (1 / 2, 1 / 2),
    }
    for values, expected in known.items():
        found = score(MaskPair(truth, truth, probability=np.array([values])), ["auc", "aupr"])
        assert tuple(found.values()) == pytest.approx(expected), values


def test_only_the_ranking_of_probabilities_matters():
    generator = np.random.default_rng(0)
    truth, logits = generator.random((60, 80)) > 0.7, generator.normal(size=(60, 80))
    found = [score(MaskPair(truth, truth, probability=p), SOFT) for p in (logits, 1 / (1 + np.exp(-logits)))]
    assert found[0] == found[1] and 0.4 < found[0]["auc"] < 0.6


def test_pixels_outside_the_field_of_view_do_not_count():
    truth, inside = square(5, 5), square(0, 0, side=30)
    probability = np.where(truth, 0.6, 0.4)
    probability[~inside] = 0.9
    assert score(MaskPair(truth, truth, probability=probability, inside=inside), SOFT) == {"auc": 1.0, "aupr": 1.0}
    everywhere = score(MaskPair(truth, truth, probability=probability), SOFT)
    assert everywhere["auc"] < 0.5 and everywhere["aupr"] < 0.1
    nowhere = score(MaskPair(truth, truth, probability=probability, inside=np.zeros_like(truth)), SOFT)
    assert all(math.isnan(value) for value in nowhere.values())


def test_soft_scores_do_not_overflow():
    truth = np.zeros((3000, 4000), bool)
    truth[:1500] = True  # 3.6e13 pairs
    probability = np.where(truth, np.float32(0.7), np.float32(0.3))
    assert score(MaskPair(truth, truth, probability=probability), SOFT) == {"auc": 1.0, "aupr": 1.0}


def test_soft_scores_need_numbers():
    with pytest.raises(ValueError, match="auc and aupr need the probability"):
        score(MaskPair(DIAGONAL, DIAGONAL), ["auc"])
    for row in (0, 1):  # a pixel of the truth, one of the others
        probability = np.zeros(DIAGONAL.shape)
        probability[row, 0] = math.nan
        with pytest.raises(ValueError, match="the probability has NaN"):
            score(MaskPair(DIAGONAL, DIAGONAL, probability=probability), ["aupr"])


# --- skeletons and heights ------------------------------------------------------------------------------------


def line(half_width, row=20, columns=slice(5, 45)):
    mask = np.zeros((40, 50), bool)
    mask[row - half_width : row + half_width + 1, columns] = True
    return mask


@pytest.mark.parametrize("half_width", [2, 3, 5])
def test_a_thicker_vessel_has_the_same_centreline(half_width):
    for pair in [(line(half_width), line(1)), (line(1), line(half_width))]:
        found = score(MaskPair(*pair, structure="vessel"), ["dice", "cldice"])
        assert found["cldice"] == 1 and found["dice"] < 0.76


def test_half_a_vessel_and_a_displaced_one():
    half = MaskPair(line(0, columns=slice(5, 25)), line(0), structure="vessel")
    assert one(half, "cldice") == pytest.approx(2 * 1 * 0.5 / 1.5)  # all of it is right, half is found
    assert one(MaskPair(line(1, row=10), line(1, row=30), structure="vessel"), "cldice") == 0


@given(pair=surface_pairs())
def test_cldice_equals_the_shares_of_skeleton_pixels(pair):
    """Also shows that a mask always keeps a skeleton: there is no division by zero."""
    predicted, truth = ({tuple(pixel) for pixel in np.argwhere(mask)} for mask in pair)
    middle, true_middle = ({tuple(pixel) for pixel in np.argwhere(skeletonize(mask))} for mask in pair)
    precision, recall = len(middle & truth) / len(middle), len(true_middle & predicted) / len(true_middle)
    expected = 2 / (1 / precision + 1 / recall) if precision and recall else 0
    assert one(MaskPair(*pair, structure="artery"), "cldice") == pytest.approx(expected)


def test_only_vessels_have_a_cldice():
    vessels = {*VESSEL_WORDS, "Vessel", "blood_vessel", "retinal_VEIN_left", "blood-vessels"}
    others = {"", "optic_disc", "veinlike", "lesion_arteryish", "exudates"}
    scores = {name: one(MaskPair(DIAGONAL, DIAGONAL, structure=name), "cldice") for name in vessels | others}
    assert {name for name, score in scores.items() if not math.isnan(score)} == vessels


def test_vertical_cup_to_disc_ratio():
    disc, cup = np.zeros((200, 220), bool), np.zeros((200, 220), bool)
    disc[disk((100, 110), 50.5)] = True  # 101 rows
    cup[disk((95, 100), 20.5)] = True  # 41 rows
    assert vertical_cup_to_disc_ratio(cup, disc) == 41 / 101
    assert vertical_cup_to_disc_ratio(cup.repeat(2, axis=1), disc.repeat(2, axis=1)) == 41 / 101
    cup[80:110] = False  # the height is from the first row to the last, whatever is missing between
    assert vertical_cup_to_disc_ratio(cup, disc) == 41 / 101
    assert vertical_cup_to_disc_ratio(np.zeros_like(disc), disc) == 0
    assert math.isnan(vertical_cup_to_disc_ratio(cup, np.zeros_like(disc)))
    with pytest.raises(ValueError, match="cup must be a bool array"):
        vertical_cup_to_disc_ratio(cup[:-1], disc)
    with pytest.raises(ValueError, match="disc must be a bool array"):
        vertical_cup_to_disc_ratio(cup, disc.astype(np.uint8))


# --- arrays and names -----------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="must be a bool array"):
        MaskPair(predicted, truth)


@pytest.mark.parametrize(
    ("name", "array", "kind"),
    [
        ("probability", np.zeros((9, 11)), "float"),
        ("probability", np.zeros((1, 9, 12)), "float"),
        ("probability", np.zeros((9, 12), np.uint8), "float"),
        ("inside", np.zeros((12, 9), bool), "bool"),
        ("inside", np.zeros((9, 12), np.uint8), "bool"),
    ],
)
def test_the_other_arrays_of_a_case_are_checked(name, array, kind):
    with pytest.raises(ValueError, match=f"^{name} must be a {kind} array") as error:
        MaskPair(EMPTY, EMPTY, **{name: array})
    assert f"{array.dtype} {list(array.shape)} beside [9, 12]" in str(error.value)


def test_a_case_holds_one_mask():
    batch = np.zeros((2, 9, 12), bool)
    with pytest.raises(ValueError, match="predicted must be a bool array"):
        MaskPair(batch, batch)


def test_unknown_metrics_are_named_before_anything_is_computed():
    case = MaskPair(DIAGONAL, DIAGONAL)
    with pytest.raises(ValueError, match="Unknown metric f1, hausdorff: choose from iou, dice, hd95, nsd, .*cldice"):
        score(case, ["dice", "f1", "hausdorff"])
    assert "counts" not in vars(case)


def test_scores_come_in_the_order_asked_for():
    first = ["iou", "dice", "hd95", "nsd", "sensitivity", "specificity", "auc", "aupr", "cldice"]
    added = ["hd95_pooled", "nsd_length", "assd", "accuracy", "kappa", "boundary_iou"]
    assert list(SCORES) == first + added
    assert list(score(MaskPair(DIAGONAL, DIAGONAL), ["nsd", "iou"])) == ["nsd", "iou"]


def test_each_part_of_a_case_is_computed_once(monkeypatch):
    calls = []
    for name in ("count", "edge_pixels", "contour", "rank"):
        original = getattr(mask_pair, name)
        monkeypatch.setattr(mask_pair, name, lambda *a, n=name, f=original: calls.append(n) or f(*a))
    found = score(MaskPair(DIAGONAL, DIAGONAL, probability=np.ones(DIAGONAL.shape)), list(SCORES))
    assert sorted(calls) == ["contour"] * 2 + ["count"] + ["edge_pixels"] * 2 + ["rank"] and len(found) == 15
    assert all(type(value) is float for value in found.values())
