"""What is wrong with index.csv, and files that no map lists."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sam_med2d.data.index_table import ABSENT, IMAGE, IndexTable, listed_structures, meant_structure
from sam_med2d.data.photographs import SUFFIXES
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.map_checks import ListedPhotograph

DICOM = (".dcm", ".dicom")


def find_index_faults(folder: Path, photographs: Sequence[ListedPhotograph]) -> Iterator[Finding]:
    """Warnings of rows without a photograph, and of headings and absent structures whose names are a slip.

    Raises:
        DataError: the file is no table, or can mean two things.
    """
    table = IndexTable.read(folder)
    for row in table.lost():
        message = f"{table.path}, {row} is not there: correct the path, or remove the row"
        yield Finding("index_row", (row.partition(": ")[2], str(table.path)), message, warning=True)
    for name, meant in table.slips().items():
        message = f"{table.path} has the column {name}, which is not used: is {meant} meant?"
        yield Finding("index_column", (str(table.path),), message, warning=True)
    known = {structure for photograph in photographs for _, structure in photograph.masks}
    for row in table.rows if known else ():
        for name in listed_structures(row.get(ABSENT, ""), known):
            if near := meant_structure(name, known):
                message = f"{table.path}: {row[IMAGE]} lacks {name}, and masks show {near}: is that meant?"
                yield Finding("absent_name", (row[IMAGE], str(table.path)), message, warning=True)


def unlisted(photographs: Sequence[ListedPhotograph]) -> dict[Path, list[str]]:
    """Pictures, by their folder, that lie beside listed ones and are in no map."""
    listed = {os.path.abspath(path) for one in photographs for path in (one.image, *(mask for mask, _ in one.masks))}
    found = {}
    for folder in sorted({os.path.dirname(path) for path in listed}):
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        left = [name for name in names if is_picture(name) and os.path.join(folder, name) not in listed]
        found |= {Path(folder): left} if left else {}
    return found


def find_passed_over(left: dict[Path, list[str]]) -> Iterator[Finding]:
    """Warnings of DICOM files that are in no map: programs that write maps often pass them over."""
    for folder, names in left.items():
        if files := tuple(str(folder / name) for name in names if name.lower().endswith(DICOM)):
            message = f"{files[0]}: {len(files)} DICOM file(s) in {folder} are in no map: list them, or leave them"
            yield Finding("passed_over", files, message, warning=True)


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture, and none that hides it."""
    return name.lower().endswith((*SUFFIXES, *DICOM)) and not name.startswith(".")
