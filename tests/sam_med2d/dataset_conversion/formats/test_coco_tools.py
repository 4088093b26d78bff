"""The tools that write COCO files are recognised by what their exporters write."""

import json

import cv2
import numpy as np
import pytest

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.formats.coco import COCO
from sam_med2d.dataset_conversion.formats.coco_tools import tool_of
from sam_med2d.dataset_conversion.samples import Choice

EMPTY = {"images": [], "annotations": [], "categories": []}
NOTHING = {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""}
VIA = "VIA project exported to COCO format using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via/)"
LABELME = {"description": None, "url": None, "version": None, "year": 2026, "contributor": None, "date_created": "x"}
SAHI = {"iscrowd": 0, "image_id": 1, "bbox": [], "segmentation": [], "category_id": 0, "id": 1, "area": 0}
LICENSES = [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}]


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"info": {"contributor": "Label Studio", "description": "", "url": ""}}, "Label Studio"),
        ({"info": {"contributor": "Label Studio Converter"}}, "Label Studio's BRUSH_TO_COCO"),
        ({"info": {"description": "Exported from roboflow.com", "url": "https://public.roboflow.com/x"}}, "Roboflow"),
        ({"info": {"description": VIA, "contributor": ""}}, "VGG Image Annotator"),
        ({"info": {"url": "https://voxel51.com/fiftyone"}}, "FiftyOne"),
        ({"info": {"description": "Exported from Darwin"}}, "V7 Darwin"),
        ({"info": NOTHING, "licenses": [{"name": "", "id": 0, "url": ""}]}, "CVAT, or another program with Datumaro"),
        ({"info": LABELME, "type": "instances"}, "labelme's labelme2coco.py"),
        ({"annotations": [SAHI]}, "labelme2coco, or another program with SAHI"),
        ({"info": {}, "licenses": LICENSES}, "supervision"),
        ({}, None),
        ({"info": "text"}, None),
        ({"info": {"contributor": "COCO Consortium", "url": "http://cocodataset.org"}}, None),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1}]}, None),
    ],
)
def test_tools(more, name):
    found = tool_of(EMPTY | more)
    assert (found and found.name) == name


def test_the_tool_is_told_with_what_its_files_lack(tmp_path):
    cv2.imwrite(str(tmp_path / "eye.png"), np.full((40, 60, 3), 90, np.uint8))
    drawn = {"id": 1, "image_id": 0, "category_id": 0, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    content = {"images": [{"id": 0, "file_name": "eye.png"}]}
    content |= {"annotations": [drawn], "info": {"contributor": "Label Studio"}}
    for name, label in (("a.json", "disc"), ("b.json", "cup")):
        (tmp_path / name).write_text(json.dumps(content | {"categories": [{"id": 0, "name": label}]}))
    [note] = COCO.find(Tree(tmp_path), Choice()).notes
    assert note.startswith(f"{tmp_path}/a.json and 1 more: COCO of Label Studio; brushes and ellipses are not in them")
