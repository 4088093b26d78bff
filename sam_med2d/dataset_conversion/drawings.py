"""What people draw -> masks: polygons, ellipses and bitmaps, in COCO's frame (see polygons.py)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from sam_med2d.data.record_checks import size_advice
from sam_med2d.dataset_conversion.polygons import add_polygon, fill_contours, snapped
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS
from segment_anything.utils.rle import mask_to_rle, rle_to_mask


class Ellipse(NamedTuple):
    """Middle and radii in pixels; degrees that it is turned clockwise about its middle."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    degrees: float = 0.0


class Bitmap(NamedTuple):
    """Pixels in a box of a photograph, in pixels; runs: as COCO compresses them."""

    left: int
    top: int
    height: int
    width: int
    runs: str


def told_size(height: Any, width: Any) -> tuple[int, int] | None:
    """The (height, width) that a file tells as numbers or text; None where it tells none."""
    try:
        size = int(float(height)), int(float(width))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def check_box(left: int, top: int, height: int, width: int, size: tuple[int, ...]) -> None:
    """Raise ValueError for a box that is empty or leaves a photograph of size (height, width)."""
    if min(left, top) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"{width} x {height} pixels from ({left}, {top}) on leave the photograph of {size[1]} x {size[0]}"
        )


def check_inside(corners: Sequence[float], size: tuple[int, int]) -> None:
    """Raise ValueError for points x0, y0, ... that leave a photograph of (height, width) whose size no file tells."""
    points = np.reshape(corners, (-1, 2))
    if (points < -1).any() or (points > (size[1] + 1, size[0] + 1)).any():
        x, y = points[np.abs(points - (size[1] / 2, size[0] / 2)).max(axis=1).argmax()]
        raise ValueError(
            f"({x:g}, {y:g}) lies outside of the photograph of {size[1]} x {size[0]} pixels: give the file that was "
            "annotated"
        )


def bitmap_of(mask: np.ndarray, left: int = 0, top: int = 0) -> Bitmap:
    """A mask [H, W] whose first pixel lies at (left, top)."""
    return Bitmap(left, top, *mask.shape, mask_to_rle(mask)["counts"])


@dataclass(frozen=True, slots=True)
class Drawing:
    """A mask of a photograph in an annotation file: a union of shapes.

    Polygons are filled as pycocotools does, ellipses have the pixels whose middle lies inside, contours the pixels on
    them and inside. What lies outside of the photograph is cut off, but for bitmaps.

    Attributes:
        where: the annotations, for messages.
        sizes: each (height, width) that a file gives the photograph.
        polygons: x0, y0, x1, y1, ... of each, in pixels.
        ellipses, bitmaps: the others.
        contours: column0, row0, column1, ... of each, in pixels.
    """

    where: str
    sizes: tuple[tuple[int, int], ...] = ()
    polygons: tuple[tuple[float, ...], ...] = ()
    ellipses: tuple[Ellipse, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()
    contours: tuple[tuple[int, ...], ...] = ()

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """The mask, bool [height, width]; as a `Decoder`. Raises DataError for a photograph of another size."""
        for height, width in self.sizes:
            if (height, width) != tuple(size):
                drawn = f"drawn on {width} x {height} pixels, the photograph has {size[1]} x {size[0]}"
                raise DataError(f"{path}, {self.where}: {drawn}: {size_advice((height, width), size)}")
        mask = np.zeros(size, bool)
        there = {
            "polygons": [add_polygon(mask, snapped(np.reshape(polygon, (-1, 2)))) for polygon in self.polygons],
            "ellipses": [add_ellipse(mask, ellipse) for ellipse in self.ellipses],
        }
        for kind, any_pixel in there.items():
            if lost := any_pixel.count(False):
                remark = f"{kind} that hold no pixel are lost"
                REMARKS.add(remark, f"{path}, {self.where}", f"{lost} of {len(any_pixel)}")
        for bitmap in self.bitmaps:
            self._paint(mask, bitmap, path)
        for contour in self.contours:
            mask |= fill_contours([np.reshape(contour, (-1, 2))], size)
        return mask

    def _paint(self, mask: np.ndarray, bitmap: Bitmap, path: Path) -> None:
        left, top, height, width, runs = bitmap
        try:
            check_box(left, top, height, width, mask.shape)
            box = mask[top : top + height, left : left + width]
            box |= rle_to_mask({"size": (height, width), "counts": runs})
        except ValueError as error:
            raise DataError(f"{path}, {self.where}: {error}") from error


def united(parts: Sequence[Drawing]) -> Drawing:
    """The union of drawings of one photograph."""
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    return Drawing(
        parts[0].where + more,
        tuple(dict.fromkeys(size for part in parts for size in part.sizes)),
        tuple(polygon for part in parts for polygon in part.polygons),
        tuple(ellipse for part in parts for ellipse in part.ellipses),
        tuple(bitmap for part in parts for bitmap in part.bitmaps),
        tuple(contour for part in parts for contour in part.contours),
    )


def add_ellipse(mask: np.ndarray, ellipse: Ellipse) -> bool:
    """Add to a mask, bool [H, W], the pixels whose middle lies inside of an ellipse; whether there is any."""
    x, y, radius_x, radius_y, degrees = ellipse
    turn, reach = np.deg2rad(degrees), max(radius_x, radius_y)
    rows, columns = (
        slice(*np.clip([middle - reach - 1, middle + reach + 2], 0, side).astype(int))
        for middle, side in zip((y, x), mask.shape, strict=True)
    )
    down, right = (np.arange(part.start, part.stop) + 0.5 for part in (rows, columns))
    down, right = down[:, None] - y, right - x
    along = (right * np.cos(turn) + down * np.sin(turn)) / radius_x
    across = (down * np.cos(turn) - right * np.sin(turn)) / radius_y
    inside = along**2 + across**2 <= 1
    mask[rows, columns] |= inside
    return bool(inside.any())


def decoded_base64(text: Any) -> bytes:
    """What base64 holds. Raises ValueError for what is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"no base64 ({error})") from error


def decoded_picture(text: Any) -> np.ndarray:
    """The values, [H, W] or [H, W, channels], of a picture in base64. Raises ValueError where there is none."""
    content = np.frombuffer(decoded_base64(text), np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    if values is None:
        raise ValueError("no picture in base64")
    return values


def polygon_corners(points: object) -> tuple[float, ...]:
    """Corners x0, y0, ... of a polygon, of a list of them or of points [x, y]. Raises ValueError where it is none."""
    numbers = np.asarray(points, np.float64)
    flat = numbers.ravel()
    pairs = len(flat) % 2 == 0 if numbers.ndim == 1 else numbers.shape[1:] == (2,)
    if not pairs or len(flat) < 6 or not np.isfinite(flat).all():
        raise ValueError("a polygon is a list x, y, x, y, ... of three points or more")
    return tuple(flat.tolist())


def turned_ellipse(*numbers: float) -> Ellipse:
    """An ellipse of these numbers. Raises ValueError where they make none."""
    ellipse = Ellipse(*map(float, numbers))
    if not (np.isfinite(ellipse).all() and min(ellipse.radius_x, ellipse.radius_y) > 0):
        raise ValueError(f"an ellipse has finite numbers and radii above 0, not {', '.join(f'{n:g}' for n in ellipse)}")
    return ellipse


def box_corners(
    left: float, top: float, right: float, bottom: float, degrees: float = 0.0, about: tuple[float, float] | None = None
) -> tuple[float, ...]:
    """Corners x0, y0, ... of a box that is turned clockwise.

    Args:
        left, top, right, bottom: its sides in pixels, before it is turned.
        degrees: by which it is turned.
        about: the point that stays; default: its middle.

    Raises:
        ValueError: a number is not finite.
    """
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    if not np.isfinite([*corners.ravel(), degrees]).all():
        raise ValueError("a box has finite numbers")
    if degrees:
        turn, middle = np.deg2rad(degrees), corners.mean(axis=0) if about is None else np.array(about)
        matrix = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        corners = (corners - middle) @ matrix + middle
    return tuple(corners.ravel().tolist())
