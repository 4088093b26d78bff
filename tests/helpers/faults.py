"""Ways in which photographs and masks are spoilt; each changes a file, or an array, as people meet it."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segment_anything.utils.field_of_view import find_field_of_view

# --- photographs: the file's name afterwards, where it has another ---


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def pages(path: Path) -> str:
    """A TIFF of two pages."""
    page = Image.open(path)
    page.save(path.with_suffix(".tif"), save_all=True, append_images=[page.rotate(3)])
    return path.with_suffix(".tif").name


def of_12_bits(path: Path) -> str:
    """The low 12 bits of 16, as cameras' raw pictures are exported."""
    cv2.imwrite(str(path.with_suffix(".png")), cv2.imread(str(path)).astype(np.uint16) * 16)
    return path.with_suffix(".png").name


def transparent(path: Path) -> None:
    picture = cv2.imread(str(path))
    cv2.imwrite(str(path), np.dstack([picture, np.zeros(picture.shape[:2], np.uint8)]))


def in_wide_floats(path: Path) -> str:
    """Floats of neither 0..1 nor 0..255."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) * 1e6
    Image.fromarray(grey).save(path.with_suffix(".tif"))
    return path.with_suffix(".tif").name


def black_and_white(path: Path) -> None:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(path), (grey > np.median(grey)) * np.uint8(255))


def with_white_surround(path: Path) -> None:
    picture = cv2.imread(str(path))
    picture[~find_field_of_view(picture).mask()] = 255
    cv2.imwrite(str(path), picture)


def with_white_margin(path: Path) -> None:
    """The photograph with a margin around it, and its masks made larger alike."""
    for file in (path, *path.parents[1].glob(f"masks/{path.stem}_*")):
        picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        colour = (255, 255, 255) if file == path else 0
        cv2.imwrite(
            str(file), cv2.copyMakeBorder(picture[4:-4, 4:-4], 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=colour)
        )


# --- masks, uint8 {0, 1} [H, W]: what is saved in their place ---


def classes(mask: np.ndarray) -> np.ndarray:
    """A map of three classes: 0, 127, 255."""
    return mask * np.where(_upper(mask), 127, 255).astype(np.uint8)


def colours(mask: np.ndarray) -> np.ndarray:
    """A part red, the other blue: BGR [H, W, 3]."""
    upper = _upper(mask) * mask
    return np.dstack([(mask - upper) * 255, mask * 0, upper * 255])


def probabilities(mask: np.ndarray) -> np.ndarray:
    """Soft floats of 0 to 1."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 5)
    return soft / soft.max()


def with_not_a_number(mask: np.ndarray) -> np.ndarray:
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2)
    return np.where(soft > 0.9 * soft.max(), np.nan, soft / soft.max())


def _upper(mask: np.ndarray) -> np.ndarray:
    """Pixels [H, W] in the upper half of what a mask shows."""
    row = np.arange(len(mask))[:, None]
    return np.broadcast_to(row <= np.median(np.nonzero(mask)[0]), mask.shape).astype(np.uint8)
