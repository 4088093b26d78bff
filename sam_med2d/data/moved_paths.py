"""Paths that were written on another machine, found by their ends: C:\\me\\set\\images\\a.png is images/a.png of a map.

One beginning is replaced by the map's folder or the current one. Nothing is guessed: an end that two files have, one
that two paths share, and one that only fits another beginning than most do, are not taken.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Move:
    """A beginning of paths, as written, and the folder that stands for it here."""

    beginning: str
    folder: Path

    def contradicts(self, beginning: str) -> bool:
        """Whether paths with the other beginning would lie elsewhere by this move."""
        own, other = (_parts(text) for text in (self.beginning, beginning))
        return own[: len(other)] == other or other[: len(own)] == own


@dataclass(frozen=True, slots=True)
class MovedPaths:
    """What was found."""

    found: dict[str, Path]  # {path as written: file}
    moves: Counter[Move]  # how often each beginning was replaced
    unclear: dict[str, list[Path]]  # {path as written: files of which each may be meant}


def find_moved(names: Iterable[str], folder: Path) -> MovedPaths:
    """Files of the paths, as written, that do not exist. Where all do, nothing is searched.

    They lie below `folder`, that of the map, or the current folder; paths that are not found are left out.
    """
    here = {name: _is_here(name, folder) for name in names}
    ends = {name: found for name, is_here in here.items() if not is_here and (found := _ends(name, folder))}
    if not ends:
        return MovedPaths({}, Counter(), {})
    unclear = {name: [path for _, path in found] for name, found in ends.items() if not _same(found)}
    moves = Counter(found[0][0] for name, found in ends.items() if name not in unclear)
    there = [name for name, is_here in here.items() if is_here]
    kept = _consistent(moves, {_beginning(name) for name in there})
    found = {name: hits[0][1] for name, hits in ends.items() if name not in unclear and hits[0][0] in kept}
    taken = Counter(os.path.realpath(path) for path in found.values())
    taken.update(os.path.realpath(place) for name in there for place in places_of(name, folder))
    unclear |= {name: [path] for name, path in found.items() if taken[os.path.realpath(path)] > 1}
    found = {name: path for name, path in found.items() if name not in unclear}
    return MovedPaths(found, Counter(ends[name][0][0] for name in found), unclear)


def written(path: Path, folder: Path) -> str:
    """A file below a folder as a map in it names it; the whole path where that name means another file."""
    relative = os.path.relpath(path, folder)
    here = os.path.exists(relative) and not os.path.samefile(relative, path)
    return (os.path.abspath(path) if here or relative.startswith("..") else relative).replace(os.sep, "/")


def _is_here(name: str, folder: Path) -> bool:
    if os.path.exists(os.path.join(folder, name)):  # the usual case, quickly
        return True
    return any(map(os.path.exists, places_of(name, folder)))


def places_of(name: str, folder: Path) -> list[str]:
    """Where a map's path is looked for as it is written: here, then in the map's folder; last with slashes turned."""
    spellings = dict.fromkeys((name, name.replace("\\", "/")))
    return [place for spelling in spellings for place in (spelling, os.path.join(folder, spelling))]


def _ends(name: str, folder: Path) -> list[tuple[Move, Path]]:
    """The longest end of a path that exists below the map's folder, and the longest one below the current folder."""
    starts = [hit.start() for hit in re.finditer(r"[^\\/]+", name)]
    found = []
    for base in (folder, Path()):
        for start in filter(None, starts):
            end = re.sub(r"[\\/]+", "/", name[start:])
            if ".." not in end.split("/") and os.path.isfile(base / end):
                found.append((Move(name[:start].rstrip("\\/") or "/", base), base / end))
                break
    return found


def _same(found: Sequence[tuple[Move, Path]]) -> bool:
    return len({os.path.realpath(path) for _, path in found}) == 1


def _consistent(moves: Counter[Move], here: set[str]) -> set[Move]:
    """Moves that no more frequent one contradicts, nor the beginnings of paths that are `here` as they are written."""
    kept: list[Move] = []
    for move, _ in sorted(moves.items(), key=lambda item: (-item[1], len(item[0].beginning))):
        if not any(map(move.contradicts, here)) and not any(move.contradicts(other.beginning) for other in kept):
            kept.append(move)
    return set(kept)


def _beginning(name: str) -> str:
    """What a path that is here as it is written says of others: where its neighbours are, too."""
    return os.path.dirname(name.replace("\\", "/")) if _parts(name)[0] != "." else ""


def _parts(text: str) -> list[str]:
    """Folders of a beginning, after its root: "/", a drive such as "C:", or "." for a relative one."""
    parts = re.findall(r"[^\\/]+", text)
    if text[:1] in ("/", "\\"):
        return ["/", *parts]
    return parts if re.match(r"[A-Za-z]:", text) else [".", *parts]
