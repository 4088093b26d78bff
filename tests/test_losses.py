"""Losses against golden numbers of the public implementation, and where they differ on purpose."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segment_anything.training import losses

GOLDEN = Path(__file__).parent / "golden" / "golden_losses_transforms.npz"


@pytest.fixture(scope="module")
def golden():
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_batch_reduction_matches_public_implementation(golden, case):
    logits, mask, iou = (golden[f"{case}_{name}"] for name in ("logits", "mask", "pred_iou"))
    focal, _ = losses.segmentation_losses(logits, mask)
    torch.testing.assert_close(focal.mean(), golden[f"{case}_focal"], atol=1e-5, rtol=0)
    total = losses.segmentation_loss(logits, mask, iou, reduction="batch")
    torch.testing.assert_close(total, golden[f"{case}_total"], atol=1e-4, rtol=0)
