"""Small layers shared by the image encoder, the prompt encoder and the mask decoder."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .factored_gradients import Factors, product, product_with_columns, taken


class LayerNorm2d(nn.Module):
    """Layer normalisation of each pixel over its channels.

    Input and output: float [B, C, H, W], any memory format. In channels-last memory both permutes are free.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Each step rounds as in the public implementation (no fused multiply-add): behind a mask prompt's
        # four channels the last bit grows to 1e-3 of a logit.
        last = x.permute(0, 2, 3, 1)
        centred = last - last.mean(-1, keepdim=True)
        spread = torch.sqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        return (centred / spread * self.weight + self.bias).permute(0, 3, 1, 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, factors: Factors | None = None) -> Tensor:
    """F.linear of [..., K] tokens and an [N, K] weight, by the fastest route for device and dtype.

    factors: takes the weight's gradient, where that route allows it and memory is saved.

    For fp32 on a CPU that route is a 1x1 convolution, forward and backward: PyTorch gives it to oneDNN, which
    measured about twice as fast as the BLAS behind F.linear in an encoder, from 64 tokens on.
    """
    if not prefers_convolution(x):
        return F.linear(x, weight, bias)
    return _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias, factors).reshape(*x.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    """Tokens [M, K], weight [N, K] and bias [N] or None -> [M, N]. Keeps the tokens only for a weight that learns."""

    @staticmethod
    def forward(ctx, tokens: Tensor, weight: Tensor, bias: Tensor | None, factors: Factors | None) -> Tensor:
        """oneDNN copies the filters into an order of its own at each call: the weight, or in its place the tokens, with
        which the result has to be copied too, against the order of its memory (two times as slow).
        """
        ctx.save_for_backward(tokens if ctx.needs_input_grad[1] else None, weight)
        ctx.factors = factors
        if tokens.numel() + 2 * len(tokens) * len(weight) >= weight.numel():
            return product(tokens, weight, bias)
        out = product(weight, tokens).t().contiguous()  # attention wants features next to each other
        return out if bias is None else out.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        tokens, weight = ctx.saved_tensors
        needs_tokens, needs_weight, needs_bias, _ = ctx.needs_input_grad
        gradient = gradient.contiguous()
        needs_weight = needs_weight and not taken(ctx.factors, gradient, tokens)
        return (
            product_with_columns(gradient, weight) if needs_tokens else None,
            product(gradient.t().contiguous(), tokens.t().contiguous()) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
            None,
        )


def prefers_convolution(x: Tensor) -> bool:
    """Whether products with the tokens `x` [..., K] are faster as 1x1 convolutions: 64 or more, see `fp32_on_cpu`."""
    return fp32_on_cpu(x) and x.shape[:-1].numel() >= 64


def fp32_on_cpu(x: Tensor) -> bool:
    """Whether operations on `x` run at once, on a CPU and in fp32, where some are faster written out.

    Never while a graph is traced for export or compiled: there the plain operation is the better node.
    """
    return x.dtype == torch.float32 and x.device.type == "cpu" and not (torch.is_autocast_enabled("cpu") or traced())


def traced() -> bool:
    """Whether the operations that run now make a graph, for export or to be compiled."""
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them, on the last dimension: [..., dim] -> [..., dim].

    multiply: tokens with a weight, and adds a bias, as F.linear does.
    """

    def __init__(
        self,
        embedding_dim: int,
        mlp_dim: int,
        act: type[nn.Module] = nn.GELU,
        *,
        multiply: Callable[[Tensor, Tensor, Tensor], Tensor] = linear,
    ) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embedding_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embedding_dim)
        self.act = act()
        self.multiply = multiply

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.multiply(x, self.lin1.weight, self.lin1.bias))
        return self.multiply(hidden, self.lin2.weight, self.lin2.bias)
