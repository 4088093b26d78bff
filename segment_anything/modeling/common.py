"""Small layers shared by the image encoder, the prompt encoder and the mask decoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, 0 to 255
PIXEL_STD = (58.395, 57.12, 57.375)
FEW_ROWS, LARGE_WEIGHT = 128, 2**18  # where `linear` computes in blocks: at most so many tokens, at least such a weight
BLOCKS = 8  # of the outputs


class LayerNorm2d(nn.Module):
    """Layer normalisation of each pixel over its channels: [B, C, H, W] -> the same, whatever the memory format."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


def fp32_on_cpu(x: Tensor) -> bool:
    """Whether operations on a tensor run at once, on a CPU and in fp32, where some are faster written out.

    False also while a graph is traced for export or compiled: there the plain operation is the better node.
    """
    return x.dtype == torch.float32 and x.device.type == "cpu" and not (torch.is_autocast_enabled("cpu") or traced())


def traced() -> bool:
    """Whether the operations that run now make a graph, for export or to be compiled."""
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Apply a linear layer.

    With few tokens the layer's outputs are computed in blocks, of which each processor takes some: BLAS shares out the
    rows of a product, and few rows leave processors idle (with two the MLP of seven tokens took 1.7 times as long).

    Args:
        x: tokens [..., K].
        layer: K to N.

    Returns:
        [..., N].
    """
    weight = layer.weight
    if x.shape[:-1].numel() > FEW_ROWS or weight.numel() < LARGE_WEIGHT or not fp32_on_cpu(x):
        return layer(x)
    rows = x.reshape(1, -1, x.shape[-1]).expand(BLOCKS, -1, -1)
    blocks = torch.baddbmm(layer.bias.view(BLOCKS, 1, -1), rows, weight.view(BLOCKS, -1, weight.shape[1]).mT)
    return blocks.transpose(0, 1).reshape(*x.shape[:-1], -1)


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them, on the last dimension: [..., dim] -> [..., dim]."""

    def __init__(self, embedding_dim: int, mlp_dim: int, act: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embedding_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embedding_dim)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return linear(self.act(linear(x, self.lin1)), self.lin2)
