"""Masks of a DICOM photograph -> a DICOM Segmentation that refers to it, with highdicom, which is optional.

The segmentation is of the type BINARY: each structure is a segment, and a frame of rows x columns of the photograph;
structures may overlap. It carries the identity of the patient and of the study, as it must; nothing else of the source.

highdicom takes only sources whose geometry it knows, and an Ophthalmic Photograph has none: it is shown what is needed
of the source. Pixel Spacing is left to the source: where a segmentation has it and no position in space, SimpleITK
does not read the file, nor does highdicom without a thickness.
"""

import importlib.util
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_med2d.choices import ALGORITHM_TYPES
from sam_med2d.data.dicom import INSTALL, DicomFile, is_readable, read_dicom
from sam_med2d.data.image_formats import opened
from sam_med2d.data.image_headers import choose_page, is_dicom
from sam_med2d.dataset_conversion.formats.dicom import laterality
from sam_med2d.dataset_conversion.formats.pairing import structure_name
from sam_med2d.dicom_seg.codes import OWN_SCHEME, SIDES, Code, codes_of
from sam_med2d.errors import DataError, SizeError, UnreadableError, UsageError
from segment_anything.utils.atomic import atomic_path

if TYPE_CHECKING:
    from pydicom import Dataset

AUTOMATIC, SEMIAUTOMATIC, MANUAL = ALGORITHM_TYPES
MAKER = "SAM-Med2D for fundus"
VERSION = "0.1.0"
LONGEST = 64  # letters of a name in DICOM
SERIES_NUMBER = 1000  # behind the photographs in lists
# what a segmentation says as its source does; the first three must be there
IDENTITY = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "Modality", "Rows", "Columns")
IDENTITY += ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
IDENTITY += ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
IDENTITY += ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription")
_MAY_LACK = ("LossyImageCompression", "IssuerOfPatientID", "StudyDescription")  # others are there, and may be empty


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What made the masks.

    Attributes:
        kind: one of ALGORITHM_TYPES: without a person, with one, or by one alone.
        name, version: of the weights, or of another program; "" where a person drew.
        parameters: further settings, by their names.
    """

    kind: str
    name: str = ""
    version: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DicomSource:
    """A photograph that a segmentation refers to.

    Attributes:
        path: its file.
        file: what the file says, without pixels.
        frame: number of the photograph in a file of several, from 1; None for the only one.
    """

    path: Path
    file: DicomFile
    frame: int | None = None


def check_installed() -> None:
    """Raises UsageError where a package is missing."""
    if not (is_readable() and importlib.util.find_spec("highdicom")):
        raise UsageError(f"DICOM segmentations need pydicom and highdicom: {INSTALL}")


def is_dicom_photograph(path: Path) -> bool:
    """Whether a file begins as one of DICOM; raises as `image_formats.opened`."""
    with opened(path) as file:
        return is_dicom(file.read(132))


def read_source(path: Path, page: int | None = None, *, pixels: bool = False) -> DicomSource:
    """A photograph that a segmentation can refer to.

    Args:
        path: a DICOM file.
        page: number of the frame, from 1; None for the only one.
        pixels: whether it is checked that the file has pixels.

    Raises:
        UnreadableError: the file is no photograph, or cannot be read.
        UnclearError: which frame is meant.
        DataError: the file does not say which image it is.
    """
    with opened(path) as file:
        found = read_dicom(path, file, pixels=pixels)
    index = choose_page(path, range(found.frames), page)
    if missing := [name for name in IDENTITY[:3] if not found.data.get(name)]:
        raise DataError(
            f"{path} lacks the DICOM attribute {missing[0]}: a segmentation could not refer to it; export it again"
        )
    return DicomSource(path, found, index + 1 if found.frames > 1 else None)


def check_label(label: str) -> None:
    """Raises UsageError for a name of a structure that no segment can have."""
    if not 0 < len(label) <= LONGEST or "\\" in label or not label.isprintable():
        raise UsageError(
            f"structure {label!r}: a segment's label in DICOM has 1 to {LONGEST} letters and no back-slash: rename it"
        )


def write_segmentation(path: Path, source: DicomSource, masks: Mapping[str, np.ndarray], algorithm: Algorithm) -> None:
    """Write a DICOM Segmentation file, whole or not at all.

    Args:
        path: the file.
        source: the photograph.
        masks: by structure, in the order of the segments; bool or {0, 1} [H, W] of the photograph's size, empty ones,
            too.
        algorithm: what made them.

    Raises:
        SizeError: a mask has another size than the photograph.
        DataError: the source says something of the patient or the study that cannot be written.
    """
    made = segmentation(source, masks, algorithm)
    with atomic_path(path) as temporary:
        made.save_as(temporary)


def segmentation(source: DicomSource, masks: Mapping[str, np.ndarray], algorithm: Algorithm) -> "Dataset":
    """The Dataset of `write_segmentation`, with the same arguments and errors."""
    for structure, mask in masks.items():
        if mask.shape != source.file.size:
            (height, width), (rows, columns) = mask.shape, source.file.size
            raise SizeError(
                f"the mask of {structure} is {width} x {height} pixels, and {source.path} {columns} x {rows}: "
                "a segmentation has the photograph's own pixels"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of attributes that are not as DICOM wants them
            return _segmentation(source, masks, algorithm)
    except ValueError as error:  # of damaged attributes
        raise UnreadableError(
            f"{source.path}: its DICOM attributes of the patient or the study are damaged ({type(error).__name__}), "
            "and no segmentation can carry them: export it again"
        ) from error


def _segmentation(source: DicomSource, masks: Mapping[str, np.ndarray], algorithm: Algorithm) -> "Dataset":
    import highdicom
    from pydicom.sr.codedict import codes

    logging.getLogger("highdicom").setLevel(logging.ERROR)
    identification = None
    if algorithm.name:
        identification = highdicom.AlgorithmIdentificationSequence(
            algorithm.name[:LONGEST],
            codes.DCM.ArtificialIntelligence,
            algorithm.version[:LONGEST],
            source=MAKER,
            parameters=dict(algorithm.parameters) or None,
        )
    made = highdicom.seg.Segmentation(
        [_shown(source)],
        np.stack([mask.astype(bool) for mask in masks.values()], axis=-1)[None],
        "BINARY",
        [_segment(number, name, algorithm.kind, identification) for number, name in enumerate(masks, start=1)],
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=VERSION,
        device_serial_number=algorithm.version[:LONGEST] or "none",
        content_label="FUNDUS",
        content_description="Structures of a photograph of the fundus",
        series_description="Segmentation of the fundus",
        specific_character_set="ISO_IR 192",
        omit_empty_frames=False,  # a frame a segment, in this order
    )
    _add_what_highdicom_leaves_out(made, source)
    return made


def _shown(source: DicomSource) -> "Dataset":
    """What highdicom is shown of the source: who and which image it is, and its size; texts in Unicode.

    It is called a VL Photographic Image, of which highdicom asks for no functional groups.
    """
    from pydicom import Dataset
    from pydicom.uid import VLPhotographicImageStorage
    from pydicom.valuerep import PersonName

    data, shown = source.file.data, Dataset()
    for keyword in IDENTITY:
        value = data.get(keyword)
        if value or not keyword.startswith(_MAY_LACK):
            setattr(shown, keyword, str(value) if isinstance(value, PersonName) else value)
    shown.SOPClassUID = VLPhotographicImageStorage
    return shown


def _segment(number: int, structure: str, kind: str, identification: Any) -> "Dataset":
    """The description of a segment."""
    from highdicom.seg import SegmentDescription

    codes = codes_of(structure_name(structure))
    return SegmentDescription(
        number,
        structure,
        _concept(codes.category),
        _concept(codes.kind),
        kind,
        algorithm_identification=identification,
        anatomic_regions=[_concept(codes.region)],
    )


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning[:LONGEST])


def _add_what_highdicom_leaves_out(made: "Dataset", source: DicomSource) -> None:
    """The source's class and frame, the eye, our scheme, and what DICOM wants to be there (type 2)."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    frames = [groups.DerivationImageSequence[0] for groups in made.PerFrameFunctionalGroupsSequence]
    frames = [frame.SourceImageSequence[0] for frame in frames]
    instance = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    for reference in (*frames, *made.SourceImageSequence, instance):
        reference.ReferencedSOPClassUID = source.file.kind
    if source.frame is not None:
        for reference in frames:
            reference.ReferencedFrameNumber = source.frame
    if side := SIDES.get(laterality(source.file.data)):
        for segment in made.SegmentSequence:
            segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(side)]
    made.ContentCreatorName = None
    made.PatientOrientation = source.file.data.get("PatientOrientation") or None
    scheme = CodingSchemeIdentificationItem(OWN_SCHEME, name=f"{MAKER}: names of structures")
    made.CodingSchemeIdentificationSequence = [scheme]
