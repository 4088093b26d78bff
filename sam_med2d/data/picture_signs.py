"""What is a photograph in a folder, and what is a mask or another file: by maps, names, folders and content."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from os.path import abspath
from pathlib import Path

import numpy as np

from sam_med2d.data import dicom
from sam_med2d.data.image_formats import decode, read_bytes, size_of
from sam_med2d.data.image_headers import is_dicom as starts_as_dicom
from sam_med2d.data.records import PREFIXES, parse_map, resolve
from sam_med2d.errors import DataError

logger = logging.getLogger("notes")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm")
LOSSY = (".jpg", ".jpeg", ".webp")
# pictures that are not looked for: formats of masks, of cameras and microscopes, packed ones
OTHER_SUFFIXES = (".gif", ".pgm", ".pbm", ".pnm", ".gz", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".tga", ".dng")
OTHER_SUFFIXES += (".cr2", ".nef", ".arw", ".svs", ".nii", ".mha", ".mhd", ".nrrd", ".zip", ".pdf")
DICOM = f"DICOM files (to read them: {dicom.INSTALL})"
OTHER_DICOM = "DICOM files that are no photographs"
DICOM_LEFT = "DICOM files, which this format does not look for (`prepare_dataset.py dicom` does)"
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
MASK_WORDS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "manual", "gt", "ground_truth", "groundtruth"),
    *("ground_truths", "groundtruths", "seg", "segmentation", "segmentations", "target", "targets"),
}
NAME_WORDS = MASK_WORDS - {"manual", "target", "targets"}  # which photographs' names may have, too
SMALL, SMALL_LOSSY = 0.25, 0.1  # bytes a pixel: a compressed file may be a mask below, and is none above
SAMPLE = 1 << 16  # bytes of a file that is not compressed
FEW = 24  # different bytes in the sample of a mask
VALUES = 8  # different values or colours of a mask or a map of classes
LOOKED_AT = 4096  # pixels that are looked at first
# A grey picture of which this share is within this distance of black or white is a mask, even if saved as JPEG.
BLACK_OR_WHITE_SHARE, BLACK_OR_WHITE = 0.98, 24


def photographs_of(files: Mapping[str, Path], root: Path) -> list[Path]:
    """The photographs among files, by their names below `root`, in order; what is passed over is told in one line.

    The maps of `root`, and those beside it, say which files are masks.
    """
    maps = {path for path in files.values() if path.suffix == ".json"}
    images, masks = _listed(maps.union(root.glob("*.json"), root.parent.glob("*.json")))
    found, passed = [], defaultdict(list)
    for name, path in files.items():
        if path.name.startswith("."):
            continue
        is_picture = path.suffix.lower() in SUFFIXES
        is_dicom = not is_picture and is_dicom_file(path)
        if sign := _dicom_sign(path) if is_dicom else _sign(name, path, images, masks):
            kind, seen = sign
            passed[kind].append(f"{path} ({seen})" if seen else str(path))
        elif is_picture or is_dicom:
            found.append(path)
    _tell(passed)
    return found


def tell_dicom(paths: Iterable[Path]) -> None:
    """Tell in one line that DICOM files are passed over, if some are among the files."""
    _tell({DICOM_LEFT: found} if (found := [str(path) for path in paths if is_dicom_file(path)]) else {})


def _tell(passed: Mapping[str, Sequence[str]]) -> None:
    """passed: {kind: the files that are passed over}."""
    if passed:
        kinds = (f"{len(names)} {kind}, such as {names[0]}" for kind, names in passed.items())
        logger.warning(f"note: passed over: {'; '.join(kinds)}")


def _sign(name: str, path: Path, images: set[str], masks: set[str]) -> tuple[str, str] | None:
    """What a file is that is passed over, and how it is known; None for a photograph and for what is no picture."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        seen = "" if abspath(path) in images else _mask_sign(name, path, masks)
        return ("masks", seen) if seen else None
    return ("other files", "") if suffix in OTHER_SUFFIXES else None


def _dicom_sign(path: Path) -> tuple[str, str] | None:
    """As `_sign`, for a DICOM file; one that is damaged is told when its turn comes."""
    if not dicom.is_readable():
        return DICOM, ""
    return (OTHER_DICOM, seen) if (seen := dicom.other_kind(path)) else None


def is_dicom_file(path: Path) -> bool:
    """Whether a file is one of DICOM: by its suffix; by its content where it has none, or a number."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES or suffix.strip(".0123456789"):
        return suffix in DICOM_SUFFIXES
    try:
        with path.open("rb") as file:
            return starts_as_dicom(file.read(132))
    except OSError:
        return False


def _mask_sign(name: str, path: Path, masks: set[str]) -> str:
    """By what a picture is known as a mask; empty for a photograph."""
    *folders, file = name.split("/")
    if abspath(path) in masks:
        return "a map lists it"
    if folder := next((folder for folder in folders if _ends_in(folder, MASK_WORDS)), ""):
        return f"its folder {folder}"
    if _begins_in(Path(file).stem, NAME_WORDS) or _ends_in(Path(file).stem, NAME_WORDS):
        return "its name"
    return content_sign(path)


def _words(name: str) -> str:
    """A name in small letters, its words joined by underscores, without numbers at its end."""
    return re.sub(r"(_\d+)+$", "", re.sub(r"[\W_]+", "_", name.lower()).strip("_"))


def _ends_in(name: str, words: Iterable[str]) -> bool:
    return any(f"_{_words(name)}".endswith(f"_{word}") for word in words)


def _begins_in(name: str, words: Iterable[str]) -> bool:
    return any(f"{_words(name)}_".startswith(f"{word}_") for word in words)


def _listed(maps: Iterable[Path]) -> tuple[set[str], set[str]]:
    """The photographs and the masks that maps list, as absolute paths; a map that cannot be read lists nothing."""
    images: set[str] = set()
    masks: set[str] = set()
    for path in maps:
        if not path.name.startswith(PREFIXES):
            continue
        try:
            entries, _ = parse_map(path)
            images |= {abspath(resolve(image, path.parent)) for image in entries}
            masks |= {abspath(resolve(mask, path.parent)) for names in entries.values() for mask in names}
        except DataError:  # for those who use the map
            continue
    return images, masks


def content_sign(path: Path) -> str:
    """By what a picture's content is known as a mask, empty for others; decoded only where its size lets it be one."""
    lossy = path.suffix.lower() in LOSSY
    try:
        height, width = size_of(path)
        size = path.stat().st_size
        large = size > (SMALL_LOSSY if lossy else SMALL) * height * width + SAMPLE // 16
        if large and (lossy or len(_sample(path, size)) > FEW):
            return ""
        return sign_in(decode(path, read_bytes(path), indices=True).values)
    except (DataError, OSError):  # told when its turn comes
        return ""


def sign_in(values: np.ndarray) -> str:
    """By what pixels are known as a mask or a map of classes, empty for those of a photograph.

    Args:
        values: numbers or bool [H, W] or [H, W, C].
    """
    pixels = values.reshape(values.shape[0] * values.shape[1], -1)
    if len(np.unique(pixels[:: max(1, len(pixels) // LOOKED_AT)], axis=0)) <= VALUES:
        count, rest = 0, pixels
        while len(rest) and count <= VALUES:
            count, rest = count + 1, rest[(rest != rest[0]).any(axis=1)]
        if 1 < count <= VALUES:
            return "two values" if count == 2 else f"{count} values"
    return "black and white" if _is_black_and_white(pixels) else ""


def _is_black_and_white(pixels: np.ndarray) -> bool:
    """Whether pixels [N, C] are those of a mask with soft edges."""
    light = pixels[:, pixels.shape[1] // 2]
    if pixels.dtype != np.uint8 or np.ptp(light) < BLACK_OR_WHITE or not (pixels == light[:, None]).all():
        return False
    distance = np.minimum(light - light.min(), light.max() - light)
    return bool((distance <= min(BLACK_OR_WHITE, np.ptp(light) // 4)).mean() >= BLACK_OR_WHITE_SHARE)


def _sample(path: Path, size: int) -> np.ndarray:
    """The different bytes in the middle of a file."""
    length = min(SAMPLE, size // 2)  # what is not pixels lies at the ends
    with path.open("rb") as file:
        file.seek((size - length) // 2)
        return np.unique(np.frombuffer(file.read(length), np.uint8))
