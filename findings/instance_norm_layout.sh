#!/usr/bin/env bash
# Expected: in a network that was put into channels-last memory format, every layer hands that format on, as convolutions,
# batch norm, group norm, pooling and activations do.
# What happens: instance norm alone returns the ordinary format, in training and in evaluation. Each one in a U-Net copies the whole
# tensor to the other format and has the next convolution copy it back. Group norm with a group for each channel computes
# the same numbers, and keeps the format.
# Why it matters for fundus photographs: instance norm is the norm of nnU-Net and of many heads that draw vessels at full resolution,
# and channels-last is recommended for speed. Forward and backward of one such norm (16 channels, 4 pictures of 256 x 256, one core) took 85 ms in
# channels-last and 19 ms in the ordinary format.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$folder/try.py" <<'PY'
import sys

import torch
from torch import nn

torch.manual_seed(0)
picture = torch.randn(2, 16, 64, 64).to(memory_format=torch.channels_last)
norms = {"instance norm": nn.InstanceNorm2d(16), "group norm": nn.GroupNorm(16, 16, affine=False), "batch norm": nn.BatchNorm2d(16)}
kept, outputs = {}, {}
for training in (True, False):
    for name, norm in norms.items():
        network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), norm, nn.ReLU()).to(memory_format=torch.channels_last)
        outputs[name] = norm.train(training)(picture)
        between = network[1](network[0](picture))
        kept[name, training] = between.is_contiguous(memory_format=torch.channels_last)
        print(f"{name}, {'training' if training else 'evaluation'}: channels-last {'kept' if kept[name, training] else 'lost'}")
difference = (outputs["instance norm"] - outputs["group norm"]).abs().max().item()
print(f"largest difference of instance norm and group norm with a group for each channel: {difference:.1e}")
print("torch", torch.__version__)
lost = [name for (name, _), is_kept in kept.items() if not is_kept]
sys.exit(not (lost == ["instance norm"] * 2 and difference < 1e-4))
PY
"$folder/venv/bin/python" "$folder/try.py" || { echo "torch behaves otherwise"; exit 1; }
