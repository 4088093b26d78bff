#!/usr/bin/env bash
# Expected: Label Studio's export as COCO holds every region that was drawn, or fails.
# What happens: regions drawn with the brush and ellipses are not in the file. Exit code 0, and one line a region in the log, with
# its placeholder unfilled. A task with a disc (ellipse), vessels (brush) and a box has one annotation; the categories of the others
# are listed, as if they had been looked for. COCO is offered wherever the interface has boxes or polygons beside them.
# Why it matters for fundus photographs: discs and cups are drawn as ellipses, vessels and lesions with the brush: just these are
# missing, and a model learns from such a file that they are not there.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet label-studio-sdk==2.1.2 numpy==2.2.6 pillow==12.3.0
cat > "$folder/try.py" <<'PY'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from label_studio_sdk.converter import Converter, brush
from PIL import Image

folder = Path(sys.argv[1])
Image.new("RGB", (96, 64)).save(folder / "eye.png")
vessel = np.zeros((64, 96), np.uint8)
vessel[30:33] = 255
drawn = {
    "ellipse": {"x": 60, "y": 50, "radiusX": 15, "radiusY": 20, "rotation": 0, "ellipselabels": ["disc"]},
    "brush": {"format": "rle", "rle": brush.mask2rle(vessel), "brushlabels": ["vessel"]},
    "rectangle": {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["box"]},
}
size = {"original_width": 96, "original_height": 64, "image_rotation": 0}
results = [
    {"id": name, "from_name": name, "to_name": "image", "type": f"{name}labels", "value": value, **size}
    for name, value in drawn.items()
]
task = {"id": 1, "data": {"image": str(folder / "eye.png")}, "annotations": [{"id": 1, "result": results}]}
(folder / "tasks.json").write_text(json.dumps([task]))
kinds = {"Ellipse": "disc", "Brush": "vessel", "Rectangle": "box"}
tags = (f'<{k}Labels name="{k.lower()}" toName="image"><Label value="{v}"/></{k}Labels>' for k, v in kinds.items())
config = f'<View><Image name="image" value="$image"/>{"".join(tags)}</View>'
Converter(config, str(folder)).convert_to_coco(str(folder / "tasks.json"), str(folder / "coco"), is_dir=False)
content = json.loads((folder / "coco/result.json").read_text())
names = {category["id"]: category["name"] for category in content["categories"]}
found = [names[annotation["category_id"]] for annotation in content["annotations"]]
print(f"drawn: {', '.join(kinds.values())}; in the COCO file: {', '.join(found)}; its categories: {', '.join(names.values())}")
print(f"label-studio-sdk {version('label-studio-sdk')}")
sys.exit(found != ["box"])
PY
"$folder/venv/bin/python" -W ignore "$folder/try.py" "$folder" || { echo "Label Studio behaves otherwise"; exit 1; }
