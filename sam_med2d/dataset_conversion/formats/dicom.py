"""Photographs in DICOM files, without anything that names a person.

Of a file's attributes only those are taken that are listed here. Patients are told apart by a hash with a salt that is
in no output; names of files are made of such hashes. Photographs with text in the picture are refused.
"""

import hashlib
import hmac
import re
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.data.dicom import INSTALL, DicomFile, is_readable, other_kind, read_dicom
from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import read_bytes, read_image
from sam_med2d.data.picture_signs import is_dicom_file
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.samples import Choice, Sample
from sam_med2d.errors import DataError, UnreadableError

SALT_BYTES = 16  # at least
DATES = ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate")  # the first that is there
LONGEST = 64  # letters of a manufacturer's or model's name


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Each frame of each photograph is a sample without masks.

    Raises:
        DataError: pydicom is not installed, or the salt cannot be used.
    """
    if not is_readable():
        raise DataError(f"dicom needs pydicom: {INSTALL}")
    salt, made = read_salt(choice.options.get("salt_file")), FoundSamples([])
    others: Counter[str] = Counter()
    seen: dict[str, Path] = {}
    copies = nameless = 0
    for path in filter(is_dicom_file, tree.files.values()):
        if kind := other_kind(path):
            others[kind] += 1
            continue
        try:
            with path.open("rb") as file:
                found = read_dicom(path, file)
                samples = samples_of(path, found, salt, keep_ids=bool(choice.options.get("keep_ids")))
        except DataError as error:
            made.problems.append(str(error))
            continue
        if (first := seen.setdefault(samples[0].name, path)) != path:
            if _show_the_same(first, path):
                copies += 1
            else:
                made.problems.append(f"{path} shows another photograph than {first}, which has its SOP instance UID")
            continue
        made.samples += samples
        nameless += len(samples) * (not _text(found.data, "PatientID"))
    made.samples.sort(key=lambda sample: sample.name)
    made.notes += [f"{count} DICOM file(s) of {kind} are no photographs: left out" for kind, count in others.items()]
    made.notes += [f"{copies} file(s) are copies of others, by their SOP instance UID: left out"] * bool(copies)
    if nameless:
        made.notes.append(f"{nameless} photograph(s) have no patient ID: those of one study count as one patient")
    return made


def _show_the_same(first: Path, second: Path) -> bool:
    """Whether two files have the same pixels, of their first frames; files that cannot be read are told later."""
    try:
        return np.array_equal(read_image(first, page=1), read_image(second, page=1))
    except DataError:
        return True


def read_salt(file: str | None) -> bytes:
    """What --salt_file holds, or a random one. Raises DataError for a file that cannot be used."""
    if file is None:
        return secrets.token_bytes(2 * SALT_BYTES)
    salt = read_bytes(Path(file), advice="give a file of random text to --salt_file").strip()
    if len(salt) < SALT_BYTES:
        raise DataError(
            f"--salt_file {file} holds {len(salt)} bytes: give at least {SALT_BYTES}, which nobody can guess"
        )
    return salt


def samples_of(path: Path, file: DicomFile, salt: bytes, *, keep_ids: bool) -> list[Sample]:
    """The frames of a photograph, whose names depend on the salt alone, and what index.csv says of them.

    Args:
        path: its file.
        file: what the file says.
        salt: of the hashes.
        keep_ids: whether patients are called by their ID.

    Raises:
        UnreadableError: the picture may name a person.
    """
    data = file.data
    if _text(data, "BurnedInAnnotation").upper() == "YES":
        raise UnreadableError(
            f"{path} has text in its picture that may name a person (Burned In Annotation is YES): cover it and set "
            "the attribute to NO"
        )
    person, eye = _text(data, "PatientID"), laterality(data)
    who = ["id", _text(data, "IssuerOfPatientID"), person] if person else ["study", _text(data, "StudyInstanceUID")]
    patient = _hash(salt, *who)
    which = _text(data, "SOPInstanceUID") or hashlib.sha256(path.read_bytes()).hexdigest()
    number = int(_hash(salt, "image", which), 16) % 10**8
    columns = {"laterality": eye, "acquisition_date": _date(data)}
    columns |= {"manufacturer": _product(data, "Manufacturer"), "model": _product(data, "ManufacturerModelName")}
    name = f"{patient}_{eye or 'U'}_{number:08d}"
    about = {"patient": person if keep_ids and person else patient, "spacing": _spacing(data)}
    return [
        Sample(
            f"{name}_f{frame:02d}" if file.frames > 1 else name,
            path,
            (),
            page=frame,
            columns=tuple({**columns, "frame": str(frame)}.items()),
            **about,
        )
        for frame in range(1, file.frames + 1)
    ]


def _hash(salt: bytes, *words: str) -> str:
    return hmac.new(salt, "\0".join(words).encode(), "sha256").hexdigest()[:12]


def _text(data: Any, keyword: str) -> str:
    """An attribute in letters; "" where it is missing or damaged."""
    try:
        return str(data.get(keyword) or "").strip()
    except Exception:  # pydicom raises of all kinds for damaged attributes
        return ""


def laterality(data: Any) -> str:
    """The eye of a photograph's Dataset: R, L or B for both; "" where it is unknown."""
    sides = [_text(data, "ImageLaterality"), _text(data, "Laterality")]
    for groups in data.get("SharedFunctionalGroupsSequence") or []:
        sides += [_text(anatomy, "FrameLaterality") for anatomy in groups.get("FrameAnatomySequence") or []]
    return next((side for side in sides if side in ("R", "L", "B")), "")


def _date(data: Any) -> str:
    """The day of the photograph; "" where it is unknown."""
    days = (re.match(r"((?:19|20)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", _text(data, keyword)) for keyword in DATES)
    return next(("-".join(day.groups()) for day in days if day), "")


def _product(data: Any, keyword: str) -> str:
    return re.sub(r"[^\w .,()+/&-]", "", _text(data, keyword))[:LONGEST].strip()


def _spacing(data: Any) -> tuple[float, float] | None:
    """Width and height of a pixel in mm; None where they are unknown."""
    try:
        height, width = map(float, data.get("PixelSpacing") or ())
    except (TypeError, ValueError):
        return None
    return (width, height) if width > 0 and height > 0 else None


DICOM = DataSet(
    name="dicom",
    title="photographs in DICOM files, of no person's name",
    layout="""any folders and names: files of Ophthalmic Photography, VL Photographic and Secondary Capture
(masks are added later, as masks/<name of the photograph>_<structure>.png: see folder)""",
    find=find,
    has_masks=False,
    names_persons=True,
    flags={
        "--keep_ids": {
            "action": "store_const",
            "const": True,
            "help": "index.csv has the patients' IDs; default: hashes with a salt",
        },
        "--salt_file": {
            "metavar": "FILE",
            "help": "the salt of the hashes: runs with the same file give the same patients and names; keep it secret;"
            " default: random",
        },
    },
)
