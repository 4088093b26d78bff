"""A project of the VGG Image Annotator, version 2: masks as polygons along the pixels' sides."""

import json
from pathlib import Path
from typing import Any

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.dataset_conversion.polygons import outlines


def write(export: Export, target: Path) -> Written:
    """Each connected component is a region, its attribute `structure` what it shows; holes are cut open."""
    images: dict[str, dict[str, Any]] = {}
    for photograph, regions in export.each(lambda photograph: (photograph, _regions(photograph))):
        name, size = export.relative(photograph.path), photograph.path.stat().st_size
        images[f"{name}{size}"] = {"filename": name, "size": size, "regions": regions, "file_attributes": {}}
    options = dict.fromkeys(export.source.structures, "")
    attribute = {"type": "dropdown", "description": "", "options": options, "default_options": {}}
    content = {
        "_via_settings": {"core": {"default_filepath": ""}, "project": {"name": export.out.stem}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": {"structure": attribute}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(images),
    }
    target.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    return Written({"images": len(images), "regions": sum(len(image["regions"]) for image in images.values())})


def _regions(photograph: AnnotatedPhotograph) -> list[dict[str, Any]]:
    found = []
    for mask, pixels in photograph.drawn():
        for side in outlines(pixels):
            columns, rows = side.T.tolist()
            shape = {"name": "polygon", "all_points_x": columns, "all_points_y": rows}
            found.append({"shape_attributes": shape, "region_attributes": {"structure": mask.structure}})
    return found


VIA = ExportFormat(
    name="via",
    title="a project of the VGG Image Annotator 2 (polygons along the pixels' sides), exact",
    write=write,
    has_splits=False,
    suffix=".json",
)
