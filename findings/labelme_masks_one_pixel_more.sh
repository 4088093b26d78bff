#!/usr/bin/env bash
# Expected: a shape of labelme has the pixels that it covers on the screen: a rectangle from (10, 10) to (16, 16) has 6 x 6.
# What happens: labelme's canvas counts from the corner of the first pixel, its own masks (shape_to_mask, which all of its
# converters use) from the pixel's middle, with the outline drawn. The rectangle has 7 x 7 pixels, and every shape is half a
# pixel larger on each side. pycocotools fills the same corners with 36 pixels.
# Why it matters for fundus photographs: microaneurysms and small haemorrhages are 3 to 15 pixels wide. Their areas are 13 to
# 78 % too large, two lesions that touch become one, and masks of labelme do not fit those of COCO, CVAT or QuPath.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet labelme==6.3.1 PyQt5==5.15.11 numpy==2.4.6 Pillow==12.3.0 pycocotools==2.0.11
cat > "$folder/try.py" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from labelme.utils import shape_to_mask
from pycocotools import mask as coco

size, areas = (40, 40), {}
for side in (3, 6, 15):
    box = [[10, 10], [10 + side, 10 + side]]
    corners = [[10, 10], [10 + side, 10], [10 + side, 10 + side], [10, 10 + side]]
    ours = [shape_to_mask(size, box, "rectangle"), shape_to_mask(size, corners, "polygon")]
    theirs = coco.decode(coco.merge(coco.frPyObjects([np.ravel(corners).tolist()], *size)))
    areas[side] = [int(mask.sum()) for mask in (*ours, theirs)]
    print(f"{side} x {side}: labelme {areas[side][0]} (rectangle), {areas[side][1]} (polygon), pycocotools {areas[side][2]}")
circle = shape_to_mask(size, [[20, 20], [20, 25]], "circle")
rows, columns = np.nonzero(circle)
print(f"a circle of radius 5 about (20, 20): {circle.sum()} pixels, middle at {columns.mean() + 0.5}, {rows.mean() + 0.5}")
print(f"labelme {version('labelme')}, Pillow {version('Pillow')}, pycocotools {version('pycocotools')}")
sys.exit(not all(areas[side] == [(side + 1) ** 2, (side + 1) ** 2, side**2] for side in areas))
PY
QT_QPA_PLATFORM=offscreen "$folder/venv/bin/python" -W ignore "$folder/try.py" || { echo "labelme behaves otherwise"; exit 1; }
