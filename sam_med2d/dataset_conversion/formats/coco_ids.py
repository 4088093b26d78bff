"""Ids in COCO files, which pycocotools compares: of our truth and our predictions alike, or those of a given file."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import and_, eq
from pathlib import Path, PurePosixPath
from typing import Any

from sam_med2d.dataset_conversion.formats.coco import read_coco
from sam_med2d.dataset_conversion.formats.pairing import structure_name
from sam_med2d.errors import DataError, UsageError

# Ids 1, 2, ... in this order, in all files: append, and never move or remove one.
STRUCTURE_IDS = ("optic_disc", "optic_cup", "vessel", "artery", "vein")
STRUCTURE_IDS += ("microaneurysm", "haemorrhage", "hard_exudate", "soft_exudate")
CATEGORY_BITS, IMAGE_BITS = 31, 53  # of other ids: programs keep categories in int32, JavaScript numbers have 53 bits


@dataclass(frozen=True, slots=True)
class CocoIds:
    """Ids by what they stand for.

    Attributes:
        categories: of structures, or other labels.
        names: what the ids of photographs are made of beside their content, unless a file gives them.
        given: those that a file gives photographs.
        sizes: (height, width) that it gives them.
    """

    categories: Mapping[str, int | str]
    names: Mapping[Path, str] = field(default_factory=dict)
    given: Mapping[Path, int | str] = field(default_factory=dict)
    sizes: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def image(self, path: Path, content: str) -> int | str:
        """The id of a photograph, of which `content` is the digest of the file: two of one name are told apart."""
        return self.given[path] if path in self.given else _hashed(f"{self.names[path]}\0{content}", 0, IMAGE_BITS)

    def listed_categories(self) -> list[dict[str, Any]]:
        """COCO's categories."""
        return [{"id": number, "name": name} for name, number in self.categories.items()]

    def check_size(self, path: Path, size: tuple[int, int]) -> None:
        """Raises UsageError for a photograph that has another size (height, width) in the given file."""
        if (other := self.sizes.get(path, size)) != tuple(size):
            raise UsageError(
                f"--coco_gt: {path} has {size[1]} x {size[0]} pixels, and {other[1]} x {other[0]} in that file: masks "
                "of two sizes are not compared; give the file of these photographs."
            )


def own_ids(paths: Sequence[Path], names: Iterable[str]) -> CocoIds:
    """Ids that depend on photographs and structures alone: hashes of file names and contents; STRUCTURE_IDS, hashes.

    Args:
        paths: the photographs; where two have one file name, it counts with the folders that tell them apart.
        names: the structures, or other labels.

    Returns:
        The ids, categories in order of their names.

    Raises:
        DataError: names what would get one id.
    """
    names, endings = sorted(names), shortest_endings(paths)
    _check_apart(paths, endings, "COCO image id: list each photograph once")
    categories = [_category_id(structure_name(name)) for name in names]
    _check_apart(names, categories, "COCO category id: write one structure in one way")
    return CocoIds(dict(zip(names, categories, strict=True)), dict(zip(paths, endings, strict=True)))


def ids_of_file(file: Path, paths: Sequence[Path], names: Iterable[str]) -> CocoIds:
    """Ids that a COCO file has: photographs by file name, of several by the folders before it; structures by name.

    Args:
        file: of --coco_gt.
        paths: the photographs.
        names: the structures, or other labels.

    Returns:
        The ids, categories in order of their names.

    Raises:
        DataError: the file is not COCO's.
        UsageError: lists photographs and names that are not in the file once.
    """
    content = read_coco(file)
    if content is None:
        raise UsageError(f"--coco_gt {file} is no COCO file: it needs images, annotations and categories.")
    images = _fitting(content["images"], paths)
    categories: defaultdict[str, list[int | str]] = defaultdict(list)
    for category in content["categories"]:
        categories[structure_name(category["name"])].append(category["id"])
    named = {name: categories[structure_name(name)] for name in sorted(names)}
    uses = Counter(image["file_name"] for found in images.values() for image in found)
    problems = [f"{len(found)} images fit {path}" for path, found in images.items() if len(found) != 1]
    problems += [f"its image {name} fits {count} of the photographs" for name, count in uses.items() if count > 1]
    problems += [f"{len(found)} categories are called {name}" for name, found in named.items() if len(found) != 1]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise UsageError(
            f"--coco_gt {file} must have each photograph and label once: {'; '.join(problems[:10])}{more}: "
            "give the file of these photographs, or leave --coco_gt out."
        )
    sizes = {path: (image.get("height"), image.get("width")) for path, (image,) in images.items()}
    return CocoIds(
        {name: number for name, (number,) in named.items()},
        given={path: image["id"] for path, (image,) in images.items()},
        sizes={path: size for path, size in sizes.items() if all(isinstance(side, int) for side in size)},
    )


def _fitting(images: Sequence[dict[str, Any]], paths: Sequence[Path]) -> dict[Path, list[dict[str, Any]]]:
    """For each path the images of its file name; of several, those with most of its folders before the name."""
    called = defaultdict(list)
    for image in images:
        parts = PurePosixPath(image["file_name"].replace("\\", "/")).parts[::-1]
        called["".join(parts[:1])].append((parts, image))
    fitting = {}
    for path in paths:
        own = Path(os.path.abspath(path)).parts[::-1]
        agreeing = [(sum(accumulate(map(eq, own, parts), and_)), image) for parts, image in called[path.name]]
        most = max((length for length, _ in agreeing), default=0)
        fitting[path] = [image for length, image in agreeing if length == most]
    return fitting


def shortest_endings(paths: Sequence[Path]) -> list[str]:
    """Each path from its end, with as few folders as tell it from the others."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    endings, depth, rest = [""] * len(paths), 0, list(range(len(paths)))
    while rest:
        depth += 1
        for i in rest:
            endings[i] = "/".join(parts[i][-depth:])
        times = Counter(endings[i] for i in rest)
        rest = [i for i in rest if times[endings[i]] > 1 and depth < len(parts[i])]
    return endings


def _category_id(name: str) -> int:
    known = STRUCTURE_IDS.index(name) + 1 if name in STRUCTURE_IDS else 0
    return known or _hashed(name, 1000, CATEGORY_BITS)


def _hashed(text: str, first: int, bits: int) -> int:
    """A number from first on, below 2 ** bits."""
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    return first + number % (2**bits - first)


def _check_apart(items: Sequence[Hashable], ids: Sequence[Hashable], what: str) -> None:
    """Raise DataError for two that have one id."""
    groups: defaultdict[Hashable, list[str]] = defaultdict(list)
    for item, number in zip(items, ids, strict=True):
        groups[number].append(str(item))
    if same := [" and ".join(group) for group in groups.values() if len(group) > 1]:
        raise DataError(f"{'; '.join(same[:10])} would have the same {what}")
