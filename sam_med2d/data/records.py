"""JSON maps -> records of photographs and their masks: `load_index` reads the map of a split of a folder."""

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam_med2d.data.index_table import ABSENT, DATA_SET, IndexTables, listed_structures, meant_structure
from sam_med2d.data.moved_paths import find_moved, places_of, written
from sam_med2d.errors import DataError, raise_problems
from sam_med2d.notes import REMARKS

SPLITS = ("train", "val", "test")
PREFIXES = ("image2label_", "label2image_")  # of maps
SHOWN = 5  # rows in a note
ABSENT_SLIP = "absent structures have names that no mask has, and nearly those of masks: correct them if they are slips"


@dataclass(frozen=True, slots=True)
class MaskRef:
    """One mask."""

    path: Path  # its file
    key: str  # unique in its map
    structure: str  # what it shows
    folder: str = ""  # name of its map's folder where several are used together, else ""

    @property
    def name(self) -> str:
        """Unique among all masks in use."""
        return f"{self.folder}/{self.key}" if self.folder else self.key


@dataclass(frozen=True, slots=True)
class Record:
    """One photograph."""

    image: Path  # its file
    masks: tuple[MaskRef, ...]  # what is drawn in it
    data_set: str = ""  # the source that it comes from
    absent: tuple[str, ...] = ()  # structures that are known not to be there

    def of(self, structure: str) -> list[int]:
        """Indexes of its masks of a structure."""
        return [i for i, mask in enumerate(self.masks) if mask.structure == structure]


def _map_names(split: str) -> list[str]:
    """File names that a split's map may have."""
    return [f"image2label_{split}.json", f"label2image_{split}.json"]


def map_path(folder: Path, split: str) -> Path:
    """The map of a split: image2label_<split>.json or label2image_<split>.json, whichever is there.

    Training prefers the first, testing the second.

    Raises:
        DataError: neither exists.
    """
    names = _map_names(split)
    for name in reversed(names) if split == "test" else names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {names[0]} and no {names[1]}: check --data_path.")


def has_map(folder: str | Path, split: str) -> bool:
    """Whether a folder has a map of the split, of either direction."""
    return any((Path(folder) / name).is_file() for name in _map_names(split))


def read_map(path: Path) -> dict[str, list[str]]:
    """Read a map of either direction.

    Returns:
        {image: [masks]}, paths as written, but for those of another machine that were found: see `parse_map`.

    Raises:
        DataError: lists all entries that have another form, and paths of which two files may be meant.
    """
    images, problems = parse_map(path)
    raise_problems(list(problems.values()))
    return images


def parse_map(path: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Read what can be used of a map of either direction.

    A path of another machine is replaced by that of the file which its end names: see `moved_paths`.

    Returns:
        {image: [masks]}, other paths as written, and {key: what is wrong} of the other entries.

    Raises:
        DataError: the file is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=tuple)  # a dict hides repeated keys
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, tuple):
        raise DataError(f"{path} holds a JSON {type(content).__name__}: give an object, see data_demo/README.md.")
    inverse = path.name.startswith("label2image")
    images: dict[str, list[str]] = {}
    problems: dict[str, str] = {}
    times = Counter(key for key, _ in content)
    for key, value in content:
        if times[key] > 1:
            problems[key] = f"{path}: {key!r} has {times[key]} entries: make one of them"
        elif inverse and isinstance(value, str):
            images.setdefault(value, []).append(key)
        elif not inverse and isinstance(value, list) and all(isinstance(item, str) for item in value):
            images[key] = value
        else:
            wanted = "the image's path as a string" if inverse else "a list of mask paths"
            problems[key] = f"{path}: the value of {key!r} is {json.dumps(value)[:60]}; give {wanted}"
    names, unclear = names_here(path, [name for image, masks in images.items() for name in (image, *masks)])
    here = {
        names.get(image, image): [names.get(mask, mask) for mask in masks if mask not in unclear]
        for image, masks in images.items()
        if image not in unclear
    }
    return here, problems | unclear


def names_here(path: Path, names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What the paths in a file, all as written, of another machine are called here; this is told.

    Returns:
        {path as written: a path that `resolve` finds} of those that were found, and {path as written: a sentence} of
        those of which two files may be meant.
    """
    moved = find_moved(names, path.parent)
    for move, count in moved.moves.items():
        here = f"{move.beginning} -> {move.folder}"
        REMARKS.add(f"paths of another place are read as {here}", path, f"{count} file(s)")
    unclear = {
        name: f"{path}: {name!r} is not there, and its end does not say which file is meant ({_or(places)}): correct it"
        for name, places in moved.unclear.items()
    }
    return {name: written(place, path.parent) for name, place in moved.found.items()}, unclear


def _or(places: Sequence[Path]) -> str:
    return " or ".join(map(str, places))


def resolve(name: str, folder: Path) -> Path:
    """A path of a map: against the current folder if it exists there, else against the map's folder.

    Back-slashes are read as separators where no file has the name as written.

    Args:
        name: the path as written.
        folder: that of the map.

    Raises:
        DataError: the name is too long.
    """
    places = places_of(name, folder)
    try:
        return Path(next(filter(_exists, places), places[-1]))
    except OSError as error:
        raise DataError(f"the map in {folder} has {name[:60]!r}... ({error.strerror}): correct it") from error


def _exists(place: str) -> bool:
    """Whether a file is there. Raises OSError for a name that none can have."""
    try:
        os.stat(place)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False
    return True


def structure_of(mask: Path, image: Path) -> str:
    """Structure shown by a mask: the suffix of its name, else the folder it lies in.

    `<image>_<structure>_<nnn>.png` gives <structure>; a mask with its image's own name gives its folder, lower
    case and with underscores (`optic-disc/FIVES-52.png` -> optic_disc).
    """
    stem = re.sub(r"_\d+$", "", mask.stem)
    if stem.startswith(f"{image.stem}_"):
        return stem[len(image.stem) + 1 :]
    if image.stem in (mask.stem, stem):
        return re.sub(r"[\s-]+", "_", mask.parent.name.lower())
    suffix = re.search(r"_([A-Za-z][A-Za-z_]*)$", stem)
    return suffix.group(1) if suffix else re.sub(r"[\s-]+", "_", mask.parent.name.lower())


def saved_name(mask: str) -> str:
    """File name under which the prediction of a mask, by its `MaskRef.name`, is saved."""
    return str(Path(mask.replace("/", "__").removeprefix("..__")).with_suffix(".png"))


def load_index(
    folder: str | Path, split: str, *, without_masks: bool = False, masks_elsewhere: bool = False
) -> list[Record]:
    """Records of a split, in the map's order. No photograph and no mask is opened (see `record_checks.load_checked`).

    Args:
        folder: the data set.
        split: "train", "val" or "test".
        without_masks: whether photographs without a mask are among them.
        masks_elsewhere: whether the map may be of photographs alone, as `prepare_dataset.py dicom` writes it.

    Raises:
        DataError: the map is missing, has entries of another form, or lists no mask.
    """
    path = map_path(Path(folder), split)
    images = read_map(path)
    tables = IndexTables()
    basenames = Counter(Path(mask.replace("\\", "/")).name for masks in images.values() for mask in masks)
    records, told = [], []
    for image, masks in images.items():
        image_path = resolve(image, path.parent)
        refs = []
        for mask in masks:
            mask_path, written = resolve(mask, path.parent), mask.replace("\\", "/")
            name = Path(written).name
            key = name if basenames[name] == 1 else written
            refs.append(MaskRef(mask_path, key, structure_of(mask_path, image_path)))
        about = tables.find(image_path, path.parent, (DATA_SET, ABSENT))
        told.append(about.get(ABSENT, ""))
        records.append(Record(image_path, tuple(refs), about.get(DATA_SET) or path.parent.resolve().name))
    drawn = structures_in_masks(records)
    records = [
        replace(one, absent=tuple(listed_structures(cell, drawn))) for one, cell in zip(records, told, strict=True)
    ]
    with REMARKS.collected():
        _remark_on(tables, records, drawn)
    if not masks_elsewhere and not any(record.masks or record.absent for record in records):
        raise DataError(f"{path} lists no mask: see data_demo/README.md for the layout.")
    return records if without_masks else promptable(records)


def _remark_on(tables: IndexTables, records: Sequence[Record], drawn: Collection[str]) -> None:
    """Remark on what the tables of the records hold and is not used, or not as it is probably meant."""
    for record in records:
        for name in record.absent:
            if meant := meant_structure(name, drawn):
                REMARKS.add(ABSENT_SLIP, record.image, f"{name}, and masks show {meant}")
    for table, slips in tables.slips().items():
        seen = ", ".join(f"{name} (is {meant} meant?)" for name, meant in slips.items())
        REMARKS.add("columns of unknown headings are not used: correct them if they are slips", table, seen)
    for table, lost in tables.lost().items():
        REMARKS.add("rows of photographs that are not there are not used", table, ", ".join(lost[:SHOWN]))


def promptable(records: Sequence[Record], structures: Sequence[str] = ()) -> list[Record]:
    """The records with a mask, or of which one of these structures (for structure prompts) is known to be absent."""
    return [record for record in records if record.masks or not set(structures).isdisjoint(record.absent)]


def structures_in(records: Sequence[Record]) -> set[str]:
    """The structures that a photograph has, or is known not to have."""
    return structures_in_masks(records) | {name for record in records for name in record.absent}


def structures_in_masks(records: Sequence[Record]) -> set[str]:
    """The structures that masks show."""
    return {mask.structure for record in records for mask in record.masks}


def load_folders(folders: Sequence[str | Path], split: str) -> list[Record]:
    """Records of a split of several folders, with and without masks; `MaskRef.folder` tells masks of one key apart.

    Raises:
        DataError: as `load_index`, and where a folder is given twice.
    """
    if len(folders) == 1:
        return load_index(folders[0], split, without_masks=True)
    paths = [Path(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise DataError(f"{', '.join(map(str, folders))}: a folder is given twice; give each once.")
    short = [path.name for path in paths]
    names = short if len(set(short)) == len(short) else [path.as_posix().strip("/") for path in paths]
    records = []
    for name, path, folder in zip(names, paths, folders, strict=True):
        for record in load_index(folder, split, without_masks=True):
            masks = tuple(replace(mask, folder=name) for mask in record.masks)
            data_set = name if record.data_set == path.name else record.data_set
            records.append(replace(record, masks=masks, data_set=data_set))
    return records


def complete(records: Sequence[Record], structures: Mapping[str, Sequence[str]]) -> list[Record]:
    """Records of which, for these data sets, each of the structures without a mask is known not to be there.

    Args:
        records: of any data sets.
        structures: {data set: structures that its authors looked for in every photograph}.
    """
    found = []
    for record in records:
        drawn = {mask.structure for mask in record.masks}
        missing = [name for name in structures.get(record.data_set, ()) if name not in drawn]
        found.append(replace(record, absent=tuple(dict.fromkeys((*record.absent, *missing)))))
    return found
