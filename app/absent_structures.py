"""What is known not to be in a photograph: the column `absent` of the data set's index.csv, which training reads."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from sam_med2d.data.photographs import Photograph
from sam_med2d.data.records import index_row
from sam_med2d.errors import DataError
from sam_med2d.visualization.tables import write_csv

IMAGE, DATA_SET, ABSENT = "image", "dataset", "absent"


class Absences:
    """Structures that somebody looked for and did not find, in the folder `out`.

    keys: how its maps name the photographs. Rows of other photographs and other columns stay as they are. Raises
    DataError for a table that cannot be read, or is another's.
    """

    def __init__(self, out: Path, photographs: Sequence[Photograph], keys: Sequence[str]) -> None:
        self.out, self.keys = out, keys
        self.path = out / "index.csv"
        self.columns, self.rows = self._read()
        own = {os.path.abspath(out / row[IMAGE]): row for row in self.rows if row[IMAGE] and row[DATA_SET]}
        indexes: dict[Path, dict[str, dict[str, str]]] = {}
        self.own = [own.get(os.path.abspath(photograph.path)) for photograph in photographs]
        self.told = [index_row(photograph.path, out, indexes) for photograph in photographs]  # by another table, too

    def of(self, number: int) -> list[str]:
        """Structures that are known not to be in a photograph."""
        return (self.told[number].get(ABSENT) or "").split()

    def change(self, number: int, structure: str, *, absent: bool) -> None:
        """Write down that a structure is not there, or that this is not known."""
        names = [name for name in self.of(number) if name != structure] + [structure] * absent
        if names == self.of(number):
            return
        own, told = self.own[number], self.told[number]
        about = own or {IMAGE: self.keys[number], DATA_SET: told.get(DATA_SET) or self.out.resolve().name}
        changed = dict.fromkeys(self.columns, "") | about | {ABSENT: " ".join(names)}
        rows = [changed if row is own else row for row in self.rows] + [changed] * (own is None)
        write_csv(self.path, self.columns, rows)
        self.rows, self.own[number], self.told[number] = rows, changed, changed

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Columns and rows of the table; those of an empty one without it."""
        if not self.path.is_file():
            return [IMAGE, DATA_SET, ABSENT], []
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark before all
                header, *lines = [line for line in csv.reader(file, strict=True) if line] or [[]]
        except (ValueError, csv.Error) as error:
            raise DataError(f"{self.path} is no table in UTF-8 ({error}): save it as CSV UTF-8") from error
        if not {IMAGE, DATA_SET} <= set(header) or any(len(line) > len(header) for line in lines):
            raise DataError(f"{self.path} is no table of photographs (columns {IMAGE}, {DATA_SET}): rename or mend it")
        columns = [*header, *[ABSENT] * (ABSENT not in header)]
        return columns, [dict.fromkeys(columns, "") | dict(zip(header, line, strict=False)) for line in lines]
