"""What is exported: photographs with their masks, of a data set in JSON maps or of a folder of predictions."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sam_med2d.data.image_io import read_mask, size_of
from sam_med2d.data.record_checks import check_size
from sam_med2d.data.records import PREFIXES, SPLITS, Record, has_map, load_index, map_path, read_map
from sam_med2d.dataset_conversion.formats.coco_ids import shortest_endings
from sam_med2d.dataset_conversion.formats.pairing import file_name
from sam_med2d.errors import DataError, UsageError, raise_problems

TABLE = "predictions.csv"  # of predict.py
FOUND, FAILED, NO_PROMPT = "found", "failed", "no prompt"  # states in it
MAP = re.compile(rf"({'|'.join(PREFIXES)})({'|'.join(SPLITS)})\.json")


@dataclass(frozen=True, slots=True)
class AnnotatedMask:
    """One mask of a photograph.

    Attributes:
        structure: what it shows.
        path: its file.
        score: predicted IoU of a prediction, 0 to 1; None for what a person drew.
    """

    structure: str
    path: Path
    score: float | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedPhotograph:
    """One photograph.

    Attributes:
        name: for files: unique among all, without suffix and folders.
        path: its file.
        masks: what is drawn in it, or predicted.
        split: "train", "val", "test", or "" for predictions.
        absent: structures that were looked for and are not there.
    """

    name: str
    path: Path
    masks: tuple[AnnotatedMask, ...]
    split: str = ""
    absent: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """For files that a tool finds by the photograph's name: its own stem, where `name` says no more."""
        own = self.path.stem
        return own if self.name == file_name(own) else self.name

    def size(self) -> tuple[int, int]:
        """Height and width in pixels, upright."""
        return size_of(self.path)

    def drawn(self) -> Iterator[tuple[AnnotatedMask, np.ndarray]]:
        """Each mask with its pixels, uint8 {0, 1} [H, W], read one by one; by structure and file.

        Raises:
            DataError: a file cannot be used, or has another size than the photograph.
        """
        size = self.size()
        for mask in sorted(self.masks, key=lambda mask: (mask.structure, str(mask.path))):
            pixels = read_mask(mask.path)
            check_size(mask.path, pixels.shape, self.path, size)
            yield mask, pixels

    def united(self) -> dict[str, np.ndarray]:
        """The union of the masks of each structure, bool [H, W]; DataError as for `drawn`."""
        found: dict[str, np.ndarray] = {}
        for mask, pixels in self.drawn():
            found[mask.structure] = found.get(mask.structure, False) | pixels.astype(bool)
        return found


@dataclass(frozen=True, slots=True)
class AnnotationSource:
    """All that is exported.

    Attributes:
        photographs: in order of their names.
        notes: what a person should know.
    """

    photographs: Sequence[AnnotatedPhotograph]
    notes: list[str] = field(default_factory=list)

    @property
    def structures(self) -> list[str]:
        """All that were drawn or looked for, in order."""
        masks = {mask.structure for photograph in self.photographs for mask in photograph.masks}
        return sorted(masks.union(*(photograph.absent for photograph in self.photographs)))


def load_source(path: Path, split: str | None = None, structures: Sequence[str] | None = None) -> AnnotationSource:
    """What a folder or a map holds.

    Args:
        path: a folder with JSON maps, one such map, or a folder that predict.py wrote.
        split: of the maps; None for all.
        structures: of the masks; None for all.

    Returns:
        The photographs that have a mask, or of which something is known not to be there.

    Raises:
        UsageError: it is none of these, it is not clear which, or a structure is not there.
        DataError: its files cannot be used.
    """
    made, notes = _listed(path, split)
    found = AnnotationSource(made).structures
    if unknown := [name for name in structures or () if name not in found]:
        raise UsageError(f"--structures {' '.join(unknown)}: SOURCE has {', '.join(found) or 'none'}")
    kept = [_only(photograph, structures or found) for photograph in made]
    kept = [photograph for photograph in kept if photograph.masks or photograph.absent]
    if not any(photograph.masks for photograph in kept):
        raise DataError("SOURCE lists no mask: there is nothing to export")
    if lost := len(made) - len(kept):
        notes.append(f"{lost} photograph(s) without masks, of which nothing is known to be absent, are left out")
    source = AnnotationSource(sorted(kept, key=lambda photograph: photograph.name), notes)
    notes += _partly_annotated(source)
    return source


def _listed(path: Path, split: str | None) -> tuple[list[AnnotatedPhotograph], list[str]]:
    """All photographs, and notes."""
    if path.is_file():
        split = _split_of_map(path, split)
        return _of_records({split: load_index(path.parent, split, without_masks=True)}), []
    splits = [part for part in SPLITS if has_map(path, part)]
    table = path / TABLE
    if splits and table.is_file():
        raise UsageError(
            f"SOURCE: {path} has maps and a {TABLE}: give one of its maps, or a folder of predictions alone"
        )
    if table.is_file():
        if split:
            raise UsageError(f"--split {split}: predictions have no splits; leave it out")
        return _of_predictions(table)
    if not splits:
        raise UsageError(f"SOURCE: {path} has no map, such as image2label_train.json, and no {TABLE} of predict.py")
    if split and split not in splits:
        raise UsageError(f"--split {split}: {path} has no image2label_{split}.json: it has {', '.join(splits)}")
    parts = [split] if split else splits
    return _of_records({part: load_index(path, part, without_masks=True) for part in parts}), []


def _only(photograph: AnnotatedPhotograph, structures: Sequence[str]) -> AnnotatedPhotograph:
    """The photograph with these structures alone."""
    masks = tuple(mask for mask in photograph.masks if mask.structure in structures)
    return replace(photograph, masks=masks, absent=tuple(name for name in photograph.absent if name in structures))


def _partly_annotated(source: AnnotationSource) -> list[str]:
    """A note on structures that are neither drawn in some photographs nor known not to be there."""
    partly: Counter[str] = Counter()
    for photograph in source.photographs:
        known = {mask.structure for mask in photograph.masks}.union(photograph.absent)
        partly.update(set(source.structures) - known)
    counts = ", ".join(f"{structure} in {count}" for structure, count in sorted(partly.items()))
    return [f"not annotated: {counts} photograph(s), which look as if they had none in most formats"] * bool(partly)


def _split_of_map(path: Path, split: str | None) -> str:
    """The split of a map. Raises UsageError for another file or split, or where a second map says another thing."""
    hit = MAP.fullmatch(path.name)
    if not hit:
        raise UsageError(f"SOURCE: {path} is no map, such as image2label_train.json: give one, or the folder")
    if split and split != hit[2]:
        raise UsageError(f"--split {split}: {path} is the map of {hit[2]}")
    other = map_path(path.parent, hit[2])
    if other != path and read_map(path) != read_map(other):
        raise UsageError(f"SOURCE: {path} and {other} list different files: remove the one that is wrong")
    return hit[2]


def _of_records(records: Mapping[str, Sequence[Record]]) -> list[AnnotatedPhotograph]:
    """The photographs of a data set."""
    every = [(split, record) for split in records for record in records[split]]
    made = []
    for name, (split, record) in zip(_names([record.image for _, record in every]), every, strict=True):
        masks = tuple(AnnotatedMask(mask.structure, mask.path) for mask in record.masks)
        made.append(AnnotatedPhotograph(name, record.image, masks, split, record.absent))
    return made


def _of_predictions(table: Path) -> tuple[list[AnnotatedPhotograph], list[str]]:
    """What predict.py found; photographs that failed or had no prompt are left out."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by_image: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        for row in rows:
            if row["state"] not in (FAILED, NO_PROMPT):
                by_image[row["image"]].append(row)
        made = [_predicted(Path(image), name, by_image[image], table.parent) for image, name in _named(by_image)]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{table} is no table of predict.py ({error!r}): run it again") from error
    raise_problems([f"{table}: the photograph {one.path} is not there" for one in made if not one.path.is_file()])
    lost = len({row["image"] for row in rows} - by_image.keys())
    return made, [f"{lost} photograph(s) failed or had no prompt, and are left out"] * bool(lost)


def _named(images: Mapping[str, object]) -> list[tuple[str, str]]:
    return list(zip(images, _names(list(map(Path, images))), strict=True))


def _predicted(image: Path, name: str, rows: Sequence[Mapping[str, str]], folder: Path) -> AnnotatedPhotograph:
    """A photograph with the masks that were found; what was not found counts as absent."""
    masks = tuple(
        AnnotatedMask(row["label"], folder / row["mask"], float(row["predicted_iou"]))
        for row in rows
        if row["state"] == FOUND
    )
    there = {mask.structure for mask in masks}
    return AnnotatedPhotograph(name, image, masks, absent=tuple(sorted({row["label"] for row in rows} - there)))


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for files of each photograph: its stem, with folders where two have one, and its suffix where it needs it.

    Raises DataError where two have one name.
    """
    endings = [Path(ending) for ending in shortest_endings(paths)]
    short = [file_name("_".join([*ending.parts[:-1], ending.stem])) for ending in endings]
    times = Counter(name.casefold() for name in short)
    names = [
        name if times[name.casefold()] == 1 else f"{name}_{ending.suffix.lstrip('.')}"
        for name, ending in zip(short, endings, strict=True)
    ]
    times = Counter(name.casefold() for name in names)
    if twice := [str(path) for path, name in zip(paths, names, strict=True) if times[name.casefold()] > 1]:
        raise DataError(f"files of {' and '.join(twice[:4])} would have one name: rename the photographs")
    return names
