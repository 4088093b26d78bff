"""One GeoJSON file a photograph, as QuPath reads it: polygons with holes along the pixels' sides, exactly."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.annotation_export.annotation_source import AnnotatedMask, AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.dataset_conversion.polygons import rings


def write(export: Export, target: Path) -> Written:
    """NAME.geojson for each photograph NAME, in a folder of its split where it has one."""
    for split in {photograph.split for photograph in export.source.photographs} - {""}:
        (target / split).mkdir()

    def one(photograph: AnnotatedPhotograph) -> int:
        features = [_feature(mask, pixels) for mask, pixels in photograph.drawn()]
        content = {"type": "FeatureCollection", "features": features}
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        (target / photograph.split / f"{photograph.stem}.geojson").write_text(text + "\n", encoding="utf-8")
        return len(features)

    counts = list(export.each(one))
    return Written({"files": len(counts), "annotations": sum(counts)})


def _feature(mask: AnnotatedMask, pixels: np.ndarray) -> dict[str, Any]:
    """A mask as an annotation of QuPath."""
    areas = [[_closed(ring) for ring in area] for area in rings(pixels)]
    single = len(areas) == 1
    geometry = {"type": "Polygon" if single else "MultiPolygon", "coordinates": areas[0] if single else areas}
    about = {"objectType": "annotation", "classification": {"name": mask.structure}}
    about |= {} if mask.score is None else {"measurements": {"predicted IoU": mask.score}}
    return {"type": "Feature", "geometry": geometry, "properties": about}


def _closed(ring: np.ndarray) -> list[list[int]]:
    """GeoJSON repeats the first point at the end."""
    return [*ring.tolist(), ring[0].tolist()]


GEOJSON = ExportFormat(
    name="geojson",
    title="a GeoJSON file a photograph, as QuPath reads it (polygons with holes), exact",
    write=write,
)
