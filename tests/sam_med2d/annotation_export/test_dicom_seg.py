"""scripts/export_dicom_seg.py: data sets and predictions, where their DICOM files come from, and what is refused."""

import json

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import OphthalmicTomographyImageStorage

from sam_med2d.runtime import cli
from scripts import export_dicom_seg, prepare_dataset
from tests.helpers.dicom_files import dataset, written
from tests.helpers.photographs import photograph
from tests.helpers.predicting import mask_of, rows_of, write_weights
from tests.helpers.predicting import run as predict

pytest.importorskip("highdicom", reason="pip install -r requirements-dicom.txt")

SIZE = (40, 56)
PICTURE = photograph(*SIZE)
DISC, CUP = (np.zeros(SIZE, np.uint8) for _ in range(2))
DISC[8:30, 10:40], CUP[12:20, 15:25] = 255, 255
BY_HAND = ("--algorithm_type", "MANUAL")


def export(*words):
    words = [str(word) for word in words]
    return cli.run_main(export_dicom_seg.main, export_dicom_seg.parse_args(words))


def write_data_set(folder, images):
    """A map of photographs, {name: file's name}, each with a disc of two masks and a cup."""
    (folder / "masks").mkdir(parents=True)
    for name in images:
        for structure, number, mask in (("optic_disc", 0, DISC), ("optic_disc", 1, np.eye(*SIZE, dtype=np.uint8))):
            cv2.imwrite(str(folder / f"masks/{name}_{structure}_{number:03d}.png"), mask)
        cv2.imwrite(str(folder / f"masks/{name}_optic_cup_000.png"), CUP)
    names = ("optic_disc_000", "optic_disc_001", "optic_cup_000")
    content = {str(path): [f"masks/{name}_{end}.png" for end in names] for name, path in images.items()}
    (folder / "image2label_train.json").write_text(json.dumps(content))
    return folder


def read(path):
    """{label: mask} and the Dataset."""
    found = dcmread(path)
    masks = found.pixel_array.reshape(-1, found.Rows, found.Columns)
    return {one.SegmentLabel: mask for one, mask in zip(found.SegmentSequence, masks, strict=True)}, found


@pytest.fixture
def clinic(tmp_path):
    """DICOM files: two with names, one of two frames."""
    (tmp_path / "clinic/visit").mkdir(parents=True)
    for name, pixels in (("a.dcm", PICTURE), ("visit/IM1", PICTURE), ("b.dcm", np.stack([PICTURE[::-1], PICTURE]))):
        data = dataset(pixels, PatientID=f"ID of {name}", ImageLaterality="R")
        (tmp_path / "clinic" / name).write_bytes(written(data))
    return tmp_path / "clinic"


def test_a_data_set_of_dicom_files(clinic, tmp_path, capsys):
    data = write_data_set(tmp_path / "data", {"a": clinic / "a.dcm", "IM1": clinic / "visit/IM1"})
    assert export(data, tmp_path / "seg", *BY_HAND) == 0
    assert "2 segmentations, 4 segments" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "seg").iterdir()) == ["IM1.dcm", "a.dcm"]
    masks, found = read(tmp_path / "seg/a.dcm")
    assert list(masks) == ["optic_cup", "optic_disc"] and found.PatientID == "ID of a.dcm"
    assert (masks["optic_cup"] == (CUP > 0)).all()
    assert (masks["optic_disc"] == ((DISC > 0) | np.eye(*SIZE, dtype=bool))).all()
    assert {one.SegmentAlgorithmType for one in found.SegmentSequence} == {"MANUAL"}
    (source,) = found.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedSOPInstanceUID == dcmread(clinic / "a.dcm").SOPInstanceUID


def test_pictures_are_of_the_dicom_files_of_their_names(clinic, tmp_path, capsys):
    for name in ("a", "IM1"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), PICTURE)
    data = write_data_set(tmp_path / "data", {"a": tmp_path / "a.png", "IM1": tmp_path / "IM1.png"})
    words = ("--dicom", clinic, "--algorithm_type", "AUTOMATIC", "--algorithm_name", "U-Net", "--algorithm_version", 7)
    assert export(data, tmp_path / "seg", *words) == 0
    (tmp_path / "seg").rename(clinic / "seg")  # whose files have the names of photographs
    assert export(data, tmp_path / "seg", *words) == 0
    found = read(tmp_path / "seg/IM1.dcm")[1]
    assert found.PatientID == "ID of visit/IM1" and found.SegmentSequence[0].SegmentAlgorithmName == "U-Net"
    (clinic / "visit/a.dcm").write_bytes((clinic / "a.dcm").read_bytes())
    (clinic / "visit/IM1").unlink()
    (clinic / "seg/IM1.dcm").unlink()
    assert export(data, tmp_path / "other", *words) == 2
    message = capsys.readouterr().err
    assert "a.png may be made from" in message and "give --dicom the right folder" in message
    assert "IM1.png is no DICOM file, and --dicom" in message and "--salt_file" in message
    assert not (tmp_path / "other").exists()


def test_prepared_photographs_are_found_by_the_salt(clinic, tmp_path, capsys):
    """The names of prepare_dataset.py dicom, each frame of a file; no name of a person is in the prepared set."""
    salt = tmp_path / "salt.txt"
    salt.write_text("0123456789abcdef" * 2)
    words = ["dicom", str(clinic), str(tmp_path / "prepared"), "--salt_file", str(salt), "--by", "image"]
    assert cli.run_main(prepare_dataset.main, prepare_dataset.parse_args(words)) == 0
    images = {path.stem: path for path in (tmp_path / "prepared/images").iterdir()}
    assert len(images) == 4
    data = write_data_set(tmp_path / "data", images)
    assert export(data, tmp_path / "seg", "--dicom", clinic, "--salt_file", salt, *BY_HAND) == 0
    frames = []
    for name, path in images.items():
        found = read(tmp_path / f"seg/{name}.dcm")[1]
        (source,) = found.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
        file = found.PatientID.removeprefix("ID of ")
        assert source.ReferencedSOPInstanceUID == dcmread(clinic / file).SOPInstanceUID
        frame = source.get("ReferencedFrameNumber")
        pixels = dcmread(clinic / file).pixel_array
        assert (cv2.imread(str(path))[..., ::-1] == (pixels[frame - 1] if frame else pixels)).all()
        frames.append(frame)
    assert sorted(map(str, frames)) == ["1", "2", "None", "None"]
    salt.write_text("another salt, which is as long as it must be")
    assert export(data, tmp_path / "other", "--dicom", clinic, "--salt_file", salt, *BY_HAND) == 2
    assert "was it prepared from other files, or with another salt?" in capsys.readouterr().err


def test_predictions(clinic, tmp_path, tiny_type, capsys):
    """The same masks as those of predict.py --dicom_seg, of the frame that was predicted, and how they were made."""
    weights = write_weights(tmp_path / "tiny.safetensors")
    assert predict(clinic / "b.dcm", weights, "--structures", "all", "--page", 2, "--dicom_seg", out="../out") == 0
    assert export(tmp_path / "out", tmp_path / "seg") == 0
    masks, found = read(tmp_path / "seg/b.dcm")
    first, expected = read(tmp_path / "out/dicom_seg/b.dcm")
    assert masks.keys() == first.keys() and all((masks[name] == first[name]).all() for name in masks)
    for row in rows_of(tmp_path / "out"):
        assert (masks[row["label"]] == mask_of(tmp_path / "out", row)).all()
    for one, other in ((found.SegmentSequence[0], expected.SegmentSequence[0]),):
        assert one.SegmentAlgorithmType == other.SegmentAlgorithmType == "AUTOMATIC"
        versions = [s.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion for s in (one, other)]
        assert versions[0] == versions[1]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\na,1,1,20,20\n")
    assert predict(clinic / "a.dcm", weights, "--boxes_csv", boxes, out="../boxes") == 0
    assert export(tmp_path / "boxes", tmp_path / "other") == 2
    assert "it does not say whether its boxes or points came from a person" in capsys.readouterr().err
    assert export(tmp_path / "boxes", tmp_path / "other", "--algorithm_type", "SEMIAUTOMATIC") == 0


# --- what is refused ----------------------------------------------------------------------------------------------


def test_flags_that_cannot_work(clinic, tmp_path, capsys):
    data = write_data_set(tmp_path / "data", {"a": clinic / "a.dcm"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes").touch()
    cases = {
        "say with --algorithm_type how the masks were made": (),
        "give --algorithm_name and --algorithm_version of the program, too": ("--algorithm_type", "AUTOMATIC"),
        "are of a program: leave them out for MANUAL": (*BY_HAND, "--algorithm_name", "x"),
        "--dicom nowhere is no folder": (*BY_HAND, "--dicom", "nowhere"),
        "give --dicom, the folder whose files were prepared with it": (*BY_HAND, "--salt_file", "salt"),
    }
    wrong = []
    for message, words in cases.items():
        if export(data, tmp_path / "seg", *words) != 2 or message not in capsys.readouterr().err:
            wrong.append(message)
    assert not wrong and not (tmp_path / "seg").exists()
    assert export(data, tmp_path / "full", *BY_HAND) == 2
    assert "full exists: give a folder that does not" in capsys.readouterr().err


def test_sources_that_cannot_be(clinic, tmp_path, capsys):
    """No DICOM file, encrypted, without pixels, of another modality, of another size: all of a kind in one go."""
    cv2.imwrite(str(tmp_path / "eye.png"), PICTURE)
    data = write_data_set(tmp_path / "plain", {"eye": tmp_path / "eye.png"})
    assert export(data, tmp_path / "seg", *BY_HAND) == 2
    message = capsys.readouterr().err
    assert "--dicom: 1 of 1 photographs are no DICOM files, such as" in message and "eye.png" in message

    kinds = {
        "encrypted": dataset(PICTURE, EncryptedAttributesSequence=[]),
        "empty": dataset(PICTURE),
        "volume": dataset(PICTURE, kind=OphthalmicTomographyImageStorage, Modality="OPT"),
    }
    del kinds["encrypted"].PixelData, kinds["empty"].PixelData
    for name, one in kinds.items():
        (clinic / f"{name}.dcm").write_bytes(written(one))
        cv2.imwrite(str(tmp_path / f"{name}.png"), PICTURE)
    data = write_data_set(tmp_path / "data", {name: tmp_path / f"{name}.png" for name in kinds})
    assert export(data, tmp_path / "seg", "--dicom", clinic, *BY_HAND) == 2
    message = capsys.readouterr().err
    for sentence in (
        "encrypted.dcm is an encrypted DICOM file: save it without encryption",
        "empty.dcm is a DICOM file without pixels",
        "volume.dcm is a DICOM file of Ophthalmic Tomography Image Storage (modality OPT), which is no photograph",
    ):
        assert sentence in message

    (clinic / "eye.dcm").write_bytes(written(dataset(PICTURE[:-2])))
    assert export(tmp_path / "plain", tmp_path / "seg", "--dicom", clinic, *BY_HAND) == 2
    message = capsys.readouterr().err
    assert "56 x 40 pixels, its image" in message and "eye.dcm 56 x 38: make the mask from the same picture" in message
    assert not (tmp_path / "seg").exists() and not list(tmp_path.glob(".seg*"))
