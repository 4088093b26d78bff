"""predict.py --dicom_seg: a segmentation of each DICOM photograph, of just the masks beside it, and what is refused."""

import numpy as np
import pytest
from pydicom import dcmread

from sam_med2d.dicom_seg import segmentation
from sam_med2d.inference import batch_run
from tests.helpers.dicom_files import dataset, written
from tests.helpers.photographs import photograph
from tests.helpers.predicting import STRUCTURES, mask_of, rows_of, run, write_picture, write_weights

pytest.importorskip("highdicom", reason="pip install -r requirements-dicom.txt")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def folder(tmp_path, tiny_type):
    """Two DICOM photographs, one with a suffix."""
    for seed, name in enumerate(("left/eye", "right.dcm")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written(dataset(photograph(73 + seed, 91), PatientID=f"P{seed}")))
    return tmp_path / "in"


def segments(folder, name):
    """Labels, masks and the Dataset of a segmentation."""
    found = dcmread(folder.parent / "out/dicom_seg" / f"{name}.dcm")
    return [segment.SegmentLabel for segment in found.SegmentSequence], found.pixel_array, found


def test_segments_are_the_masks(folder, weights):
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 0
    out = folder.parent / "out"
    rows = rows_of(out)
    for name, patient in (("left/eye", "P0"), ("right", "P1")):
        labels, masks, found = segments(folder, name)
        own = [row for row in rows if row["name"] == name]
        assert labels == [row["label"] for row in own] == list(STRUCTURES)  # drusen, which are held absent, too
        assert (masks == np.stack([mask_of(out, row) for row in own])).all() and found.PatientID == patient
        assert {segment.SegmentAlgorithmType for segment in found.SegmentSequence} == {"AUTOMATIC"}
        (about,) = found.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
        assert about.AlgorithmName == "SAM-Med2D for fundus, tiny" and len(about.AlgorithmVersion) == 32
        assert "--zoom=False" in about.AlgorithmParameters
    assert not any("P0" in path.read_text(errors="ignore") for path in out.rglob("*.[cj]s*")), "identity elsewhere"


def test_several_masks_of_a_label_are_one_segment(folder, weights):
    words = "--box 20 20 60 55 --box 40 5 80 40 --label haemorrhage --dicom_seg"
    assert run(folder / "right.dcm", weights, *words.split(), out="../out") == 0
    rows = rows_of(folder.parent / "out")
    labels, masks, found = segments(folder, "right")
    assert labels == ["haemorrhage"] and len(rows) == 2
    assert (masks == (mask_of(folder.parent / "out", rows[0]) | mask_of(folder.parent / "out", rows[1]))).all()
    assert found.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_a_frame_is_referred_to(folder, weights):
    picture = photograph(73, 91)
    (folder / "right.dcm").write_bytes(written(dataset(np.stack([picture[::-1], picture]))))
    assert run(folder / "right.dcm", weights, "--structures", "vessel", "--dicom_seg", "--page", 2, out="../out") == 0
    found = segments(folder, "right")[2]
    (source,) = found.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedFrameNumber == 2


def test_a_run_goes_on_with_its_own_flag_alone(folder, weights, capsys):
    (folder / "left/eye").rename(folder.parent / "eye")
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 0
    first = (folder.parent / "out/dicom_seg/right.dcm").read_bytes()
    (folder.parent / "eye").rename(folder / "left/eye")
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 0
    assert (folder.parent / "out/dicom_seg/right.dcm").read_bytes() == first and segments(folder, "left/eye")
    assert "dicom_seg" in batch_run.BINDING and run(folder, weights, "--structures", "all") == 2
    assert "holds results with other --dicom_seg (True there, False now)" in capsys.readouterr().err


def test_photographs_that_are_no_dicom_files_are_refused(folder, weights, capsys):
    write_picture(folder / "plain.png")
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 2
    message = capsys.readouterr().err
    assert "--dicom_seg: 1 of 3 photographs are no DICOM files, such as" in message and "plain.png" in message
    assert not [path for path in (folder.parent / "out").rglob("*") if path.is_file()]


def test_sources_and_labels_that_cannot_be_are_refused_before_the_work(folder, weights, capsys):
    data = dataset(photograph(73, 91))
    data.StudyInstanceUID = ""
    (folder / "right.dcm").write_bytes(written(data))
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 2
    assert "right.dcm lacks the DICOM attribute StudyInstanceUID" in capsys.readouterr().err
    words = "--box 1 1 9 9 --dicom_seg --label a\\b"
    assert run(folder / "left/eye", weights, *words.split(), out="../../out") == 2
    assert "a segment's label in DICOM" in capsys.readouterr().err
    assert not [path for path in (folder.parent / "out").rglob("*") if path.is_file()]


def test_unreadable_sources_are_left_out(folder, weights, capsys):
    """Without pixels; the other photograph has its segmentation, and the exit code tells."""
    data = dataset(photograph(73, 91))
    del data.PixelData
    (folder / "right.dcm").write_bytes(written(data))
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 1
    assert "right.dcm is a DICOM file without pixels" in capsys.readouterr().out
    assert [path.name for path in (folder.parent / "out/dicom_seg").rglob("*.dcm")] == ["eye.dcm"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which writes what it does not like
def test_a_source_whose_identity_cannot_be_carried_fails_by_itself(folder, weights, capsys):
    data = dataset(photograph(73, 91), StudyDate="some day")
    (folder / "right.dcm").write_bytes(written(data))
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 1
    assert "right.dcm: its DICOM attributes of the patient or the study are damaged" in capsys.readouterr().out
    assert {row["state"] for row in rows_of(folder.parent / "out") if row["name"] == "right"} == {"failed"}


def test_without_highdicom_it_says_what_to_install(folder, weights, monkeypatch, capsys):
    real = segmentation.importlib.util.find_spec
    monkeypatch.setattr(
        segmentation.importlib.util, "find_spec", lambda name: None if name == "highdicom" else real(name)
    )
    assert run(folder, weights, "--structures", "all", "--dicom_seg") == 2
    assert "pip install -r requirements-dicom.txt" in capsys.readouterr().err
