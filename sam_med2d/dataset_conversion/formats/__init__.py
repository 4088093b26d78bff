"""Formats in which a lab has its own data, one module each: folders, label maps, files of annotation programs."""

from sam_med2d.dataset_conversion.dataset_spec import DataSet
from sam_med2d.dataset_conversion.formats.binary import BINARY
from sam_med2d.dataset_conversion.formats.coco import COCO
from sam_med2d.dataset_conversion.formats.dicom import DICOM
from sam_med2d.dataset_conversion.formats.folder import FOLDER
from sam_med2d.dataset_conversion.formats.geojson import GEOJSON
from sam_med2d.dataset_conversion.formats.labelmap import LABELMAP
from sam_med2d.dataset_conversion.formats.nnunet import NNUNET
from sam_med2d.dataset_conversion.formats.yolo import YOLO

FORMATS: dict[str, DataSet] = {
    form.name: form for form in (FOLDER, BINARY, LABELMAP, COCO, DICOM, GEOJSON, NNUNET, YOLO)
}
