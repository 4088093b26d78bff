#!/usr/bin/env bash
# Expected: cv2.resize(labels, size, cv2.INTER_NEAREST) takes the nearest pixel, or is refused.
# What happens, with OpenCV 4.14 and 5.0: the third argument is the picture to write to, and a number is taken for one
# without a word. Interpolation stays linear: a label map of 0, 128 and 255 comes back with values in between. It has to be
# cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).
# Why it matters for fundus photographs: disc and cup of REFUGE are such maps, and pixels between two labels become a ring
# of no structure, or of another one. X-AnyLabeling 4.2.1 calls it so for its SAM-Med2D models, whose weights were trained
# on photographs resized by the nearest pixel.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PY'
import cv2
import numpy as np

rows, columns = np.mgrid[:100, :100]
radius = np.hypot(rows - 50, columns - 50)
labels = np.where(radius < 20, 0, np.where(radius < 40, 128, 255)).astype(np.uint8)
by_position = cv2.resize(labels, (64, 64), cv2.INTER_NEAREST)
by_name = cv2.resize(labels, (64, 64), interpolation=cv2.INTER_NEAREST)
linear = cv2.resize(labels, (64, 64), interpolation=cv2.INTER_LINEAR)
print(cv2.__version__, len(np.unique(by_position)), len(np.unique(by_name)), np.array_equal(by_position, linear))
PY
for version in 4.14.0.94 5.0.0.93; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet "opencv-python-headless==$version" "numpy==2.3.5"
  line=$("$folder/$version/bin/python" "$folder/try.py")
  echo "OpenCV, labels of 3 after the flag in third place, and by its name; the first is linear: $line"
  case "$line" in
    *" 3 True") [ "$(echo "$line" | cut -d' ' -f2)" -gt 3 ] || { echo "OpenCV $version behaves otherwise"; exit 1; } ;;
    *) echo "OpenCV $version behaves otherwise"; exit 1 ;;
  esac
done
