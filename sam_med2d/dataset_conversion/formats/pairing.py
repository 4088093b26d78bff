"""Pictures that a person describes, or that are found by their names: photographs, and the masks that belong to them.

A picture has a stem (the photograph's file name without suffix) and a place (its folders without those that say
what it is: images, masks, a structure). A photograph and its masks have both in common, or the stem alone where no
two photographs share it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples, natural
from sam_med2d.dataset_conversion.formats.folder_layout import (
    VIEW_WORDS,
    PictureFile,
    is_picture,
    locate_masks,
    locate_photographs,
    place_of,
    split_of,
    stem_of,
)
from sam_med2d.dataset_conversion.samples import Choice, MaskSource, Sample
from sam_med2d.errors import DataError

PATIENT = {
    "metavar": "REGEX",
    "help": "its first group, found in a photograph's path, is the patient; default: as the names tell",
}
MISSING = {
    "choices": ("problem", "absent", "unknown"),
    "help": "a photograph without one of the structures: a problem, has none of it, or was not annotated (default)",
}
# Keywords of add_argument, as in DataSet.flags.
FLAGS: dict[str, dict[str, Any]] = {
    "--images": {
        "metavar": "PATTERN",
        "help": "where the photographs lie, such as photos/{name}.jpg; {name} may hold folders, * is any text without"
        " /; default: found by the names",
    },
    "--mask": {
        "metavar": "[STRUCTURE=]PATTERN",
        "action": "append",
        "help": "where masks lie, such as optic_disc=masks/{name}_disc.png; {n} is a number, for several masks of a"
        " photograph; folder: give it once for each structure; default: found by the names",
    },
    "--patient": PATIENT,
    "--missing": MISSING,
}


@dataclass(slots=True)
class Pairs:
    """Photographs with their mask files, and what has no partner."""

    masks_of: dict[PictureFile, list[PictureFile]]
    problems: list[str] = field(default_factory=list)


def find_pairs(tree: Tree, choice: Choice, *, by_structure: bool, is_mask: Callable[[str], bool] = is_picture) -> Pairs:
    """Photographs and their masks, by the patterns given in --images and --mask, or by their names.

    Args:
        tree: the source.
        choice: holds the patterns.
        by_structure: whether each --mask names its structure.
        is_mask: whether a file may be a mask, by its name; photographs are pictures.

    Raises:
        DataError: a pattern cannot work, or photographs are not told apart.
    """
    images, masks = choice.options.get("images"), choice.options.get("mask") or []
    names = [name for name in tree.files if is_picture(name)]
    possible = [name for name in tree.files if is_mask(name)]
    described = [mask for text in masks for mask in _described(tree, possible, text, by_structure=by_structure)]
    taken = {mask.name for mask in described}
    free = [name for name in names if name not in taken]
    if images:
        photographs = _matches(tree, free, f"--images {images}", images, "")
    else:
        photographs = locate_photographs(tree, free)
    if masks:
        return _pair(photographs, described, [], strict=bool(images))
    found, problems = locate_masks(tree, possible, photographs)
    return _pair(photographs, found, problems, strict=False)


def single(pairs: Pairs) -> Pairs:
    """The pairs, without fields of view; DataError where a photograph has more than one mask left."""
    for picture, masks in pairs.masks_of.items():
        masks[:] = [mask for mask in masks if mask.structure not in VIEW_WORDS]
        if len(masks) > 1:
            raise DataError(f"{picture.path} has {len(masks)} masks ({_names(masks)}): say which with --mask PATTERN")
    return pairs


def samples_of_pairs(
    pairs: Pairs, choice: Choice, sources: Callable[[PictureFile], Sequence[MaskSource]]
) -> FoundSamples:
    """Samples of pairs; `sources` says what a mask file shows."""
    patient = patient_of(choice)
    made = FoundSamples([], list(pairs.problems))
    stems = Counter(picture.stem for picture in pairs.masks_of)
    for picture, files in sorted(pairs.masks_of.items(), key=lambda item: natural([item[0].name])):
        views = [mask.path for mask in files if mask.structure in VIEW_WORDS]
        masks = [source for mask in files if mask.structure not in VIEW_WORDS for source in sources(mask)]
        name = picture.label if stems[picture.stem] == 1 else "_".join([*picture.place, picture.label])
        about = {"split": picture.split, "patient": patient(picture.name, made.problems)}
        about["field_of_view"] = views[0] if views else None
        made.samples.append(Sample(file_name(name), picture.path, tuple(masks), **about))
    return apply_missing(made, choice)


def apply_missing(made: FoundSamples, choice: Choice) -> FoundSamples:
    """The samples, where structures that some photographs lack are what --missing says they are.

    A photograph without any mask is a problem, unless all its structures are absent.
    """
    missing = choice.options.get("missing") or "unknown"
    structures = list(dict.fromkeys(source.structure for sample in made.samples for source in sample.masks))
    for i, sample in enumerate(made.samples):
        there = {source.structure for source in sample.masks}
        lacking = tuple(structure for structure in structures if structure not in there)
        if missing == "absent":
            made.samples[i] = replace(sample, absent=lacking)
        elif not sample.masks:
            made.problems.append(f"{sample.image} has no mask (--missing absent: there is nothing to draw)")
        elif missing == "problem":
            made.problems += [f"{sample.image} has no {structure} mask" for structure in lacking]
    return made


def patient_of(choice: Choice) -> Callable[[str, list[str]], str]:
    """(path of a photograph in the source, problems) -> patient, by --patient; "" without the flag."""
    text = choice.options.get("patient")
    if not text:
        return lambda name, problems: ""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DataError(f"--patient {text}: no regular expression ({error})") from error
    if not pattern.groups:
        raise DataError(f"--patient {text}: put the patient's part into a group, such as '(P\\d+)_'")

    def patient(name: str, problems: list[str]) -> str:
        hit = pattern.search(name)
        if not (hit and hit.group(1)):
            problems.append(f"{name}: --patient {text} finds no patient in it")
            return ""
        return hit.group(1)

    return patient


def structure_name(text: str) -> str:
    """A name for files and tables: "1. Optic-Disc" -> optic_disc. Raises DataError where nothing is left."""
    name = re.sub(r"\W+", "_", text.lower()).strip("_")
    name = re.sub(r"^[\d_]+", "", name) or name
    if not name:
        raise DataError(f"{text!r} is no name of a structure: use letters, such as optic_disc")
    return name


def file_name(text: str) -> str:
    """A name that files can have."""
    return re.sub(r"[^\w()+,. -]+", "_", text).lstrip(".") or "_"


def _described(tree: Tree, names: Iterable[str], text: str, *, by_structure: bool) -> list[PictureFile]:
    structure, equals, pattern = text.partition("=")
    if not by_structure:
        return _matches(tree, names, f"--mask {text}", text, "")
    if not equals:
        raise DataError(f"--mask {text}: write STRUCTURE=PATTERN, such as optic_disc=masks/{{name}}_disc.png")
    return _matches(tree, names, f"--mask {text}", pattern, structure_name(structure))


def _matches(tree: Tree, names: Iterable[str], flag: str, pattern: str, structure: str) -> list[PictureFile]:
    """Pictures whose path ends as the pattern says."""
    wanted, pictures = _compiled(flag, pattern), []
    for name in names:
        if hit := wanted.fullmatch(name):
            *folders, last = (hit["before"] + hit["name"]).split("/")
            label = last if hit.end("name") < len(name) else stem_of(last)
            place = place_of(folders)
            pictures.append(PictureFile(name, tree.files[name], place, label, split_of(name), structure))
    if not pictures:
        raise DataError(f"{flag}: no picture is there. Found:\n  {tree.summary()}")
    return pictures


def _compiled(flag: str, pattern: str) -> re.Pattern[str]:
    words = re.split(r"(\{.*?\}|\*)", pattern.replace("\\", "/").removeprefix("./"))
    meaning = {"{name}": r"(?P<name>[^/].*)", "{n}": r"\d+", "*": "[^/]*"}
    unknown = [word for word in words if word.startswith("{") and word not in meaning]
    if words.count("{name}") != 1 or unknown:
        raise DataError(
            f"{flag}: write {{name}} once, for what photograph and mask have in common, and else {{n}} or *"
        )
    body = "".join(meaning.get(word) or re.escape(word) for word in words)
    return re.compile(f"(?P<before>(?:.*?/)??){body}", re.IGNORECASE)


def _pair(
    photographs: Sequence[PictureFile], masks: Sequence[PictureFile], problems: list[str], *, strict: bool
) -> Pairs:
    """Masks to the photograph of the same place and stem; unless strict, of the same stem where just one has it."""
    exact: dict[tuple[tuple[str, ...], str], list[PictureFile]] = defaultdict(list)
    by_stem: dict[str, list[PictureFile]] = defaultdict(list)
    for picture in photographs:
        exact[picture.place, picture.stem].append(picture)
        by_stem[picture.stem].append(picture)
    _refuse_equal(exact.values(), "have one name: keep one of them, or say with --images which it is")
    pairs = Pairs({picture: [] for picture in photographs}, problems)
    for mask in masks:
        hits = exact.get((mask.place, mask.stem), [])
        if not hits and not strict:
            hits = [hit for hit in by_stem[mask.stem] if not (hit.split and mask.split and hit.split != mask.split)]
            hits = hits if len(by_stem[mask.stem]) == 1 else []
        if hits:
            pairs.masks_of[hits[0]].append(mask)
        elif by_stem[mask.stem]:
            pairs.problems.append(f"{mask.path} has no photograph: {_names(by_stem[mask.stem])} lie(s) elsewhere")
        else:
            pairs.problems.append(f"{mask.path} has no photograph")
    for picture, files in pairs.masks_of.items():
        files.sort(key=lambda mask: natural([mask.name]))
        equal: dict[tuple[str, str], list[PictureFile]] = defaultdict(list)
        for mask in files:
            equal[mask.structure, stem_of(mask.name.rpartition("/")[2]).lower()].append(mask)
        _refuse_equal(equal.values(), f"are both masks of {picture.path}: keep one, or say with --mask which it is")
    return pairs


def _refuse_equal(groups: Iterable[list[PictureFile]], what: str) -> None:
    if twice := [pictures for pictures in groups if len(pictures) > 1]:
        more = f"\n  ... and {len(twice) - 20} more" if len(twice) > 20 else ""
        raise DataError("\n  ".join(f"{_names(pictures)} {what}" for pictures in twice[:20]) + more)


def _names(pictures: Sequence[PictureFile]) -> str:
    return " and ".join(str(picture.path) for picture in pictures[:4])
