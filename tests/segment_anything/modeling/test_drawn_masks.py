"""The product of mask tokens and upscaled embedding as an image: the same by both routes, with its gradients."""

import torch

from segment_anything.modeling.mask_decoder import _arranged, _drawn

HEIGHT, WIDTH = 3, 5


def random_factors() -> list[torch.Tensor]:
    """Weights [2, 4, 8] and blocks [2, 15, 4, 4, 8]."""
    return [torch.randn(shape, requires_grad=True) for shape in [(2, 4, 8), (2, HEIGHT * WIDTH, 4, 4, 8)]]


def test_each_block_is_painted_where_its_pixel_lies():
    blocks = torch.arange(16.0 * HEIGHT * WIDTH).view(1, HEIGHT * WIDTH, 4, 4, 1)
    image = _drawn(torch.ones(1, 1, 1), blocks, HEIGHT, WIDTH)[0, 0]
    # pixel (2, 1): 2 x 2 pixels, row by row, each of which is 2 x 2 pixels again
    first = 16.0 * (2 * WIDTH + 1)
    expected = first + torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]])
    assert torch.equal(image[8:12, 4:8], expected)


def test_on_a_cpu_it_equals_the_plain_product_with_its_gradients():
    given = weights, blocks = random_factors()
    found = _drawn(weights, blocks, HEIGHT, WIDTH)
    expected = _arranged(weights @ blocks.flatten(1, 3).transpose(1, 2), HEIGHT, WIDTH)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(found).mT.contiguous().mT  # a gradient may lie in memory in any order
    for ours, theirs in zip(*(torch.autograd.grad(out, given, slope) for out in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_first_call_without_gradients_does_not_spoil_those_of_later_ones():
    weights, blocks = torch.ones(1, 1, 2, requires_grad=True), torch.ones(1, 77, 4, 4, 2)  # a size of this test's own
    with torch.inference_mode():
        _drawn(weights, blocks, 7, 11)
    _drawn(weights, blocks, 7, 11).sum().backward()
    assert weights.grad.tolist() == [[[16.0 * 77] * 2]]
