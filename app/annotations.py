"""The masks of an annotated folder: one file for each photograph and structure, and the map that lists them."""

import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.absent_structures import AbsentStructures
from app.stamps import Stamp, stamp_of
from sam_med2d.data.image_io import read_mask
from sam_med2d.data.photographs import Photograph, check_text
from sam_med2d.data.records import map_path, read_map, resolve, structure_of
from sam_med2d.errors import DataError, UsageError
from sam_med2d.visualization.overlays import write_picture
from segment_anything.utils.atomic import leftovers, write_text

HISTORY = ".history"  # folder of the files that were replaced
ABSENT_VERSION = '"absent"'  # of what is known to be absent
MOST_LOST = 0.1  # share of a saved mask's pixels that goes without a question
NAME = r"[A-Za-z][A-Za-z0-9_-]*"  # of a structure


class Annotations:
    """Masks of `photographs` in the folder `out`, which `train.py --data_path` and `test.py --data_path` read.

    The folder may hold a data set already: its masks are shown, and are written where they lie; entries of other
    photographs stay as they are.

    Args:
        out: folder of the data set.
        split: whose map lists the masks, one of SPLITS.
        photographs: known by their number in this order.
        structures: that are annotated, beside those that have masks.

    Raises:
        UsageError: without any structure, and for names whose files would not be found again.
        DataError: for a map that cannot be read, or names a photograph twice.
    """

    def __init__(
        self, out: Path, split: str, photographs: Sequence[Photograph], structures: Iterable[str] = ()
    ) -> None:
        self.out, self.split, self.photographs = out, split, photographs
        self.map: dict[str, list[str]] = {}
        self.keys: list[str] = []
        self._seen: Stamp | None = None  # of the map
        self._read_map()
        self.absent_structures = AbsentStructures(out, photographs, self.keys)
        found = (structure for number in range(len(photographs)) for structure in self.masks(number))
        self.structures = list(dict.fromkeys((*structures, *found)))
        if not self.structures:
            raise UsageError("These weights know no structure by name: say what is annotated, --structures NAME.")
        self._check_names()

    def masks(self, number: int) -> dict[str, Path]:
        """{structure: file} of a photograph's masks, by its number; DataError where a structure has several."""
        self._read_map()
        found: dict[str, Path] = {}
        for written in self.map.get(self.keys[number], ()):
            path, photograph = resolve(written, self.out), self.photographs[number]
            structure = structure_of(path, photograph.path)
            if structure in found:
                raise DataError(
                    f"{self._path()}: {self.keys[number]} has several masks of {structure}, the app draws one: join "
                    "them, or choose another --out"
                )
            found[structure] = path
        return found

    def read(self, number: int, structure: str) -> np.ndarray | None:
        """Read a mask.

        Args:
            number: of the photograph.
            structure: its name.

        Returns:
            bool [H, W]; None where there is none.

        Raises:
            DataError: for a file that is no mask.
        """
        path = self.masks(number).get(structure)
        return None if path is None else read_mask(path).astype(bool)

    @property
    def key(self) -> str:
        """Text that is the same for the same folder, split and photographs."""
        told = [str(self.out.resolve()), self.split, *(str(photograph.path) for photograph in self.photographs)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def version(self, number: int, structure: str) -> str:
        """Text that changes whenever a mask's file does, or what is known without one.

        Args:
            number: of the photograph.
            structure: its name.

        Returns:
            An ETag of HTTP; without a file ABSENT_VERSION where the structure is known to be absent, else "".
        """
        path = self.masks(number).get(structure)
        if path is None or not path.exists():
            return ABSENT_VERSION if structure in self.absent_structures.of(number) else ""
        about = path.stat()
        return f'"{about.st_mtime_ns:x}-{about.st_ino:x}"'

    def write(self, number: int, structure: str, mask: np.ndarray) -> Path:
        """Save a mask: first its file, then the map, each whole or not at all.

        A file that it replaces is kept in the folder .history, with the time in its name. It replaces the photograph's
        own mask of that structure, and no other file: not one of another photograph or
        split, nor one that is no PNG or no mask of this size, which is left and no longer listed.

        Args:
            number: of the photograph.
            structure: its name.
            mask: bool [H, W].

        Returns:
            The file.

        Raises:
            DataError: for an empty mask, and for one whose file lies outside the folder.
        """
        if not mask.any():
            raise DataError(f"the mask of {structure} is empty: draw it, or remove it")
        known = self.masks(number).get(structure)
        free = _first_free(self._place(number, structure, count) for count in itertools.count())
        path = known if known and _is_mask(known, mask.shape) else free
        if not self._is_inside(path):
            raise DataError(f"{path} lies outside {self.out}: the app does not write there; copy the data set first")
        if path.exists():
            self._keep(path)
        write_picture(path, mask.astype(np.uint8) * 255)
        if path != known:
            others = [name for name in self.map.get(self.keys[number], ()) if resolve(name, self.out) != known]
            self._write_map(number, [*others, _written(path, self.out)])
        self.absent_structures.change(number, structure, absent=False)
        return path

    def lost(self, number: int, structure: str, mask: np.ndarray) -> tuple[int, int]:
        """How many pixels a save would take from the saved mask, and how many that has; 0 without one of this size.

        Args:
            number: of the photograph.
            structure: its name.
            mask: bool [H, W].
        """
        path = self.masks(number).get(structure)
        old = read_mask(path) > 0 if path and _is_mask(path, mask.shape) else np.zeros_like(mask)
        return int((old & ~mask).sum()), int(old.sum())

    def remove_leftovers(self) -> list[Path]:
        """Remove the temporary files of writers that were killed, and return them; none may write meanwhile."""
        numbers = range(len(self.photographs))
        own = {self._place(number, structure) for number in numbers for structure in self.structures}
        listed = {path for number in numbers for path in self.masks(number).values() if self._is_inside(path)}
        found = leftovers({*own, *listed, self._path(), self.absent_structures.path})
        for path in found:
            path.unlink()
        return found

    def _keep(self, path: Path) -> None:
        """Keep a file that is going to be replaced in the folder of replaced files, with the time in its name."""
        folder = self.out / HISTORY
        folder.mkdir(exist_ok=True)
        name = f"{path.stem}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        place = _first_free(folder / f"{name}{f'-{i}' * bool(i)}{path.suffix}" for i in itertools.count())
        try:
            os.link(path, place)  # the new file is another one, and takes the name alone
        except OSError:  # a file system without links
            shutil.copy2(path, place)

    def remove(self, number: int, structure: str) -> None:
        """Take a mask out of the map. Its file is set aside as <name>.old (.old1, .old2 ...), not deleted.

        Args:
            number: of the photograph.
            structure: its name.
        """
        path = self.masks(number).get(structure)
        if path is None:
            return
        listed = self.map[self.keys[number]]
        self._write_map(number, [name for name in listed if resolve(name, self.out) != path])
        if path.exists() and self._is_inside(path):
            path.replace(_first_free(path.with_name(f"{path.name}.old{i or ''}") for i in itertools.count()))

    def set_absent(self, number: int, structure: str, absent: bool) -> None:
        """Write down that a structure is absent from a photograph, or that this is not known.

        Training then gives its structure prompt, with an empty mask.

        Args:
            number: of the photograph.
            structure: its name.
            absent: whether it is known to be absent.

        Raises:
            DataError: where it has a mask, and where the map cannot list a photograph without one.
        """
        masks = self.masks(number)
        if absent and structure in masks:
            raise DataError(f"{structure} has a mask: remove it first")
        if absent and not masks:
            self._write_map(number, [], listed_without=True)
        self.absent_structures.change(number, structure, absent=absent)
        if not masks and not self.absent_structures.of(number):
            self._write_map(number, [])

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.out))

    # --- names and the map ------------------------------------------------------------------------------------

    def _read_map(self) -> None:
        """Read the map where it was never read, or another program has written it since."""
        path = self._path()
        seen = stamp_of(path)
        if self.keys and seen == self._seen:
            return
        self.map = read_map(path) if seen else {}
        own = self._keys()
        self.keys[:] = [own.get(os.path.realpath(p.path)) or _written(p.path, self.out) for p in self.photographs]
        self._seen = seen

    def _keys(self) -> dict[str, str]:
        """Photographs of the map -> its names for them. Raises DataError where a photograph has two."""
        own: dict[str, str] = {}
        for key in self.map:
            first = own.setdefault(os.path.realpath(resolve(key, self.out)), key)
            if first != key:
                raise DataError(f"{self._path()} names one photograph {first} and {key}: join their entries")
        return own

    def _check_names(self) -> None:
        """Raise UsageError where a structure's files would be taken for others, or for another structure's."""
        owners: dict[Path, str] = {}
        for photograph in self.photographs:
            check_text("INPUT", str(photograph.path))
        for name in self.structures:
            if not re.fullmatch(NAME, name):
                raise UsageError(f"structure {name!r}: give a name of letters, digits, _ and -, a letter first.")
            for number, photograph in enumerate(self.photographs):
                place = self._place(number, name)
                if structure_of(place, photograph.path) != name or place in owners:
                    raise UsageError(
                        f"{place.name} would not be known as {name} of {photograph.path}: rename the photograph."
                    )
                owners[place] = name

    def _place(self, number: int, structure: str, count: int = 0) -> Path:
        return self.out / "masks" / f"{self.photographs[number].name}_{structure}_{count:03d}.png"

    def _path(self) -> Path:
        """The split's map, the one that is there or a new one."""
        try:
            return map_path(self.out, self.split)
        except DataError:
            return self.out / f"image2label_{self.split}.json"

    def _write_map(self, number: int, listed: list[str], *, listed_without: bool = False) -> None:
        """Write the map with these masks of one photograph; without its entry where there are none, unless it is to be
        `listed_without`, for what is known not to be there. Raises DataError where the map cannot hold that."""
        stays = listed or listed_without or self.absent_structures.of(number)
        images = {key: masks for key, masks in self.map.items() if key != self.keys[number] or stays}
        images |= {self.keys[number]: listed} if stays else {}
        path, content = self._path(), images
        if path.name.startswith("label2image"):
            if listed_without:
                other = path.name.replace("label2image", "image2label")
                raise DataError(f"{path} cannot list a photograph without a mask: turn it into {other}")
            content = {mask: image for image, masks in images.items() for mask in masks}
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        self._read_map()


def _written(photograph: Path, out: Path) -> str:
    """How a map in `out` names a photograph: from there, so that both can be moved together.

    The whole path where the current folder has another file of that name, which maps would take instead.
    """
    try:
        name = Path(os.path.relpath(photograph, out)).as_posix()
    except ValueError:  # another drive
        return photograph.as_posix()
    return name if os.path.realpath(resolve(name, out)) == os.path.realpath(photograph) else photograph.as_posix()


def _is_mask(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file is a PNG mask of this shape."""
    try:
        return path.suffix.lower() == ".png" and read_mask(path, may_be_empty=True).shape == shape
    except DataError:
        return False


def _first_free(places: Iterable[Path]) -> Path:
    return next(place for place in places if not os.path.lexists(place))
