"""Data sets of nnU-Net: dataset.json, imagesTr and labelsTr, imagesTs and labelsTs; labels may be regions."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, natural
from sam_med2d.dataset_conversion.formats.class_list import BACKGROUND, VOID
from sam_med2d.dataset_conversion.formats.folder_layout import is_picture
from sam_med2d.dataset_conversion.formats.json_content import read_json
from sam_med2d.dataset_conversion.formats.pairing import PATIENT, file_name, patient_of, structure_name
from sam_med2d.dataset_conversion.mask_readers import Values
from sam_med2d.dataset_conversion.samples import Choice, Decoder, MaskSource, Sample
from sam_med2d.dataset_conversion.slices import SliceMask
from sam_med2d.errors import DataError

JSON, FOLDS = "dataset.json", "splits_final.json"
SPLIT_OF = {"Tr": "train", "Ts": "test"}


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Tr is train and Ts test; of splits_final.json the first fold is val.

    Raises DataError for files that are not nnU-Net's.
    """
    folder, path, content = _dataset(tree)
    ending, made = content["file_ending"], FoundSamples([])
    decoders = _decoders(path, content["labels"], pictures=is_picture(f"x{ending}"))
    images, labels = _files(tree, folder, "images", ending), _files(tree, folder, "labels", ending)
    if not any(part == "Ts" for part, _ in labels) and (bare := [key for key in images if key[0] == "Ts"]):
        made.notes.append(f"{len(bare)} photograph(s) in imagesTs are left out: there is no labelsTs")
        images = {key: files for key, files in images.items() if key[0] != "Ts"}
    validated, patient = _first_fold(tree, folder), patient_of(choice)
    if unknown := sorted(case for case in validated if ("Tr", case) not in images):
        made.notes.append(f"{FOLDS} validates on {len(unknown)} case(s) that imagesTr has not (first: {unknown[0]})")
    for key in sorted(images, key=natural):
        part, case = key
        files = tuple(images[key][number] for number in sorted(images[key]))
        if key not in labels:
            made.problems.append(f"{files[0]} has no file {case}{ending} in labels{part}")
            continue
        if len(files) not in (1, 3):
            raise DataError(
                f"{files[0]} is one of {len(files)} channels: a photograph has one file, or red, green, blue"
            )
        masks = tuple(MaskSource(name, labels[key][0], decoder) for name, decoder in decoders.items())
        split = "val" if part == "Tr" and case in validated else SPLIT_OF[part]
        about = {"split": split, "patient": patient(case, made.problems)}
        channels = () if len(files) == 1 and is_picture(files[0].name) else files
        made.samples.append(Sample(file_name(case), files[0], masks, channels=channels, **about))
    made.problems += [f"{labels[key][0]} has no photograph" for key in labels if key not in images]
    return made


def _dataset(tree: Tree) -> tuple[str, Path, dict[str, Any]]:
    """Folder in the source, path and content of dataset.json."""
    found = [(name, path) for name, path in tree.files.items() if name.rpartition("/")[2] == JSON]
    if len(found) != 1:
        several = f": {' and '.join(name for name, _ in found)}" if found else f". Found:\n  {tree.summary()}"
        raise DataError(f"SOURCE has {len(found)} files {JSON}, one is needed{several}")
    name, path = found[0]
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise DataError(f"{path} is no {JSON} of nnU-Net: it has no labels")
    if "dataset" in content:
        raise DataError(
            f"{path} lists files of elsewhere under 'dataset': copy them to imagesTr and labelsTr, and remove it"
        )
    ending = content.setdefault("file_ending", ".nii.gz")  # of nnU-Net 1, which had no other
    if not isinstance(ending, str) or not ending.startswith("."):
        raise DataError(f"{path}: file_ending is {ending!r}: write it as '.png'")
    return name.rpartition("/")[0], path, content


def _decoders(path: Path, labels: Mapping[str, Any], *, pictures: bool) -> dict[str, Decoder]:
    """How the mask of each structure is read of a map of labels."""
    if labels and all(key.isdigit() for key in labels):  # nnU-Net 1: {"1": "vessel"}
        labels = {name: int(key) for key, name in labels.items() if isinstance(name, str)}
    values: dict[str, tuple[int, ...]] = {}
    for label, value in labels.items():
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise DataError(f"{path}: the label {label!r} is {value!r}: write a number, or a list of them")
        if (structure := structure_name(label)) in values:
            raise DataError(f"{path}: several labels are called {structure}: give each its name")
        values[structure] = tuple(numbers)
    void = tuple(number for name in VOID for number in values.get(name, ()))
    known = tuple(sorted({0, *(number for numbers in values.values() for number in numbers)}))
    shown = {name: numbers for name, numbers in values.items() if name not in (*VOID, BACKGROUND)}
    readers = {name: Values(numbers, known, void) for name, numbers in shown.items()}
    return {name: reader if pictures else SliceMask(reader) for name, reader in readers.items()}


def _files(tree: Tree, folder: str, kind: str, ending: str) -> dict[tuple[str, str], dict[int, Path]]:
    """{(Tr or Ts, case): {channel: path}}; labels have channel 0."""
    number = r"_(?P<channel>\d{4})" if kind == "images" else ""
    pattern = re.compile(
        rf"{re.escape(f'{folder}/'.lstrip('/'))}{kind}(?P<part>Tr|Ts)/(?P<case>[^/]+){number}{re.escape(ending)}"
    )
    found: defaultdict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    for name, path in tree.files.items():
        if hit := pattern.fullmatch(name):
            found[hit["part"], hit["case"]][int(hit.groupdict().get("channel") or 0)] = path
    return dict(found)


def _first_fold(tree: Tree, folder: str) -> set[str]:
    """Cases on which the first fold is validated; none where there is no splits_final.json."""
    path = tree.files.get(f"{folder}/{FOLDS}".lstrip("/"))
    if path is None:
        return set()
    content = read_json(path)
    try:
        return {str(case) for case in content[0]["val"]}
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path} is no list of folds with train and val: mend or remove it") from error


NNUNET = DataSet(
    name="nnunet",
    title="a raw data set of nnU-Net (labels, regions)",
    layout="""dataset.json
imagesTr/eye_1_0000.png, one in colour, or _0000, _0001 and _0002 for red, green and blue; or .tif, .nii.gz
labelsTr/eye_1.png
imagesTs/, labelsTs/: the test part; splits_final.json: its first fold is the validation part""",
    find=find,
    flags={"--patient": PATIENT},
)
