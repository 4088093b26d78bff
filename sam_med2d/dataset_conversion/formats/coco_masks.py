"""What is drawn in the annotations of a COCO file: polygons and run-length encodings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.dataset_conversion.polygons import rasterize, snapped
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS
from segment_anything.utils.rle import compress, rle_to_mask, run_lengths


@dataclass(frozen=True, slots=True)
class Segments:
    """A mask in a COCO file: a union of polygons and run-length encodings."""

    where: str  # the annotations, for messages
    sizes: tuple[tuple[int, int], ...]  # each (height, width) that a file gives the photograph
    polygons: tuple[tuple[float, ...], ...] = ()  # x0, y0, x1, y1, ... of each
    runs: tuple[tuple[int, int, str], ...] = ()  # (height, width, compressed runs) of each

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        for height, width in (*self.sizes, *(runs[:2] for runs in self.runs)):
            if (height, width) != tuple(size):
                drawn = f"drawn on {width} x {height} pixels, the photograph has {size[1]} x {size[0]}"
                raise DataError(f"{path}, {self.where}: {drawn}")
        mask, lost = np.zeros(size, bool), 0
        for polygon in self.polygons:
            inside = rasterize([snapped(np.reshape(polygon, (-1, 2)))], size)
            lost += not inside.any()
            mask |= inside
        if lost:
            REMARKS.add(
                "polygons that hold no pixel are lost", f"{path}, {self.where}", f"{lost} of {len(self.polygons)}"
            )
        for height, width, counts in self.runs:
            try:
                mask |= rle_to_mask({"size": (height, width), "counts": counts})
            except ValueError as error:
                raise DataError(f"{path}, {self.where}: {error}") from error
        return mask


def united(parts: Sequence[Segments]) -> Segments:
    polygons = tuple(polygon for part in parts for polygon in part.polygons)
    runs = tuple(run for part in parts for run in part.runs)
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    sizes = tuple(dict.fromkeys(size for part in parts for size in part.sizes))
    return Segments(parts[0].where + more, sizes, polygons, runs)


def annotated_masks(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    structures: Mapping[int, str],
    path: Path,
    problems: list[str],
) -> Iterator[tuple[str, Segments]]:
    """Structure and mask of each annotation of one image that has one."""
    size = (image.get("height"), image.get("width"))
    known = (size,) if all(isinstance(side, int) and side > 0 for side in size) else ()
    for i, annotation in enumerate(annotations):
        where = f"image {image['file_name']}, annotation {annotation.get('id', f'number {i + 1}')}"
        try:
            if annotation["category_id"] not in structures:
                raise ValueError(f"there is no category {annotation['category_id']}")
            polygons, runs = _outline(annotation)
        except (ValueError, TypeError, OverflowError) as error:
            problems.append(f"{path}, {where}: {error}")
            continue
        if polygons or runs:
            yield structures[annotation["category_id"]], Segments(where, known, polygons, runs)


def _outline(annotation: Mapping[str, Any]) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[int, int, str], ...]]:
    """Polygons and runs; nothing where the annotation shows nothing. Raises ValueError for what is neither."""
    drawn = annotation.get("segmentation")
    if isinstance(drawn, Mapping):
        size = drawn.get("size")
        if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) for side in size):
            raise ValueError("a run-length encoding has a size [height, width]")
        lengths = run_lengths({"counts": drawn.get("counts")})
        if lengths.sum() != size[0] * size[1]:
            raise ValueError(f"runs of {lengths.sum()} pixels in a mask of {size[1]} x {size[0]}")
        return (), (((*size, compress(lengths)),) if lengths[1::2].any() else ())
    if not drawn:
        if annotation.get("area") or any((annotation.get("bbox") or [])[2:]):
            raise ValueError("it has a box and no outline: a mask is needed")
        return (), ()
    if not isinstance(drawn, list):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    return tuple(_polygon(points) for points in (drawn if isinstance(drawn[0], list) else [drawn])), ()


def _polygon(points: object) -> tuple[float, ...]:
    numbers = np.asarray(points, np.float64)
    if numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise ValueError("a polygon is a list x, y, x, y, ... of three points or more")
    return tuple(numbers.tolist())
