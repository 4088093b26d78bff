"""`prepare_dataset.py dicom`: photographs, divided by patient, and no word of any person in what is written."""

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from sam_med2d.data.image_io import read_image
from scripts import prepare_dataset as script
from tests.helpers.commands import run_command
from tests.helpers.dicom_files import dataset, palette, written
from tests.helpers.input_forms import deep, plain_picture

PICTURE = plain_picture()
SALT = "0123456789abcdef0123456789abcdef"
# what index.csv and the splits are made of; what pixels depend on
TAKEN = ("ImageLaterality", "Manufacturer", "ManufacturerModelName", "SOPClassUID", "Modality", "SpecificCharacterSet")

LETTERS = ("PN", "LO", "SH", "ST", "LT", "UT", "UC")  # value representations
GROUPS = (0x08, 0x10, 0x18, 0x20, 0x32, 0x38, 0x40)  # of attributes


def run(*words) -> int:
    return run_command(script, [*map(str, words), "--num_workers", "1"])


def clinic(folder: Path, people: int = 4, **attributes) -> Path:
    """Both eyes of some people, one of them in 12 bits, in names that tell nothing."""
    folder.mkdir()
    for i in range(2 * people):
        about = {"PatientID": f"SECRETID{i // 2}", "ImageLaterality": "RL"[i % 2], "StudyDate": "20240229"}
        about |= {"Manufacturer": "Topcon", "ManufacturerModelName": "NW400", "PixelSpacing": [0.01, 0.02]}
        pixels, bits = (PICTURE, 8) if i else (deep(PICTURE, 12), 12)
        (folder / f"IM{i:04d}").write_bytes(
            written(dataset(pixels + i * (bits == 8), bits=bits, **about, **attributes))
        )
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_photographs_and_what_is_known_of_them(tmp_path, capsys):
    assert run("dicom", clinic(tmp_path / "in"), tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "| structure" not in said and f"next: masks as {tmp_path}/out/masks/<photograph>_<structure>.png" in said
    rows = table(tmp_path / "out")
    assert len(rows) == 8 and len({row["patient"] for row in rows}) == 4
    for patient in {row["patient"] for row in rows}:
        own = [row for row in rows if row["patient"] == patient]
        assert {row["laterality"] for row in own} == {"L", "R"} and len({row["split"] for row in own}) == 1
    told = {key: {row[key] for row in rows} for key in rows[0]}
    assert told["acquisition_date"] == {"2024-02-29"} and told["manufacturer"] == {"Topcon"}
    assert told["model"] == {"NW400"} and told["pixel_spacing_x"] == {"0.02"} and told["pixel_spacing_y"] == {"0.01"}
    pixels = [read_image(tmp_path / "out" / row["image"]) for row in rows]
    assert {int(pixel[0, 0, 0]) for pixel in pixels} == {0, *range(1, 8)}
    assert sum((pixel == PICTURE).all() for pixel in pixels) == 1
    maps = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("image2label_*.json")]
    assert sorted(image for found in maps for image in found) == [row["image"] for row in rows]


def test_no_text_of_a_file_reaches_any_output(tmp_path, capfd):
    """A word of its own is planted into every attribute of letters, also in those of sequences."""
    planted = {}

    def plant(data: Dataset) -> None:
        for tag, (kind, count, _, retired, keyword) in DicomDictionary.items():
            own = keyword and not retired and keyword not in TAKEN and keyword not in data
            if own and tag >> 16 in GROUPS and kind in LETTERS:
                planted[keyword] = f"Zq{len(planted)}x"
                setattr(data, keyword, planted[keyword] if count == "1" else [planted[keyword]])

    source = tmp_path / "in"
    source.mkdir()
    for i in range(4):
        data = dataset(PICTURE + i)
        del data.PatientID, data.PatientName
        plant(data)
        inner = Dataset()
        inner.OperatorsName = inner.InstitutionName = planted.setdefault("inner", "ZqInner")
        data.RequestAttributesSequence = Sequence([inner])
        data.PatientBirthDate, data.AccessionNumber = "19330405", planted.setdefault("number", "ZqAccession")
        data.PatientID = planted["PatientID"] = f"ZqPerson{i}"
        (source / f"{i}.dcm").write_bytes(written(data))
    data.SOPInstanceUID = uid.generate_uid()
    (source / "9.dcm").write_bytes(written(data)[:-500])
    assert len(planted) > 150
    assert run("dicom", source, tmp_path / "out", "--leave_out") == 0
    said = "".join(capfd.readouterr()).replace(str(source), "")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    told = said.encode() + b"".join(path.name.encode() + path.read_bytes() for path in files)
    assert len(files) > 6 and "left out: /9.dcm is not a whole picture" in said
    assert not [secret for secret in (b"Zq", b"19330405", b"1933-04-05", b"1.2.826") if secret in told]
    assert str(source).encode() not in (tmp_path / "out/prepared.json").read_bytes()


def test_the_salt_makes_patients_and_names_again(tmp_path):
    source, salt = clinic(tmp_path / "in", people=2), tmp_path / "salt.txt"
    salt.write_text(SALT)
    names = {}
    for out, flags in {"a": [], "b": [], "c": ["--salt_file", salt], "d": ["--salt_file", salt]}.items():
        assert run("dicom", source, tmp_path / out, *flags) == 0
        names[out] = [(row["image"], row["patient"]) for row in table(tmp_path / out)]
        assert not any(SALT.encode() in path.read_bytes() for path in (tmp_path / out).rglob("*") if path.is_file())
    assert names["c"] == names["d"] and not {*names["a"]} & {*names["b"]}
    assert run("dicom", source, tmp_path / "ids", "--salt_file", salt, "--keep_ids") == 0
    assert {row["patient"] for row in table(tmp_path / "ids")} == {"SECRETID0", "SECRETID1"}
    assert [row["image"] for row in table(tmp_path / "ids")] == [image for image, _ in names["c"]]


def test_a_salt_in_the_folder_that_is_replaced_is_refused(tmp_path, capsys):
    source, salt = clinic(tmp_path / "in", people=1), tmp_path / "out/salt.txt"
    assert run("dicom", source, tmp_path / "out") == 0
    salt.write_text(SALT)
    assert run("dicom", source, tmp_path / "out", "--overwrite", "--salt_file", salt) == 2
    assert "lies in OUT" in capsys.readouterr().err and salt.read_text() == SALT


def test_frames_copies_and_other_files(tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    two = dataset(np.stack([PICTURE, PICTURE[::-1]]), PatientID="")
    for name in ("a.dcm", "copy of a.dcm"):
        (source / name).write_bytes(written(two))
    (source / "b").write_bytes(written(dataset(PICTURE, PatientID="", StudyInstanceUID=two.StudyInstanceUID)))
    (source / "c").write_bytes(written(palette(PICTURE[..., 0] // 128, np.array([[0, 0, 0], [9, 99, 199]], np.uint8))))
    (source / "ct").write_bytes(written(dataset(PICTURE, kind=uid.CTImageStorage, Modality="CT")))
    (source / "readme.txt").write_text("x")
    assert run("dicom", source, tmp_path / "out", "--max_side", 30) == 0
    said = capsys.readouterr().out
    assert "note: 1 DICOM file(s) of CT Image Storage (modality CT) are no photographs: left out" in said
    assert "note: 1 file(s) are copies of others" in said and "note: 3 photograph(s) have no patient ID" in said
    rows = table(tmp_path / "out")
    assert [row["frame"] for row in rows if "_f0" in row["image"]] == ["1", "2"] and len(rows) == 4
    assert len({row["patient"] for row in rows}) == 2


def test_photographs_without_an_instance_uid_or_with_one_that_is_not_theirs(tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for name, picture in (("a", PICTURE), ("b", PICTURE[::-1])):
        data = pydicom.dcmread(io.BytesIO(written(dataset(np.ascontiguousarray(picture)))))
        del data.SOPInstanceUID
        data.save_as(source / name)
    assert run("dicom", source, tmp_path / "out") == 0 and len(table(tmp_path / "out")) == 2
    for name, picture in (("a", PICTURE), ("b", PICTURE[::-1])):
        (source / name).write_bytes(written(dataset(np.ascontiguousarray(picture), SOPInstanceUID="1.2.3")))
    assert run("dicom", source, tmp_path / "other") == 2
    shown = f"{source / 'b'} shows another photograph than {source / 'a'}, which has its SOP instance UID"
    assert shown in capsys.readouterr().err and not (tmp_path / "other").exists()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_day_that_is_none_is_left_out(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name, day in (("a", "20201350"), ("b", "20200102")):
        (source / name).write_bytes(written(dataset(PICTURE, AcquisitionDateTime=day)))
    assert run("dicom", source, tmp_path / "out") == 0
    assert {row["acquisition_date"] for row in table(tmp_path / "out")} == {"", "2020-01-02"}


def test_spacing_is_that_of_the_written_photograph(tmp_path):
    assert run("dicom", clinic(tmp_path / "in", people=1), tmp_path / "out", "--max_side", 30) == 0
    assert {(row["pixel_spacing_x"], row["pixel_spacing_y"]) for row in table(tmp_path / "out")} == {("0.04", "0.02")}
    assert run("dicom", tmp_path / "in", tmp_path / "tiles", "--tile", 30) == 0
    assert {row["pixel_spacing_x"] for row in table(tmp_path / "tiles")} == {"0.02"}


def test_masks_are_added_by_the_photographs_names(tmp_path):
    """As docs/how-to/add-a-dataset.md says it."""
    assert run("dicom", clinic(tmp_path / "in"), tmp_path / "out") == 0
    for path in (tmp_path / "out/images").iterdir():
        mask = np.zeros(PICTURE.shape[:2], np.uint8)
        mask[10:20, 10:20] = 255
        cv2.imwrite(str(tmp_path / "out/masks" / f"{path.stem}_optic_disc.png"), mask)
    assert run("folder", tmp_path / "out", tmp_path / "drawn", "--patient", "([0-9a-f]{12})_[RLBU]_") == 0
    before, after = table(tmp_path / "out"), table(tmp_path / "drawn")
    told = [{(row["image"], row["patient"]) for row in rows} for rows in (before, after)]
    assert told[0] == told[1] and {row["structures"] for row in after} == {"optic_disc"}


def test_dicom_photographs_in_a_folder_with_masks(tmp_path):
    (tmp_path / "in/images").mkdir(parents=True)
    (tmp_path / "in/masks").mkdir()
    mask = np.zeros(PICTURE.shape[:2], np.uint8)
    mask[10:20, 10:20] = 255
    for i in range(3):
        (tmp_path / f"in/images/eye{i}.dcm").write_bytes(written(dataset(PICTURE)))
        cv2.imwrite(str(tmp_path / f"in/masks/eye{i}_optic_disc.png"), mask)
    assert run("folder", tmp_path / "in", tmp_path / "out") == 0
    assert [(read_image(path) == PICTURE).all() for path in (tmp_path / "out/images").iterdir()] == [True] * 3


@pytest.mark.parametrize(
    ("attributes", "salt", "message"),
    [
        ({"BurnedInAnnotation": "YES"}, SALT, "IM0000 has text in its picture that may name a person"),
        ({}, "short", "salt.txt holds 5 bytes: give at least 16"),
        ({}, None, "salt.txt cannot be opened (No such file or directory): give a file of random text to --salt_file"),
        ({"Modality": "CT", "kind": uid.CTImageStorage}, SALT, "SOURCE is not photographs in DICOM files"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, capsys, attributes, salt, message):
    source = clinic(tmp_path / "in", people=1, **attributes)
    if salt is not None:
        (tmp_path / "salt.txt").write_text(salt)
    assert run("dicom", source, tmp_path / "out", "--salt_file", tmp_path / "salt.txt") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_flags_of_dicom_are_of_no_use_elsewhere(tmp_path, capsys):
    assert run("folder", clinic(tmp_path / "in", people=1), tmp_path / "out", "--keep_ids") == 2
    assert "--keep_ids is of no use for folder" in capsys.readouterr().err
