"""Tables: Markdown for reports, CSV for files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segment_anything.utils.atomic import atomic_path


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        headings: of the columns.
        lines: the cells of each line, as many as there are columns.

    Returns:
        The table, without a line break at its end.
    """
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, delimiter: str = ",") -> None:
    """Write a table as CSV in UTF-8, atomically; a folder that is missing is made.

    Args:
        path: of the file.
        columns: names in the first line.
        rows: {column: value} of each line, taken one by one; a column that a row lacks is an empty cell.
        delimiter: between cells.

    Raises:
        ValueError: a row has a column that is not in `columns`.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n", delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
