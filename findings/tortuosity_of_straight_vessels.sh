#!/usr/bin/env bash
# Expected: the tortuosity of a vessel, length by distance of its ends, does not change when the photograph is turned. A straight
# vessel has 1.
# What happens: PVBM adds 1 or sqrt(2) for each step along the pixels of the skeleton. A straight vessel has 1.00 along rows,
# columns and diagonals, and up to 1.09 between them.
# Why it matters for fundus photographs: smoothed lines give a median of 1.02 for the drawn vessels of CHASE_DB1, where PVBM gives
# 1.08, so most of its number is the raster, and turning the photograph changes it by more than vessels differ. Tortuosities
# of two programs cannot be compared.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0
"$folder/venv/bin/pip" install --quiet --no-deps pvbm==3.0.1.8  # its other parts need PyTorch, this one does not
cat > "$folder/try.py" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from PVBM.GeometryAnalysis import GeometricalVBMs
from skimage.morphology import skeletonize

row, column = np.mgrid[:400, :400] - 199.6
values = []
for degrees in (0, 22.5, 45):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along, across = column * cosine + row * sine, row * cosine - column * sine
    vessel = (abs(along) <= 150) & (abs(across) <= 3)
    skeleton = skeletonize(vessel)
    y, x = np.argwhere(skeleton)[0]  # an end, where the optic disc is
    found, _ = GeometricalVBMs().compute_geomVBMs(vessel.astype(float), skeleton.astype(float), int(x), int(y), 30)
    values.append(found[2])  # the median tortuosity
    print(f"PVBM {version('pvbm')}: a straight vessel at {degrees} degrees has the tortuosity {values[-1]:.3f}")
sys.exit(not (max(values[0], values[2]) < 1.005 and values[1] > 1.07))
PY
"$folder/venv/bin/python" -W ignore "$folder/try.py" || { echo "PVBM measures otherwise"; exit 1; }
