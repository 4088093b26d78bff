"""COCO files: photographs, and outlines or run-length encoded masks, in one JSON file or one for each split."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import SPLIT_WORDS, DataSet, FoundSamples, natural
from sam_med2d.dataset_conversion.formats.coco_masks import Segments, annotated_masks, united
from sam_med2d.dataset_conversion.formats.folder_layout import split_of, stem_of
from sam_med2d.dataset_conversion.formats.pairing import (
    MISSING,
    PATIENT,
    apply_missing,
    file_name,
    patient_of,
    structure_name,
)
from sam_med2d.dataset_conversion.samples import Choice, MaskSource, Sample
from sam_med2d.errors import DataError

NEEDED = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}


@dataclass(slots=True)
class _CocoImage:
    """What the files say of one photograph. masks: (structure, file, what is drawn) of each annotation."""

    name: str
    path: Path
    split: str
    masks: list[tuple[str, Path, Segments]] = field(default_factory=list)


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Annotations of one category are one mask, or with the option `instances` each is a mask of its own.

    Crowds are drawn like others (many programs call every run-length encoding a crowd); annotations without outline
    are passed over if they have no area either. Raises DataError for files that are not COCO's.
    """
    made = FoundSamples([])
    pictures = _ImageFiles(tree, choice.options.get("image_root"))
    photographs: dict[Path, _CocoImage] = {}
    for name, path, content in _files(tree):
        _add(photographs, content, name, path, pictures, made.problems)
    stems = Counter(stem_of(PurePosixPath(p.name).name).lower() for p in photographs.values())
    patient = patient_of(choice)
    for photograph in sorted(photographs.values(), key=lambda photograph: natural([photograph.name])):
        place = PurePosixPath(photograph.name)
        stem = stem_of(place.name)
        words = [photograph.split, *place.parts[:-1]] if stems[stem.lower()] > 1 else []
        title = file_name("_".join([*filter(None, words), stem]))
        masks = _sources(photograph.masks, each=bool(choice.options.get("instances")))
        of = patient(photograph.name, made.problems)
        made.samples.append(Sample(title, photograph.path, masks, split=photograph.split, patient=of))
    return apply_missing(made, choice)


def _sources(masks: Sequence[tuple[str, Path, Segments]], *, each: bool) -> tuple[MaskSource, ...]:
    """One mask for each annotation, or for each category."""
    groups: defaultdict[tuple[str, int], list[tuple[Path, Segments]]] = defaultdict(list)
    for i, (structure, path, segments) in enumerate(masks):
        groups[structure, i if each else 0].append((path, segments))
    return tuple(
        MaskSource(structure, parts[0][0], united([part for _, part in parts]))
        for (structure, _), parts in groups.items()
    )


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
        DataError: for what is neither, and for images of one id.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
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
    ids = Counter(image["id"] for image in content["images"])
    if twice := [str(number) for number, count in ids.items() if count > 1]:
        raise DataError(f"{path}: several images have the id {', '.join(twice[:10])}")
    return content


class _ImageFiles:
    """Where the photographs of COCO files lie."""

    def __init__(self, tree: Tree, root: str | Path | None) -> None:
        self.root = Path(root) if root else None
        if self.root and not self.root.is_dir():
            raise DataError(f"--image_root {root}: there is no such folder")
        self.named: dict[Path, list[str]] = {}  # what was found below the root, by which name
        self.by_name: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
        for name, path in tree.files.items():
            self.by_name[name.rpartition("/")[2]].append((name, path))

    def find(self, written: str, file: str, path: Path) -> Path | None:
        """A photograph of the COCO file called `file` in the source: beside it, else where its name fits once.

        Raises DataError for a name that leaves the folder where there is no --image_root.
        """
        name = written.replace("\\", "/")
        if "\0" in name or (not self.root and (name.startswith("/") or re.match("(.*/)?[.][.](/|$)|[A-Za-z]:", name))):
            raise DataError(
                f"{path}: the image {written!r} leaves the folder; write paths below it, or give --image_root"
            )
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if self.root:
            return self._below(self.root, parts, path)
        name = "/".join(parts)
        hits = [hit for hit in self.by_name[name.rpartition("/")[2]] if hit[0] == name or hit[0].endswith(f"/{name}")]
        folder = file.rpartition("/")[0]
        beside = [hit for hit in hits if hit[0] == f"{folder}/{name}".lstrip("/")]
        chosen = beside or hits
        return chosen[0][1] if len(chosen) == 1 else None

    def _below(self, root: Path, parts: Sequence[str], path: Path) -> Path | None:
        """The longest end of a name that is there below --image_root; what is written before it may be of elsewhere.

        Raises DataError where that is one file for two names.
        """
        own = [part for part in parts if not re.match("[A-Za-z]:", part)]
        own = own[len(own) - next((i for i, part in enumerate(reversed(own)) if part == ".."), len(own)) :]
        tails = ("/".join(own[start:]) for start in range(len(own)))
        found = next((root / tail for tail in tails if (root / tail).is_file()), None)
        if found and self.named.setdefault(found, own) != own:
            both = " and ".join("/".join(names) for names in (self.named[found], own))
            raise DataError(f"{path}: the images {both} are both {found}: give an --image_root that has their folders")
        return found


def _add(
    photographs: dict[Path, _CocoImage],
    content: Mapping[str, Any],
    name: str,
    path: Path,
    pictures: _ImageFiles,
    problems: list[str],
) -> None:
    """Add what one file says."""
    structures = {category["id"]: structure_name(category["name"]) for category in content["categories"]}
    annotations: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    ids = {image["id"] for image in content["images"]}
    problems += [
        f"{path}: there are annotations of image {i}, which is not listed" for i in annotations if i not in ids
    ]
    for image in content["images"]:
        found = pictures.find(image["file_name"], name, path)
        if found is None:
            problems.append(f"{path}: the image {image['file_name']} is not there, or several are (see --image_root)")
            continue
        split = _split(image, name)
        known = photographs.setdefault(found, _CocoImage(image["file_name"].replace("\\", "/"), found, split))
        if known.split != split:
            raise DataError(f"{found} is in two splits, {known.split or 'none'} and in {path} {split or 'none'}")
        for structure, segments in annotated_masks(image, annotations[image["id"]], structures, path, problems):
            known.masks.append((structure, path, segments))


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
    flags={
        "--image_root": {
            "metavar": "DIR",
            "help": "folder of the photographs: file names are looked up in it by their longest end that is there",
        },
        "--patient": PATIENT,
        "--missing": MISSING,
    },
)
