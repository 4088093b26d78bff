"""index.csv of a data set: what is known of its photographs besides their masks, one row a photograph.

The column image holds paths from the table's folder, dataset the name of the source, absent the structures that were
looked for and are not there (separated by spaces), patient or patient_or_image_id who is seen. All others are kept.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_med2d.errors import DataError

FILE = "index.csv"
IMAGE, DATA_SET, ABSENT = "image", "dataset", "absent"
PATIENT = ("patient", "patient_or_image_id")

Row = dict[str, str]  # by column; "" where a line ends early, surplus cells under None


@dataclass(frozen=True, slots=True)
class IndexTable:
    """A table as it is written: its columns and rows in order, none of either without a file."""

    path: Path
    columns: list[str]
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> "IndexTable":
        """The table in a folder.

        Raises:
            DataError: the file is no table in UTF-8.
        """
        path = folder / FILE
        if not path.is_file():
            return cls(path, [], [])
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark before the first column
                reader = csv.DictReader(file, restval="", strict=True)
                return cls(path, list(reader.fieldnames or ()), list(reader))
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as a table ({error}): save it as CSV UTF-8") from error

    def by_image(self) -> dict[str, Row]:
        """Rows by the absolute paths of their photographs; of two rows of one photograph the last."""
        return {os.path.abspath(self.path.parent / row[IMAGE]): row for row in self.rows if row.get(IMAGE)}


class IndexTables:
    """Looks photographs up in the tables of their data sets, each of which is read once."""

    def __init__(self) -> None:
        self._rows: dict[Path, dict[str, Row]] = {}

    def find(self, image: Path, folder: Path, columns: Sequence[str]) -> Row:
        """What the tables say of a photograph.

        Args:
            image: the photograph.
            folder: that of its map, whose table comes first; then that of the data set in which the photograph lies.
            columns: a row counts if one of them is filled.

        Returns:
            The row, with the folder's name for an empty data set; {} where no table has one.

        Raises:
            DataError: a file is no table in UTF-8.
        """
        place = os.path.abspath(image)
        for home in dict.fromkeys((folder, Path(place).parent.parent)):
            if home not in self._rows:
                self._rows[home] = IndexTable.read(home).by_image()
            row = self._rows[home].get(place, {})
            if any(row.get(column) for column in columns):
                return {**row, DATA_SET: row.get(DATA_SET) or home.resolve().name}
        return {}
