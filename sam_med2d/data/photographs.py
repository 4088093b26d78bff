"""The finder of photographs, for every command: in folders, by names and patterns; and their names in the results."""

import argparse
import glob
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_formats import MAX_PIXELS
from sam_med2d.data.picture_signs import SUFFIXES, photographs_of
from sam_med2d.errors import UsageError

MAGIC = "*?["


@dataclass(frozen=True, slots=True)
class Photograph:
    """A file, and its name in the results: unique among the photographs, with folders, without a suffix."""

    path: Path
    name: str

    @property
    def stem(self) -> str:
        return self.name.rsplit("/", maxsplit=1)[-1]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder and of those in it, photographs or masks, in order of their paths.

    Raises:
        DataError: one of the folders cannot be read, or is a link to a folder that it lies in.
    """
    return sorted(path for path in Tree(folder).files.values() if path.suffix.lower() in SUFFIXES)


def photographs_in(folder: Path, *, below: bool = True) -> list[Path]:
    """The photographs of a folder, and with `below` of the folders in it, in order of their paths.

    Masks and other pictures are passed over, which is told in one line.

    Raises:
        DataError: one of the folders cannot be read, or is a link to a folder that it lies in.
    """
    files = Tree(folder).files if below else {path.name: path for path in folder.iterdir() if path.is_file()}
    return sorted(photographs_of(files, folder))


def find_photographs(inputs: Sequence[str], results: Sequence[Path] = ()) -> list[Photograph]:
    """The photographs of files, folders (with those inside) and patterns, in order of their names.

    A name is the path from the folder that all inputs have in common; two files that differ in their suffix alone keep
    it.

    Args:
        inputs: paths, or patterns such as "clinic/*.png".
        results: folders of an earlier run, whose pictures are photographs only where a file is named itself.

    Raises:
        UsageError: an input has no photograph.
    """
    found: dict[Path, None] = {}
    roots, own = [], {os.path.abspath(folder) for folder in results}
    for text in inputs:
        paths, root = _expand(text)
        if not Path(text).is_file():
            paths = [path for path in paths if own.isdisjoint(map(str, Path(os.path.abspath(path)).parents))]
        if not paths:
            kinds = ", ".join(SUFFIXES)
            raise UsageError(f"INPUT {text}: no photograph there (a file, or a folder or pattern of {kinds}).")
        found |= dict.fromkeys(Path(os.path.abspath(path)) for path in paths)
        roots.append(os.path.abspath(root))
    return _named(list(found), Path(os.path.commonpath(roots)))


def _expand(text: str) -> tuple[list[Path], Path]:
    """Files of one input, and the folder that its names start from."""
    if not text.strip():  # an unset variable of a shell; as a path it would be the current folder
        raise UsageError("INPUT is empty: give a photograph, a folder or a pattern; . is the current folder.")
    path = Path(text)
    if path.is_dir():
        return photographs_in(path), path
    if path.exists():
        return [path], path.parent
    if not any(sign in text for sign in MAGIC):
        raise UsageError(f"INPUT {text} does not exist.")
    root = Path(*itertools.takewhile(lambda part: not any(sign in part for sign in MAGIC), path.parts))
    matches = (match for match in map(Path, glob.glob(text, recursive=True)) if match.is_file())
    return photographs_of({match.relative_to(root).as_posix(): match for match in matches}, root), root


def _named(paths: Sequence[Path], root: Path) -> list[Photograph]:
    """Names are compared without regard to case: some disks do not tell it apart."""
    whole = {path: path.relative_to(root).as_posix() for path in paths}
    short = {path: name.removesuffix(path.suffix) for path, name in whole.items()}
    times = Counter(name.casefold() for name in short.values())
    used: set[str] = set()
    photographs = []
    for path in sorted(paths, key=whole.get):
        name = short[path] if times[short[path].casefold()] == 1 else whole[path]
        while name.casefold() in used:
            name += "~"
        used.add(name.casefold())
        photographs.append(Photograph(path, name))
    return sorted(photographs, key=lambda photograph: photograph.name)


def check_text(what: str, name: str) -> None:
    """Raise UsageError for a name, of a file or another, that cannot stand in tables and JSON."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    if shown != name:
        raise UsageError(f"{what} {shown}: this name is no UTF-8 text, as tables and JSON need it: rename it.")


def add_max_pixels(group: argparse._ActionsContainer) -> None:
    """The flag --max_pixels of commands that read photographs of any size."""
    text = "larger photographs are left out (default: 100 million)"
    group.add_argument("--max_pixels", "--max-pixels", type=int, default=100_000_000, help=text)


def add_page(group: argparse._ActionsContainer) -> None:
    """The flag --page of commands that read photographs of files with several."""
    group.add_argument("--page", type=int, metavar="N", help="of files with several pages or frames, from 1")


def check_max_pixels(max_pixels: int) -> None:
    """Raises UsageError for a limit that lets nothing through, or more than is read at all."""
    if not 0 < max_pixels <= MAX_PIXELS:
        raise UsageError(f"--max_pixels {max_pixels}: give 1 to {MAX_PIXELS}.")
