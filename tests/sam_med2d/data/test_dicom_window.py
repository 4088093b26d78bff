"""Grey DICOM photographs are read as they are shown: by their first window or table, rescaled, in frames of several."""

import logging

import numpy as np
import pytest
from pydicom import Dataset, uid
from pydicom.pixels import apply_voi_lut

from sam_med2d.data.image_io import read_image, read_values
from sam_med2d.errors import UnreadableError
from sam_med2d.notes import REMARKS
from tests.helpers.dicom_files import dataset, written

RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)  # 12 bits
CAPTURE = {"kind": uid.SecondaryCaptureImageStorage, "Modality": "OT", "bits": 12}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "eye.dcm"


def read(path, data, syntax=uid.ExplicitVRLittleEndian, **more):
    path.write_bytes(written(data, syntax))
    return read_image(path, **more)[..., 0]


def lut(values, first=0, bits=16, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, bits])
    item.add_new("LUTData", vr, values.tobytes() if vr == "OW" else values.tolist())
    return item


def test_windows_are_those_of_the_standard(path):
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, as pydicom computes them, and by hand; the first of several."""
    wrong = []
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID", None):
        more = {"WindowCenter": [1000, 5], "WindowWidth": [500, 6]} | ({"VOILUTFunction": function} if function else {})
        data = dataset(RAMP, **CAPTURE, **more)
        off = np.abs(read(path, data) - apply_voi_lut(RAMP, data, 0) / 4095 * 255).max()
        wrong += [f"{function}: {off}"] * bool(off > 0.51)
    assert not wrong, "\n".join(wrong)
    shown = read(path, dataset(RAMP, **CAPTURE, WindowCenter=1000, WindowWidth=500))
    assert (shown[RAMP < 740] == 0).all() and (shown[RAMP > 1250] == 255).all()
    assert abs(int(shown[RAMP == 1008][0]) - 132) <= 1  # ((1008 - 999.5) / 499 + 0.5) * 255


def test_a_window_is_of_rescaled_values(path):
    plain = read(path, dataset(RAMP, **CAPTURE, WindowCenter=1000, WindowWidth=500))
    more = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 1899.5, "WindowWidth": 999}
    assert np.abs(plain.astype(int) - read(path, dataset(RAMP, **CAPTURE, **more))).max() <= 1


def test_a_photograph_without_window_is_shown_as_it_is(path):
    assert (read(path, dataset(RAMP, **CAPTURE)) == np.rint(RAMP / 4095 * 255)).all()
    colours = np.repeat(RAMP[..., None] // 16, 3, axis=2).astype(np.uint8)
    assert (read(path, dataset(colours, WindowCenter=10, WindowWidth=5)) == colours[..., 0]).all()


def test_monochrome1_is_turned_after_its_window(path):
    data = dataset(RAMP, **CAPTURE, WindowCenter=1000, WindowWidth=500, PhotometricInterpretation="MONOCHROME1")
    shown = read(path, data)
    assert (shown[RAMP < 740] == 255).all() and (shown[RAMP > 1250] == 0).all()


def test_tables(path):
    """Of 8 and 16 bits, more than 256 places, from a value on, in words of both orders; of a table no window counts."""
    wrong = []
    steps = (np.arange(2000) // 250 * 8000).astype(np.uint16)
    for name, item, white, syntax in (
        ("numbers", lut(steps, 100), 65535, uid.ExplicitVRLittleEndian),
        ("words", lut(steps, 100, vr="OW"), 65535, uid.ExplicitVRLittleEndian),
        ("big endian", lut(steps.byteswap(), 100, vr="OW"), 65535, uid.ExplicitVRBigEndian),
        ("8 bits", lut(steps // 256, 100, 8), 255, uid.ExplicitVRLittleEndian),
        ("12 bits", lut(steps // 16, 100, 12), 4095, uid.ExplicitVRLittleEndian),
    ):
        pixels = RAMP.byteswap() if name == "big endian" else RAMP
        data = dataset(pixels, **CAPTURE, VOILUTSequence=[item], WindowCenter=1, WindowWidth=1)
        by_hand = steps[np.clip(RAMP.astype(int) - 100, 0, 1999)] / (65536 // (white + 1)) // 1
        off = np.abs(read(path, data, syntax) - by_hand / white * 255).max()
        wrong += [f"{name}: {off}"] * bool(off > 0.51)
    assert not wrong, "\n".join(wrong)


def test_frames_have_windows_of_their_own(path):
    groups = [Dataset() for _ in range(2)]
    for group, center in zip(groups, (500, 3000), strict=True):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = center, 1
        group.FrameVOILUTSequence = [window]
    kind = {**CAPTURE, "kind": uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage}
    data = dataset(RAMP, **kind, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=groups)
    data["PixelData"].value = RAMP.tobytes() * 2
    for page, center in ((1, 500), (2, 3000)):
        assert ((read(path, data, page=page) > 0) == (center < RAMP)).all()


def test_masks_keep_their_values(path):
    labels = RAMP // 1024
    path.write_bytes(written(dataset(labels, **CAPTURE, WindowCenter=1, WindowWidth=1)))
    assert (read_values(path, indices=True) == labels).all()


def test_several_windows_are_noted(path, caplog):
    caplog.set_level(logging.WARNING)
    REMARKS.forget()
    read(path, dataset(RAMP, **CAPTURE, WindowCenter=[9, 8, 7], WindowWidth=[9, 9, 9]))
    assert "the first of several windows (VOI) is applied" in caplog.text and "3 windows" in caplog.text


def test_windows_that_cannot_be(path):
    wrong = []
    for more in (
        {"WindowCenter": 5, "WindowWidth": 0},
        {"WindowWidth": 5},
        {"WindowCenter": 5, "WindowWidth": 5, "VOILUTFunction": "CUBIC"},
        {"WindowCenter": 5, "WindowWidth": 5, "ModalityLUTSequence": [lut(RAMP.ravel())]},
        {"VOILUTSequence": [Dataset()]},
        {"VOILUTSequence": [lut(np.arange(3), bits=16)], "RescaleSlope": 1, "RescaleIntercept": 0},
    ):
        data = dataset(RAMP, **CAPTURE, **more)
        if "VOILUTSequence" in more and "LUTDescriptor" in more["VOILUTSequence"][0]:
            more["VOILUTSequence"][0].LUTDescriptor = [4000, 0, 16]  # more than there are
        try:
            read(path, data)
            wrong.append(str(more))
        except UnreadableError as error:
            wrong += [str(error)] * ("eye.dcm is a DICOM file with a window or table of grey" not in str(error))
    assert not wrong, "\n".join(wrong)
