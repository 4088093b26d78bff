"""The files of a source: a folder as downloaded, or an archive, with the archives in it unpacked."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from os import walk
from os.path import realpath
from pathlib import Path

from sam_med2d.errors import DataError

JUNK = re.compile(r"(^|/)(__MACOSX/|lost\+found/|\.|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that matches a pattern, and the pattern's named groups."""

    path: Path
    groups: dict[str, str]

    @property
    def id(self) -> str:
        """What tells a photograph from the others of its data set."""
        return self.groups["id"]

    @property
    def split(self) -> str:
        return self.groups.get("split") or ""


class Tree:
    """All files below some folders, by their paths relative to these.

    Symbolic links to folders are followed. Hidden files and what macOS and Windows leave behind are skipped.

    Attributes:
        folders: the source, and the folders its archives were unpacked to.
        files: paths on the disk, by the relative ones.
        scratch: a folder for photographs that are taken out of other files; None where there is none.
    """

    def __init__(self, *folders: Path) -> None:
        """
        Args:
            folders: the source, and the folders its archives were unpacked to.

        Raises:
            DataError: a folder cannot be read, or is a link to one that it lies in.
        """
        self.folders = folders
        self.scratch: Path | None = None
        self.files = {name: path for folder in folders for name, path in sorted(_files(folder))}

    def match(self, pattern: str) -> list[Found]:
        """Files whose relative path ends in what the pattern describes, whole names, whatever their case.

        `images/(?P<id>\\d+)\\.png` finds `DRIVE/images/21.PNG`, not `other_images/21.png`.
        """
        end = re.compile(f"(?:^|/){pattern}$", re.IGNORECASE)
        hits = ((path, end.search(name)) for name, path in self.files.items())
        return [Found(path, {k: v for k, v in hit.groupdict().items() if v is not None}) for path, hit in hits if hit]

    def unique(self, pattern: str, *keys: str) -> dict[tuple[str, ...], Found]:
        """Files that match, by the values of these groups (lower case; "id" if none are given).

        Raises:
            DataError: two files have the same values; names them.
        """
        found: defaultdict[tuple[str, ...], list[Found]] = defaultdict(list)
        for hit in self.match(pattern):
            found[tuple(hit.groups.get(key, "").lower() for key in keys or ("id",))].append(hit)
        if twice := [hits for hits in found.values() if len(hits) > 1]:
            names = "\n  ".join(" and ".join(str(hit.path) for hit in hits) for hits in twice[:20])
            raise DataError(f"{len(twice)} name(s) occur in two folders; keep one of each:\n  {names}")
        return {key: hits[0] for key, hits in found.items()}

    def summary(self) -> str:
        """What is there, in a few lines: the folders with the most files and their kinds."""
        if not self.files:
            return "no file at all"
        folders: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for name in self.files:
            folders[str(Path(name).parent)][Path(name).suffix.lower() or "no suffix"] += 1
        largest = sorted(folders.items(), key=lambda item: -item[1].total())[:8]
        kinds_of = {folder: ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(3)) for folder, kinds in largest}
        lines = [f"{folder}/: {kinds}" for folder, kinds in kinds_of.items()]
        more = len(folders) - len(largest)
        return "\n  ".join([*lines, *([f"... and {more} more folder(s)"] if more > 0 else [])])


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative names and paths of a folder's files; a folder that is linked to from beside it is read once.

    Raises DataError for a folder in it that cannot be read.
    """
    seen: set[str] = set()
    for parent, folders, names in walk(folder, onerror=_refuse, followlinks=True):
        real = realpath(parent)
        if seen and Path(realpath(Path(parent).parent)).is_relative_to(real):
            raise DataError(f"{parent} is a link to {real}, in which it lies itself: remove the link")
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        below = Path(parent).relative_to(folder)
        folders[:] = sorted(name for name in folders if not JUNK.search(f"{(below / name).as_posix()}/"))
        for name in sorted(names):
            path = Path(parent, name)
            if not JUNK.search((below / name).as_posix()) and path.is_file():
                yield (below / name).as_posix(), path


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}): give yourself the right to, or move it away")
