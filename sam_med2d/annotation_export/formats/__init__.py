"""Formats that annotations are written in, one module each."""

from sam_med2d.annotation_export.export_format import ExportFormat
from sam_med2d.annotation_export.formats.coco import COCO
from sam_med2d.annotation_export.formats.geojson import GEOJSON

EXPORTS: dict[str, ExportFormat] = {form.name: form for form in (COCO, GEOJSON)}
