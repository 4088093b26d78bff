"""Regions in the results of Label Studio: percent of the photograph's sides, or the bytes of a brush."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.dataset_conversion.brush_rle import decode_alpha
from sam_med2d.dataset_conversion.drawings import bitmap_of, box_corners, polygon_corners, told_size, turned_ellipse
from sam_med2d.notes import REMARKS

TURNED = "turn it back in Label Studio, or export the photograph as it was seen"


def regions_of(results: Sequence[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and result of each region; results of one id, such as an ellipse and its labels, are one.

    Args:
        results: of one annotation.
    """
    merged: dict[object, tuple[int, dict[str, Any]]] = {}
    for i, result in enumerate(results):
        about = result if isinstance(result, dict) else {}
        value = about.get("value") if isinstance(about.get("value"), dict) else {}
        name = i if about.get("id") is None else str(about["id"])
        known = merged.setdefault(name, (i + 1, {"value": {}}))[1]
        kind = known.get("type") or kind_of(about)
        known.update({**about, "value": {**known["value"], **value}, "type": kind})
    yield from merged.values()


def kind_of(region: Mapping[str, Any]) -> str:
    """What a person calls it: ellipselabels, brush, choices, relation."""
    return str(region.get("type") or next(iter(_label_lists(region)), "region"))


def labels_of(region: Mapping[str, Any]) -> list[str]:
    """All of its labels."""
    return [str(label) for labels in _label_lists(region).values() for label in labels]


def _label_lists(region: Mapping[str, Any]) -> dict[str, list[Any]]:
    value = region.get("value") or {}
    return {key: found for key, found in value.items() if key.endswith("labels") and isinstance(found, list)}


def shape_of(region: Mapping[str, Any], size: tuple[int, int], share: float, *, file: Path) -> dict[str, Any] | None:
    """What is drawn, as keywords of Drawing; None for what has no area: points, and what is said of a photograph.

    Args:
        region: a result.
        size: (height, width) of the photograph.
        share: of a brush's strongest alpha, from which on a pixel counts.
        file: for a note on soft edges.

    Raises:
        ValueError, TypeError, KeyError: it is no region, or of another photograph.
    """
    value = region["value"]
    if "rle" in value:
        check(region, size)
        return {"bitmaps": (bitmap_of(_brush(value["rle"], size, share=share, file=file)),)}
    scale = np.array([size[1], size[0]]) / 100
    if "points" in value and value.get("closed", True):
        check(region, size)
        return {"polygons": (polygon_corners((np.asarray(value["points"], float) * scale).tolist()),)}
    if "radiusX" in value:
        check(region, size)
        middle, radii = (
            np.array([value[key] for key in keys]) * scale for keys in (("x", "y"), ("radiusX", "radiusY"))
        )
        return {"ellipses": (turned_ellipse(*middle, *radii, value.get("rotation") or 0),)}
    if "height" in value and "x" in value:
        check(region, size)
        left, top = np.array([value["x"], value["y"]]) * scale
        right, bottom = (left, top) + np.array([value["width"], value["height"]]) * scale
        return {"polygons": (box_corners(left, top, right, bottom, float(value.get("rotation") or 0), (left, top)),)}
    if "imageDataURL" in value or "vertices" in value:
        raise ValueError("this kind of region is not read: draw it as a brush or a polygon")
    return None


def check(region: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Raise ValueError for a region of a photograph of another size, or that was seen turned."""
    seen = told_size(region.get("original_height"), region.get("original_width"))
    if seen is None:
        raise ValueError("it does not tell the photograph's original_width and original_height: export it again")
    if seen != size:
        raise ValueError(f"drawn on {seen[1]} x {seen[0]} pixels, the photograph has {size[1]} x {size[0]}")
    if region.get("image_rotation"):
        raise ValueError(f"drawn on the photograph turned by {region['image_rotation']} degrees: {TURNED}")
    if region.get("item_index"):
        raise ValueError("drawn on a further photograph of a task with several: give each a task")


def _brush(rle: Any, size: tuple[int, int], *, share: float, file: Path) -> np.ndarray:
    """The mask, bool [height, width], of a brush."""
    alpha = decode_alpha(rle, size)
    strongest = int(alpha.max())
    if soft := np.count_nonzero((alpha > 0) & (alpha < strongest)):
        REMARKS.add(
            f"soft edges of brushes count from {share:g} of their strongest alpha on", "brushes", f"{soft} pixels"
        )
    return (alpha > 0) & (alpha >= share * strongest)
