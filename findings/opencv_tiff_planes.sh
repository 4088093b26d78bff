#!/usr/bin/env bash
# Expected: cv2.imread gives the same colours for a TIFF whether a pixel's red, green and blue lie side by side or each
# colour has a plane of its own (PlanarConfiguration 2, as tifffile writes arrays [3, H, W]), or returns None.
# What happens: with 8 bits both give the same picture; with 16 bits, and with floats, the planes come out as other colours
# in other places, without a warning or an error.
# Why it matters for fundus photographs: cameras of 12 to 16 bits and programs that keep channels first give such files; the
# pictures have the right size and type, so a data set of them is trained and measured as noise.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/planes.py" <<'PY'
import sys

import cv2
import numpy as np
import tifffile

row = np.arange(64)
picture = np.stack([np.tile(row, (64, 1)), np.tile(row[:, None], (1, 64)), np.full((64, 64), 9)])  # red, green, blue
found = {}
for kind in (np.uint8, np.uint16, np.float32):
    values = picture.astype(kind)
    path = f"{sys.argv[1]}/planes.tif"
    tifffile.imwrite(path, values, photometric="rgb", planarconfig="separate")
    read = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    same = read is not None and np.array_equal(read[..., ::-1], np.moveaxis(values, 0, 2))
    found[kind.__name__] = "None" if read is None else "as written" if same else f"other values, {read.shape} {read.dtype}"
print("opencv", cv2.__version__, "tifffile", tifffile.__version__, found)
other = "other values, (64, 64, 3)"
sys.exit(found != {"uint8": "as written", "uint16": f"{other} uint16", "float32": f"{other} float32"})
PY
for version in 4.12.0.88 5.0.0.93; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "opencv-python-headless==$version" "tifffile==2025.10.16"
    "$folder/$version/bin/python" "$folder/planes.py" "$folder" || { echo "OpenCV $version behaves otherwise"; exit 1; }
done
