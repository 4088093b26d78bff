#!/usr/bin/env bash
# Expected: vascx reads masks saved as 0 and 255, as most programs save them: it takes what is not 0 for its vessel and disc masks.
# What happens: its artery and vein mask has to hold 1, 2 and 3. In one of 0, 127 and 255 it finds no artery and no vein, without
# a word, though the vessels of the same picture are there; and all their measures are then missing or 0.
# Why it matters for fundus photographs: masks of arteries and veins come from many programs. A label map that was stretched to
# be seen measures as an eye without vessels, and a table of many eyes hides it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# what its readers need, without PyTorch
"$folder/venv/bin/pip" install --quiet --no-deps retinalysis-vascx==2.1.0 retinalysis-enface==2.0.0
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1 pillow==11.3.0 pandas==2.3.3 matplotlib==3.11.2 scikit-image==0.26.0 \
  opencv-python-headless==5.0.0.93 scikit-learn==1.9.1 sortedcontainers==2.4.0 typing_extensions==4.16.0 tqdm==4.67.1
cat > "$folder/try.py" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from vascx.fundus.retina import Retina

folder = Path(sys.argv[1])
row, column = np.mgrid[:1024, :1024]
labels = np.uint8(abs(row - column) < 6) + np.uint8(2) * (abs(row + column - 1024) < 6)
found = {}
for name, values in {"1, 2, 3": labels, "0 to 255": np.uint8([0, 127, 255, 255])[labels]}.items():
    Image.fromarray(values).save(folder / "mask.png")
    eye = Retina.from_file(av_path=folder / "mask.png", vessels_path=folder / "mask.png")
    found[name] = [int(layer.mask.sum()) for layer in (eye.arteries, eye.veins, eye.vessels)]
    print(f"mask of {name}: {found[name][0]} pixels of arteries, {found[name][1]} of veins, {found[name][2]} of vessels")
print("retinalysis-vascx", version("retinalysis-vascx"))
good = min(found["1, 2, 3"]) > 1000
sys.exit(not (good and found["0 to 255"] == [0, 0, found["1, 2, 3"][2]]))
PY
"$folder/venv/bin/python" -W ignore "$folder/try.py" "$folder" || { echo "vascx behaves otherwise"; exit 1; }
