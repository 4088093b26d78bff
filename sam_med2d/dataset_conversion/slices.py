"""Pictures in files made for volumes, NIfTI and NRRD: one slice, of axes x, y and sometimes a third of one pixel."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from sam_med2d.data.brightness import to_8_bits
from sam_med2d.data.image_formats import MAX_PIXELS
from sam_med2d.data.image_io import read_values
from sam_med2d.dataset_conversion.mask_readers import Values, White
from sam_med2d.errors import DataError, UnreadableError, ValuesError

INSTALL = "pip install -r requirements-formats.txt"
NIFTI, NRRD = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE), re.compile(r"\.nrrd$", re.IGNORECASE)
AXES = {
    "choices": ("xy", "yx"),
    "help": "order of the first two axes of a file: columns and rows (default, as the formats have it), or rows and "
    "columns, as NumPy arrays that were saved without transposing them; needed for squares without orientation",
}


def read_slice(path: Path, axes: str | None = "xy") -> np.ndarray:
    """The values of a NIfTI or NRRD file of one slice, as rows and columns; its orientation in space is not regarded.

    Args:
        path: the file.
        axes: "xy" or "yx", as AXES says; None: "xy", unless it is a square that no program for images has oriented.

    Returns:
        [H, W], or [H, W, 3] for colours.

    Raises:
        UnreadableError: the file cannot be read.
        DataError: the package that reads it is missing, or it is a volume.
        ValuesError: it is such a square.
    """
    values, oriented = _nifti(path) if NIFTI.search(path.name) else _nrrd(path)
    if axes is None and not oriented and values.shape[0] == values.shape[1]:
        raise ValuesError(
            f"{path} is a square without the orientation that programs for images write: say --axes xy if its first "
            "axis is x, or --axes yx for a NumPy array [rows, columns] that was saved as it is"
        )
    return values if axes == "yx" else values.swapaxes(0, 1)


@dataclass(frozen=True, slots=True)
class SliceMask:
    """A mask in a NIfTI or NRRD file, as a `Decoder`.

    Attributes:
        reader: what its values mean; White: one structure.
        axes: as of `read_slice`.
    """

    reader: White | Values
    axes: str | None = "xy"

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        values = read_slice(path, self.axes)
        check_slice(path, values.shape[:2], size, self.axes)
        if isinstance(self.reader, White) and self.reader.share is None:
            found = np.unique(values)
            if len(found) > 2 or found[0] < 0 or (len(found) == 2 and found[0]):
                named = ",".join(f"{value:g}=NAME" for value in found[np.isfinite(found) & (found != 0)][:6])
                raise ValuesError(f"{path} holds {len(found)} values: say what they mean with --classes {named}")
            return values > 0
        return self.reader.of(values, path)


def check_slice(path: Path, shape: tuple[int, ...], size: tuple[int, int], axes: str | None) -> None:
    """Raise DataError for a slice of another shape [H, W] than its photograph's size (height, width)."""
    if tuple(shape) == tuple(size):
        return
    other = "xy" if axes == "yx" else "yx"
    turned = f" If its first axis is {other[0]}, say --axes {other}" if tuple(shape) == tuple(size)[::-1] else ""
    raise DataError(
        f"{path} has {shape[1]} columns and {shape[0]} rows, its photograph {size[1]} and {size[0]}: draw on the same "
        f"picture.{turned}"
    )


def read_channels(paths: Sequence[Path]) -> np.ndarray:
    """A photograph, RGB uint8 [H, W, 3], of one file (of any format that is read here) or of one for each channel.

    Raises:
        DataError: a file cannot be used, or they have several sizes.
    """
    volumes = [bool(NIFTI.search(path.name) or NRRD.search(path.name)) for path in paths]
    parts = [read_slice(path) if volume else read_values(path) for path, volume in zip(paths, volumes, strict=True)]
    if len(parts) == 1:
        values = parts[0] if parts[0].ndim == 3 else np.repeat(parts[0][..., None], 3, axis=2)
    elif len({part.shape for part in parts}) > 1 or parts[0].ndim != 2:
        shapes = ", ".join(" x ".join(map(str, part.shape)) for part in parts)
        raise DataError(f"{paths[0]} and the other channels have the shapes {shapes}: give one grey picture for each")
    else:
        values = np.stack(parts, axis=2)
    return to_8_bits(values, paths[0])


def two_axes(path: Path, shape: Sequence[int]) -> tuple[int, int]:
    """The two axes of a slice. Raises DataError for a volume, and for what is no picture."""
    if len(shape) < 2 or any(side > 1 for side in shape[2:]) or min(shape, default=0) < 1:
        sides = " x ".join(map(str, shape))
        raise DataError(f"{path} is a volume, or no picture ({sides}): give one slice, of width x height or x 1")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise DataError(f"{path} has {shape[0]} x {shape[1]} pixels: up to {MAX_PIXELS / 1e6:.0f} million are read")
    return shape[0], shape[1]


def _nifti(path: Path) -> tuple[np.ndarray, bool]:
    """Values [x, y], or [x, y, 3]; whether x runs to the left and y to the back, as of pictures in such programs."""
    nibabel = needed("nibabel", path)
    faults = (nibabel.filebasedimages.ImageFileError, OSError, EOFError, zlib.error, ValueError, OverflowError)
    try:
        image = nibabel.load(path)
        sides = two_axes(path, image.shape)
        values = np.asanyarray(image.dataobj).reshape(sides)
    except DataError:
        raise
    except faults as error:
        raise UnreadableError(f"{path} cannot be read as NIfTI ({error}): copy or export it again") from error
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    return values, image.affine[0, 0] < 0 and image.affine[1, 1] < 0


def nrrd_header(path: Path) -> dict[str, object]:
    """The header of a NRRD file, sizes as a list. Raises UnreadableError, and DataError for data in another file."""
    nrrd = needed("nrrd", path)
    try:
        header = dict(nrrd.read_header(str(path)))
        header["sizes"] = [int(side) for side in header["sizes"]]
    except (nrrd.NRRDError, OSError, EOFError, ValueError, KeyError, AttributeError, StopIteration) as error:
        raise UnreadableError(f"{path} cannot be read as NRRD ({error}): copy or export it again") from error
    if {"data file", "datafile"} & header.keys():
        raise DataError(f"{path} has its data in another file: save it as one file")
    return header


def nrrd_values(path: Path) -> np.ndarray:
    """All values of a NRRD file, axes as in the file. Raises UnreadableError."""
    nrrd = needed("nrrd", path)
    try:
        return nrrd.read(str(path))[0]
    except (nrrd.NRRDError, OSError, EOFError, zlib.error, ValueError, StopIteration) as error:
        raise UnreadableError(f"{path} cannot be read as NRRD ({error}): copy or export it again") from error


def _nrrd(path: Path) -> tuple[np.ndarray, bool]:
    """Values [x, y]; whether the header says how they lie in space."""
    header = nrrd_header(path)
    return nrrd_values(path).reshape(two_axes(path, header["sizes"]), order="A"), "space directions" in header


def needed(name: str, path: Path) -> ModuleType:
    """An optional package. Raises DataError where it is not installed."""
    try:
        return __import__(name)
    except ImportError as error:
        raise DataError(f"{path} needs {'pynrrd' if name == 'nrrd' else name}: {INSTALL}") from error
