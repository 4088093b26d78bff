"""What is drawn in the annotations of a COCO file: polygons and run-length encodings."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.drawings import Bitmap, Drawing, check_inside, polygon_corners, told_size
from segment_anything.utils.rle import compress, run_lengths


def annotated_masks(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    labels: Mapping[int, str],
    *,
    photograph: Path,
    path: Path,
    problems: list[str],
) -> Iterator[tuple[str, Drawing]]:
    """Label and mask of each annotation of one image that has one."""
    size = told_size(image.get("height"), image.get("width"))
    known = (size,) if size else ()
    for i, annotation in enumerate(annotations):
        where = f"image {image['file_name']}, annotation {annotation.get('id', f'number {i + 1}')}"
        try:
            if annotation["category_id"] not in labels:
                raise ValueError(f"there is no category {annotation['category_id']}")
            polygons, bitmaps = _outline(annotation)
            for polygon in () if known else polygons:
                check_inside(polygon, size_of(photograph))
        except (ValueError, TypeError, OverflowError) as error:
            problems.append(f"{path}, {where}: {error}")
            continue
        if polygons or bitmaps:
            sizes = (*known, *((bitmap.height, bitmap.width) for bitmap in bitmaps))
            yield labels[annotation["category_id"]], Drawing(where, sizes, polygons, bitmaps=bitmaps)


def _outline(annotation: Mapping[str, Any]) -> tuple[tuple[tuple[float, ...], ...], tuple[Bitmap, ...]]:
    """Polygons and bitmaps; nothing where the annotation shows nothing. Raises ValueError for what is neither."""
    drawn = annotation.get("segmentation")
    if isinstance(drawn, Mapping):
        size = drawn.get("size")
        if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) for side in size):
            raise ValueError("a run-length encoding has a size [height, width]")
        lengths = run_lengths({"counts": drawn.get("counts")})
        if lengths.sum() != size[0] * size[1]:
            raise ValueError(f"runs of {lengths.sum()} pixels in a mask of {size[1]} x {size[0]}")
        return (), ((Bitmap(0, 0, *size, compress(lengths)),) if lengths[1::2].any() else ())
    if not drawn:
        if annotation.get("area") or any((annotation.get("bbox") or [])[2:]):
            raise ValueError("it has a box and no outline: a mask is needed")
        return (), ()
    if not isinstance(drawn, list):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    return tuple(polygon_corners(points) for points in (drawn if isinstance(drawn[0], list) else [drawn])), ()
