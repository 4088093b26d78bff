"""A format that annotations are written in: what it needs, and what writing it tells."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph, AnnotationSource
from sam_med2d.errors import DataError
from sam_med2d.visualization.tables import markdown_table

Result = TypeVar("Result")
# Keywords of add_argument of a flag that several formats have.
POLYGONS = {
    "action": "store_const",
    "const": True,
    "help": "outlines along the pixels' sides, not run lengths or masks",
}


@dataclass(frozen=True, slots=True)
class Export:
    """One run of a format.

    Attributes:
        source: what is written.
        folder: the folder that paths in the files start from: OUT, or the one that OUT lies in.
        out: the file or folder that the user asked for; `ExportFormat.write` gets a temporary one, which becomes it.
        options: values of the format's flags, by their names without hyphens.
    """

    source: AnnotationSource
    folder: Path
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def each(
        self, work: Callable[[AnnotatedPhotograph], Result], photographs: Sequence[AnnotatedPhotograph] | None = None
    ) -> Iterator[Result]:
        """What `work` gives for each photograph, or for these, in order, computed in threads: small, as all wait."""
        photographs = self.source.photographs if photographs is None else photographs
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield from tqdm(pool.map(work, photographs), total=len(photographs), unit="image", leave=False)

    def relative(self, path: Path) -> str:
        """A path from `folder` on, with slashes. Raises DataError where there is none."""
        try:
            return Path(os.path.relpath(path.absolute(), self.folder.absolute())).as_posix()
        except ValueError as error:  # another drive
            raise DataError(f"OUT: {path} cannot be reached from {self.folder} ({error}): write OUT to it") from error


@dataclass(slots=True)
class Written:
    """What was written.

    Attributes:
        counts: of what a person calls it: {"images": 3, "annotations": 5}.
        dice: of formats that cannot hold every mask: Dice of each mask with what the file holds of it, by structure.
        notes: what else a person should know.
    """

    counts: dict[str, int]
    dice: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    def add_dice(self, scores: Mapping[str, Sequence[float]]) -> None:
        """Add those of a photograph."""
        for structure, values in scores.items():
            self.dice[structure] += values

    def table(self) -> str:
        """What the masks lost, a line for each structure."""
        rows = [
            [name, str(len(values)), f"{np.mean(values):.4f}", f"{min(values):.4f}", str(sum(v == 0 for v in values))]
            for name, values in sorted(self.dice.items())
        ]
        return markdown_table(["structure", "masks", "mean Dice", "lowest Dice", "vanished"], rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """A format.

    Attributes:
        name, title: for the command line and for people.
        write: writes an export to a temporary path, an empty file (with a suffix) or an empty folder.
        suffix: of OUT where it is a file; "" where it is a folder.
        flags: its own, {flag: keywords of add_argument}.
        has_splits: whether its files say which photograph is of which split.
    """

    name: str
    title: str
    write: Callable[[Export, Path], Written]
    suffix: str = ""
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)
    has_splits: bool = True


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of two masks [H, W]; 1 where both are empty."""
    one, other = one.astype(bool), other.astype(bool)
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
