"""Prompts of each photograph: structures, a box or clicks for all, boxes of a detector, a prompt file."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.choices import PROMPT_FRAMES
from sam_med2d.data.image_io import size_of
from sam_med2d.data.photographs import Photograph
from sam_med2d.data.records import structure_of
from sam_med2d.errors import DataError, UsageError
from sam_med2d.prompts.prompt_file import read_entries
from segment_anything.checkpoint import listing
from segment_anything.modeling.prompt_checks import Area, box_fault, point_fault
from segment_anything.preprocessing import Frame

REQUIRED = ("image", "x0", "y0", "x1", "y1")
OPTIONAL = ("label", "score")
MODEL, PHOTOGRAPH = PROMPT_FRAMES


@dataclass(frozen=True)
class Prompt:
    """The prompt of one mask."""

    label: str  # what the mask is called
    structure: bool = False  # whether the label is a structure prompt, alone or beside box and points
    box: tuple[float, ...] | None = None  # half-open x0, y0, x1, y1
    points: tuple[tuple[float, float, int], ...] = ()  # x, y, and 1 (foreground) or 0 (background)
    frame: str = PHOTOGRAPH  # whose pixels box and points are in, PHOTOGRAPH or MODEL (the model frame)
    score: float | None = None  # what a detector said of the box
    source: str = ""  # where it was read, for messages

    def placed(self, frame: Frame) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Box, float64 [4] or None, points, float64 [P, 2], and their labels, int [P], in pixels of the photograph.

        Args:
            frame: model frame of the photograph.
        """
        box = None if self.box is None else np.array(self.box, float)
        coords = np.array([point[:2] for point in self.points], float).reshape(-1, 2)
        if self.frame == MODEL:
            box = None if box is None else frame.boxes_to_original(box)
            coords = frame.points_to_original(coords)
        return box, coords, np.array([point[2] for point in self.points], int)

    def fault(self, area: Area) -> str | None:
        """What of the prompt cannot be meant in these pixels, and what to do; None for one that may be meant."""
        fault = None if self.box is None else box_fault(np.array(self.box), area)
        fault = fault or point_fault(np.array([point[:2] for point in self.points]), area)
        return f"{self.source}: {fault}" if fault and self.source else fault


PhotographPrompts = dict[str, list[Prompt]]  # by the photographs' names


def structures_for(photographs: Sequence[Photograph], names: Sequence[str], known: Sequence[str]) -> PhotographPrompts:
    """The same structure prompts on every photograph.

    Args:
        photographs: to predict.
        names: of the structures, or "all" for all that the weights know.
        known: names that the weights know.

    Returns:
        Prompts by the photographs' names.

    Raises:
        UsageError: for a name that the weights do not know.
    """
    if list(names) == ["all"]:
        names = known
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        knows = ", ".join(known) or "none: train with --structures, or give boxes or points"
        raise UsageError(f"--structures {' '.join(unknown or ['all'])}: these weights know {knows}.")
    prompts = [Prompt(name, structure=True) for name in dict.fromkeys(names)]
    return {photograph.name: prompts for photograph in photographs}


def clicks_for(
    photographs: Sequence[Photograph],
    boxes: Sequence[Sequence[float]],
    foreground: Sequence[Sequence[float]],
    background: Sequence[Sequence[float]],
    label: str,
) -> PhotographPrompts:
    """The same boxes, or clicks (with one box or none), on every photograph.

    Args:
        photographs: to predict.
        boxes: half-open x0, y0, x1, y1 in pixels of the photograph.
        foreground: clicks x, y on what is to be segmented.
        background: clicks x, y beside it.
        label: what the masks are called.

    Returns:
        Prompts by the photographs' names.

    Raises:
        UsageError: for clicks with several boxes, and for background clicks alone.
    """
    points = (*((x, y, 1) for x, y in foreground), *((x, y, 0) for x, y in background))
    if points and len(boxes) > 1:
        raise UsageError(f"--point with {len(boxes)} boxes: the points of which box? Give one --box, or points alone.")
    if not boxes and not foreground:
        raise UsageError("--background says what the mask is not: give --point or --box too.")
    prompts = [Prompt(label, box=tuple(box), points=points) for box in boxes] or [Prompt(label, points=points)]
    return {photograph.name: prompts for photograph in photographs}


# --- boxes of a detector --------------------------------------------------------------------------------------


def read_boxes(path: Path, photographs: Sequence[Photograph]) -> tuple[PhotographPrompts, list[str]]:
    """Prompts of a CSV with the columns image, x0, y0, x1, y1 and, if wanted, label and score.

    A photograph without a line has no prompts: the detector found nothing.

    Args:
        path: of the CSV.
        photographs: to predict.

    Returns:
        Prompts by the photographs' names, and notes for the user.

    Raises:
        UsageError: for a file that cannot be read, has other columns or values, or names none of the photographs.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--boxes_csv {path} cannot be read ({error}).") from error
    unknown = [str(name) for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    missing = [name for name in REQUIRED if name not in columns]
    if unknown or missing or len(set(columns)) < len(columns):
        what = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(missing)
        raise UsageError(
            f"--boxes_csv {path}: its columns ({'; '.join(what) or 'one is there twice'}) must be "
            f"{', '.join(REQUIRED)} and may be {', '.join(OPTIONAL)}."
        )
    find = _finder(photographs, f"--boxes_csv {path}")
    prompts: PhotographPrompts = {photograph.name: [] for photograph in photographs}
    strangers: dict[str, None] = {}
    for number, row in enumerate(rows, start=2):
        prompt = _box_of(row, f"--boxes_csv {path}, line {number}")
        if photograph := find(row["image"]):
            prompts[photograph.name].append(prompt)
        else:
            strangers[row["image"]] = None
    if not any(prompts.values()):
        shown = listing(strangers) or "none"
        raise UsageError(f"--boxes_csv {path} names none of the {len(photographs)} photographs (it names {shown}).")
    empty = sum(not own for own in prompts.values())
    notes = [f"{path}: {len(strangers)} images are not among the photographs: {listing(strangers)}"] * bool(strangers)
    notes += [f"{path}: {empty} photographs have no box; their line in the table says so"] * bool(empty)
    return prompts, notes


def _box_of(row: dict[str | None, Any], place: str) -> Prompt:
    """The prompt of a line, whose missing cells are None and whose surplus ones are listed under None."""
    surplus = row.pop(None, [])
    if surplus or None in row.values():
        cells = len(row) - list(row.values()).count(None) + len(surplus)
        raise UsageError(f"{place} has {cells} cells: give {len(row)}, as many as there are columns.")
    try:
        box = tuple(float(row[name]) for name in REQUIRED[1:])
        score = float(row["score"]) if row.get("score") else None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{place}: {error}; give numbers.") from error
    if fault := box_fault(np.array(box)):
        raise UsageError(f"{place}: {fault}.")
    return Prompt(row.get("label") or "box", box=box, score=score, source=place)


def _finder(photographs: Iterable[Photograph], source: str) -> Callable[[str], Photograph | None]:
    """From a path, a name in the results (with or without suffix) or a file's name to its photograph.

    The function raises UsageError for a file's name that several photographs have.
    """
    by_path = {str(photograph.path): photograph for photograph in photographs}
    by_name = {name: p for p in by_path.values() for name in (p.name, f"{p.name}{p.path.suffix}")}
    times = Counter(path.name for path in map(Path, by_path))
    by_file = {p.path.name: p for p in by_path.values()}

    def find(text: str) -> Photograph | None:
        text = text.replace("\\", "/")
        if found := by_name.get(text) or by_path.get(str(Path(text).absolute())):
            return found
        if times[text] > 1:
            raise UsageError(f"{source}: {times[text]} photographs are called {text}: write the folder too.")
        return by_file.get(text)

    return find


# --- prompt files ---------------------------------------------------------------------------------------------


def read_file(path: Path, photographs: Sequence[Photograph], frame: str) -> tuple[PhotographPrompts, list[str]]:
    """Prompts, and notes for the user, of a prompt file, whose keys name photographs or, as test.py writes them, masks.

    Args:
        path: of the JSON file.
        photographs: to predict.
        frame: whose pixels the prompts are in, PHOTOGRAPH or MODEL.

    Raises:
        UsageError: for a file that is no prompt file, where photographs have no entry, and where an entry may be of
            several photographs.
    """
    entries = read_entries(path)
    find = _finder(photographs, f"--prompt_path {path}")
    prompts: PhotographPrompts = {photograph.name: [] for photograph in photographs}
    stems: dict[str, list[Photograph]] = {}
    for photograph in photographs:
        stems.setdefault(photograph.path.stem, []).append(photograph)
    strangers = []
    for key, entry in entries.items():
        photograph = find(key)
        label = "object"
        if photograph is None and (owners := _owners(key, stems)):
            if len(owners) > 1:
                names = listing(owner.name for owner in owners)
                raise UsageError(f"--prompt_path {path}: {key} may be of {names}: give them apart, or name the image.")
            photograph = owners[0]
            label = structure_of(Path(key), photograph.path)
        if photograph is None:
            strangers.append(key)
        elif prompt := _prompt_of(entry, label, frame):
            prompts[photograph.name].append(replace(prompt, source=f"--prompt_path {path}, {key}"))
    without = [name for name, own in prompts.items() if not own]
    if without:
        raise UsageError(f"--prompt_path {path} has no prompt for {len(without)} photograph(s): {listing(without)}.")
    note = f"{path}: {len(strangers)} entries belong to none of the photographs: {listing(strangers)}"
    return prompts, [note] * bool(strangers)


def _owners(key: str, stems: dict[str, list[Photograph]]) -> list[Photograph]:
    """Photographs that a mask of this name belongs to: those whose name it starts with, the longest one."""
    stem = Path(key.replace("\\", "/")).stem
    stem = re.sub(r"_\d+$", "", stem) if re.sub(r"_\d+$", "", stem) in stems else stem
    while stem not in stems and "_" in stem:
        stem = stem.rpartition("_")[0]
    return stems.get(stem, [])


def _prompt_of(entry: dict[str, list[Any]], label: str, frame: str) -> Prompt | None:
    """The prompt of a checked entry; None for one of a mask that vanished in the model frame."""
    points = tuple((x, y, n) for (x, y), n in zip(entry["point_coords"], entry["point_labels"], strict=True) if n >= 0)
    box = tuple(entry["boxes"][0]) if entry["boxes"] else None
    return Prompt(label, box=box, points=points, frame=frame) if box or points else None


# --- checks ---------------------------------------------------------------------------------------------------


def check_places(
    photographs: Sequence[Photograph], prompts: PhotographPrompts, image_size: int, *, page: int | None = None
) -> None:
    """Refuse boxes and points that cannot be meant, such as those outside their photographs, whose headers are read.

    Args:
        photographs: to predict.
        prompts: by the photographs' names.
        image_size: S of the model, for prompts in pixels of the model frame.
        page: of files with several, from 1.

    Raises:
        UsageError: that lists them.
    """
    problems = []
    for photograph in photographs:
        placed = [prompt for prompt in prompts[photograph.name] if prompt.box is not None or prompt.points]
        if not placed:
            continue
        try:
            size = size_of(photograph.path, page=page)
        except DataError:
            continue  # reported when its turn comes
        own = Area.of(size, str(photograph.path))
        model = Area.of((image_size, image_size), "the model frame")
        faults = (prompt.fault(model if prompt.frame == MODEL else own) for prompt in placed)
        problems += [fault for fault in faults if fault]
    if problems:
        raise UsageError(f"{len(problems)} prompt(s) cannot be meant: {'; '.join(problems[:8])}.")
