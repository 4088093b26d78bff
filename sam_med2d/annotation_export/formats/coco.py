"""One COCO file: each mask is an annotation, exactly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import POLYGONS, Export, ExportFormat, Written
from sam_med2d.data.image_io import read_bytes
from sam_med2d.dataset_conversion.formats.coco_ids import own_ids
from sam_med2d.dataset_conversion.polygons import outlines
from sam_med2d.errors import UsageError
from segment_anything.utils.digest import digest
from segment_anything.utils.rle import area_from_rle, box_from_rle, mask_to_rle


def write(export: Export, target: Path) -> Written:
    """Ids depend on photographs and structures alone (coco_ids); a prediction has its score."""
    if export.out.name.startswith(("image2label", "label2image")):
        raise UsageError(f"OUT: {export.out} has the name of a map: give another")
    photographs = sorted(export.source.photographs, key=lambda photograph: export.relative(photograph.path))
    drawn = {mask.structure for photograph in photographs for mask in photograph.masks}
    ids = own_ids([photograph.path for photograph in photographs], drawn)
    polygons = bool(export.options.get("polygons"))

    def one(photograph: AnnotatedPhotograph) -> tuple[int | str, list[dict[str, Any]]]:
        number = ids.image(photograph.path, digest(read_bytes(photograph.path)))
        return number, _annotations(photograph, ids.categories, polygons)

    images, annotations = [], []
    for photograph, (number, found) in zip(photographs, export.each(one, photographs), strict=True):
        height, width = photograph.size()
        image = {"id": number, "file_name": export.relative(photograph.path)}
        image |= {"width": width, "height": height} | ({"split": photograph.split} if photograph.split else {})
        images.append(image)
        for annotation in found:
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"], **annotation})
    content = {"images": images, "annotations": annotations, "categories": ids.listed_categories()}
    target.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    written = Written({part: len(content[part]) for part in content})
    if outside := [image["file_name"] for image in images if image["file_name"].startswith("..")]:
        written.notes.append(
            f"{outside[0]} lies outside of {export.folder}; some readers want all below it: write OUT to the folder "
            "of the photographs"
        )
    return written


def _annotations(
    photograph: AnnotatedPhotograph, categories: Mapping[str, int | str], polygons: bool
) -> list[dict[str, Any]]:
    """The masks as annotations without ids."""
    found = []
    for mask, pixels in photograph.drawn():
        rle = mask_to_rle(pixels)
        outline = [polygon.ravel().tolist() for polygon in outlines(pixels)] if polygons else rle
        about = {"area": area_from_rle(rle), "bbox": list(box_from_rle(rle)), "iscrowd": 0}
        about |= {} if mask.score is None else {"score": mask.score}
        found.append({"category_id": categories[mask.structure], "segmentation": outline, **about})
    return found


COCO = ExportFormat(
    name="coco",
    title="a COCO file of all splits (run lengths, or polygons along the pixels' sides), exact",
    write=write,
    suffix=".json",
    flags={"--polygons": POLYGONS},
)
