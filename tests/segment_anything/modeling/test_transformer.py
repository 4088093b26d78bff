"""Attention between tokens and pixels: the same by both orders of the products, with all gradients."""

import pytest
import torch

from segment_anything.modeling.transformer import Attention, ImageToTokens, TokensToImage, TwoWayTransformer

DIM, HEADS, PIXELS = 32, 4, 30
COUNTS = [(1, 1, 2), (3, 3, 2), (3, 1, 2), (2, 1, 1), (3, 3, 9), (3, 1, 9)]  # prompts, images, tokens


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


def seeded(kind: type[Attention]) -> Attention:
    torch.manual_seed(0)
    return kind(DIM, HEADS, 2).double()


def gradients(output: torch.Tensor, attention: Attention, *inputs: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    return list(torch.autograd.grad((output * weights.sin()).sum(), [*attention.parameters(), *inputs]))


@pytest.mark.parametrize(("prompts", "images", "count"), COUNTS)
def test_tokens_to_image_is_plain_attention(prompts, images, count):
    tokens = torch.randn(prompts, count, DIM, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(images, PIXELS, DIM, dtype=torch.float64, requires_grad=True) for _ in range(2))
    attention, plain = seeded(TokensToImage), seeded(Attention)
    assert attention._spares_pixels(tokens, k) == (prompts * count * HEADS < images * DIM // 2)
    found, expected = attention(tokens, k, v), plain(tokens, k, v)
    close(found, expected)
    close(gradients(found, attention, tokens, k, v), gradients(expected, plain, tokens, k, v))


@pytest.mark.parametrize(("prompts", "images", "count"), COUNTS)
def test_image_to_tokens_is_plain_attention_with_the_residual(prompts, images, count):
    k, v = (torch.randn(prompts, count, DIM, dtype=torch.float64, requires_grad=True) for _ in range(2))
    image, q = (torch.randn(images, PIXELS, DIM, dtype=torch.float64, requires_grad=True) for _ in range(2))
    attention, plain = seeded(ImageToTokens), seeded(Attention)
    found, expected = attention(image, q, k, v), image + plain(q, k, v)
    assert found.shape == (prompts, PIXELS, DIM)
    close(found, expected)
    close(gradients(found, attention, image, q, k, v), gradients(expected, plain, image, q, k, v))


@pytest.mark.parametrize("count", [2, 40])
def test_one_image_serves_all_prompts_and_few_outputs_are_those_of_all(count):
    torch.manual_seed(0)
    transformer = TwoWayTransformer(depth=2, embedding_dim=DIM, num_heads=HEADS, mlp_dim=16).double().eval()
    image, pe = (torch.randn(1, PIXELS, DIM, dtype=torch.float64) for _ in range(2))
    tokens = torch.randn(5, count, DIM, dtype=torch.float64)
    with torch.no_grad():
        hidden, pixels = transformer(image, pe, tokens, 2)
        all_hidden, all_pixels = transformer(image.expand(5, -1, -1), pe, tokens, count)
    assert hidden.shape == (5, 2, DIM)
    close(hidden, all_hidden[:, :2])
    close(pixels, all_pixels)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="num_heads=5"):
        Attention(DIM, 5)
