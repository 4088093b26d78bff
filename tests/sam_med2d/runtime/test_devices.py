"""Which device computes where none is named."""

import os

import pytest
import torch

from sam_med2d.prompts.simulation import sample_points
from sam_med2d.runtime import cli
from sam_med2d.runtime.devices import resolve_device


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (False, True, "mps"), (True, True, "cuda"), (False, False, "cpu")],
)
def test_the_best_device_that_is_present_computes(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device(None).type == expected


def test_operations_that_apple_gpus_lack_may_fall_back():
    assert cli.BOOLEANS  # its import sets the variable
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] in ("0", "1")


def test_clicks_are_drawn_by_the_same_numbers_whatever_computes():
    """The rank of a pixel is found in float64, on the CPU where a device has none."""
    region = torch.zeros(1, 40, 50, dtype=torch.bool)
    region[0, 10:20, 5:45] = True
    coords, found = sample_points(region, 30, torch.Generator().manual_seed(0))
    assert found.all() and region[0][coords[0, :, 1].long(), coords[0, :, 0].long()].all()
