#!/usr/bin/env bash
# Expected: pydicom.pixels.apply_color_lut gives each index of a PALETTE COLOR picture the colour of its place in the table,
# whatever the number of places (the first value of the descriptor, up to 65536) and the bits of a colour (the third, 8 or 16).
# What happens: where colours have 8 bits, indices are counted in 8 bits, too: index 300 gets the colour of 44 (300 - 256),
# without a warning. Tables of 16 bits are applied as they should be.
# Why it matters for fundus photographs: pictures in false colours (angiograms, autofluorescence, thickness overlays) that are
# saved with 9 to 12 bits and a table of 8-bit colours come out with wrong colours that look like a picture still. Applying the
# table by indexing, table[index], is right for all.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/palette.py" <<'PY'
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

index = np.array([[0, 255, 256, 300, 511]], np.uint16)
seen = {}
for bits, kind in ((8, np.uint8), (16, np.uint16)):
    table = (np.arange(512) // 2).astype(kind)  # a ramp of 512 places: 0 0 1 1 ... 255 255
    data = Dataset()
    for colour in ("Red", "Green", "Blue"):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [512, 0, bits])
        setattr(data, f"{colour}PaletteColorLookupTableData", table.tobytes())
    seen[bits] = apply_color_lut(index, data)[0, :, 0].tolist()
    print(f"pydicom {pydicom.__version__}, table of {bits} bits: {seen[bits]}, by indexing {table[index][0].tolist()}")
assert seen[16] == [0, 127, 128, 150, 255], "a table of 16 bits is no longer applied as it should be"
assert seen[8] == [0, 127, 0, 22, 127], "a table of 8 bits is no longer counted in 8 bits"
PY
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 numpy==2.2.6
"$folder/venv/bin/python" "$folder/palette.py"
