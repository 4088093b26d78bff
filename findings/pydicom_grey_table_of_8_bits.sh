#!/usr/bin/env bash
# Expected: pydicom.pixels.apply_voi gives each value of a grey picture the value of its place in the table (VOI LUT Sequence), whatever
# the number of places (the first value of the descriptor, up to 65536) and the bits of the values in it (the third, 8 or 10 to 16).
# What happens: where the table gives values of 8 bits, the picture's are counted in 8 bits, too: 300 gets what 44 (300 - 256)
# should have, without a warning. Tables that give 16 bits are applied as they should be.
# Why it matters for fundus photographs: angiograms and autofluorescence of 12 bits that are saved with a table of 8 bits for the screen
# come out folded: bright vessels are dark again, in contours that look like anatomy. Applying the table by indexing, table[value],
# is right for all.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/table.py" <<'PY'
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi

picture = np.array([[0, 255, 256, 300, 4095]], np.uint16)  # of 12 bits
seen = {}
for bits in (8, 16):
    table = np.arange(4096) * (2**bits - 1) // 4095  # a ramp from black to white
    item, data = Dataset(), Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, bits])
    item.add_new("LUTData", "US", table.tolist())
    data.VOILUTSequence = [item]
    seen[bits] = apply_voi(picture, data)[0].tolist()
    print(f"pydicom {pydicom.__version__}, to {bits} bits: {seen[bits]}, by indexing {table[picture][0].tolist()}")
assert seen[16] == [0, 4080, 4096, 4801, 65535], "a table of 16 bits is no longer applied as it should be"
assert seen[8] == [0, 15, 0, 2, 15], "a table of 8 bits is no longer counted in 8 bits"
PY
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 numpy==2.2.6
"$folder/venv/bin/python" "$folder/table.py"
