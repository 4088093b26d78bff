"""What a data set offers: photographs, where their masks come from, their splits and patients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# (path, (height, width) of the photograph) -> bool [height, width]
Decoder = Callable[[Path, tuple[int, int]], np.ndarray]


@dataclass(frozen=True, slots=True)
class MaskSource:
    """One mask of a photograph: its structure, its file, and how the file is read (see mask_readers.py)."""

    structure: str
    path: Path
    decode: Decoder


@dataclass(frozen=True, slots=True)
class Sample:
    """One photograph.

    Attributes:
        name: unique in the data set, begins the names of its files.
        image: its file.
        masks: those that are drawn.
        split: the official one ("train", "val", "test"), "" where there is none.
        patient: photographs of one patient never come into two splits; "" is unknown, and the photograph is then taken
            for its own patient.
        absent: structures that were looked for and are not there; one neither here nor in masks was not annotated.
        part: which part of the picture is the photograph, as fractions left, top, right, bottom (one half of a stereo
            pair).
        data_set: where a collection names its source.
        field_of_view: a mask file of it, where the data set has one.
        page: number of the photograph in a file with several, from 1.
        columns: what else is known of it, for index.csv: names and values.
        spacing: width and height of a pixel in mm.
        channels: files of its red, green and blue, or one that `slices` reads; then image is the first of them.
    """

    name: str
    image: Path
    masks: tuple[MaskSource, ...]
    split: str = ""
    patient: str = ""
    absent: tuple[str, ...] = ()
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    data_set: str = ""
    field_of_view: Path | None = None
    page: int | None = None
    columns: tuple[tuple[str, str], ...] = ()
    spacing: tuple[float, float] | None = None
    channels: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person chooses among what a data set offers.

    Attributes:
        observer: one of the data set's observers.
        threshold: share of the experts, or of white, from which on a soft mask counts; None is the data set's own.
        options: flags of the formats, by name.
    """

    observer: str = ""
    threshold: float | None = None
    options: dict[str, object] = field(default_factory=dict)
