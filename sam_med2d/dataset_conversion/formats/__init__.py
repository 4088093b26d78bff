"""Formats in which a lab has its own data, one module each: folders, label maps, files of annotation programs."""

from sam_med2d.dataset_conversion.dataset_spec import DataSet
from sam_med2d.dataset_conversion.formats.binary import BINARY
from sam_med2d.dataset_conversion.formats.coco import COCO
from sam_med2d.dataset_conversion.formats.cvat import CVAT
from sam_med2d.dataset_conversion.formats.dicom import DICOM
from sam_med2d.dataset_conversion.formats.folder import FOLDER
from sam_med2d.dataset_conversion.formats.geojson import GEOJSON
from sam_med2d.dataset_conversion.formats.labelmap import LABELMAP
from sam_med2d.dataset_conversion.formats.labelme import LABELME
from sam_med2d.dataset_conversion.formats.labelstudio import LABELSTUDIO
from sam_med2d.dataset_conversion.formats.nifti import NIFTI_SLICES
from sam_med2d.dataset_conversion.formats.nnunet import NNUNET
from sam_med2d.dataset_conversion.formats.nrrd import NRRD_SLICES
from sam_med2d.dataset_conversion.formats.supervisely import SUPERVISELY
from sam_med2d.dataset_conversion.formats.via import VIA
from sam_med2d.dataset_conversion.formats.yolo import YOLO

_FOLDERS = (FOLDER, BINARY, LABELMAP, NIFTI_SLICES, NRRD_SLICES, NNUNET, DICOM)
_TOOLS = (COCO, LABELME, CVAT, LABELSTUDIO, VIA, YOLO, GEOJSON, SUPERVISELY)
FORMATS: dict[str, DataSet] = {form.name: form for form in (*_FOLDERS, *_TOOLS)}
