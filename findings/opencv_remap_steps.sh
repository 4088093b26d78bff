#!/usr/bin/env bash
# Expected: cv2.remap and cv2.warpAffine take fractional source positions, float32, and interpolate at those positions.
# What happens: OpenCV 4 first rounds the positions to 1/32 pixel, for linear and cubic interpolation alike; OpenCV 5 does
# not. A smooth ramp that is enlarged 1,000 times has 32 steps a pixel with 4.14 and 1,000 different values with 5.0.
# Why it matters for fundus photographs: warps of augmentation (rotation, scale, elastic) give other pixels with each of the
# two, so a training is not repeated across them although the same seed draws the same warp; and a small grid that is
# enlarged (illumination, noise, a deformation field) shows as steps.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/steps.py" <<'PY'
import cv2
import numpy as np

ramp = np.arange(8, dtype=np.float32)[None].repeat(8, 0)
column = np.linspace(3, 4, 1001, dtype=np.float32)[None, :1000]
row = np.full_like(column, 3)
counts = {}
for name, method in (("linear", cv2.INTER_LINEAR), ("cubic", cv2.INTER_CUBIC)):
    counts[name] = len(np.unique(cv2.remap(ramp, column, row, method)))
print(cv2.__version__, counts["linear"], counts["cubic"])
PY
seen=""
for version in 4.14.0.94 5.0.0.93; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet "opencv-python-headless==$version"
  line=$("$folder/$version/bin/python" "$folder/steps.py")
  echo "OpenCV, values between two pixels (linear, cubic): $line"
  seen="$seen$line;"
done
case "$seen" in
  "4.14.0 "3[23]" "3[23]";5.0.0 "*) ;;
  *) echo "OpenCV 4.14 no longer moves in steps of 1/32 pixel"; exit 1 ;;
esac
set -- ${seen#*;5.0.0 }
[ "${1%;}" -gt 900 ] || { echo "OpenCV 5.0 moves in steps, too"; exit 1; }
