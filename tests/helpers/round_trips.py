"""A small data set, written in a format by export_annotations.py and read back by prepare_dataset.py."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.annotation_export.export_format import dice
from sam_med2d.data.image_io import read_mask
from sam_med2d.data.records import SPLITS, has_map, load_index
from scripts import export_annotations, prepare_dataset
from tests.helpers.commands import run_command

SIZE = (40, 60)  # height, width: not equal, so that what is swapped does not fit
Masks = dict[tuple[str, str], np.ndarray]  # by photograph and structure, the union of the masks, bool [H, W]


def ellipse(row: float, column: float, height: float, width: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A filled ellipse, by its middle and half axes, bool [H, W]."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1


def drawn(number: int) -> dict[str, np.ndarray]:
    """Masks of photograph `number`: a ring with a hole, thin lines, single pixels, masks that reach the edges."""
    disc = ellipse(18, 15 + number, 9, 7)
    vessel = np.abs(np.subtract.outer(np.arange(SIZE[0]), np.arange(SIZE[1]) * 0.6)) < 1
    vessel[:, 50] = vessel[37, :] = True
    spots = np.zeros(SIZE, bool)
    spots[0, 0] = spots[39, 59] = spots[5, 40] = True
    spots[10:14, 30:34] = ~np.eye(4, dtype=bool)
    ring = ellipse(25, 40, 8, 8) & ~ellipse(25, 40, 4, 3)
    return {"optic_disc": disc, "vessel": vessel, "microaneurysm": spots, "hard_exudate": ring}


def small_data(folder: Path, draw: Callable[[int], dict[str, np.ndarray]] = drawn) -> Path:
    """Three photographs in two splits; the last one has no mask of the last structure, which is known to be absent."""
    maps: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    lines = ["image,absent"]
    for number, split in enumerate(("train", "train", "test")):
        image, masks = f"images/eye_{number}.png", draw(number)
        size = next(iter(masks.values())).shape
        photograph = np.random.default_rng(number).integers(60, 200, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / image), photograph)
        if number == 2:
            lines.append(f"{image},{list(masks)[-1]}")
            masks.popitem()
        maps[split][image] = [f"masks/eye_{number}_{structure}_000.png" for structure in masks]
        for path, mask in zip(maps[split][image], masks.values(), strict=True):
            cv2.imwrite(str(folder / path), mask.astype(np.uint8) * 255)
    for split, content in maps.items():
        (folder / f"image2label_{split}.json").write_text(json.dumps(content))
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def masks_in(folder: Path) -> Masks:
    """What the maps of a data set list."""
    found: Masks = {}
    for record in (r for split in SPLITS if has_map(folder, split) for r in load_index(folder, split)):
        for mask in record.masks:
            key = record.image.stem, mask.structure
            found[key] = found.get(key, False) | read_mask(mask.path).astype(bool)
    return found


def splits_in(folder: Path) -> dict[str, str]:
    """{photograph: split} of a data set."""
    there = [split for split in SPLITS if has_map(folder, split)]
    return {r.image.stem: split for split in there for r in load_index(folder, split, without_masks=True)}


def written(data: Path, out: Path, form: str, *flags: object) -> Path:
    """What export_annotations.py makes of a data set."""
    assert run_command(export_annotations, [data, out, "--format", form, *flags]) == 0
    return out


def read_back(form: str, source: Path, out: Path, *flags: object) -> Path:
    """The data set that prepare_dataset.py makes of files of another tool."""
    assert run_command(prepare_dataset, [form, source, out, "--num_workers", 1, *flags]) == 0
    return out


def lost(before: Masks, after: Masks) -> dict[tuple[str, str], float]:
    """Dice of the masks that are not the same any more; 0 where there is none now, or was none before."""
    none = np.zeros(SIZE, bool)
    scores = {key: dice(before.get(key, none), after.get(key, none)) for key in before | after}
    return {key: score for key, score in scores.items() if score < 1}
