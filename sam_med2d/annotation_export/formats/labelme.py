"""One file of labelme a photograph: each mask is a shape, exactly."""

import base64
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import POLYGONS, Export, ExportFormat, Written, dice
from sam_med2d.dataset_conversion.polygons import outlines

VERSION = "6.3.1"  # that was tried


def write(export: Export, target: Path) -> Written:
    """NAME.json for each photograph NAME; with --polygons what labelme itself fills is measured."""
    polygons = bool(export.options.get("polygons"))

    def one(photograph: AnnotatedPhotograph) -> tuple[int, dict[str, list[float]]]:
        height, width = photograph.size()
        shapes, scores = [], defaultdict(list)
        for mask, pixels in photograph.drawn():
            score = {} if mask.score is None else {"score": mask.score}
            text = "" if mask.score is None else f"predicted IoU {mask.score:.3f}"
            about = {"label": mask.structure, "group_id": None, "description": text, "flags": {}, **score}
            if polygons:
                sides = outlines(pixels)
                about["group_id"] = len(shapes) if len(sides) > 1 else None
                shapes += [{**about, "shape_type": "polygon", "points": side.tolist(), "mask": None} for side in sides]
                scores[mask.structure].append(dice(pixels, _filled(sides, pixels.shape)))
            else:
                shapes.append({**about, "shape_type": "mask", **_box_and_mask(pixels)})
        content = {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": export.relative(photograph.path)}
        content |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (target / f"{photograph.stem}.json").write_text(text + "\n", encoding="utf-8")
        return len(shapes), scores

    written = Written({"files": 0, "shapes": 0})
    for count, scores in export.each(one):
        written.counts["files"] += 1
        written.counts["shapes"] += count
        written.add_dice(scores)
    if polygons:
        written.notes.append(
            "the Dice is that of what labelme fills, which takes the pixels on the outline, too; prepare_dataset.py "
            "labelme gives the masks back"
        )
    return written


def _box_and_mask(pixels: np.ndarray) -> dict[str, Any]:
    """The first and the last pixel of a mask's box, and the mask in it as PNG in base64."""
    x, y, width, height = cv2.boundingRect(pixels)
    _, content = cv2.imencode(".png", pixels[y : y + height, x : x + width] * 255)
    corners = [[float(x), float(y)], [float(x + width - 1), float(y + height - 1)]]
    return {"points": corners, "mask": base64.b64encode(content.tobytes()).decode("ascii")}


def _filled(sides: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels that labelme's shape_to_mask fills, by Pillow."""
    canvas = Image.new("1", shape[::-1])
    for side in sides:
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in side.tolist()], outline=1, fill=1)
    return np.array(canvas)


LABELME = ExportFormat(
    name="labelme",
    title="a file of labelme a photograph (masks, exact; or polygons)",
    write=write,
    has_splits=False,
    flags={"--polygons": POLYGONS},
)
