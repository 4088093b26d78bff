"""DICOM segmentations: pydicom, highdicom and SimpleITK read the masks and what they belong to."""

import tomllib

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.sr.codedict import codes as dictionary

from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.records import load_index
from sam_med2d.dicom_seg import segmentation
from sam_med2d.dicom_seg.codes import CODES, OWN_SCHEME, SIDES, SNOMED
from sam_med2d.dicom_seg.segmentation import AUTOMATIC, MANUAL, Algorithm, check_label, read_source, write_segmentation
from sam_med2d.errors import DataError, SizeError, UnclearError, UnreadableError, UsageError
from tests.helpers.dicom_files import dataset, dicom_forms, palette, wrapped, written
from tests.helpers.input_forms import plain_picture
from tests.helpers.paths import ROOT

highdicom = pytest.importorskip("highdicom", reason="pip install -r requirements-dicom.txt")
simpleitk = pytest.importorskip("SimpleITK", reason="comes with MedPy of requirements-dev.txt")

# Frames do not begin with a byte. All have a multiple of 8 pixels together: the rest SimpleITK reads as anything
# (findings/simpleitk_last_bits.sh).
HEIGHT, WIDTH = 46, 62
PICTURE = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
ALGORITHM = Algorithm(AUTOMATIC, "SAM-Med2D for fundus, best", "0123abcd", {"--zoom": "True"})


@pytest.fixture
def masks():
    """A disc with its cup in it, scattered pixels, and a structure that is not there."""
    found = {name: np.zeros((HEIGHT, WIDTH), bool) for name in ("optic_disc", "optic_cup", "haemorrhage", "artery")}
    found["optic_disc"][10:30, 12:40], found["optic_cup"][15:25, 20:30] = True, True
    found["haemorrhage"] |= np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.7
    return found


def made(folder, data, masks, algorithm=ALGORITHM, page=None):
    """A photograph's segmentation file."""
    source = folder / "eye.dcm"
    source.write_bytes(written(data))
    write_segmentation(folder / "seg.dcm", read_source(source, page), masks, algorithm)
    return folder / "seg.dcm"


def stacked(masks):
    return np.stack(list(masks.values()))


def by_each(path):
    """The masks [N, H, W] of a file as three libraries read them."""
    read = highdicom.seg.segread(path)
    source = read.get_source_image_uids()[0][2]
    yield "pydicom", dcmread(path).pixel_array
    yield "highdicom", read.get_pixels_by_source_instance([source])[0].transpose(2, 0, 1)
    yield "SimpleITK", simpleitk.GetArrayFromImage(simpleitk.ReadImage(str(path))) > 0


def test_three_libraries_read_the_masks(tmp_path, masks):
    """Of Ophthalmic Photography without and with spacing, VL Photographic and Secondary Capture."""
    wrong = []
    for kind, more in (
        (uid.OphthalmicPhotography8BitImageStorage, {}),
        (uid.OphthalmicPhotography8BitImageStorage, {"NumberOfFrames": 1, "PixelSpacing": [0.01, 0.01]}),
        (uid.OphthalmicPhotography16BitImageStorage, {"PixelSpacing": [0.01, 0.01], "SliceThickness": 1}),
        (uid.VLPhotographicImageStorage, {"PixelSpacing": [0.01, 0.01]}),
        (uid.SecondaryCaptureImageStorage, {"Modality": "OT"}),
    ):
        path = made(tmp_path, dataset(PICTURE, kind=kind, **more), masks)
        wrong += [
            f"{name} of {uid.UID(kind).name}, {more}"
            for name, read in by_each(path)
            if read.shape != (4, HEIGHT, WIDTH) or not (read == stacked(masks)).all()
        ]
    assert not wrong, "\n".join(wrong)


def test_photographs_of_every_coding_can_be_referred_to(tmp_path):
    """Rows and columns are those of the file, whatever its colours and coding."""
    picture, wrong = plain_picture(), []
    mask = {"vessel": picture[..., 0] > 100}
    data = palette(picture[..., 0] // 100, np.full((3, 3), 200, np.uint8))
    contents = {form.name: form.content for form in dicom_forms(picture) if form.expected is not None}
    for name, content in (contents | {"palette": written(data)}).items():
        (tmp_path / "eye.dcm").write_bytes(content)
        made = segmentation.segmentation(read_source(tmp_path / "eye.dcm"), mask, ALGORITHM)
        if (made.Rows, made.Columns) != picture.shape[:2] or not (made.pixel_array == mask["vessel"]).all():
            wrong.append(name)
    assert not wrong, "\n".join(wrong)


def test_it_says_whose_it_is_and_what_made_it(tmp_path, masks):
    """Names in other alphabets and a structure's name in any; nothing of the source but who and which study it is."""
    data = dataset(PICTURE, SpecificCharacterSet="ISO_IR 144", ImageLaterality="L", StudyDate="20240229")
    data.PatientName, data.PatientBirthDate, data.AccessionNumber = "Люксембург", "19500102", "A7"
    data.PatientComments, data.InstitutionName, data.PatientTelephoneNumbers = "comment", "clinic", "123"
    found = dcmread(made(tmp_path, data, masks | {"Exsudat, groß": masks["artery"]}))
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyInstanceUID"):
        assert found.get(keyword) == data.get(keyword), keyword
    for keyword in ("PatientComments", "InstitutionName", "PatientTelephoneNumbers", "PixelSpacing"):
        assert keyword not in found
    assert (found.Modality, found.SegmentationType, found.SegmentsOverlap) == ("SEG", "BINARY", "YES")
    labels = [segment.SegmentLabel for segment in found.SegmentSequence]
    assert labels == [*masks, "Exsudat, groß"]
    for segment in found.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (about,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (about.AlgorithmName, about.AlgorithmVersion) == (ALGORITHM.name, ALGORITHM.version)
        (region,) = segment.AnatomicRegionSequence
        assert region.AnatomicRegionModifierSequence[0].CodeValue == SIDES["L"].value
    types = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in found.SegmentSequence]
    assert [(code.CodingSchemeDesignator, code.CodeValue) for code in types] == [
        (SNOMED, "81016008"),
        (OWN_SCHEME, "optic_cup"),
        (SNOMED, "50960005"),
        (SNOMED, "51114001"),
        (OWN_SCHEME, "exsudat_groß"),
    ]
    (instance,) = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    frames = [
        groups.DerivationImageSequence[0].SourceImageSequence for groups in found.PerFrameFunctionalGroupsSequence
    ]
    for reference in (instance, *found.SourceImageSequence, *(one for frame in frames for one in frame)):
        assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
            data.SOPClassUID,
            data.SOPInstanceUID,
        )
        assert "ReferencedFrameNumber" not in reference


def test_a_frame_of_several(tmp_path, masks):
    data = dataset(np.stack([PICTURE, PICTURE, PICTURE]))
    with pytest.raises(UnclearError, match=r"eye.dcm holds 3 pages or frames"):
        made(tmp_path, data, masks)
    path = made(tmp_path, data, masks, page=2)
    read = highdicom.seg.segread(path).get_pixels_by_source_frame(data.SOPInstanceUID, [2])
    assert (read[0].transpose(2, 0, 1) == stacked(masks)).all()
    assert (simpleitk.GetArrayFromImage(simpleitk.ReadImage(str(path))) > 0).any(axis=(1, 2)).tolist() == [1, 1, 1, 0]


def test_masks_of_a_person_need_no_program(tmp_path, masks):
    found = dcmread(made(tmp_path, dataset(PICTURE), masks, Algorithm(MANUAL)))
    assert {segment.SegmentAlgorithmType for segment in found.SegmentSequence} == {"MANUAL"}
    assert not any("SegmentAlgorithmName" in segment for segment in found.SegmentSequence)


def test_all_empty_masks_are_kept(tmp_path):
    path = made(tmp_path, dataset(PICTURE), {name: np.zeros((HEIGHT, WIDTH), bool) for name in ("vessel", "vein")})
    assert all(read.shape == (2, HEIGHT, WIDTH) and not read.any() for _, read in by_each(path))


def test_codes_are_those_of_dicom():
    """Each SNOMED CT code is in pydicom's dictionary of PS3.16, and means what its name says."""
    known = {
        "Anatomical Structure": dictionary.SCT.AnatomicalStructure,
        "Morphologically Abnormal Structure": dictionary.SCT.MorphologicallyAbnormalStructure,
        "Optic nerve head": dictionary.cid4209.OpticNerveHead,
        "Fovea centralis": dictionary.cid4209.FoveaCentralis,
        "Eye": dictionary.cid4209.Eye,
        "Retina": dictionary.cid4209.Retina,
        "Blood Vessel": dictionary.cid7151.BloodVessel,
        "Artery": dictionary.cid7151.Artery,
        "Vein": dictionary.cid7151.Vein,
        "Hemorrhage": dictionary.cid7159.Hemorrhage,
        "Left": dictionary.cid244.Left,
        "Right": dictionary.cid244.Right,
        "Bilateral": dictionary.cid244.Bilateral,
    }
    used = {code for codes in CODES.values() for code in (codes.category, codes.kind, codes.region)} | {*SIDES.values()}
    for code in used:
        if code.scheme == SNOMED:
            assert (code.value, code.meaning) == (known[code.meaning].value, known[code.meaning].meaning)
        else:
            assert code.scheme == OWN_SCHEME
    assert OWN_SCHEME.startswith("99") and len(OWN_SCHEME) <= 16
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == segmentation.VERSION


@pytest.mark.photographs
def test_masks_of_real_photographs(fundus, tmp_path):
    """JPEGs wrapped as they are, with their masks; of an odd number of pixels SimpleITK's last ones do not count."""
    wrong = []
    records = load_index(fundus, "val")
    for record in records[:: max(1, len(records) // 5)]:
        masks = {f"{i} {mask.structure}": read_mask(mask.path) > 0 for i, mask in enumerate(record.masks)}
        data = dataset(read_image(record.image), PhotometricInterpretation="YBR_FULL_422")
        (tmp_path / "eye.dcm").write_bytes(wrapped(data, uid.JPEGBaseline8Bit, record.image.read_bytes()))
        assert (read_image(tmp_path / "eye.dcm") == read_image(record.image)).all()
        write_segmentation(tmp_path / "seg.dcm", read_source(tmp_path / "eye.dcm"), masks, ALGORITHM)
        for name, read in by_each(tmp_path / "seg.dcm"):
            counted = slice(None if name != "SimpleITK" or stacked(masks).size % 8 == 0 else -8)
            same = (read.reshape(-1)[counted] == stacked(masks).reshape(-1)[counted]).all()
            wrong += [f"{record.image.name}: {name}"] * (not same)
    assert not wrong, "\n".join(wrong)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_mask_of_another_size_is_refused(tmp_path, masks):
    with pytest.raises(SizeError, match=r"mask of optic_disc is 62 x 46 pixels, and .*eye.dcm 61 x 45: a segmentation"):
        made(tmp_path, dataset(PICTURE[:-1, :-1]), masks)
    assert not (tmp_path / "seg.dcm").exists()


def test_sources_that_do_not_say_which_image_they_are(tmp_path):
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):  # without the third pydicom writes no file
        data = dataset(PICTURE)
        data[keyword].value = ""
        (tmp_path / "eye.dcm").write_bytes(written(data))
        with pytest.raises(DataError, match=rf"eye.dcm lacks the DICOM attribute {keyword}: a segmentation could"):
            read_source(tmp_path / "eye.dcm")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which writes what it does not like
def test_damaged_attributes_of_the_patient(tmp_path, masks):
    data = dataset(PICTURE, PatientName="Secret^Name")
    data.StudyDate = "some day"
    with pytest.raises(
        UnreadableError, match=r"eye.dcm: its DICOM attributes of the patient .* export it again"
    ) as told:
        made(tmp_path, data, masks)
    assert "Secret" not in str(told.value) and not (tmp_path / "seg.dcm").exists()


def test_names_that_no_segment_can_have():
    for name in ("", "x" * 65, "a\\b", "a\nb"):
        with pytest.raises(UsageError, match="a segment's label in DICOM has 1 to 64 letters and no back-slash"):
            check_label(name)
    check_label("Exsudat, groß")


def test_without_highdicom_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(
        segmentation.importlib.util, "find_spec", lambda name: None if name == "highdicom" else object()
    )
    with pytest.raises(UsageError, match=r"need pydicom and highdicom: pip install -r requirements-dicom.txt"):
        segmentation.check_installed()
