#!/usr/bin/env bash
# Expected: the Dice score of one binary mask is 2 TP / (2 TP + FP + FN), as MedPy's dc, MONAI's compute_dice and
# torchmetrics' own binary_f1_score have it.
# What happens: torchmetrics' DiceScore(num_classes=2) takes two classes and prints the mean of the Dice of the structure and
# that of the background. Vessels that were drawn 2 pixels too far to the right have 0.61 and 0.80.
# Why it matters for fundus photographs: the background of vessels and lesions is nearly the whole picture, its Dice nearly 1.
# Half of what is missing disappears, and a prediction without a single vessel still has 0.49.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchmetrics==1.9.0 MedPy==0.5.2 torch==2.13.0 numpy==2.4.6 scipy==1.17.1 \
  opencv-python-headless==4.14.0.94
cat > "$folder/try.py" <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import torch
from medpy.metric.binary import dc
from torchmetrics.functional.classification import binary_f1_score
from torchmetrics.segmentation import DiceScore

generator, tree = np.random.default_rng(2), np.zeros((400, 400), np.uint8)
branches = [(200, 200, angle, 40, 4) for angle in np.arange(0, 6, 1.2)]
while branches:
    x, y, angle, steps, width = branches.pop()
    angles = angle + np.cumsum(generator.normal(0, 0.12, steps))
    points = np.stack((x + np.cumsum(2 * np.cos(angles)), y + np.cumsum(2 * np.sin(angles))), axis=1)
    cv2.polylines(tree, [np.rint(points).astype(np.int32)], isClosed=False, color=1, thickness=width)
    if width > 1:
        branches += [(*points[-1], angles[-1] + turn, int(steps * 0.7), width - 1) for turn in (0.5, -0.5)]
truth = tree.astype(bool)
found = {}
for name, predicted in (("displaced", np.roll(truth, 2, axis=1)), ("empty", np.zeros_like(truth))):
    masks = [torch.from_numpy(mask)[None].long() for mask in (predicted, truth)]
    score = DiceScore(num_classes=2, input_format="index")
    score.update(*masks)
    found[name] = dc(predicted, truth), binary_f1_score(*masks).item(), score.compute().item()
    print(name, "vessels: MedPy %.3f, binary_f1_score %.3f, DiceScore %.3f" % found[name])
print("torchmetrics", version("torchmetrics"), "MedPy", version("MedPy"))
(same, f1, both), (_, _, nothing) = found.values()
sys.exit(not (abs(same - f1) < 1e-5 and both - same > 0.14 and nothing > 0.4))
PY
"$folder/venv/bin/python" -W ignore "$folder/try.py" || { echo "the two tools behave otherwise"; exit 1; }
