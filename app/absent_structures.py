"""Structures known to be absent from photographs: the column `absent` of the index.csv that training reads."""

from collections.abc import Sequence
from pathlib import Path
from threading import RLock

from app.stamps import stamp_of
from sam_med2d.data.index_table import ABSENT, DATA_SET, IMAGE, IndexTable, IndexTables, listed_structures
from sam_med2d.data.photographs import Photograph
from sam_med2d.errors import DataError
from sam_med2d.visualization.tables import write_csv


class AbsentStructures:
    """Structures that are known to be absent from photographs, in the index.csv of the data set in `out`.

    Photographs are known by their number; `keys` are the names that the maps have for them. Rows of other photographs
    and other columns stay as they are.

    Raises:
        DataError: for a table that cannot be read, or is no table of photographs.
    """

    def __init__(self, out: Path, photographs: Sequence[Photograph], keys: Sequence[str]) -> None:
        self.out, self.keys = out, keys
        self.photographs = photographs
        self._lock = RLock()  # pages read while one of them writes
        self._read()

    def _read(self) -> None:
        """Read the table."""
        table, tables = IndexTable.read(self.out), IndexTables()
        if table.path.is_file() and IMAGE not in table.columns:
            raise DataError(f"{table.path} is no table of photographs (column {IMAGE}): rename or mend it")
        self.path, self.rows, self.delimiter = table.path, table.rows, table.delimiter
        self.columns = list(dict.fromkeys((*(table.columns or (IMAGE, DATA_SET)), ABSENT)))
        self.own = [table.find(photograph.path) or None for photograph in self.photographs]
        # another table may say it, too
        self.told = [tables.find(photograph.path, self.out, (DATA_SET, ABSENT)) for photograph in self.photographs]
        self._seen = stamp_of(self.path)

    def of(self, number: int) -> list[str]:
        """Structures that are known to be absent from a photograph, given by its `number`."""
        with self._lock:
            if stamp_of(self.path) != self._seen:  # another program has written it since
                self._read()
            return listed_structures(self.told[number].get(ABSENT, ""))

    def change(self, number: int, structure: str, *, absent: bool) -> None:
        """Write down that a structure is absent, or that this is not known.

        Args:
            number: of the photograph.
            structure: its name.
            absent: whether it is known to be absent.
        """
        with self._lock:
            self._change(number, structure, absent=absent)

    def _change(self, number: int, structure: str, *, absent: bool) -> None:
        before = self.of(number)
        names = [name for name in before if name != structure] + [structure] * absent
        if names == before:
            return
        own, told = self.own[number], self.told[number]
        about = own or {IMAGE: self.keys[number], DATA_SET: told.get(DATA_SET) or self.out.resolve().name}
        changed = {column: (about | {ABSENT: " ".join(names)}).get(column, "") for column in self.columns}
        rows = [changed if row is own else row for row in self.rows] + [changed] * (own is None)
        write_csv(self.path, self.columns, rows, delimiter=self.delimiter)
        self.rows, self.own[number], self.told[number] = rows, changed, changed
        self._seen = stamp_of(self.path)
