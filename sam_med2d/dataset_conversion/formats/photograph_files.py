"""Where the photographs lie that annotation files name."""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.formats.folder_layout import is_picture, stem_of
from sam_med2d.errors import DataError

IMAGE_ROOT = {
    "metavar": "DIR",
    "help": "folder of the photographs: file names are looked up in it by their longest end that is there",
}


def below(file: str, written: str) -> str:
    """A path in the source that is written in one of its files: ../photos/eye.png in a/eye.json is photos/eye.png."""
    return posixpath.normpath(posixpath.join(file.rpartition("/")[0], written.replace("\\", "/")))


def composed(text: str) -> str:
    """With one sign for a letter and its accent: macOS writes two in names of files, and most programs one."""
    return unicodedata.normalize("NFC", text)


class PhotographFiles:
    """The photographs of a source, or below --image_root, by the names that annotation files give them."""

    def __init__(self, tree: Tree, root: str | Path | None) -> None:
        """
        Args:
            tree: the source.
            root: value of --image_root.

        Raises:
            DataError: there is no such folder.
        """
        self.root = Path(root) if root else None
        if self.root and not self.root.is_dir():
            raise DataError(f"--image_root {root}: there is no such folder")
        self.tree = tree
        self.named: dict[Path, list[str]] = {}  # what was found by a longest end, by which name

    def place(self, path: Path) -> str:
        """A photograph's path in the source, or below the root; "" for one elsewhere."""
        if self.root and path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return self._places.get(path, "")

    @cached_property
    def _places(self) -> dict[Path, str]:
        return {path: name for name, path in self.tree.files.items()}

    def find(self, written: str, file: str, path: Path) -> Path | None:
        """A photograph, below the file's folder, else where its name fits once.

        Args:
            written: its name in the annotation file.
            file: name of that file in the source.
            path: of that file.

        Returns:
            Its path, None where it is not there or several could be meant.

        Raises:
            DataError: the name leaves the source where there is no --image_root, or another one is of the same file.
        """
        name, beside = written.replace("\\", "/"), below(file, written)
        outside = re.match("[.][.](/|$)|/", beside) or re.match("[A-Za-z]:", name)
        if "\0" in name or (outside and not self.root):
            raise DataError(
                f"{path}: the image {written!r} leaves the folder; write paths below it, or give --image_root"
            )
        if self.root:
            return self.find_end(written, path)
        name = composed(posixpath.normpath(name))
        hits = [hit for file, hit in self._by_name.get(name.rpartition("/")[2], []) if f"/{file}".endswith(f"/{name}")]
        return self.tree.files.get(beside) or (hits[0] if len(hits) == 1 else None)

    def with_stem(self, stem: str, file: str) -> Path | None:
        """The photograph called so, without suffix: beside an annotation file, else the only one.

        Args:
            stem: its name; may begin with folders.
            file: name of the annotation file in the source.

        Returns:
            Its path, None where it is not there or several could be meant.
        """
        stem, file = composed(stem), composed(file)
        hits = [hit for hit in self._by_stem.get(stem.rpartition("/")[2], []) if f"/{hit[0]}".endswith(f"/{stem}")]
        beside = f"{file.rpartition('/')[0]}/{stem}".lstrip("/")
        chosen = [hit for hit in hits if hit[0] == beside] or hits
        return chosen[0][1] if len(chosen) == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[str, Path]]]:
        """(path in the source, or below the root, and on the disk) of each file by its name."""
        found: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
        for name, path in (Tree(self.root) if self.root else self.tree).files.items():
            found[composed(name.rpartition("/")[2])].append((composed(name), path))
        return found

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """All pictures of the source, or below the root."""
        return {name: path for files in self._by_name.values() for name, path in files if is_picture(name)}

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[str, Path]]]:
        """(path without suffix, path) of each picture of the source, or below the root, by its stem."""
        found: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
        for last, files in self._by_name.items():
            if is_picture(last):
                found[stem_of(last)] += [(stem_of(name), path) for name, path in files]
        return found

    def find_end(self, written: str, path: Path) -> Path | None:
        """The photograph of the longest end of a name, such as a URL, that is there.

        Args:
            written: its name in the annotation file.
            path: of that file.

        Returns:
            Its path, None where it is not there or several could be meant.

        Raises:
            DataError: it was found by another name, too.
        """
        parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".")]
        own = [part for part in parts if not re.match(r"[A-Za-z]:|[A-Za-z][\w+.-]*:$", part)]
        own = own[len(own) - next((i for i, part in enumerate(reversed(own)) if part == ".."), len(own)) :]
        ends = ("/".join(own[start:]) for start in range(len(own)))
        found = next((hits for end in ends if (hits := self._ending(end))), [])
        found = [hit for hit in found if hit.is_relative_to(path.parent)] if len(found) > 1 else found
        if len(found) != 1:
            return None
        if self.named.setdefault(found[0], own) != own:
            both = " and ".join("/".join(names) for names in (self.named[found[0]], own))
            advice = "give an --image_root that has their folders" if self.root else "rename one of them"
            raise DataError(f"{path}: the images {both} are both {found[0]}: {advice}")
        return found[0]

    def _ending(self, end: str) -> Sequence[Path]:
        """Photographs whose path ends so; right below the root is one alone."""
        if self.root and (self.root / end).is_file():
            return [self.root / end]
        end = composed(end)
        hits = self._by_name.get(end.rpartition("/")[2], [])
        return [path for name, path in hits if is_picture(name) and f"/{name}".endswith(f"/{end}")]
