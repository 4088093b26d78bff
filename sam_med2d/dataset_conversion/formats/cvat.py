"""CVAT's own files: annotations.xml of the export "CVAT for images 1.1"."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.dataset_spec import SPLIT_WORDS, DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import (
    Drawing,
    bitmap_of,
    box_corners,
    check_box,
    polygon_corners,
    turned_ellipse,
)
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotograph, DrawnPhotographs
from sam_med2d.dataset_conversion.formats.folder_layout import split_of
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError
from segment_anything.utils.rle import rle_to_mask

INSTALL = "install it with pip install -r requirements-formats.txt"
NO_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Shapes of one label are one mask, whatever lies on top; shapes of one group are one instance.

    Raises:
        DataError: there is no file of CVAT, one cannot be used, or defusedxml is not installed.
    """
    drawn = DrawnPhotographs(tree, choice)
    files = [(name, path, _root(path)) for name, path in tree.files.items() if name.lower().endswith(".xml")]
    files = [(name, path, root) for name, path, root in files if root.tag == "annotations"]
    if not files:
        raise DataError(f"no file of CVAT (.xml with annotations). Found:\n  {tree.summary()}")
    for name, path, root in files:
        _check(root, path)
        drawn.declare(text for label in root.iterfind("meta//label/name") if (text := label.text or ""))
        for image in root.iterfind("image"):
            _add(drawn, image, name=name, path=path)
    return drawn.samples()


def _root(path: Path) -> Element:
    """The file's root element."""
    try:
        from defusedxml import DefusedXmlException  # optional
        from defusedxml.ElementTree import parse
    except ImportError as error:
        raise DataError(f"cvat needs defusedxml: {INSTALL}") from error
    try:
        return parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise DataError(
            f"{path} declares a document type or entities, which no file of CVAT does, and which can fill the memory: "
            "export it again"
        ) from error
    except (ParseError, ValueError, LookupError, OSError) as error:
        raise DataError(f"{path} cannot be read as XML: {error}") from error


def _check(root: Element, path: Path) -> None:
    """Raise DataError for a file whose images cannot be told apart, and for videos."""
    if root.find("track") is not None:
        raise DataError(f"{path} has tracks, of CVAT for video: export the task as CVAT for images 1.1")
    images = list(root.iterfind("image"))
    for what, keys in (("id", ("task_id", "id")), ("name", ("subset", "name"))):
        times = Counter(tuple(image.get(key) for key in keys) for image in images)
        if twice := [str(key[-1]) for key, count in times.items() if count > 1]:
            raise DataError(f"{path}: several images have the {what} {', '.join(twice[:10])}")


def _add(drawn: DrawnPhotographs, image: Element, *, name: str, path: Path) -> None:
    """Add what one image element says."""
    written, subset = image.get("name") or "", image.get("subset") or ""
    split = SPLIT_WORDS.get(subset.lower()) or split_of(f"{name.rpartition('/')[0]}/{written}")
    found = drawn.files.find_end(f"{subset}/{written}", path) if written else None
    if found is None:
        drawn.problems.append(
            f"{path}: the image {written} is not there, or several are: export with images, or see --image_root"
        )
        return
    photograph, where = drawn.add(written, found, split, path), f"image {written}"
    with drawn.shape(f"{path}, {where}"):
        size = int(image.attrib["height"]), int(image.attrib["width"])
        if drawn.has_size(found, size, f"{path}, {where}"):
            for i, element in enumerate(image):
                _draw(drawn, photograph, element, where=f"{where}, shape {i}", path=path)


def _draw(drawn: DrawnPhotographs, photograph: DrawnPhotograph, element: Element, *, where: str, path: Path) -> None:
    about = element.attrib
    where += f" ({element.tag} of {about.get('label')})"
    with drawn.shape(f"{path}, {where}"):
        if element.tag in NO_AREA:
            drawn.leave_out(element.tag, about["label"], f"{path}, {where}")
            return
        drawing = Drawing(where, **_shape(element.tag, about, size_of(photograph.path)))
        group = about.get("group_id")
        drawn.draw(photograph, about["label"], path, drawing, group=None if group in (None, "0") else group)


def _shape(kind: str, about: Mapping[str, str], size: tuple[int, int]) -> dict[str, Any]:
    """What is drawn in a photograph of (height, width), as keywords of Drawing. Raises ValueError, KeyError."""
    degrees = float(about.get("rotation", 0))
    if kind == "polygon":
        return {"polygons": (polygon_corners(list(map(float, re.split("[,;]", about["points"])))),)}
    if kind == "box":
        sides = [float(about[key]) for key in ("xtl", "ytl", "xbr", "ybr")]
        return {"polygons": (box_corners(*sides, degrees),)}
    if kind == "ellipse":
        return {"ellipses": (turned_ellipse(*(float(about[key]) for key in ("cx", "cy", "rx", "ry")), degrees),)}
    if kind == "mask":
        left, top, width, height = (int(about[key]) for key in ("left", "top", "width", "height"))
        check_box(left, top, height, width, size)
        runs = list(map(int, about["rle"].split(",")))  # along the rows
        if sum(runs) != height * width:
            raise ValueError(f"runs of {sum(runs)} pixels in a mask of {width} x {height}")
        return {"bitmaps": (bitmap_of(rle_to_mask({"size": (width, height), "counts": runs}).T, left, top),)}
    raise ValueError("this kind of shape is not read")


CVAT = DataSet(
    name="cvat",
    title="CVAT for images 1.1 (polygons, boxes, ellipses, masks)",
    layout="""annotations.xml
images/eye_1.jpg as the file says, anywhere below SOURCE, or below --image_root; its subsets Train, Validation and Test
are the split""",
    find=find,
    has_instances=True,
    flags=FLAGS,
)
