"""The kept positions of the embedding's cells: always those of the present matrix, size and dtype."""

import copy

import torch

from segment_anything.modeling import PromptEncoder


def positions(encoder: PromptEncoder) -> torch.Tensor:
    """As `get_dense_pe`, computed anew."""
    steps = (torch.arange(encoder.grid_size) + 0.5) / encoder.grid_size
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return encoder.pe_layer(torch.stack((x, y), -1)).permute(2, 0, 1)[None]


def test_positions_are_computed_once_and_follow_the_weights():
    encoder, other = (PromptEncoder(embed_dim=16, image_size=64) for _ in range(2))
    first = encoder.get_dense_pe()
    assert encoder.get_dense_pe() is first and torch.equal(first, positions(encoder))
    assert encoder.pe_layer.grid(2).shape == (1, 16, 2, 2) and torch.equal(encoder.get_dense_pe(), first)
    encoder.load_state_dict(other.state_dict())
    assert torch.equal(encoder.get_dense_pe(), positions(other)) and not torch.equal(first, positions(other))
    encoder.double()
    assert encoder.get_dense_pe().dtype == torch.float64
    assert torch.equal(copy.deepcopy(encoder).get_dense_pe(), encoder.get_dense_pe())
    assert "last" not in "".join(encoder.state_dict())


def test_positions_of_a_first_call_in_inference_mode_take_part_in_training():
    encoder = PromptEncoder(embed_dim=16, image_size=64)
    with torch.inference_mode():
        encoder.get_dense_pe()
    scale = torch.ones(1, requires_grad=True)
    (encoder.get_dense_pe() * scale).square().sum().backward()
    assert scale.grad > 0
