"""Small layers shared by the image encoder, the prompt encoder and the mask decoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

    Args:
        x: any tensor.

    Returns:
        False also while a graph is traced for export or compiled: there the plain operation is the better node.
    """
    return x.dtype == torch.float32 and x.device.type == "cpu" and not (torch.is_autocast_enabled("cpu") or traced())


def traced() -> bool:
    """Whether the operations that run now make a graph, for export or to be compiled."""
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them, on the last dimension: [..., dim] -> [..., dim]."""

    def __init__(self, embedding_dim: int, mlp_dim: int, act: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embedding_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embedding_dim)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))
