"""The reader of photographs and masks."""

from pathlib import Path

import cv2
import numpy as np

from sam_med2d.errors import EmptyMaskError, MissingError, UnreadableError, ValuesError


def read_image(path: Path) -> np.ndarray:
    """A photograph as RGB uint8 [H, W, 3]. Raises DataError that names the file."""
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_mask(path: Path, *, may_be_empty: bool = False) -> np.ndarray:
    """A mask file with values {0, 1}, {0, 255} or, of 16 bits, {0, 65535} as uint8 {0, 1} [H, W].

    Raises DataError that names the file, also for other values and, unless it `may_be_empty`, for an empty mask.
    """
    mask = _decode(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    highest = mask.max()
    if highest == 0:
        if may_be_empty:
            return np.zeros(mask.shape, np.uint8)
        raise EmptyMaskError(f"{path} is empty (all 0): leave it out of the map")
    binary = mask == highest
    if highest not in (1, 255, 65535) or not (binary | (mask == 0)).all():
        values = ", ".join(map(str, np.unique(mask)[:6]))
        raise ValuesError(f"{path} is not binary (values {values} ...): a mask holds 0 and 1, or 0 and 255")
    return binary.astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    try:
        return np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:  # the second for what no path can be: a zero byte, half a surrogate pair
        reason = getattr(error, "strerror", None) or error
        raise MissingError(f"{path} cannot be opened ({reason}): check the path in the map") from error


def _decode(path: Path, mode: int) -> np.ndarray:
    data = _read(path)
    try:
        array = cv2.imdecode(data, mode) if data.size else None
    except cv2.error:  # a size in the header that cannot be
        array = None
    if array is None:
        raise UnreadableError(f"{path} is not a whole picture that OpenCV reads: copy or convert it again")
    return array
