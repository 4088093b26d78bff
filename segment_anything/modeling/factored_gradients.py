"""The gradient of a large weight, kept as the few rows that it is a product of until the weight is updated."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def product(pixels: Tensor, filters: Tensor, bias: Tensor | None = None) -> Tensor:
    """pixels [M, K] @ filters [N, K].T + bias [N] -> [M, N], as a convolution of one channels-last row."""
    image = pixels[None, None].permute(0, 3, 1, 2)
    return F.conv2d(image, filters[:, :, None, None], bias).permute(0, 2, 3, 1)[0, 0]


def product_with_columns(pixels: Tensor, columns: Tensor) -> Tensor:
    """pixels [M, N] @ columns [N, K] -> [M, K], as a convolution whose image are the columns as they lie in memory."""
    return F.conv2d(columns[None, :, None], pixels[..., None, None])[0, :, 0]


def outer(left: Tensor, right: Tensor) -> Tensor:
    """left [M, N].T @ right [M, K] -> [N, K], the shape of a weight."""
    return product_with_columns(left.t().contiguous(), right)


class Factors:
    """A gradient [N, K] as a sum of products left.T @ right, with M rows in each: M (N + K) numbers, not N K."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the gradient."""
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def take(self, left: Tensor, right: Tensor) -> bool:
        """Add left [M, N].T @ right [M, K], unless all rows were more than half as large as the product: then False."""
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
        """Sum of the squares of all N K numbers, from the rows: their inner products with each other."""
        left, right = self._rows()
        return ((left @ left.t()) * (right @ right.t())).sum().clamp(min=0)  # rounding may leave less

    def pop(self) -> Tensor:
        """The gradient [N, K]; afterwards there is none."""
        left, right = self._rows()
        self.clear()
        return outer(left, right)


def keep_factors(weight: nn.Parameter) -> None:
    """From now on a gradient of `weight` goes to `weight.factors` where that saves memory, and not to `weight.grad`."""
    weight.factors = Factors()


def factors_of(weight: Tensor) -> Factors | None:
    """The factors that a weight keeps, None for a weight that has its gradient as others do."""
    return getattr(weight, "factors", None)


def taken(factors: Factors | None, left: Tensor, right: Tensor) -> bool:
    """Whether the factors, if there are any, took left.T @ right, which then need not be multiplied out."""
    return factors is not None and factors.take(left, right)
