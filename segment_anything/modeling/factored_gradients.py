"""The gradient of a large weight, kept as the few rows that it is a product of until the weight is updated."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .common import fp32_on_cpu


class Factors:
    """A gradient [N, K] as a sum of products left.T @ right, with M rows in each: M (N + K) numbers, not N K."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the gradient."""
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def take(self, left: Tensor, right: Tensor) -> bool:
        """Add left.T @ right, unless all rows were more than half as large as the product.

        Args:
            left: [M, N].
            right: [M, K].

        Returns:
            Whether it was added.
        """
        rows = len(left) + sum(len(kept) for kept, _ in self._pairs)
        height, width = left.shape[1], right.shape[1]
        if 2 * rows * (height + width) > height * width:
            return False
        self._pairs.append((left.detach(), right.detach()))
        return True

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def scale(self, factor: Tensor | float) -> None:
        """Multiply the gradient."""
        self._pairs = [(left * factor, right) for left, right in self._pairs]

    def _rows(self) -> tuple[Tensor, Tensor]:
        """All left and all right rows."""
        if len(self._pairs) > 1:
            self._pairs = [tuple(torch.cat(rows) for rows in zip(*self._pairs, strict=True))]
        return self._pairs[0]

    def square_norm(self) -> Tensor:
        """Sum of the squares of the gradient, from the rows: their inner products with each other."""
        left, right = self._rows()
        return ((left @ left.t()) * (right @ right.t())).sum().clamp(min=0)  # rounding may leave less

    def pop(self) -> Tensor:
        """Take the gradient, [N, K]; afterwards there is none."""
        left, right = self._rows()
        self.clear()
        return left.t() @ right


def keep_factors(weight: nn.Parameter) -> None:
    """Have a weight of `product` keep its gradient in `weight.factors`, not `.grad`, where that saves memory."""
    weight.factors = Factors()


def factors_of(weight: Tensor) -> Factors | None:
    """The factors that a weight keeps; None for one that has its gradient as others do."""
    return getattr(weight, "factors", None)


def product(x: Tensor, parameter: nn.Parameter, *, transposed: bool = False) -> Tensor:
    """x [..., K] times a parameter whose gradient may be kept as factors: [..., N].

    Args:
        x: tokens [..., K].
        parameter: [N, ...], with K values after the first dimension; `transposed`: [K, ...], with N values.
        transposed: see above.
    """
    weight = parameter.flatten(1).t() if transposed else parameter.flatten(1)
    factors = factors_of(parameter)
    if factors is None or not fp32_on_cpu(x):
        return F.linear(x, weight)
    return _Product.apply(x.flatten(0, -2), weight, factors, transposed).unflatten(0, x.shape[:-1])


class _Product(torch.autograd.Function):
    """Tokens [M, K] and a weight [N, K] -> [M, N]; the factors take the weight's gradient where that saves memory."""

    @staticmethod
    def forward(ctx, tokens: Tensor, weight: Tensor, factors: Factors, transposed: bool) -> Tensor:
        ctx.save_for_backward(tokens, weight)
        ctx.factors, ctx.transposed = factors, transposed
        return F.linear(tokens, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        tokens, weight = ctx.saved_tensors
        needs_tokens, needs_weight, _, _ = ctx.needs_input_grad
        pair = (tokens, gradient) if ctx.transposed else (gradient, tokens)
        needs_weight = needs_weight and not ctx.factors.take(*pair)
        of_tokens = gradient @ weight if needs_tokens else None
        return of_tokens, gradient.t() @ tokens if needs_weight else None, None, None
