#!/usr/bin/env bash
# Expected: "normalised surface Dice" (Nikolov et al. 2018) at a tolerance is one number. MONAI's compute_surface_dice and
# DeepMind's surface-distance, which that paper published, agree to the digits that are reported.
# What happens: MONAI counts the pixels of the outlines, surface-distance weighs each piece by its length, and its contour runs
# between the pixels: half a pixel further out. A vessel tree that was drawn 2 pixels too far to the right has, at a
# tolerance of 1 pixel, 0.46 with MONAI and 0.67 with surface-distance (and with MONAI's use_subvoxels=True).
# Why it matters for fundus photographs: vessels are 2 to 5 pixels wide, so half a pixel and the diagonal steps count most;
# a disc that is 2 pixels too large and 3 too far to the right has 0.43 and 0.45.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet monai==1.6.1 Surface_Distance_Based_Measures==0.1 torch==2.13.0 numpy==2.4.6 scipy==1.17.1 \
  opencv-python-headless==4.14.0.94
cat > "$folder/try.py" <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import surface_distance
import torch
from monai.metrics import compute_surface_dice

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
predicted = np.roll(truth, 2, axis=1)
masks = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, truth)]
options = {"class_thresholds": [1.0], "include_background": True}
pixels = compute_surface_dice(*masks, **options).item()
subvoxels = compute_surface_dice(*masks, **options, use_subvoxels=True).item()
surfaces = surface_distance.compute_surface_distances(truth, predicted, (1, 1))
lengths = surface_distance.compute_surface_dice_at_tolerance(surfaces, 1)
print(f"MONAI {version('monai')}: {pixels:.3f}, with use_subvoxels {subvoxels:.3f}")
print(f"surface-distance {version('Surface_Distance_Based_Measures')}: {lengths:.3f}")
sys.exit(not (lengths - pixels > 0.15 and abs(lengths - subvoxels) < 1e-5))
PY
"$folder/venv/bin/python" -W ignore "$folder/try.py" || { echo "the two tools behave otherwise"; exit 1; }
