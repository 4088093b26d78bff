"""SAM-Med2D's `metrics`: by the published formulas, on what its scripts give them."""

import numpy as np
import pytest
import torch

from metrics import SegMetrics, dice, iou
from tests.helpers.paths import GOLDEN

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(3, 1, 20, 31, generator=GENERATOR)
TRUTH = (torch.rand(3, 1, 20, 31, generator=GENERATOR) < 0.3).float()


def by_hand(predicted: np.ndarray, truth: np.ndarray) -> tuple[list[float], list[float]]:
    """IoU and Dice of each bool mask."""
    pairs = [((p & t).sum(), p.sum() + t.sum()) for p, t in zip(predicted, truth, strict=True)]
    ious = [(both + 1e-7) / (areas - both + 1e-7) for both, areas in pairs]
    return ious, [(2 * both + 1e-7) / (areas + 1e-7) for both, areas in pairs]


EXPECTED = by_hand(LOGITS.numpy() > 0, TRUTH.numpy() > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64])
def test_scores_of_logits(dtype):
    for score, expected in zip((iou, dice), EXPECTED, strict=True):
        found = score(LOGITS, TRUTH.to(dtype))
        assert isinstance(found, np.ndarray) and found.shape == (3,)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_scores_of_probabilities_of_masks_and_of_lists():
    for score, expected in zip((iou, dice), EXPECTED, strict=True):
        np.testing.assert_allclose(score(LOGITS.sigmoid(), TRUTH), expected, rtol=1e-6)
        np.testing.assert_allclose(score((LOGITS > 0).float(), TRUTH), expected, rtol=1e-6)
        np.testing.assert_allclose(score(list(LOGITS.numpy()), list(TRUTH.numpy())), expected, rtol=1e-6)
        np.testing.assert_allclose(score(LOGITS.clone().requires_grad_(), TRUTH), expected, rtol=1e-6)


def test_two_empty_masks_agree():
    nothing = torch.zeros(2, 1, 5, 5)
    for score in (iou, dice):
        assert score(nothing - 3, nothing).tolist() == [1, 1]
        assert score(nothing - 3, nothing + 1) == pytest.approx([0, 0], abs=1e-7)


def test_threshold_and_eps():
    probability = LOGITS.sigmoid()
    expected = by_hand(probability.detach().numpy() > 0.8, TRUTH.numpy() > 0)
    np.testing.assert_allclose(dice(probability, TRUTH, threshold=0.8), expected[1], rtol=1e-6)
    both, areas = (probability * TRUTH).sum((1, 2, 3)), (probability + TRUTH).sum((1, 2, 3))
    soft = ((both + 0.5) / (areas - both + 0.5)).detach().numpy()
    np.testing.assert_allclose(iou(probability, TRUTH, eps=0.5, threshold=None), soft, rtol=1e-5)


def test_means_of_a_batch():
    expected = [np.mean(values) for values in EXPECTED]
    found = SegMetrics(LOGITS, TRUTH, ["iou", "dice"])
    assert isinstance(found, np.ndarray) and found.shape == (2,)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(SegMetrics(LOGITS, TRUTH, ["dice", "iou"]), expected[::-1], rtol=1e-6)
    np.testing.assert_allclose(SegMetrics(LOGITS, TRUTH, "dice"), expected[1:], rtol=1e-6)
    with pytest.raises(ValueError, match="metric 'hd95' is unknown: choose from iou, dice"):
        SegMetrics(LOGITS, TRUTH, ["dice", "hd95"])


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_golden_numbers_of_the_public_implementation(case):
    golden = np.load(GOLDEN / "golden_losses_transforms.npz")
    logits, mask = (torch.from_numpy(golden[f"{case}_{name}"]) for name in ("logits", "mask"))
    for name, score in {"iou": iou, "dice": dice}.items():
        np.testing.assert_allclose(score(logits, mask), golden[f"{case}_{name}_metric"], atol=1e-6)
