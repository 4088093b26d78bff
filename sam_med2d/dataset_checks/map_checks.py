"""All maps of a data set -> the photographs that they list, and what is wrong with the maps themselves."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_med2d.data.records import SPLITS, load_index, parse_map, resolve, structure_of
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.errors import DataError

PREFIXES = ("image2label_", "label2image_")
PATIENT_COLUMNS = ("patient", "patient_or_image_id")
Patients = dict[str, tuple[str, str]]  # (data set, patient) by the absolute path of an image


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph of one split, with its masks and their structures.

    patient: who is seen, as (data set, identifier), where index.csv says it.
    """

    image: Path
    split: str
    masks: tuple[tuple[Path, str], ...]
    patient: tuple[str, str] | None = None


def find_maps(folder: Path) -> dict[str, list[Path]]:
    """The maps in a folder by split: training, validation and test first."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for prefix in PREFIXES for path in folder.glob(f"{prefix}*.json")):
        found.setdefault(path.stem.split("_", 1)[1], []).append(path)
    order = [*(split for split in SPLITS if split in found), *sorted(found.keys() - set(SPLITS))]
    return {split: found[split] for split in order}


def read_listing(folders: Sequence[Path]) -> tuple[list[Photograph], list[Finding]]:
    """Photographs of all splits of the folders, and the faults of their maps. No picture is opened."""
    photographs, findings = [], []
    indexes: dict[Path, Patients] = {}
    for folder in folders:
        for split, paths in find_maps(folder).items():
            maps, healthy = {}, _healthy(folder, split)
            for path in paths:
                maps[path], faults = _read_map(path, healthy)
                findings += faults
            findings += _differences(maps)
            photographs += _photographs(folder, maps, split, indexes, healthy)
    return photographs, findings


def read_patients(folder: Path) -> Patients:
    """Patients that the folder's index.csv names; empty where it does not say. Raises DataError for no table."""
    path = folder / "index.csv"
    if not path.is_file():
        return {}
    try:
        return _patients_of(path)
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table ({error}): save it as CSV UTF-8") from error


def _patients_of(path: Path) -> Patients:
    folder = path.parent
    # spreadsheets put a mark before the first column
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        names = rows.fieldnames or ()
        column = next((name for name in PATIENT_COLUMNS if name in names), None)
        if column is None or "image" not in names:
            return {}
        own = folder.resolve().name
        return {
            os.path.abspath(folder / row["image"]): (row.get("dataset") or own, row[column])
            for row in rows
            if row["image"] and row[column]
        }


def _patient(image: Path, folder: Path, indexes: dict[Path, Patients]) -> tuple[str, str] | None:
    """Who a photograph shows: by index.csv of its map's folder, or of the data set that it lies in.

    indexes: what was read of these files so far.
    """
    place = os.path.abspath(image)
    for home in (folder, Path(place).parent.parent):
        if home not in indexes:
            indexes[home] = read_patients(home)
        if patient := indexes[home].get(place):
            return patient
    return None


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
    folder: Path, maps: dict[Path, dict[str, list[str]]], split: str, indexes: dict[Path, Patients], healthy: set[Path]
) -> Iterator[Photograph]:
    """The photographs of a split; each with the masks that either map gives it."""
    found: dict[Path, dict[Path, str]] = {}
    for images in maps.values():
        for image, names in images.items():
            image_path = resolve(image, folder)
            mask_paths = [resolve(name, folder) for name in names]
            found.setdefault(image_path, {}).update({mask: structure_of(mask, image_path) for mask in mask_paths})
    for image, masks in found.items():
        if masks or image in healthy:
            yield Photograph(image, split, tuple(masks.items()), _patient(image, folder, indexes))
