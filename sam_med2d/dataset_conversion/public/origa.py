"""ORIGA-light: 650 photographs, optic disc and cup.

Masks hold 0 for background, 1 for the disc's rim and 2 for the cup: as PNG files, or as `mask` in MATLAB files where a
copy has only these. The table names the official halves: set A trains, set B tests. Patients are not named.
"""

import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import read_bytes
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect, read_table
from sam_med2d.dataset_conversion.mask_readers import Values, sized
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

NAME = r"(?P<id>\d{3})"
PICTURES = rf"Masks/{NAME}\.png"
MATLAB = rf"Semi-automatic-annotations[^/]*/{NAME}\.mat"
TABLES = r"(?:OrigaList|glaucoma)\.csv"
HALVES = {"A": "train", "B": "test"}
BACKGROUND, RIM, CUP = CLASSES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class MatlabValues:
    """Pixels of the matrix `mask` in a MATLAB file that have one of these values. Raises DataError that names it."""

    values: tuple[int, ...]

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        from scipy.io import loadmat  # a third of a second that no other data set needs
        from scipy.io.matlab import MatReadError

        content = io.BytesIO(read_bytes(path))
        try:
            labels = np.asarray(loadmat(content)["mask"])
        except (MatReadError, OSError, ValueError, TypeError, LookupError, NotImplementedError, zlib.error) as error:
            raise DataError(f"{path} is not a MATLAB file with a matrix `mask`: download it again") from error
        if labels.ndim != 2 or not np.isin(labels, CLASSES).all():
            raise DataError(f"{path} is not a map of {BACKGROUND}, {RIM} and {CUP}: download it again")
        labels = sized(path, size, labels)
        return np.isin(labels, self.values)


def find(tree: Tree, choice: Choice) -> FoundSamples:
    if tree.match(PICTURES):
        pattern, disc, cup = PICTURES, Values((RIM, CUP), CLASSES), Values((CUP,), CLASSES)
    else:
        pattern, disc, cup = MATLAB, MatlabValues((RIM, CUP)), MatlabValues((CUP,))
    halves = _halves(tree)
    offer = collect(
        tree,
        "origa_{id}",
        rf"Images/{NAME}\.jpg",
        [Masks("optic_disc", pattern, disc), Masks("optic_cup", pattern, cup)],
        split=lambda found: halves.get(found.id, ""),
    )
    if lost := [sample.image for sample in offer.samples if not sample.split]:
        offer.notes.append(f"{len(lost)} photographs, {lost[0]} first, are in no half: OrigaList.csv names these")
    return offer


def _halves(tree: Tree) -> dict[str, str]:
    """Splits of the photographs, by number, from the table; its file names may stand in quotes."""
    halves = {}
    for line in read_table(tree, TABLES):
        row = {(key or "").strip().lower(): str(value).strip(" '\"") for key, value in line.items()}
        halves[Path(row.get("filename", "")).stem] = HALVES.get(row.get("set", "").upper(), "")
    return halves


ORIGA = DataSet(
    name="origa",
    title="ORIGA-light",
    citation="Z. Zhang et al., ORIGA-light: an online retinal fundus image database for glaucoma analysis and "
    "research, EMBC 2010",
    terms="for research; its authors no longer give it out, and the copies state no terms",
    where="https://www.kaggle.com/datasets/arnavjain1/glaucoma-datasets, folder ORIGA",
    structures=("optic_disc", "optic_cup"),
    layout="""OrigaList.csv
Images/001.jpg
Masks/001.png
Semi-automatic-annotations/001.mat""",
    counts={"train": 325, "test": 325},
    find=find,
)
