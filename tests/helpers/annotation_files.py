"""Files of annotation tools: those that the tools' own packages wrote, the masks in them, and reading them."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_med2d.dataset_conversion.archives import unpacked
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import Ellipse, add_ellipse
from sam_med2d.dataset_conversion.samples import Choice, Sample
from tests.helpers.paths import ROOT

WRITTEN = ROOT / "tests" / "data" / "annotation_tools"  # each file's first lines, or its test, name the package
SIZE = (48, 64)


def ring_and_vessel() -> dict[str, np.ndarray]:
    """The masks in the tools' files, bool: one with a hole; one with single pixels in two corners."""
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    distance = (rows - 20) ** 2 + (columns - 40) ** 2
    vessel = np.zeros(SIZE, bool)
    vessel[5, 3:30] = vessel[5:40, 30] = vessel[47, 63] = vessel[0, 0] = True
    return {"Optic Disc": (distance < 150) & (distance > 30), "vessel": vessel}


def fill_ellipse(ellipse: Ellipse, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The mask of one ellipse."""
    mask = np.zeros(size, bool)
    add_ellipse(mask, ellipse)
    return mask


def photograph(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """Write a grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))
    return path


def found(form: DataSet, source: Path, **options: Any) -> FoundSamples:
    """What a format finds in a source; options: its flags."""
    choice = Choice(threshold=options.pop("threshold", form.threshold), options=options)
    return form.find(unpacked(source, source.parent / f".{source.name}.scratch"), choice)


def masks_of(sample: Sample, size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    """The masks of a sample by structure, read as another process does."""
    sources = pickle.loads(pickle.dumps(sample.masks))
    return {source.structure: source.decode(source.path, size) for source in sources}


def check_masks(sample: Sample, expected: dict[str, np.ndarray]) -> None:
    """Fail unless a sample has these masks, bit by bit; structures that are not expected are passed over."""
    masks = masks_of(sample)
    wrong = [name for name, mask in expected.items() if name not in masks or not np.array_equal(masks[name], mask)]
    assert not wrong, f"{wrong} differ, of {sorted(masks)}"
