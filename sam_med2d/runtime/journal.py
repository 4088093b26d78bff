"""Lines of JSON that several processes append to, so that a run can go on where it was interrupted."""

import heapq
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from segment_anything.utils.atomic import write_text


class Journal:
    """Numbered JSON values on disk, one a line, written by several processes, which may be killed at any moment.

    Each process appends to a file of its own, in ascending order of the numbers. A line without its end does not count.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_empty(self) -> bool:
        """Whether there is no whole line."""
        return next(self.entries(), None) is None

    def numbers(self) -> set[int]:
        """Numbers of all whole lines."""
        return {number for number, _ in self.entries()}

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Numbers and texts of all whole lines, file by file."""
        for path in self._paths():
            yield from _whole_lines(path)

    def values(self) -> Iterator[tuple[int, Any]]:
        """All numbers and values in ascending order of the numbers, each read when it is needed."""
        files = [_whole_lines(path) for path in self._paths()]
        for number, line in heapq.merge(*files, key=lambda entry: entry[0]):
            yield number, json.loads(line)[1]

    def keep(self, wanted: Callable[[int, Any], bool]) -> None:
        """Keep the lines for which `wanted(number, value)`; only while no process writes."""
        for path in self._paths():
            lines = [line for _, line in _whole_lines(path)]
            kept = [line for line in lines if wanted(*json.loads(line))]
            if len(kept) < len(lines):
                write_text(path, b"".join(kept).decode())

    def writer(self) -> "_JournalWriter":
        """A new file to append to, for one process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return _JournalWriter(*tempfile.mkstemp(suffix=".jsonl", dir=self.folder))

    def _paths(self) -> list[Path]:
        """The files of all processes."""
        return sorted(self.folder.glob("*.jsonl"))


class _JournalWriter:
    """Appends numbered values to a file; a context that closes it."""

    def __init__(self, descriptor: int, path: str) -> None:
        """Append to an open file; its path is for messages."""
        self._descriptor, self._path = descriptor, path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def add(self, number: int, value: Any) -> None:
        """Append a JSON value; the system has it when this returns. Raises OSError that names the file.

        Its number is not below those of this writer's earlier lines.
        """
        line = f"{json.dumps([number, value])}\n".encode()
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and text of the lines that end."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield int(line[1 : line.index(b",")]), line
