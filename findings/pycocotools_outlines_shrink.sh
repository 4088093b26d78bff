#!/usr/bin/env bash
# Expected: the outline of a mask, from skimage.measure.find_contours(mask, 0.5) or cv2.findContours, written as a COCO polygon,
# is read by pycocotools as the mask again, but for rounding.
# What happens: in COCO's frame (0, 0) is the corner of the first pixel, in both outlines its middle, and pycocotools moves
# corners to fifths of a pixel without a tolerance: a lesion of one pixel comes back empty from find_contours, and one of
# 3 x 3 pixels has 4 pixels from cv2.findContours. find_contours plus 0.5 gives every lesion back exactly.
# Why it matters for fundus photographs: microaneurysms cover 1 to 10 pixels; such files lose or halve them (Dice 0 to 0.9),
# whereas the same outlines of a disc lose a few percent and look right.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pycocotools==2.0.11 scikit-image==0.26.0 opencv-python-headless==5.0.0.93
cat > "$folder/outlines.py" <<'PY'
from importlib.metadata import version

import cv2
import numpy as np
import pycocotools.mask as coco
from skimage.measure import find_contours

print({name: version(name) for name in ("pycocotools", "scikit-image", "opencv-python-headless", "numpy")})


def pixels(outlines):
    """Pixels that pycocotools finds in the polygons of a picture of 32 x 32."""
    written = [np.ravel(outline).astype(float).tolist() for outline in outlines]
    return int(coco.area(coco.merge(coco.frPyObjects(written, 32, 32))))


found = {}
for side in (1, 2, 3, 5, 20):
    lesion = np.zeros((32, 32), np.uint8)
    lesion[6 : 6 + side, 8 : 8 + side] = 1
    middles = [contour[:, ::-1] for contour in find_contours(lesion.astype(float), 0.5)]
    opencv = [contour[:, 0] for contour in cv2.findContours(lesion, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]]
    sums = pixels(middles), pixels(opencv) if side > 1 else None, pixels([contour + 0.5 for contour in middles])
    found[side * side] = sums
    print(f"lesion of {side * side} pixels: find_contours {sums[0]}, cv2.findContours {sums[1]}, find_contours + 0.5 {sums[2]}")
assert found[1][0] == 0 and found[4][1] == 1 and found[9][1] == 4, "outlines no longer shrink"
assert all(size == sums[2] for size, sums in found.items()), "find_contours + 0.5 no longer gives the mask back"
PY
"$folder/venv/bin/python" "$folder/outlines.py"
