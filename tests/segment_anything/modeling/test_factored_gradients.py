"""Gradients kept as factors: they are those that `.grad` would hold, and an update with them is the usual one."""

import pytest
import torch
from torch import nn

from sam_med2d.training.optimizer import Gradients, factor_adapters
from segment_anything.modeling.adapter import Adapter
from segment_anything.modeling.factored_gradients import Factors, factors_of, keep_factors, product

DIM, SIDE = 256, 16


def adapters(*, factored: bool, count: int = 2) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(*(Adapter(DIM) for _ in range(count)))
    if factored:
        factor_adapters(model)
    return model


def backward(model: nn.Module, images: int = 1, seed: int = 1) -> None:
    x = torch.randn(images, SIDE, SIDE, DIM, generator=torch.Generator().manual_seed(seed))
    (model(x) - 1).square().sum().backward()


def updated(optimizer: torch.optim.Optimizer, model: nn.Module, *, clip: float, images: tuple[int, ...]) -> list[float]:
    """The norms of two updates of the model."""
    norms = []
    for step in range(2):
        for number, count in enumerate(images):
            backward(model, count, seed=10 * step + number)
        gradients = Gradients(model.parameters())
        gradients.scale(0.5)
        norms.append(float(gradients.clip(clip)))
        gradients.update(optimizer.step)
    return norms


@pytest.mark.parametrize(("clip", "lr"), [(1.0, 1.0), (float("inf"), 1e-5)])
@pytest.mark.parametrize("images", [(1,), (1, 1), (1, 4), (1,) * 6])
def test_an_update_is_the_usual_one(clip, lr, images):
    """With plain gradient descent: Adam's first steps are signs, which rounding turns where a gradient is nearly 0."""
    models = [adapters(factored=factored) for factored in (True, False)]
    start = [p.detach().clone() for p in models[0].parameters()]
    norms = [updated(torch.optim.SGD(m.parameters(), lr=lr), m, clip=clip, images=images) for m in models]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    for before, found, wanted in zip(start, *(model.parameters() for model in models), strict=True):
        moved = (wanted - before).abs().max()
        assert moved > 0 and (found - wanted).abs().max() <= 1e-3 * moved + 1e-7
        assert found.grad is None and not factors_of(found)


def test_every_parameter_makes_one_step_of_adam_in_an_update():
    model = adapters(factored=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    updated(optimizer, model, clip=1.0, images=(1,))
    assert [state["step"].item() for state in optimizer.state.values()] == [2.0] * len(list(model.parameters()))


def test_an_unfactored_update_is_that_of_torch_to_the_bit():
    model, same = adapters(factored=False), adapters(factored=False)
    for each in (model, same):
        backward(each)
    gradients = Gradients(model.parameters())
    norm = gradients.clip(1.0)
    gradients.update(torch.optim.AdamW(model.parameters(), lr=1e-3).step)
    assert norm == torch.nn.utils.clip_grad_norm_(same.parameters(), 1.0)
    torch.optim.AdamW(same.parameters(), lr=1e-3).step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_few_photographs_have_factors_and_many_a_gradient():
    for images, kept in ((1, True), (8, False)):
        model = adapters(factored=True, count=1)
        backward(model, images)
        for weight in (model[0].spatial[0].weight, model[0].spatial[2].weight):
            assert bool(factors_of(weight)) == kept and (weight.grad is None) == kept


def test_a_frozen_adapter_keeps_nothing():
    model = adapters(factored=True)
    model[1].requires_grad_(False)
    backward(model)
    assert factors_of(model[0].spatial[0].weight) and not factors_of(model[1].spatial[0].weight)


def test_norm_and_product_of_factors():
    factors, pairs = Factors(), [(torch.randn(rows, 40), torch.randn(rows, 60)) for rows in (3, 5)]
    assert all(factors.take(*pair) for pair in pairs)
    factors.scale(torch.tensor(2.0))
    expected = 2 * sum(left.T @ right for left, right in pairs)
    assert float(factors.square_norm()) == pytest.approx(float(expected.square().sum()), rel=1e-5)
    torch.testing.assert_close(factors.pop(), expected)
    assert not factors
    assert not factors.take(torch.randn(13, 40), torch.randn(13, 60))  # 13 x 100 numbers, twice, are more than 2400
    assert [factors.take(torch.randn(4, 40), torch.randn(4, 60)) for _ in range(4)] == [True] * 3 + [False]


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_with_factors_has_the_gradients_of_one_without(transposed):
    parameter = nn.Parameter(torch.randn((4, 40, 3) if not transposed else (120, 2, 2)))
    x = torch.randn(1, 3, 120, requires_grad=True)
    keep = nn.Parameter(parameter.detach().clone())
    keep_factors(keep)
    found, expected = product(x, keep, transposed=transposed), product(x, parameter, transposed=transposed)
    assert torch.equal(found, expected) and found.shape == (1, 3, 4)
    slope = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(y, x, slope, retain_graph=True)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs)
    found.backward(slope), expected.backward(slope)
    assert (keep.grad is None) == bool(factors_of(keep))
    gradient = keep.grad if keep.grad is not None else factors_of(keep).pop()
    torch.testing.assert_close(gradient.flatten(1), parameter.grad.flatten(1))
