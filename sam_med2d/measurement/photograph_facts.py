"""What tables say of photographs that is needed to measure them: the scale, which eye it is, where the fovea lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_med2d.data.index_table import FILE, IndexTables
from sam_med2d.data.records import Record
from sam_med2d.errors import DataError, raise_problems
from sam_med2d.measurement import laterality
from sam_med2d.measurement.scale import SPACING, Scale, Scales

FOVEA = ("fovea_x", "fovea_y")  # of index.csv: pixels of the photograph, where 0 is the middle of the first one


@dataclass(frozen=True)
class Facts:
    """What is known of a photograph besides its masks."""

    scale: Scale | None = None
    eye: str = ""  # R, L or "" where it is unknown
    fovea: tuple[float, float] | None = None  # x and y in pixels, where 0 is the middle of the first one


def facts_of(records: Sequence[Record], folder: Path, scales: Scales) -> list[Facts]:
    """What index.csv and the flags say of each photograph.

    Args:
        records: the photographs.
        folder: of their map, or in which they lie.
        scales: of photographs.

    Raises:
        DataError: lists every cell that cannot be meant.
    """
    tables, facts, problems = IndexTables(), [], []
    for record in records:
        try:
            about = tables.find(record.image, folder, (laterality.COLUMN, *SPACING, *FOVEA))
            eye = laterality.told(about.get(laterality.COLUMN, ""), str(record.image))
            facts.append(Facts(scales.of(record.image, about), eye, _fovea(about)))
        except DataError as error:
            problems.append(str(error))
    raise_problems(list(dict.fromkeys(problems)))  # those of a table come with each photograph
    scales.tell_unused(len([known for known in facts if known.scale is None]), len(facts))
    return facts


def _fovea(about: Mapping[str, str]) -> tuple[float, float] | None:
    """Where index.csv says that the fovea is. Raises DataError for what is no place."""
    cells = [about.get(column, "") for column in FOVEA]
    if not any(cells):
        return None
    try:
        return float(cells[0]), float(cells[1])
    except ValueError:
        said = " and ".join(f"{column} {cell!r}" for column, cell in zip(FOVEA, cells, strict=True))
        raise DataError(
            f"{FILE}: {said} of {about['image']}: give two numbers, with decimal points, or leave both out"
        ) from None


def check_fovea(fovea: tuple[float, float] | None, image: Path, size: tuple[int, int]) -> None:
    """Refuse a fovea that is not in its photograph, as after a change of its size.

    Args:
        fovea: x and y in pixels, None where it is unknown.
        image: the photograph.
        size: its height and width.

    Raises:
        DataError: it lies outside.
    """
    height, width = size
    if fovea and not (-0.5 <= fovea[0] < width - 0.5 and -0.5 <= fovea[1] < height - 0.5):
        place = f"({fovea[0]:g}, {fovea[1]:g})"
        raise DataError(f"{FILE}: fovea {place} of {image} lies outside its {width} x {height} pixels: give its pixels")
