"""Files of labelme, and of X-AnyLabeling: one JSON file for each photograph, beside it or with the photograph in it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import (
    Drawing,
    bitmap_of,
    box_corners,
    check_inside,
    decoded_base64,
    decoded_picture,
    polygon_corners,
    told_size,
    turned_ellipse,
)
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotograph, DrawnPhotographs
from sam_med2d.dataset_conversion.formats.folder_layout import split_of
from sam_med2d.dataset_conversion.formats.json_content import read_json
from sam_med2d.dataset_conversion.formats.photograph_files import below
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError, raise_problems

LINES = ("line", "linestrip", "point", "points")  # shapes without an area
CORNERS = (
    "polygon",
    "rectangle",
    "oriented_rectangle",
    "rotation",
    "quadrilateral",
)  # with corners; a rectangle may have two
SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}  # of photographs in the files


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Shapes of one label are one mask; shapes of one group_id are one instance.

    Raises:
        DataError: there is no file of labelme, one cannot be read, or two are of one photograph.
    """
    drawn = DrawnPhotographs(tree, choice)
    files: dict[Path, Path] = {}
    twice = []
    for name, path, content in _files(tree):
        if (image := _photograph(drawn, tree, content, name=name, path=path)) is None:
            drawn.problems.append(f"{path}: the image {content['imagePath']} is not there, or several are")
            continue
        if (other := files.setdefault(image, path)) != path:
            twice.append(f"{image} is annotated in {other} and {path}: keep one of them")
        photograph = drawn.add(below(name, content["imagePath"]), image, split_of(name), path)
        _draw(drawn, photograph, content, path=path)
    raise_problems(twice)
    return drawn.samples()


def _files(tree: Tree) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Name, path and content of each file of labelme; other JSON files are passed over."""
    found = False
    for name, path in tree.files.items():
        if not name.lower().endswith(".json"):
            continue
        content = read_json(path)
        if isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys():
            if not isinstance(content["shapes"], list) or not isinstance(content["imagePath"], str):
                raise DataError(f"{path}: labelme has a list of shapes, and text as imagePath")
            found = True
            yield name, path, content
    if not found:
        raise DataError(f"no file of labelme (.json with shapes and imagePath). Found:\n  {tree.summary()}")


def _photograph(
    drawn: DrawnPhotographs, tree: Tree, content: Mapping[str, Any], *, name: str, path: Path
) -> Path | None:
    """The file that imagePath names, else the picture in the file itself, else one of that name elsewhere."""
    written = content["imagePath"]
    beside = None if drawn.files.root else tree.files.get(below(name, written))
    if beside or not content.get("imageData"):
        return beside or drawn.files.find_end(below(name, written), path)
    try:
        data = decoded_base64(content["imageData"])
    except ValueError as error:
        raise DataError(f"{path}: its imageData is {error}") from error
    suffix = next((suffix for start, suffix in SUFFIXES.items() if data.startswith(start)), None)
    if suffix is None or tree.scratch is None:
        raise DataError(f"{path}: its imageData is neither PNG nor JPEG: put {written} beside it")
    image = tree.scratch / "embedded" / Path(name).with_suffix(suffix)
    if not image.is_file() or image.read_bytes() != data:
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(data)
    return image


def _draw(drawn: DrawnPhotographs, photograph: DrawnPhotograph, content: Mapping[str, Any], *, path: Path) -> None:
    """Add a file's shapes."""
    size = told_size(content.get("imageHeight"), content.get("imageWidth"))
    if size and not drawn.has_size(photograph.path, size, str(path)):
        return
    for i, shape in enumerate(content["shapes"]):
        about = shape if isinstance(shape, dict) else {}
        label, kind = about.get("label"), about.get("shape_type") or "polygon"
        where = f"shape {i} ({kind} of {label})"
        with drawn.shape(f"{path}, {where}"):
            if not isinstance(label, str):
                raise ValueError("its label is no text")
            if kind in LINES:
                drawn.leave_out(kind, label, f"{path}, {where}")
            else:
                drawing = Drawing(where, **_shape(kind, about))
                for polygon in () if size else drawing.polygons:
                    check_inside(polygon, size_of(photograph.path))
                drawn.draw(photograph, label, path, drawing, group=about.get("group_id"))


def _shape(kind: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    """What is drawn, as keywords of Drawing. Raises ValueError or TypeError for what is no such shape."""
    points = np.array(shape["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("points are pairs of finite numbers x, y")
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        return {"ellipses": (turned_ellipse(*points[0], radius, radius),)}
    if kind == "mask" and len(points) == 2:
        return {"bitmaps": (_bitmap(points, shape["mask"]),)}
    if kind == "rectangle" and len(points) == 2:
        return {"polygons": (box_corners(*points.min(axis=0), *points.max(axis=0)),)}
    if kind in CORNERS:
        return {"polygons": (polygon_corners(points),)}
    raise ValueError(f"a {kind} of {len(points)} points is not read")


def _bitmap(points: np.ndarray, text: str) -> Any:
    """A mask in base64, in a box whose lower right corner is its last pixel."""
    (left, top), (right, bottom) = points.astype(int).tolist()
    mask = decoded_picture(text)
    if mask.ndim != 2:
        raise ValueError("its mask has several channels")
    box = (bottom - top + 1, right - left + 1)
    if mask.shape != box:
        raise ValueError(f"its mask is {mask.shape[1]} x {mask.shape[0]} pixels, its box {box[1]} x {box[0]}")
    return bitmap_of(mask > 0, left, top)


LABELME = DataSet(
    name="labelme",
    title="files of labelme or X-AnyLabeling (polygons, rectangles, circles, masks)",
    layout="""eye_1.jpg
eye_1.json (beside the photograph, in another folder, or with the photograph in it as imageData)""",
    find=find,
    has_instances=True,
    flags=FLAGS,
)
