#!/usr/bin/env bash
# Expected: Pillow opens a TIFF or PNG of 16 bits in RGB with its 16 bits, as it opens a grey one (mode I;16), or refuses it.
# What happens: the picture opens as RGB of 8 bits, each value without its lower byte; nothing is said, and mode, size and
# info are those of a picture of 8 bits. What a camera of 12 bits has stored (0 to 4095) has values of 0 to 15 then.
# Why it matters for fundus photographs: cameras of 10, 12 and 14 bits export such files. Read with Pillow, as by most data
# loaders, the retina is black in colour while its grey copy is right, and a model answers as for an empty photograph.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pillow==11.3.0" "numpy==2.2.6" "tifffile==2025.10.16" "opencv-python-headless==4.12.0.88"
cat > "$folder/try.py" <<'PY'
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL
import tifffile
from PIL import Image

folder, camera = Path(sys.argv[1]), np.arange(4096, dtype=np.uint16).reshape(64, 64)
tifffile.imwrite(folder / "grey.tif", camera)
tifffile.imwrite(folder / "colour.tif", np.dstack([camera] * 3), photometric="rgb")
cv2.imwrite(str(folder / "colour.png"), np.dstack([camera] * 3))
seen = {}
for name in ("grey.tif", "colour.tif", "colour.png"):
    pixels = np.asarray(Image.open(folder / name))
    seen[name] = Image.open(folder / name).mode, str(pixels.dtype), int(pixels.max())
print("Pillow", PIL.__version__, "mode, type and highest value, where 4095 is stored:", seen)
dark = ("RGB", "uint8", 15)
sys.exit(seen != {"grey.tif": ("I;16", "uint16", 4095), "colour.tif": dark, "colour.png": dark})
PY
"$folder/venv/bin/python" "$folder/try.py" "$folder" || { echo "Pillow 11.3.0 behaves otherwise"; exit 1; }
