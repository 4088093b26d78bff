"""YOLO's labels for segmentation: a text file a photograph, whose lines are a class and a polygon.

Polygons are filled as ultralytics does: the pixels that they go through are in the mask.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import read_bytes, size_of
from sam_med2d.dataset_conversion.dataset_spec import SPLIT_WORDS, DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import Drawing
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotograph, DrawnPhotographs
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

BOX = 5  # numbers in a line of it
FOUR_CORNERS = 8  # coordinates
TOLERANCE = 0.01  # by which polygons may leave the photograph, as a share of it; ultralytics has the same
OTHER_TEXTS = re.compile(
    r"(^|/)(classes|labels|obj|train|val|valid|test|readme[^/]*|requirements)(\.names)?\.txt$", re.I
)


@dataclass(slots=True)
class _Names:
    """What data.yaml says: names of classes, folders or lists of each split, and what a person should know."""

    classes: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)  # by a path, or the end of one
    notes: list[str] = field(default_factory=list)

    def split(self, name: str) -> str:
        """The split of a photograph, by its own path or the longest of its folders' that is listed."""
        path = PurePosixPath(name)
        for place in (path, *path.parents):
            ends = ("/".join(place.parts[start:]) for start in range(len(place.parts)))
            if found := next((self.splits[end] for end in ends if end in self.splits), None):
                return found
        return ""


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Each line is an annotation. A photograph without a file of labels, or with an empty one, has none.

    Raises DataError where there are no labels, or of boxes alone.
    """
    drawn = DrawnPhotographs(tree, choice)
    names = _read_names(tree, drawn.files.pictures)
    drawn.notes += names.notes
    drawn.declare(names.classes.values())
    texts = {name: path for name, path in tree.files.items() if name.lower().endswith(".txt")}
    labels = {name: path for name, path in texts.items() if not OTHER_TEXTS.search(name) or _holds_labels(path)}
    photographs = {path: name for name, path in drawn.files.pictures.items()}
    counts = {"polygons": 0, "four corners": 0, "boxes": 0}
    for name, path in labels.items():
        found = _photograph(drawn, name)
        if found is None:
            drawn.problems.append(f"{path}: its photograph is not there, or several are (see --image_root)")
            continue
        place = photographs.pop(found, found.name)
        photograph = drawn.add(place, found, names.split(place), path)
        _draw(drawn, photograph, path, names.classes, counts)
    for path, name in photographs.items():
        drawn.add(name, path, names.split(name), path)
    if not labels:
        raise DataError(f"no YOLO labels (.txt). Found:\n  {tree.summary()}")
    if counts["boxes"] and not counts["polygons"]:
        raise DataError(
            f"the labels hold {counts['boxes']} box(es) and no polygon: boxes are no masks. Train on labels of "
            "segmentation, or let predict.py --boxes_csv draw masks in the boxes"
        )
    if counts["polygons"] == counts["four corners"]:
        drawn.notes.append(f"all {counts['polygons']} polygons have four corners: are they turned boxes?")
    return drawn.samples()


def _holds_labels(path: Path) -> bool:
    """Whether a text, which may be called train.txt as the photograph train.jpg is, begins with a class and a box."""
    return bool(re.match(rb"\s*\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){4}", read_bytes(path)))


def _photograph(drawn: DrawnPhotographs, name: str) -> Path | None:
    """That of a file of labels: in images/ for labels/, else of the same name."""
    stem = name[: -len(".txt")]
    folders = list(PurePosixPath(stem).parts)
    if "labels" in folders[:-1]:
        folders[len(folders) - 2 - folders[-2::-1].index("labels")] = "images"
        if found := drawn.files.with_stem("/".join(folders), name):
            return found
    return drawn.files.with_stem(stem.rpartition("/")[2], name)


def _draw(
    drawn: DrawnPhotographs, photograph: DrawnPhotograph, path: Path, classes: Mapping[str, str], counts: dict[str, int]
) -> None:
    """Add the lines of one file."""
    lines = read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()
    size = size_of(photograph.path) if any(map(str.strip, lines)) else (0, 0)
    boxes = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if len(words) in (BOX, BOX + 1):  # the last one is a confidence
            boxes.append(number)
        elif words:
            try:
                label, contour = _label(words[0], classes, drawn), _contour(words[1:], size)
            except ValueError as error:
                drawn.problems.append(f"{path}, line {number}: {error}")
                continue
            counts["polygons"] += 1
            counts["four corners"] += len(words) == 1 + FOUR_CORNERS
            drawn.draw(photograph, label, path, Drawing(f"line {number}", (size,), contours=(contour,)))
    counts["boxes"] += len(boxes)
    if boxes:
        drawn.problems.append(f"{path}: {len(boxes)} line(s) are boxes, which are no masks (first: line {boxes[0]})")


def _label(word: str, classes: Mapping[str, str], drawn: DrawnPhotographs) -> str:
    """The label of a class. Raises ValueError where nothing names it."""
    number = str(int(float(word))) if re.fullmatch(r"\d+(\.0*)?", word) else word
    if number in classes:
        return classes[number]
    if drawn.lists(number):
        return number
    known = ", ".join(f"{key} {name}" for key, name in classes.items()) or "no class"
    raise ValueError(f"nothing names class {word} (data.yaml has {known}): say it with --classes {number}=STRUCTURE")


def _contour(words: list[str], size: tuple[int, int]) -> tuple[int, ...]:
    """The pixels of a polygon's corners. Raises ValueError for what is none."""
    points = np.array([float(word) for word in words])
    if len(points) % 2 or len(points) < 6 or not np.isfinite(points).all():
        raise ValueError(f"{len(points)} numbers after the class: a polygon has three points x, y or more")
    if points.min() < -TOLERANCE or points.max() > 1 + TOLERANCE:
        seen = f"from {points.min():g} to {points.max():g}"
        raise ValueError(f"coordinates {seen}: YOLO has shares of the photograph, 0 to 1")
    return tuple((points.reshape(-1, 2) * (size[1], size[0])).astype(int).ravel().tolist())


# --- data.yaml ----------------------------------------------------------------------------------------------------


def _read_names(tree: Tree, pictures: Collection[str]) -> _Names:
    """What data.yaml, or classes.txt, says. Raises DataError for two of them that differ."""
    found = [(path, content) for name, path in tree.files.items() if (content := _yaml(name, path)) is not None]
    names = _Names()
    for path, content in found:
        listed = content["names"]
        classes = dict(listed) if isinstance(listed, dict) else dict(enumerate(listed))
        classes = {str(number): str(name) for number, name in classes.items()}
        if names.classes and names.classes != classes:
            raise DataError(f"{path} and {found[0][0]} name other classes: keep the one of these labels")
        names.classes = classes
        if "kpt_shape" in content:
            raise DataError(f"{path} is of pose labels (kpt_shape): points and boxes are no masks")
        _add_splits(names, content, path, tree, pictures)
    if not found:
        for name, path in tree.files.items():
            if name.rpartition("/")[2].lower() in ("classes.txt", "obj.names"):
                lines = read_bytes(path).decode("utf-8-sig", errors="replace").split("\n")
                names.classes = {str(i): line.strip() for i, line in enumerate(lines) if line.strip()}
    return names


def _yaml(name: str, path: Path) -> dict[str, Any] | None:
    """The content of a file that names classes; None for another one. Raises DataError for a damaged one."""
    if not name.lower().endswith((".yaml", ".yml")):
        return None
    try:
        content = yaml.safe_load(read_bytes(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from error
    named = isinstance(content, dict) and isinstance(content.get("names"), list | dict)
    return content if named else None


def _add_splits(names: _Names, content: Mapping[str, Any], path: Path, tree: Tree, pictures: Collection[str]) -> None:
    """The folders and lists of data.yaml; of one that is there twice the first split counts, which is noted."""
    for key in filter(SPLIT_WORDS.get, content):
        split, entries = SPLIT_WORDS[key], content[key]
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            places = list(_places(str(entry), tree, pictures))
            if not places:
                names.notes.append(f"{path}: {key} is {entry}, which SOURCE has not")
            for place in places:
                first = names.splits.setdefault(place, split)
                if first != split:
                    names.notes.append(f"{path}: {key} is the same as {first}: its photographs are {first}")


def _places(entry: str, tree: Tree, pictures: Collection[str]) -> Iterator[str]:
    """A folder of pictures that ends so, else the longest that the entry ends with, or what a list names."""
    place = _end(entry)
    if not place.endswith(".txt"):
        folders = {PurePosixPath(name).parent for name in pictures}
        if any(f"/{parent}".endswith(f"/{place}") for folder in folders for parent in (folder, *folder.parents)):
            yield place
        else:
            yield from sorted((str(folder) for folder in folders if place.endswith(f"/{folder}")), key=len)[-1:]
        return
    for name, path in tree.files.items():
        if f"/{name}".endswith(f"/{place}"):
            for line in filter(str.strip, read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()):
                written = _end(line.strip())
                yield from (
                    name
                    for name in pictures
                    if f"/{written}".endswith(f"/{name}") or f"/{name}".endswith(f"/{written}")
                )


def _end(path: str) -> str:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in ("/", ".", "..") and not part.endswith(":"))


YOLO = DataSet(
    name="yolo",
    title="YOLO labels for segmentation (polygons)",
    layout="""data.yaml (names of the classes, folders or lists of train, val and test)
images/train/eye_1.jpg
labels/train/eye_1.txt (or train/images/eye_1.jpg and train/labels/eye_1.txt)
without data.yaml: classes.txt, or --classes 0=optic_disc""",
    find=find,
    has_instances=True,
    flags=FLAGS,
)
