"""Formats that annotations are written in, one module each."""

from sam_med2d.annotation_export.export_format import ExportFormat
from sam_med2d.annotation_export.formats.coco import COCO
from sam_med2d.annotation_export.formats.cvat import CVAT
from sam_med2d.annotation_export.formats.geojson import GEOJSON
from sam_med2d.annotation_export.formats.labelme import LABELME
from sam_med2d.annotation_export.formats.labelstudio import LABELSTUDIO
from sam_med2d.annotation_export.formats.nnunet import NNUNET
from sam_med2d.annotation_export.formats.vascx import VASCX
from sam_med2d.annotation_export.formats.via import VIA
from sam_med2d.annotation_export.formats.yolo import YOLO

_ALL = (
    COCO,
    LABELME,
    CVAT,
    LABELSTUDIO,
    VIA,
    GEOJSON,
    NNUNET,
    VASCX,
    YOLO,
)
EXPORTS: dict[str, ExportFormat] = {form.name: form for form in _ALL}
