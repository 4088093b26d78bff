"""The description of a data set, and the common way from its files to samples."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam_med2d.data.file_tree import Found, Tree
from sam_med2d.data.image_io import read_bytes
from sam_med2d.dataset_conversion.mask_readers import BLACK_AND_WHITE
from sam_med2d.dataset_conversion.samples import Choice, Decoder, MaskSource, Sample

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(slots=True)
class FoundSamples:
    """Samples found in a source.

    Attributes:
        samples: the photographs with their masks.
        problems: a sentence for each photograph or mask without the other.
        notes: what else a person should know.
    """

    samples: list[Sample]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A public data set, or a format.

    Attributes:
        name, title: for the command line and for people.
        layout: its official tree, a path a line, for people.
        find: what a source in that layout holds.
        citation, terms, where: of a public set: what to cite, its terms of use, how a person gets it.
        structures: that have masks.
        counts: photographs expected for each split, "" where there is no official one.
        observers: who drew the masks; the first is the default.
        threshold: default for soft masks, None where there are none.
        may_be_soft: whether masks without such a default may be soft: the flag says that they are.
        has_instances: its own objects are the instances, for which Choice.options["instances"] is set.
        has_masks: whether there are any.
        names_persons: whether paths of its files may name persons: the record does not hold them.
        flags: those of a format, {flag: keywords of add_argument}; their values come in Choice.options.
    """

    name: str
    title: str
    layout: str
    find: Callable[[Tree, Choice], FoundSamples]
    citation: str = ""
    terms: str = ""
    where: str = ""
    structures: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    observers: tuple[str, ...] = ()
    threshold: float | None = None
    may_be_soft: bool = False
    has_instances: bool = False
    has_masks: bool = True
    names_persons: bool = False
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Masks:
    """Where a structure's masks lie.

    Attributes:
        structure: what they show.
        pattern: of their paths, with the same groups as the photographs' (see Tree.match).
        decode: how they are read.
        missing: what it means when a photograph has none: "problem", "absent" (looked for, not there) or "unknown" (not
            annotated).
    """

    structure: str
    pattern: str
    decode: Decoder = BLACK_AND_WHITE
    missing: str = "problem"


def collect(
    tree: Tree,
    name: str,
    photographs: str,
    masks: Sequence[Masks],
    *,
    keys: tuple[str, ...] = ("id",),
    field_of_view: str = "",
    patient: Callable[[Found], str] = lambda _: "",
    split: Callable[[Found], str] = lambda found: SPLIT_WORDS.get(found.split.lower(), ""),
) -> FoundSamples:
    """Samples of the photographs that match a pattern, with the masks that have the same `keys`.

    Args:
        tree: the source.
        name: of a photograph, in which {id} and {split} stand for those of its match.
        photographs: pattern of their paths.
        masks: of each structure.
        keys: named groups of the patterns that tell photographs apart.
        field_of_view: pattern of its mask files, "" for none.
        patient, split: these of a photograph, from its match.

    Raises:
        DataError: two files have the same keys.
    """
    pictures = tree.unique(photographs, *keys)
    files = [(kind, tree.unique(kind.pattern, *keys)) for kind in masks]
    views = tree.unique(field_of_view, *keys) if field_of_view else {}
    offer = FoundSamples([])
    for key, picture in sorted(pictures.items(), key=lambda item: natural(item[0])):
        sources, absent = [], []
        for kind, found in files:
            if key in found:
                sources.append(MaskSource(kind.structure, found[key].path, kind.decode))
            elif kind.missing == "absent":
                absent.append(kind.structure)
            elif kind.missing == "problem":
                offer.problems.append(f"{picture.path} has no {kind.structure} mask")
        about = {"split": split(picture), "patient": patient(picture), "absent": tuple(absent)}
        about["field_of_view"] = views[key].path if key in views else None
        called = name.format(id=picture.id, split=picture.split.lower())
        offer.samples.append(Sample(called, picture.path, tuple(sources), **about))
    for _, found in files:
        lost = [hit.path for key, hit in found.items() if key not in pictures]
        offer.problems += [f"{path} has no photograph" for path in dict.fromkeys(lost)]
    offer.problems = list(dict.fromkeys(offer.problems))
    return offer


def by_patterns(
    name: str, photographs: str, masks: Sequence[Masks] | Callable[[Choice], Sequence[Masks]], **more: Any
) -> Callable[[Tree, Choice], FoundSamples]:
    """`DataSet.find` of a set that `collect` reads with these arguments."""
    return lambda tree, choice: collect(tree, name, photographs, masks(choice) if callable(masks) else masks, **more)


def read_table(tree: Tree, *patterns: str) -> list[dict[str, str]]:
    """Rows of the first table (CSV in UTF-8) in a source that matches one of the patterns; [] where there is none."""
    found = next((hit for pattern in patterns for hit in tree.match(pattern)), None)
    if found is None:
        return []
    text = read_bytes(found.path).decode("utf-8-sig", errors="replace")
    return list(csv.DictReader(io.StringIO(text), restval=""))


def natural(words: Iterable[str]) -> list[list[tuple[int, int | str]]]:
    """A sorting key that puts 9 before 10."""
    return [[(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", word)] for word in words]
