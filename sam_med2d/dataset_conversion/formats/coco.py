"""COCO files: photographs, and outlines or run-length encoded masks, in one JSON file or one for each split."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import SPLIT_WORDS, DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.coco_masks import annotated_masks
from sam_med2d.dataset_conversion.formats.coco_tools import Tool, tool_of
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotographs
from sam_med2d.dataset_conversion.formats.folder_layout import split_of
from sam_med2d.dataset_conversion.formats.json_content import read_json
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

NEEDED = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Annotations of one category are one mask, or with the option `instances` each is a mask of its own.

    Crowds are drawn like others (many programs call every run-length encoding a crowd); annotations without outline
    are passed over if they have no area either. Raises DataError for files that are not COCO's.
    """
    drawn, written = DrawnPhotographs(tree, choice), defaultdict[Tool, list[Path]](list)
    for name, path, content in _files(tree):
        if tool := tool_of(content):
            written[tool].append(path)
        _add(drawn, content, name, path)
    for tool, paths in written.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        drawn.notes.append(f"{paths[0]}{more}: COCO of {tool.name}{f'; {tool.advice}' if tool.advice else ''}")
    return drawn.samples()


def _files(tree: Tree) -> list[tuple[str, Path, dict[str, Any]]]:
    """Name, path and content of each COCO file; other JSON files are passed over."""
    paths = [(name, path) for name, path in tree.files.items() if name.lower().endswith(".json")]
    files = [(name, path, content) for name, path in paths if (content := read_coco(path)) is not None]
    if not files:
        raise DataError(f"no COCO file (.json with images, annotations, categories). Found:\n  {tree.summary()}")
    return files


def read_coco(path: Path) -> dict[str, Any] | None:
    """Content of a COCO file.

    Args:
        path: a JSON file.

    Returns:
        Its images, annotations and categories, with the keys of NEEDED; None for another JSON file.

    Raises:
        DataError: for what is neither, and for images or categories of one id.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        return None
    for part, keys in NEEDED.items():
        items = content.get(part)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f"{path}: {part} is no list of objects, as COCO has it")
        for i, item in enumerate(items):
            for key in keys:
                if not isinstance(item.get(key), str if key.endswith("name") else int | str):
                    raise DataError(f"{path}: {part}[{i}] has no {key}, or not of its kind: {json.dumps(item)[:80]}")
    for part in ("images", "categories"):
        ids = Counter(item["id"] for item in content[part])
        if twice := [str(number) for number, count in ids.items() if count > 1]:
            raise DataError(f"{path}: several {part} have the id {', '.join(twice[:10])}")
    return content


def _add(drawn: DrawnPhotographs, content: Mapping[str, Any], name: str, path: Path) -> None:
    """Add what one file says."""
    labels = {category["id"]: category["name"] for category in content["categories"]}
    drawn.declare(labels.values())
    annotations: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    ids = {image["id"] for image in content["images"]}
    drawn.problems += [
        f"{path}: there are annotations of image {i}, which is not listed" for i in annotations if i not in ids
    ]
    places: dict[Path, int | str] = {}
    for image in content["images"]:
        found = drawn.files.find(image["file_name"], name, path)
        if found is None:
            drawn.problems.append(
                f"{path}: the image {image['file_name']} is not there, or several are (see --image_root)"
            )
            continue
        if (other := places.setdefault(found, image["id"])) != image["id"]:
            raise DataError(f"{path}: the images {other} and {image['id']} are both {found}: keep one of them")
        photograph = drawn.add(image["file_name"], found, _split(image, name), path)
        about = {"photograph": found, "path": path, "problems": drawn.problems}
        for label, drawing in annotated_masks(image, annotations[image["id"]], labels, **about):
            drawn.draw(photograph, label, path, drawing)


def _split(image: Mapping[str, Any], name: str) -> str:
    """What the image says itself (our own export), else the file's name, else its folder."""
    words = [str(image.get("split", "")).lower(), *re.findall("[a-z]+", name.rpartition("/")[2].lower())]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), split_of(name))


COCO = DataSet(
    name="coco",
    title="COCO files (polygons, run-length encoding)",
    layout="""annotations.json, or one for each split: annotations/instances_train.json, train/_annotations.coco.json
images/eye_1.jpg as the file says, beside it, anywhere below SOURCE, or below --image_root""",
    find=find,
    has_instances=True,
    flags=FLAGS,
)
