"""index.csv of a data set: what is known of its photographs besides their masks, one row a photograph.

The column image holds paths from the table's folder, dataset the name of the source, absent the structures that were
looked for and are not there, patient or patient_or_image_id who is seen. All others are kept. Tables are read as
spreadsheets save them: with commas, semicolons or tabs, headings in any case, file names without their folder.
"""

import csv
import difflib
import io
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sam_med2d.data.moved_paths import find_moved
from sam_med2d.errors import DataError, raise_problems
from sam_med2d.notes import REMARKS

FILE = "index.csv"
IMAGE, DATA_SET, ABSENT = "image", "dataset", "absent"
PATIENT = ("patient", "patient_or_image_id")
KNOWN = (IMAGE, DATA_SET, ABSENT, *PATIENT)
MEASURED = ("laterality", "fovea_x", "fovea_y", "pixel_spacing_x", "pixel_spacing_y")  # what measure.py reads
MEASURED += ("mm_per_pixel", "um_per_pixel", "axial_length")
UNIQUE = (*KNOWN, *MEASURED)  # headings that are there once, in any case; rows of one photograph say the same in them
DELIMITERS = ",;\t"
NOTHING = ("", "-", "none", "nan", "n/a", "na", "null")  # cells that name no structure
ALIKE, COLUMNS_ALIKE = 0.75, 0.8  # of two names of structures, or headings, as difflib measures it: a slip

Row = dict[str, str]  # by column; "" where a line ends early


@dataclass(frozen=True)
class IndexTable:
    """A table as it is written: its columns and rows in order, none of either without a file."""

    path: Path  # its file
    columns: list[str]  # headings; those of UNIQUE in lower case
    rows: list[Row]  # cells without spaces around them
    lines: list[int] = field(default_factory=list)  # line of the file at which each row ends
    delimiter: str = ","  # between cells

    @classmethod
    def read(cls, folder: Path, name: str = FILE) -> "IndexTable":
        """The table in a folder.

        Args:
            folder: from which its paths are read.
            name: of its file.

        Raises:
            DataError: the file is no table in UTF-8; or its columns, or the rows that are named, can mean two things.
        """
        path = folder / name
        if not path.is_file():
            return cls(path, [], [])
        try:
            content = path.read_bytes()  # spreadsheets put a mark before the first column
            text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
            table = _parsed(path, text)
        except (OSError, ValueError, csv.Error) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} cannot be read as a table ({error}): save it as CSV UTF-8") from error
        raise_problems(table._problems())
        if table.rows and IMAGE not in table.columns:
            REMARKS.add("a table without a column image is not used", path, f"columns {', '.join(table.columns)}")
        return table

    def find(self, image: Path) -> Row:
        """The row of a photograph, {} where there is none.

        Raises:
            DataError: the row gives a name that two photographs have.
        """
        place = os.path.abspath(image)
        exact = (places.get(place) for places in (self._places, self._here, self._moved))
        number = next((found for found in exact if found is not None), None)
        name = os.path.basename(place)
        named = [self._names[word] for word in (name, os.path.splitext(name)[0]) if word in self._names]
        numbers = [found for found in (number, *named) if found is not None]
        if not numbers:
            return {}
        number = numbers[0]
        if other := next((found for found in numbers if self._says(found) != self._says(number)), None):
            raise DataError(f"{self._line(other)}: line {self.lines[number]} is of {place}, too: join them")
        if (first := self._found.setdefault(number, place)) != place:
            name = self.rows[number][IMAGE]
            raise DataError(f"{self._line(number)}: {name} may be {first} or {place}: write the path from here")
        return self.rows[number]

    def lost(self) -> list[str]:
        """Rows, with their lines, whose photograph was not asked for and is not there."""
        rest = {place: number for place, number in self._places.items() if number not in self._found}
        if not (rest := {number for place, number in rest.items() if not os.path.exists(place)}):
            return []
        below = (
            {name for folder in self.path.parent.glob("*/") for name in os.listdir(folder)} if self._names else set()
        )
        below |= {os.path.splitext(name)[0] for name in below}
        here = (number for place, number in self._here.items() if os.path.exists(place))
        there = {*here, *self._moved.values(), *(number for name, number in self._names.items() if name in below)}
        return [f"line {self.lines[number]}: {self.rows[number][IMAGE]}" for number in sorted(rest - there)]

    def slips(self) -> dict[str, str]:
        """Columns that are not used, each with the known one that is not there and is probably meant."""
        there = {PATIENT if name in PATIENT else name for name in self.columns}
        missing = [name for name in KNOWN if (PATIENT if name in PATIENT else name) not in there]
        unknown = [name for name in self.columns if name not in KNOWN]
        near = [difflib.get_close_matches(name.lower(), missing, n=1, cutoff=COLUMNS_ALIKE) for name in unknown]
        return {name: meant[0] for name, meant in zip(unknown, near, strict=True) if meant}

    @cached_property
    def _places(self) -> dict[str, int]:
        """Numbers of the rows by the absolute paths that they give."""
        return {self._place(cell): number for number, cell in self._cells()}

    def _place(self, cell: str) -> str:
        """The absolute path that a cell gives from the table's folder."""
        return os.path.abspath(self.path.parent / cell.replace("\\", "/"))

    @cached_property
    def _here(self) -> dict[str, int]:
        """Numbers of the rows by the absolute paths that they give from the current folder, as maps may."""
        return {os.path.abspath(cell): number for number, cell in self._cells()}

    def _cells(self) -> Iterator[tuple[int, str]]:
        """Numbers of the rows that name a photograph, and its path with forward slashes."""
        return ((number, row[IMAGE].replace("\\", "/")) for number, row in enumerate(self.rows) if row.get(IMAGE))

    @cached_property
    def _moved(self) -> dict[str, int]:
        """Numbers of the rows that were written on another machine, by the absolute paths of their photographs."""
        cells = {row[IMAGE]: number for number, row in enumerate(self.rows) if row.get(IMAGE)}
        return {os.path.abspath(path): cells[cell] for cell, path in find_moved(cells, self.path.parent).found.items()}

    @cached_property
    def _names(self) -> dict[str, int]:
        """Numbers of the rows that give a file's name without its folder."""
        bare = (place for place in self._places if os.path.dirname(place) == os.path.abspath(self.path.parent))
        return {os.path.basename(place): self._places[place] for place in bare if not os.path.exists(place)}

    def _says(self, number: int) -> list[str]:
        """What a row says that rows of one photograph must agree on."""
        return [self.rows[number].get(name, "") for name in UNIQUE[1:]]

    @cached_property
    def _found(self) -> dict[int, str]:
        """The photograph that each row was found for."""
        return {}

    def _line(self, number: int) -> str:
        return f"{self.path}, line {self.lines[number]}"

    def _problems(self) -> list[str]:
        """A sentence for each column and row that can mean two things, or nothing."""
        told = [name for name in UNIQUE[1:] if name in self.columns]
        if IMAGE not in self.columns:
            heads, used = ", ".join(self.columns), {*KNOWN} & {*told}
            return [f"{self.path} has no column image ({heads}): head the one of the photographs so"] if used else []
        if twice := [name for name in UNIQUE if self.columns.count(name) > 1]:
            return [f"{self.path} has the column {twice[0]} several times: join them"]
        problems, first = [], {}
        for number, row in enumerate(self.rows):
            other = first.setdefault(self._place(row[IMAGE]), number)
            if not row[IMAGE] and any(self._says(number)):
                problems.append(f"{self._line(number)}: it names no {IMAGE}: name the photograph, or remove the row")
            elif row[IMAGE] and self._says(number) != self._says(other):
                problems.append(f"{self._line(number)}: line {self.lines[other]} is of {row[IMAGE]}, too: join them")
        return problems


def listed_structures(cell: str, known: Collection[str] = ()) -> list[str]:
    """The structures that a cell lists, with commas, semicolons or spaces between, in brackets and quotes or not.

    Args:
        cell: such as "drusen haemorrhage", "hard exudate; drusen" or "['drusen']".
        known: structures of the masks, as which names of another case or with other marks between words are meant.
    """
    spelled = {_plain(name): name for name in known}
    parts = [part for part in re.split(r"[,;|]", cell.strip("[](){} ")) if part.strip("'\" ")]
    names = []
    for part in parts:
        words = part.strip("'\" ").split()
        together = _plain("_".join(words))
        apart = together not in spelled and (len(parts) == 1 or all(_plain(word) in spelled for word in words))
        names += words if apart else [together if len(words) > 1 else words[0]]
    return list(dict.fromkeys(spelled.get(_plain(name), name) for name in names if name.lower() not in NOTHING))


def meant_structure(name: str, known: Collection[str]) -> str | None:
    """The structure of `known` that a name, which is none of them, is a slip of, such as optic_disk; None for none."""
    return None if name in known else next(iter(difflib.get_close_matches(name, known, n=1, cutoff=ALIKE)), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.lower())


def _parsed(path: Path, text: str) -> IndexTable:
    """The table, whatever is between its cells. Raises csv.Error, and DataError for a row with too many cells."""
    lines = text.splitlines(keepends=True)
    told = re.fullmatch(r"sep=(.)\s*", lines[0], re.IGNORECASE) if lines else None  # what Excel reads first
    mark = told[1] if told else max(DELIMITERS, key=lambda mark: _fit(lines[0] if lines else "", mark))
    reader = csv.reader(io.StringIO("".join(lines[bool(told) :])), delimiter=mark, strict=True, skipinitialspace=True)
    columns = [_heading(cell) for cell in next(reader, [])]
    while columns and not columns[-1]:
        columns.pop()
    table = IndexTable(path, columns, [], [], mark)
    for cells in reader:
        line, filled = reader.line_num + bool(told), [cell.strip() for cell in cells]
        extra = [cell for cell in filled[len(columns) :] if cell]
        if extra and columns[-1] != ABSENT:
            counts = f"{len(cells)} cells, the headings are {len(columns)}"
            raise DataError(f"{path}, line {line}: it has {counts}: put quotes around lists")
        if any(filled):
            row = dict(zip(columns, [*filled, *[""] * len(columns)], strict=False))
            table.rows.append(row | ({ABSENT: ",".join((row[ABSENT], *extra))} if extra else {}))
            table.lines.append(line)
    return table


def _fit(heading: str, mark: str) -> tuple[bool, int]:
    """How well a mark divides the first line."""
    try:
        columns = [_heading(cell) for cell in next(csv.reader([heading], delimiter=mark, skipinitialspace=True), [])]
    except csv.Error:
        return False, 0
    return IMAGE in columns, len(columns)


def _heading(cell: str) -> str:
    """A heading; in lower case if it is known."""
    name = re.sub(r"\s+", "_", cell.strip().lower())
    return name if name in UNIQUE else cell.strip()


class IndexTables:
    """Looks photographs up in the tables of their data sets, each of which is read once."""

    def __init__(self) -> None:
        self._tables: dict[Path, IndexTable] = {}

    def find(self, image: Path, folder: Path, columns: Sequence[str]) -> Row:
        """What the tables say of a photograph, with the folder's name for an empty data set; {} where no table has one.

        Args:
            image: the photograph.
            folder: that of its map, whose table comes first; then that of the data set in which the photograph lies.
            columns: a row counts if one of them is filled.

        Raises:
            DataError: a file is no table in UTF-8, or it is not clear which photograph a row means.
        """
        for home in dict.fromkeys((folder, Path(os.path.abspath(image)).parent.parent)):
            if home not in self._tables:
                self._tables[home] = IndexTable.read(home)
            row = self._tables[home].find(image)
            if any(row.get(column) for column in columns):
                return {**row, DATA_SET: row.get(DATA_SET) or home.resolve().name}
        return {}

    def lost(self) -> dict[Path, list[str]]:
        """Rows of the tables that were read, by their files, whose photograph is not there."""
        return {table.path: lost for table in self._tables.values() if (lost := table.lost())}

    def slips(self) -> dict[Path, dict[str, str]]:
        """`IndexTable.slips` of the tables that were read, by their files."""
        return {table.path: slips for table in self._tables.values() if (slips := table.slips())}
