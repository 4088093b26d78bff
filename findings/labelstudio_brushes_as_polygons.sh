#!/usr/bin/env bash
# Expected: Label Studio's export "Brush labels to COCO" (BRUSH_TO_COCO) holds what was painted, to the precision of a polygon.
# What happens: it writes the outer contours of OpenCV, through the middles of pixels. Parts with less than three corners (one
# pixel, or a straight line of any length) are left out without a word, holes are filled, and what is left shrinks by half a
# pixel on each side: a lesion of 3 x 3 pixels comes back from pycocotools with 4.
# Why it matters for fundus photographs: of microaneurysms little is left, a thin straight vessel is gone, a ring of exudates or a
# rim around its cup becomes a disc.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet label-studio-sdk==2.1.2 numpy==2.2.6 pillow==12.3.0 pycocotools==2.0.11 \
  opencv-python-headless==4.12.0.88
cat > "$folder/try.py" <<'PY'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from label_studio_sdk.converter import Converter, brush
from label_studio_sdk.converter.converter import Format
from PIL import Image
from pycocotools import mask as coco

folder, size = Path(sys.argv[1]), (64, 96)
Image.new("RGB", size[::-1]).save(folder / "eye.png")
rows, columns = np.ogrid[: size[0], : size[1]]
distance = np.hypot(rows - 30, columns - 50)
lesions = {"1 pixel": (slice(5, 6), slice(5, 6)), "2 x 2": (slice(5, 7), slice(5, 7)), "3 x 3": (slice(5, 8), slice(5, 8))}
masks = {"ring": (distance < 20) & (distance > 15), "vessel of 40 x 1": np.zeros(size, bool)}
masks["vessel of 40 x 1"][10, 20:60] = True
for name, place in lesions.items():
    masks[f"lesion, {name}"] = np.zeros(size, bool)
    masks[f"lesion, {name}"][place] = True
about = {"from_name": "brush", "to_name": "image", "type": "brushlabels", "image_rotation": 0}
about |= {"original_width": size[1], "original_height": size[0]}
results = [
    {**about, "id": name, "value": {"format": "rle", "rle": brush.mask2rle(mask * np.uint8(255)), "brushlabels": [name]}}
    for name, mask in masks.items()
]
task = {"id": 1, "data": {"image": str(folder / "eye.png")}, "annotations": [{"id": 1, "completed_by": 1, "result": results}]}
(folder / "tasks.json").write_text(json.dumps([task]))
labels = "".join(f'<Label value="{name}"/>' for name in masks)
config = f'<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">{labels}</BrushLabels></View>'
Converter(config, str(folder)).convert(str(folder / "tasks.json"), str(folder / "coco"), Format.BRUSH_TO_COCO, is_dir=False)
content = json.loads((folder / "coco/result_coco.json").read_text())
names, areas = {c["id"]: c["name"] for c in content["categories"]}, {}
for annotation in content["annotations"]:
    filled = coco.decode(coco.merge(coco.frPyObjects(annotation["segmentation"], *size)))
    areas[names[annotation["category_id"]]] = int(filled.sum())
for name, mask in masks.items():
    print(f"{name}: painted {mask.sum()} pixels, in the COCO file {areas.get(name, 'none')}")
print(f"label-studio-sdk {version('label-studio-sdk')}, OpenCV {version('opencv-python-headless')}")
lost = {"lesion, 1 pixel", "vessel of 40 x 1"}.isdisjoint(areas)
sys.exit(not (lost and areas["lesion, 3 x 3"] == 4 and areas["ring"] > 1.5 * masks["ring"].sum()))
PY
"$folder/venv/bin/python" -W ignore "$folder/try.py" "$folder" || { echo "Label Studio behaves otherwise"; exit 1; }
