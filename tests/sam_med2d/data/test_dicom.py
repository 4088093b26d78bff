"""DICOM photographs of every coding are read as the plain picture, or refused in a sentence that names the file."""

import base64
import importlib.util
import logging

import numpy as np
import pytest
from pydicom import uid

from sam_med2d.data import dicom
from sam_med2d.data.image_io import is_plain, read_image, read_values, size_of
from sam_med2d.data.photographs import find_photographs, photographs_in
from sam_med2d.errors import DataError, UnclearError
from tests.helpers.dicom_files import dataset, dicom_forms, palette, wrapped, written
from tests.helpers.input_forms import by_pillow, plain_picture

PICTURE = plain_picture()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "eye.dcm"


def test_every_coding_is_read_as_the_plain_picture(path):
    wrong, names = [], set()
    for form in dicom_forms(PICTURE):
        names.add(form.name)
        if form.expected is None:
            continue
        path.write_bytes(form.content)
        pixels = read_image(path)
        off = np.abs(pixels.astype(float) - form.expected).max()
        if off > form.tolerance or size_of(path) != pixels.shape[:2]:
            wrong.append(f"{form.name}: {off} levels")
    assert len(names) > 40 and not wrong, "\n".join(wrong)


# a ramp of 8 x 8 values that imagecodecs 2026.3.6 has coded, in base64: lossless JPEG of 8 and 12 bits, JPEG of 12 bits
LOSSLESS_8 = (
    b"/9j/xAAXAAEBAQEAAAAAAAAAAAAAAAAFBgMI/8MACwgACAAIAQARAP/aAAgBAAAGAADn/TTTTTTSgQQQQQQQoEEEEEEEKBBBBBBB"
    b"CgQQQQQQQoEEEEEEEKBBBBBBBCgQQQQQQQD/2Q=="
)
LOSSLESS_12 = (
    b"/9j/xAAXAAEBAQEAAAAAAAAAAAAAAAAJCgcM/8MACwwACAAIAQARAP/aAAgBAAAGAADn/wDQdB0HQdB0HQaCEEQRBEEQRBEEoIQR"
    b"BEEQRBEEQSghBEEQRBEEQRBKCEEQRBEEQRBEEoIQRBEEQRBEEQSghBEEQRBEEQRBKCEEQRBEEQRBEED/2Q=="
)
EXTENDED_12 = (
    b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
    b"AQEBAQEBAQEBAQEBAQH/wQALDAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABwQAAAGAwAAAAAAAAAAAAAAAAALDio3"
    b"SVZndP/aAAgBAQAAPwAy15NfcBsIMarX5daD/9k="
)


def test_codings_that_no_package_here_writes(path):
    """Lossless JPEG and JPEG of 12 bits."""
    ramp = np.arange(64).reshape(8, 8)
    for content, bits, syntax in (
        (LOSSLESS_8, 8, uid.JPEGLosslessSV1),
        (LOSSLESS_12, 12, uid.JPEGLosslessSV1),
        (EXTENDED_12, 12, uid.JPEGExtended12Bit),
    ):
        values = (ramp * (4 if bits == 8 else 65)).astype(np.uint8 if bits == 8 else np.uint16)
        path.write_bytes(wrapped(dataset(values, bits=bits), syntax, base64.b64decode(content)))
        off = np.abs(read_values(path).astype(int) - values).max()
        assert off <= (4 if content is EXTENDED_12 else 0), (syntax, off)


def test_a_frame_is_chosen(path):
    path.write_bytes(written(dataset(np.stack([PICTURE, PICTURE[::-1]]))))
    for read in (read_image, size_of):
        with pytest.raises(UnclearError, match=r"eye.dcm holds 2 pages or frames: .*--page 1 to 2"):
            read(path)
        with pytest.raises(UnclearError, match=r"--page 3: .*eye.dcm has 2 page"):
            read(path, page=3)
    assert (read_image(path, page=1) == PICTURE).all() and (read_image(path, page=2) == PICTURE[::-1]).all()
    assert size_of(path, page=2) == PICTURE.shape[:2]


def test_compressed_frames_are_told_apart(path):
    frames = [by_pillow(picture, "JPEG", quality=100, subsampling=0) for picture in (PICTURE, PICTURE[::-1])]
    data = dataset(np.stack([PICTURE, PICTURE]), PhotometricInterpretation="YBR_FULL_422")
    path.write_bytes(wrapped(data, uid.JPEGBaseline8Bit, *frames))
    assert np.abs(read_image(path, page=2).astype(int) - PICTURE[::-1]).max() < 7


def test_the_size_is_known_without_pixels(path, monkeypatch):
    path.write_bytes(written(dataset(PICTURE)))
    monkeypatch.setattr(dicom, "decode_frame", lambda *_, **__: pytest.fail("decoded"))
    assert size_of(path) == PICTURE.shape[:2] and not is_plain(path)
    with pytest.raises(DataError, match="60 x 48 pixels, more than --max_pixels 100"):
        read_image(path, max_pixels=100)


def test_indices_of_a_palette_are_values_of_a_mask(path):
    path.write_bytes(written(palette(PICTURE[..., 0] // 100, np.full((3, 3), 200, np.uint8))))
    assert (read_values(path, indices=True) == PICTURE[..., 0] // 100).all()
    assert (read_image(path) == 200).all()


REFUSED = {
    "is a DICOM file without pixels": lambda data: delattr(data, "PixelData"),
    "of CT Image Storage (modality CT), which is no photograph": lambda data: data.update(
        {"SOPClassUID": uid.CTImageStorage, "Modality": "CT"}
    ),
    "of Ophthalmic Tomography Image Storage (modality OPT, 128 frames), which is no photograph": lambda data: (
        data.update({"SOPClassUID": uid.OphthalmicTomographyImageStorage, "Modality": "OPT", "NumberOfFrames": 128})
    ),
    "of an unknown kind, which is no photograph": lambda data: data.update(
        {"SOPClassUID": "SecretText", "Modality": ""}
    ),
    "of Secondary Capture Image Storage (modality MR), which is no photograph": lambda data: data.update(
        {"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "MR"}
    ),
    "with 8 bits of 8, the highest at 6": lambda data: setattr(data, "HighBit", 6),
    "with negative values": lambda data: setattr(data, "PixelRepresentation", 1),
    "with 3 channel(s) of the colours CMYK": lambda data: setattr(data, "PhotometricInterpretation", "CMYK"),
    "with 1 channel(s) of the colours RGB": lambda data: setattr(data, "SamplesPerPixel", 1),
    "its DICOM pixels cannot be decoded": lambda data: setattr(data, "PixelData", data.PixelData[:-100]),
    "its DICOM header is damaged": lambda data: data["NumberOfFrames"].__setattr__("_value", "many"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which writes what it does not like
@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_photograph_is_refused(message, path):
    data = dataset(PICTURE, NumberOfFrames=1, PatientName="Secret^Name", PatientID="SecretID")
    REFUSED[message](data)
    path.write_bytes(written(data))
    with pytest.raises(DataError) as caught:
        read_image(path)
    said = str(caught.value)
    assert message in said and str(path) in said and "\n" not in said and "Secret" not in said


def test_codings_that_are_not_read_are_named(path):
    path.write_bytes(wrapped(dataset(PICTURE), uid.MPEG2MPML, b"film"))
    with pytest.raises(DataError, match=r"eye.dcm has the DICOM transfer syntax MPEG2 Main Profile . Main Level"):
        read_image(path)
    syntax = uid.MPEG2MPML.encode() + b"\0"
    path.write_bytes(path.read_bytes().replace(syntax, b"1.2.3.4".ljust(len(syntax), b"\0")))
    with pytest.raises(DataError, match=r"eye.dcm has the DICOM transfer syntax 1.2.3.4, which is not read here"):
        read_image(path)


def test_encrypted_files_are_named(path):
    data = dataset(PICTURE, EncryptedAttributesSequence=[])
    del data.PixelData
    path.write_bytes(written(data))
    with pytest.raises(DataError, match=r"eye.dcm is an encrypted DICOM file: save it without encryption"):
        read_image(path)


def test_whatever_is_cut_off_is_refused(path):
    """The file, and pixels that are cut off before they are wrapped, which some decoders fill up."""
    wrong = []
    for form in dicom_forms(PICTURE):
        if form.expected is None:
            continue
        file, whole = path, form.content
        file.write_bytes(whole)
        with file.open("rb") as opened:
            found = dicom.read_dicom(file, opened, pixels=True)
        forms = [whole[: int(share * len(whole))] for share in (0.5, 0.9)] + [whole[:200]]
        if found.data.file_meta.TransferSyntaxUID.is_encapsulated:
            frame = dicom._frame(found, 0)
            forms += [wrapped(found.data, found.syntax, frame[: int(share * len(frame))]) for share in (0.5, 0.97)]
        for number, content in enumerate(forms):
            file.write_bytes(content)
            try:
                read_image(file)
                wrong.append(f"{form.name}, {number}: read")
            except DataError as error:
                wrong += [f"{form.name}: {error}"] * (str(file) not in str(error))
    assert not wrong, "\n".join(wrong)


def test_nothing_is_logged(path, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    data = dataset(PICTURE, kind=uid.SecondaryCaptureImageStorage, PatientName="Secret")
    path.write_bytes(wrapped(data, uid.JPEG2000, b"\xff\x4f no picture"))
    with pytest.raises(DataError):
        read_image(path)
    assert not caplog.records and not recwarn.list


def test_without_pydicom_the_file_and_what_to_install_are_named(path, monkeypatch, caplog):
    path.write_bytes(written(dataset(PICTURE)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    caplog.set_level(logging.WARNING)
    assert photographs_in(path.parent) == []
    assert "1 DICOM files (to read them: pip install -r requirements-dicom.txt), such as" in caplog.text

    def missing():
        raise ImportError("pydicom")

    monkeypatch.setattr(dicom, "_pydicom", missing)
    for read in (read_image, size_of):
        with pytest.raises(DataError, match=r"eye.dcm is a DICOM file, .* pip install -r requirements-dicom.txt"):
            read(path)


def test_photographs_are_found_with_and_without_suffix(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    (tmp_path / "visit").mkdir()
    for name in ("a.dcm", "IM0001", "visit/1.2.840.7", "b.DCM"):
        (tmp_path / name).write_bytes(written(dataset(PICTURE)))
    (tmp_path / "volume").write_bytes(
        written(dataset(PICTURE, kind=uid.OphthalmicTomographyImageStorage, Modality="OPT"))
    )
    (tmp_path / "notes").write_text("x" * 200)
    found = find_photographs([str(tmp_path)])
    assert [photograph.name for photograph in found] == ["IM0001", "a", "b", "visit/1.2.840"]
    assert "1 DICOM files that are no photographs, such as" in caplog.text and "(modality OPT)" in caplog.text
    assert all((read_image(photograph.path) == PICTURE).all() for photograph in found)
