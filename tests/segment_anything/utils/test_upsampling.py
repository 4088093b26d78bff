"""Upsampling of logits: bilinear with half-pixel centres, the same by both routes, and so are their gradients."""

import pytest
import torch
from torch.nn import functional as F

from segment_anything.utils.upsampling import upsample


@pytest.mark.parametrize("size", [8, 16])
def test_a_ramp_stays_a_ramp_between_the_outer_centres(size):
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    expected = ((torch.arange(size) + 0.5) * 4 / size - 0.5).clamp(0, 3)
    torch.testing.assert_close(upsample(ramp, size)[0, 0, 5], expected)
    torch.testing.assert_close(upsample(ramp.mT, size)[0, 0, :, 5], expected)


@pytest.mark.parametrize("shape", [(3, 4, 16, 16), (2, 1, 5, 5), (1, 2, 1, 1)])
def test_four_times_is_what_the_library_computes_with_its_gradient(shape):
    values = torch.randn(shape, requires_grad=True)
    weight = torch.randn(*shape[:2], 4 * shape[2], 4 * shape[3])
    found = upsample(values, 4 * shape[-1])
    expected = F.interpolate(values, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected)
    for scaled in (weight, weight.transpose(-1, -2)):  # a gradient may lie in memory in any order
        ours, theirs = (torch.autograd.grad(y, values, scaled, retain_graph=True)[0] for y in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_first_call_without_gradients_does_not_spoil_those_of_later_ones():
    values = torch.randn(1, 1, 11, 11, requires_grad=True)  # a size of this test's own
    with torch.inference_mode():
        upsample(values, 44)
    upsample(values, 44).sum().backward()
    torch.testing.assert_close(values.grad, torch.full_like(values, 16.0))


def test_half_precision_and_the_full_grid():
    values = torch.randn(1, 1, 8, 8)
    assert upsample(values, 8) is values
    assert upsample(values.half(), 32).dtype == torch.float32
