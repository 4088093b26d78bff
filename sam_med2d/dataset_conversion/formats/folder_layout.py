"""What the names of folders and files say: which pictures are photographs, which are masks, and of what."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_med2d.data import picture_signs
from sam_med2d.data.file_tree import Tree
from sam_med2d.data.picture_signs import MASK_WORDS
from sam_med2d.dataset_conversion.dataset_spec import SPLIT_WORDS
from sam_med2d.errors import DataError

IMAGE_WORDS = {
    *("image", "images", "img", "imgs", "photo", "photos", "photograph", "photographs", "picture", "pictures"),
    *("original", "originals", "original_images", "fundus", "fundus_images", "input", "inputs", "raw"),
}
VIEW_WORDS = {"fov", "field_of_view"}
MASK_SUFFIXES = (".gif", ".pbm", ".pgm", ".pnm")
SUFFIXES = "|".join(map(re.escape, (*picture_signs.SUFFIXES, *picture_signs.DICOM_SUFFIXES, *MASK_SUFFIXES)))
PICTURE = re.compile(rf"({SUFFIXES})(\.gz)?$", re.IGNORECASE)
ENDING = re.compile(rf"({SUFFIXES}|\.nii|(\.seg)?\.nrrd)(\.gz)?$", re.IGNORECASE)
JPEG = re.compile(r"\.jpe?g$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture file, and the photograph that it is or belongs to."""

    name: str  # path in the source
    path: Path  # on the disk
    place: tuple[str, ...]  # words of its folders
    label: str  # file name of the photograph without its suffix
    split: str  # "train", "val", "test" or ""
    structure: str = ""  # what a mask shows, "" where nothing says so

    @property
    def stem(self) -> str:
        """The label, for comparison."""
        return self.label.lower()


def is_picture(name: str) -> bool:
    return bool(PICTURE.search(name))


def stem_of(name: str) -> str:
    """A file's name without its suffix: im0001.ppm.gz -> im0001."""
    return ENDING.sub("", name)


def split_of(name: str) -> str:
    """The split that a path's folders name, the last one if several do; "" if none does."""
    return next((split for folder in reversed(name.split("/")[:-1]) if (split := _meaning(folder)[0])), "")


def place_of(folders: Iterable[str], structure: str = "") -> tuple[str, ...]:
    """Words of the folders without those that say what a picture is."""
    said = IMAGE_WORDS | MASK_WORDS | VIEW_WORDS | {structure}
    meanings = [_meaning(folder) for folder in folders]
    return tuple(part for split, word in meanings for part in (split, "" if word in said else word) if part)


def _meaning(folder: str) -> tuple[str, str]:
    """(split, word): "Training" -> (train, ""), "test_images" -> (test, images), "Optic Disc" -> ("", optic_disc)."""
    word = re.sub(r"[\W_]+", "_", folder.lower()).strip("_")
    if word in SPLIT_WORDS:
        return SPLIT_WORDS[word], ""
    parts = word.split("_")
    rest = "_".join(part for part in parts if part not in SPLIT_WORDS)
    if rest in IMAGE_WORDS | MASK_WORDS:
        return next((SPLIT_WORDS[part] for part in parts if part in SPLIT_WORDS), ""), rest
    return "", word


def locate_photographs(tree: Tree, names: Sequence[str]) -> list[PictureFile]:
    """Photographs: in folders called images or the like, else in the topmost folder that is not one of masks.

    Of pictures in one folder, `<other>_<word>.png` is a mask of `<other>`.

    Args:
        tree: the source.
        names: of the pictures in it.

    Raises:
        DataError: several folders could hold them.
    """
    below: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        below[tuple(name.split("/")[:-1])].append(name)
    words = {folder: [_meaning(part)[1] for part in folder] for folder in below}
    free = [folder for folder in below if not {*words[folder]} & (MASK_WORDS | VIEW_WORDS)]
    folders = [folder for folder in free if {*words[folder]} & IMAGE_WORDS] or _topmost(free, words)
    return [
        PictureFile(name, tree.files[name], place_of(folder), stem_of(name.rpartition("/")[2]), split_of(name))
        for folder in folders
        for name in _without_masks(below[folder])
    ]


def _topmost(folders: Sequence[tuple[str, ...]], words: dict[tuple[str, ...], list[str]]) -> list[tuple[str, ...]]:
    """Those with the fewest words besides splits. Raises DataError where they have different ones."""
    plain = {folder: tuple(word for word in words[folder] if word) for folder in folders}
    fewest = min(map(len, plain.values()), default=0)
    chosen = [folder for folder in folders if len(plain[folder]) == fewest]
    if len({plain[folder] for folder in chosen}) > 1:
        shown = ", ".join(sorted("/".join(folder) for folder in chosen)[:8])
        raise DataError(
            f"which of these folders holds the photographs is not clear: {shown}. Say it with --images, such as "
            f"--images '{'/'.join(chosen[0])}/{{name}}.jpg', or call it images"
        )
    return chosen


def _without_masks(paths: Sequence[str]) -> list[str]:
    """Paths in one folder without those of masks that lie beside their photographs."""
    names = {path: path.rpartition("/")[2] for path in paths}
    stems = {stem_of(name).lower() for name in names.values()}
    return [
        path for path, name in names.items() if JPEG.search(name) or not _divided(stem_of(name), stems, whole=False)[1]
    ]


def locate_masks(
    tree: Tree, names: Sequence[str], photographs: Sequence[PictureFile]
) -> tuple[list[PictureFile], list[str]]:
    """Masks among the pictures that are no photographs, and a sentence for each that belongs to none.

    A folder that is not called masks or the like is a structure, unless its files end in different words; else the
    end of a file's name is: `<photograph>_<structure>.png`, `<photograph>_<structure>_<nnn>.png`.
    """
    others = sorted({*names} - {picture.name for picture in photographs})
    stems = {picture.stem for picture in photographs}
    common = {_meaning(part)[1] for picture in photographs for part in picture.name.split("/")[:-1]}
    ends = {name: _divided(stem_of(name.rpartition("/")[2]), stems) for name in others}
    by_folder: defaultdict[str, list[str]] = defaultdict(list)
    for name in others:
        by_folder[name.rpartition("/")[0]].append(name)
    masks, problems = [], []
    for folder, inside in by_folder.items():
        mine = [name for name in inside if ends[name][0]]
        if not mine:
            problems.append(f"{folder or '.'}/ holds {len(inside)} picture(s), none with a photograph's name: not used")
            continue
        problems += [f"{tree.files[name]} has no photograph" for name in inside if not ends[name][0]]
        own = _structure_folder(folder, common)
        endings = {ends[name][1] for name in mine}
        for name in mine:
            label, ending = ends[name]
            structure = ending if ending and not (own and len(endings) == 1) else own
            place = place_of(folder.split("/"), own)
            masks.append(PictureFile(name, tree.files[name], place, label, split_of(name), structure))
    return masks, problems


def _structure_folder(folder: str, common: set[str]) -> str:
    """The word of the last folder that says more than where photographs lie too; "" if none does."""
    words = [_meaning(part)[1] for part in folder.split("/")]
    said = IMAGE_WORDS | MASK_WORDS | common | {""}
    return next((word for word in reversed(words) if word not in said), "")


def _divided(stem: str, stems: set[str], *, whole: bool = True) -> tuple[str, str]:
    """(photograph's stem, word after it): the longest stem that the name begins with, before _ - or a dot.

    whole: whether the name may be a stem itself. A number at the end and words such as "mask" are left out. ("", "")
    if there is none, or if the word begins with a digit: the photograph's name then goes on, and it is another one.
    """
    stem = stem.lower()
    cuts = [hit.start() for hit in re.finditer(r"[_\-. ]|$" if whole else r"[_\-. ]", stem)]
    for cut in sorted(cuts, reverse=True):
        if stem[:cut] in stems:
            rest = re.sub(r"(^|[_\-. ])\d+$", "", stem[cut:].strip("_-. "))
            word = re.sub(r"[\W_]+", "_", rest)
            return ("", "") if word[:1].isdigit() else (stem[:cut], "" if word in MASK_WORDS else word)
    return "", ""
