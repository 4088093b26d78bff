"""Which eye a photograph shows, as a camera takes it: the nose is on the right of a right eye's photograph."""

from dataclasses import dataclass

import numpy as np

from sam_med2d.errors import DataError
from sam_med2d.measurement.zones import DiscCircle
from segment_anything.utils.field_of_view import FieldOfView

COLUMN = "laterality"  # of index.csv
WORDS = {"r": "R", "od": "R", "right": "R", "l": "L", "os": "L", "left": "L"}
UNKNOWN = ("", "b", "u", "ou", "unknown", "nan", "none", "-")
ASIDE = (
    0.2  # distance of the disc from the middle, in radii of the field of view, from which on it is on the nose's side
)
TRUNK = 0.02  # distance of the vessels on the disc from its centre, in its diameters, from which on it tells the eye


@dataclass(frozen=True)
class Laterality:
    """Which eye it is, and what tells it."""

    eye: str = ""  # R, L or "" where it is unknown
    source: str = ""  # index.csv, fovea, disc position, vessels on the disc, or "" where it is unknown


def told(cell: str, image: str) -> str:
    """R, L or "" of a cell of index.csv. Raises DataError for another word."""
    word = cell.strip().lower()
    if word not in WORDS and word not in UNKNOWN:
        raise DataError(f"index.csv: {COLUMN} of {image} is {cell}: write R or L, or nothing")
    return WORDS.get(word, "")


def seen(
    disc: DiscCircle, disc_vessels: np.ndarray | None, fovea: tuple[float, float] | None, field: FieldOfView
) -> Laterality:
    """The eye by what its photograph shows.

    The fovea lies on the temple's side of the disc, the disc on the nose's side of a photograph that is not centred on
    it, and the trunk of the vessels on the nose's side of the disc.

    Args:
        disc: circle of the disc.
        disc_vessels: bool [H, W], vessels on the disc; None without a mask of vessels.
        fovea: x and y in pixels, where 0 is the middle of the first one; None where it is unknown.
        field: of view of the photograph.
    """
    if fovea is not None:
        return Laterality(_eye(disc.x - fovea[0]), "fovea")
    middle, radius = field.centre[0] - 0.5 if field.centre else (field.size[1] - 1) / 2, field.radius
    aside = (disc.x - middle) / (radius or field.size[1] / 2)
    if abs(aside) >= ASIDE:
        return Laterality(_eye(aside), "disc position")
    if disc_vessels is not None and disc_vessels.any():
        trunk = (np.nonzero(disc_vessels)[1].mean() - disc.x) / disc.diameter
        if abs(trunk) >= TRUNK:
            return Laterality(_eye(trunk), "vessels on the disc")
    return Laterality()


def _eye(to_the_right: float) -> str:
    """The eye of a photograph in which the nose is on the right of it, or on the left."""
    return "R" if to_the_right > 0 else "L"
