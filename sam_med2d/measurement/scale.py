"""Millimetres per pixel of each photograph: from a table, from its DICOM file by way of index.csv, or one for all.

Sizes on the retina depend on the eye: one scale for all is wrong by its axial length. Where that is known, a scale is
brought from the eye for which it was told to the eye in the photograph by the formula of Bennett, Rudnicka and Edgar
1994: sizes go with the axial length less 1.82 mm.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam_med2d.data.index_table import FILE, IMAGE, IndexTable
from sam_med2d.errors import DataError, UsageError
from sam_med2d.notes import REMARKS

PRINCIPAL_POINT = 1.82  # mm from the cornea to the second principal point of the eye, of Bennett et al.
UNITS = {"mm_per_pixel": 1.0, "um_per_pixel": 0.001}  # columns of a table, in mm
SPACING = ("pixel_spacing_x", "pixel_spacing_y")  # of index.csv, in mm
AXIAL_LENGTH = "axial_length"  # column, in mm
EYES = (15.0, 40.0)  # axial lengths that an eye can have, mm
PIXELS = (0.0005, 0.25)  # that a photograph of the retina can have, mm: others are of another unit, or of a screen
UNEQUAL = 0.001  # difference of width and height of a pixel, from which on it is not square


@dataclass(frozen=True)
class Scale:
    """The size of a pixel on the retina."""

    mm_per_pixel: float
    source: str  # --scale_csv, --mm_per_pixel or index.csv, and axial_length where it was corrected


def for_axial_length(mm_per_pixel: float, told_for: float, axial_length: float) -> float:
    """A scale of another eye seen by the same camera (Bennett et al. 1994).

    Args:
        mm_per_pixel: the scale as it was told.
        told_for: axial length of the eye for which it was told, mm.
        axial_length: of the eye in the photograph, mm.
    """
    return mm_per_pixel * (axial_length - PRINCIPAL_POINT) / (told_for - PRINCIPAL_POINT)


class Scales:
    """The scales of photographs.

    Args:
        table: --scale_csv, with the columns image, mm_per_pixel or um_per_pixel, axial_length.
        mm_per_pixel: --mm_per_pixel, for all photographs.
        axial_length: --scale_axial_length, mm of the eye for which scales are told.

    Raises:
        UsageError: for flags that cannot work.
        DataError: the table cannot be used.
    """

    def __init__(
        self, table: Path | None = None, mm_per_pixel: float | None = None, axial_length: float | None = None
    ) -> None:
        if mm_per_pixel is not None and not 0 < mm_per_pixel < math.inf:
            raise UsageError(f"--mm_per_pixel {mm_per_pixel}: give a positive number, such as 0.0065.")
        if mm_per_pixel is not None and not _can_be(mm_per_pixel):
            raise UsageError(f"--mm_per_pixel {mm_per_pixel:g}: give mm on the retina, {PIXELS[0]:g} to {PIXELS[1]:g}.")
        if table and mm_per_pixel is not None:
            raise UsageError("--scale_csv and --mm_per_pixel: give the scale once.")
        if axial_length is not None and not EYES[0] <= axial_length <= EYES[1]:
            raise UsageError(f"--scale_axial_length {axial_length}: give mm, from {EYES[0]:g} to {EYES[1]:g}.")
        self.mm_per_pixel, self.axial_length = mm_per_pixel, axial_length
        self.table = _read(table) if table else None
        if axial_length is not None and not (self.table and AXIAL_LENGTH in self.table.columns):
            raise UsageError(
                f"--scale_axial_length {axial_length:g}: scales are corrected by the eyes' lengths: give them to "
                f"--scale_csv, in a column {AXIAL_LENGTH}."
            )
        self.found: set[str] = set()  # names of the table that photographs have
        self.uncorrected = 0  # photographs that have a scale and no axial length

    def of(self, image: Path, about: Mapping[str, str]) -> Scale | None:
        """The scale of a photograph, None where it is unknown.

        Args:
            image: the photograph.
            about: its row of index.csv.

        Raises:
            DataError: a cell is no number that can be meant, or an axial length has no eye to be compared with.
        """
        row = self.table.find(image) if self.table else {}
        self.found |= {row[IMAGE]} if row else set()
        found = self._told(row, about)
        if found is None or not row.get(AXIAL_LENGTH):
            self.uncorrected += found is not None
            return found
        what = f"{self.table.path}: {AXIAL_LENGTH} of {row[IMAGE]}"
        if self.axial_length is None:
            raise DataError(f"{what}: say with --scale_axial_length for which eye scales are told, such as 24")
        eye = _number(row[AXIAL_LENGTH], what)
        if not EYES[0] <= eye <= EYES[1]:
            raise DataError(f"{what} is {eye:g}: give mm, from {EYES[0]:g} to {EYES[1]:g}")
        corrected = for_axial_length(found.mm_per_pixel, self.axial_length, eye)
        return Scale(corrected, f"{found.source}, {AXIAL_LENGTH}")

    def tell_unused(self, without: int, photographs: int) -> None:
        """Tell what a scale was given for and was not used, or is missing.

        Args:
            without: photographs that have no scale.
            photographs: of all.

        Raises:
            DataError: the table is of none of the photographs.
        """
        if self.table and not self.found:
            raise DataError(f"--scale_csv {self.table.path}: none of its rows is of a photograph: see column {IMAGE}")
        if self.axial_length is not None and self.uncorrected:
            print(f"note: {self.uncorrected} photographs have no {AXIAL_LENGTH}: their scale is taken as it is told")
        if without and (self.table or without < photographs):
            print(f"note: {without} of {photographs} photographs have no scale: their cells in mm are empty")
        if self.table and (rest := len(self.table.rows) - len(self.found)):
            print(f"note: {rest} rows of {self.table.path} are of other photographs")

    def _told(self, row: Mapping[str, str], about: Mapping[str, str]) -> Scale | None:
        """The scale as it is told, whatever the eye."""
        for column, unit in UNITS.items():
            if row.get(column):
                what = f"{self.table.path}: {column} of {row[IMAGE]}"
                if not _can_be(size := _number(row[column], what) * unit):
                    low, high = (limit / unit for limit in PIXELS)
                    raise DataError(f"{what} is {row[column]}: give the size on the retina, {low:g} to {high:g}")
                return Scale(size, "--scale_csv")
        if self.mm_per_pixel is not None:
            return Scale(self.mm_per_pixel, "--mm_per_pixel")
        if not all(about.get(column) for column in SPACING):
            return None
        width, height = (_number(about[column], f"{FILE}: {column} of {about[IMAGE]}") for column in SPACING)
        if abs(width - height) > UNEQUAL * height:
            REMARKS.add("pixels that are not square: nothing in mm", about[IMAGE], f"{width:g} by {height:g} mm")
            return None
        if not _can_be(height):
            REMARKS.add("pixels of a size that none on the retina has: nothing in mm", about[IMAGE], f"{height:g} mm")
            return None
        return Scale((width + height) / 2, FILE)


def _read(path: Path) -> IndexTable:
    """A table of scales."""
    if not path.is_file():
        raise UsageError(f"--scale_csv: {path} is no file.")
    table = IndexTable.read(path.parent, path.name)
    if IMAGE not in table.columns or not {*UNITS, AXIAL_LENGTH} & {*table.columns}:
        heads = ", ".join(table.columns)
        raise DataError(f"{path} has the columns {heads}: head them {IMAGE} and {', '.join(UNITS)} or {AXIAL_LENGTH}")
    if set(UNITS) <= {*table.columns}:
        raise DataError(f"{path} has the columns {' and '.join(UNITS)}: leave one out")
    if twice := [name for name, times in Counter(row[IMAGE] for row in table.rows).items() if times > 1]:
        raise DataError(f"{path} has several rows of {twice[0]}: leave one")
    return table


def _number(text: str, what: str) -> float:
    """A positive number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        advice = " with a decimal point" if "," in text else ""
        raise DataError(f"{what} is {text}: give a positive number{advice}")
    return number


def _can_be(mm_per_pixel: float) -> bool:
    """Whether a pixel on the retina can have this size."""
    return PIXELS[0] <= mm_per_pixel <= PIXELS[1]
