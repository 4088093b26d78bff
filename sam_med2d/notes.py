"""Remarks on files, told once a run: in one line for each kind, with the number of files and the first of them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

logger = logging.getLogger("notes")
Found = dict[str, dict[str, str]]  # by kind: what was seen, by file


class Notes:
    """The remarks of this process.

    A remark is told at once, or, inside of `collected`, together with all others of its kind. A kind is told once.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._remarks: Found = {}
        self._collecting = 0

    def add(self, kind: str, file: object, seen: str) -> None:
        """Remark on a file.

        Args:
            kind: what happens to all such files, such as "read as 12 bits".
            file: its path.
            seen: what was seen in it, such as "brightest value 4080".
        """
        self._remarks.setdefault(kind, {}).setdefault(str(file), seen)
        if not self._collecting:
            self._tell()

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Remarks made inside are told at its end."""
        self._collecting += 1
        try:
            yield
        finally:
            self._collecting -= 1
            if not self._collecting:
                self._tell()

    def take(self) -> Found:
        """The collected remarks, which are forgotten here: for the process that has them told."""
        taken, self._remarks = self._remarks, {}
        return taken

    def merge(self, remarks: Mapping[str, Mapping[str, str]]) -> None:
        """Add what another process has taken."""
        for kind, files in remarks.items():
            self._remarks.setdefault(kind, {}).update(files)

    def forget(self) -> None:
        """Begin a new run."""
        self._told, self._remarks = set(), {}

    def _tell(self) -> None:
        for kind, files in self.take().items():
            if kind not in self._told:
                self._told.add(kind)
                first = min(files)
                more = f" and {len(files) - 1} more" if len(files) > 1 else ""
                logger.warning(f"note: {kind}: {first} ({files[first]}){more}")


REMARKS = Notes()
