"""All maps of a data set -> the photographs that they list, and what is wrong with the maps themselves."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_med2d.data.index_table import DATA_SET, PATIENT, IndexTables
from sam_med2d.data.records import PREFIXES, SPLITS, load_index, parse_map, resolve, structure_of
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.errors import DataError


@dataclass(frozen=True, slots=True)
class ListedPhotograph:
    """A photograph of one split, with its masks and their structures."""

    image: Path
    split: str
    masks: tuple[tuple[Path, str], ...]
    patient: tuple[str, str] | None = None  # who is seen, as (data set, identifier), where index.csv says it
    data_set: str = ""  # the source that it comes from


def find_maps(folder: Path) -> dict[str, list[Path]]:
    """The maps in a folder by split: training, validation and test first."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for prefix in PREFIXES for path in folder.glob(f"{prefix}*.json")):
        found.setdefault(path.stem.split("_", 1)[1], []).append(path)
    order = [*(split for split in SPLITS if split in found), *sorted(found.keys() - set(SPLITS))]
    return {split: found[split] for split in order}


def read_maps(folders: Sequence[Path]) -> tuple[list[ListedPhotograph], list[Finding]]:
    """Photographs of all splits of the folders, and the faults of their maps. No picture is opened.

    Raises:
        DataError: an index.csv is no table.
    """
    photographs, findings = [], []
    tables = IndexTables()
    for folder in folders:
        for split, paths in find_maps(folder).items():
            maps, healthy = {}, _healthy(folder, split)
            for path in paths:
                maps[path], faults = _read_map(path, healthy)
                findings += faults
            findings += _differences(maps)
            photographs += _photographs(folder, maps, split, tables, healthy)
    return photographs, findings


def _patient(image: Path, folder: Path, tables: IndexTables) -> tuple[str, str] | None:
    """Who a photograph shows, as (data set, identifier), where index.csv says it."""
    row = tables.find(image, folder, PATIENT)
    return (row[DATA_SET], next(row[name] for name in PATIENT if row.get(name))) if row else None


def _healthy(folder: Path, split: str) -> set[Path]:
    """Photographs without a mask that are used: index.csv says which structures are not there."""
    try:
        records = load_index(folder, split, without_masks=True)
    except DataError:  # found again, and named, by those who read the maps
        return set()
    return {record.image for record in records if record.absent and not record.masks}


def _read_map(path: Path, healthy: set[Path]) -> tuple[dict[str, list[str]], list[Finding]]:
    """The entries of a map that can be used, and the faults of the others."""
    try:
        images, problems = parse_map(path)
    except DataError as error:
        return {}, [Finding("unreadable_map", (str(path),), str(error))]
    findings = [Finding("wrong_entry", (key, str(path)), message) for key, message in problems.items()]
    if not any(images.values()) and not problems and not healthy:
        advice = f"{path} lists no mask: see data_demo/README.md for the layout, or remove the map"
        findings.append(Finding("empty_map", (str(path),), advice))
    times = Counter(mask for masks in images.values() for mask in masks)
    for mask in (mask for mask, n in times.items() if n > 1):
        message = f"{resolve(mask, path.parent)} is listed {times[mask]} times in {path}: list it once"
        findings.append(Finding("listed_twice", (str(resolve(mask, path.parent)), str(path)), message))
    for image in (name for name, masks in images.items() if not masks and resolve(name, path.parent) not in healthy):
        message = f"{path}: {image} has no mask and is not used: leave it out, or draw a mask"
        findings.append(Finding("no_mask", (str(resolve(image, path.parent)), str(path)), message, warning=True))
    return images, findings


def _differences(maps: dict[Path, dict[str, list[str]]]) -> Iterator[Finding]:
    """A warning where the two maps of one split do not list the same masks."""
    if len(maps) < 2:
        return
    (first, listed), (second, inverse) = maps.items()
    pairs = [{(image, mask) for image, masks in images.items() for mask in masks} for images in (listed, inverse)]
    if all(pairs) and (only := pairs[0] ^ pairs[1]):
        image, mask = min(only)
        message = (
            f"{first} and {second.name} differ in {len(only)} masks, such as {mask} of {image}: training reads the "
            "first, testing the second; make both from one list"
        )
        yield Finding("maps_differ", (str(first), str(second)), message, warning=True)


def _photographs(
    folder: Path, maps: dict[Path, dict[str, list[str]]], split: str, tables: IndexTables, healthy: set[Path]
) -> Iterator[ListedPhotograph]:
    """The photographs of a split; each with the masks that either map gives it."""
    found: dict[Path, dict[Path, str]] = {}
    for images in maps.values():
        for image, names in images.items():
            image_path = resolve(image, folder)
            mask_paths = [resolve(name, folder) for name in names]
            found.setdefault(image_path, {}).update({mask: structure_of(mask, image_path) for mask in mask_paths})
    for image, masks in found.items():
        if masks or image in healthy:
            data_set = tables.find(image, folder, (DATA_SET,)).get(DATA_SET) or folder.resolve().name
            yield ListedPhotograph(image, split, tuple(masks.items()), _patient(image, folder, tables), data_set)
