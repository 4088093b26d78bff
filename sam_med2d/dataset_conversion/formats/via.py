"""Files of the VGG Image Annotator: projects and annotations of VIA 1 and 2 (JSON, CSV), projects of VIA 3 (JSON)."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import Drawing, box_corners, check_inside, polygon_corners, turned_ellipse
from sam_med2d.dataset_conversion.formats.binary import STRUCTURE
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotographs
from sam_med2d.dataset_conversion.formats.folder_layout import split_of
from sam_med2d.dataset_conversion.formats.json_content import read_json
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError, raise_problems

COLUMNS = ("filename", "region_shape_attributes", "region_attributes")  # of the CSV
NO_AREA = ("point", "polyline", "line")
# Shapes of VIA 3 by their number, with the names that VIA 2 has for them and their coordinates.
SHAPES = {
    1: ("point", ()),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
    5: ("line", ()),
    6: ("polyline", ()),
    7: ("polygon", ()),
    8: ("extreme rectangle", ()),
    9: ("extreme circle", ()),
}


Region = tuple[Mapping[str, Any], Mapping[str, Any]]  # shape and attributes, as VIA 2 has them


@dataclass(slots=True)
class _Image:
    """What a file says of one photograph."""

    name: str
    regions: list[Region] = field(default_factory=list)


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Regions of one structure are one mask; an attribute of the region, or --structure, says which it is.

    Raises:
        DataError: there is no file of VIA, one cannot be read, or a photograph is in several.
    """
    drawn, found, twice = DrawnPhotographs(tree, choice), False, []
    places: dict[Path, Path] = {}
    for name, path in tree.files.items():
        images = _images(name, path)
        if images is None:
            continue
        found = True
        for image in images:
            written = unquote(urlsplit(image.name).path) if "://" in image.name else image.name
            if (photograph := drawn.files.find_end(written, path)) is None:
                drawn.problems.append(f"{path}: the image {image.name} is not there, or several are (see --image_root)")
                continue
            if photograph in places:
                twice.append(f"{photograph} is annotated in {places[photograph]} and again in {path}: keep one of them")
            places[photograph] = path
            drawn.add(written, photograph, split_of(name), path)
            for i, region in enumerate(image.regions):
                where = f"image {image.name}, region {i}"
                _draw(drawn, photograph, region, where=where, path=path, options=choice.options)
    raise_problems(twice)
    if not found:
        raise DataError(f"no file of VIA (.json or .csv with regions). Found:\n  {tree.summary()}")
    return drawn.samples()


def _draw(
    drawn: DrawnPhotographs,
    photograph: Path,
    region: Region,
    *,
    where: str,
    path: Path,
    options: Mapping[str, Any],
) -> None:
    """Add one region."""
    (shape, attributes), kind = region, region[0].get("name")
    where += f" ({kind})"
    with drawn.shape(f"{path}, {where}"):
        if kind in NO_AREA:
            drawn.leave_out(kind, "", f"{path}, {where}")
            return
        drawing = Drawing(where, **_shape(shape, size_of(photograph)))
        for label in _labels(attributes, options):
            drawn.draw(drawn.photographs[photograph], label, path, drawing)


def _shape(shape: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """What is drawn in a photograph of (height, width), as keywords of Drawing. Raises ValueError, KeyError."""
    kind = shape["name"]
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        corners = box_corners(x, y, x + width, y + height)
    elif kind in ("circle", "ellipse"):
        radii = ("r", "r") if kind == "circle" else ("rx", "ry")
        numbers = (float(shape[key]) for key in ("cx", "cy", *radii))
        ellipse = turned_ellipse(*numbers, float(np.rad2deg(float(shape.get("theta") or 0))))
        check_inside(ellipse[:2], size)
        return {"ellipses": (ellipse,)}
    elif kind == "polygon":
        columns, rows = shape["all_points_x"], shape["all_points_y"]
        if len(columns) != len(rows):
            raise ValueError(f"it has {len(columns)} x and {len(rows)} y")
        corners = polygon_corners(np.transpose([columns, rows]))
    else:
        raise ValueError("this kind of region is not read")
    check_inside(corners, size)
    return {"polygons": (corners,)}


def _labels(attributes: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Values of the attribute that says what a region shows. Raises ValueError where none does, or several might."""
    key, structure = options.get("attribute"), options.get("structure")
    values = {name: _chosen(value) for name, value in attributes.items() if key in (None, name)}
    values = {name: value for name, value in values.items() if value}
    if structure and key is None:
        return [structure]
    if len(values) == 1:
        return next(iter(values.values()))
    if values:
        raise ValueError(f"it has the attributes {', '.join(values)}: say with --attribute NAME which is the structure")
    raise ValueError("no attribute says what it shows: give it one in VIA, or say --structure NAME for all regions")


def _chosen(value: Any) -> list[str]:
    """What a person chose: text, or those of several boxes that are ticked."""
    if isinstance(value, Mapping):
        return [str(option) for option, ticked in value.items() if ticked]
    return [str(value).strip()] if str(value).strip() else []


def _images(name: str, path: Path) -> list[_Image] | None:
    """What a file of VIA says; None for other files."""
    if name.lower().endswith(".csv"):
        return _of_csv(path)
    if not name.lower().endswith(".json"):
        return None
    content = read_json(path)
    if not isinstance(content, dict):
        return None
    if {"project", "metadata", "view", "file"} <= content.keys():
        return list(_of_version_3(content, path))
    content = content.get("_via_img_metadata", content)
    entries = list(content.values()) if isinstance(content, dict) else []
    if not entries or not all(isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() for entry in entries):
        return None
    return [_Image(str(entry["filename"]), list(_regions(entry["regions"], path))) for entry in entries]


def _regions(regions: Any, path: Path) -> Iterator[Region]:
    """Shape and attributes of each region; VIA 1 has them under numbers."""
    listed = list(regions.values()) if isinstance(regions, dict) else regions
    for region in listed if isinstance(listed, list) else [listed]:
        about = region if isinstance(region, dict) else {}
        shape, attributes = about.get("shape_attributes"), about.get("region_attributes")
        if not isinstance(shape, dict) or not isinstance(attributes, dict):
            raise DataError(f"{path}: a region without its two attributes: {json.dumps(region)[:80]}")
        yield shape, attributes


def _of_csv(path: Path) -> list[_Image] | None:
    """Of the CSV of VIA 1 and 2; None for another table."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace").lstrip("#")
    if "VGG Image Annotator" in text[:200] and "spatial_coordinates" in text:
        raise DataError(
            f"{path} is a table of VIA 3, which has numbers for what regions show: save the project as JSON"
        )
    rows = csv.DictReader(io.StringIO(text), restval="")
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        return None
    images: dict[str, _Image] = {}
    for row in rows:
        try:
            shape, attributes = (json.loads(row[column] or "{}") for column in COLUMNS[1:])
        except ValueError as error:
            raise DataError(f"{path}, line {rows.line_num}: {error}") from error
        image = images.setdefault(row["filename"], _Image(row["filename"]))
        if shape:
            image.regions.append((shape, attributes))
    return list(images.values())


def _of_version_3(content: Mapping[str, Any], path: Path) -> Iterator[_Image]:
    """Of a project of VIA 3: files in views, and metadata of views."""
    try:
        images = {number: _Image(str(about["fname"])) for number, about in content["file"].items()}
        names = {number: about["aname"] for number, about in content["attribute"].items()}
        options = {number: about.get("options") or {} for number, about in content["attribute"].items()}
        for about in content["metadata"].values():
            if not about["xy"]:
                continue  # said of the whole photograph
            files = [str(number) for number in content["view"][str(about["vid"])]["fid_list"]]
            if len(files) != 1:
                raise DataError(f"{path}: a view of {len(files)} files: show one photograph in each")
            chosen = {names[number]: _option(options[number], value) for number, value in about["av"].items()}
            images[files[0]].regions.append((_of_number(about["xy"]), chosen))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path} is no whole project of VIA 3 ({error!r}): save it again") from error
    yield from images.values()


def _option(options: Mapping[str, str], value: Any) -> Any:
    """Text of what was chosen among an attribute's options, by their numbers; other values are text themselves."""
    if options and isinstance(value, str):
        return {options.get(number, number): True for number in value.split(",") if number}
    return value


def _of_number(xy: list[float]) -> dict[str, Any]:
    """A shape of VIA 3, a number and coordinates, as VIA 2 has it."""
    number, *numbers = xy
    kind, keys = SHAPES.get(number, (f"shape {number}", ()))
    points = {"all_points_x": numbers[::2], "all_points_y": numbers[1::2]} if kind == "polygon" else {}
    return {"name": kind, **dict(zip(keys, numbers, strict=False)), **points}


VIA = DataSet(
    name="via",
    title="VGG Image Annotator 1 to 3 (polygons, rectangles, circles, ellipses)",
    layout="""via_project.json, or the annotations as .json or .csv
photos/eye_1.jpg as the file says, anywhere below SOURCE, or below --image_root""",
    find=find,
    has_instances=True,
    flags={
        **FLAGS,
        "--attribute": {
            "metavar": "NAME",
            "help": "which attribute of regions is the structure; default: the only one",
        },
        "--structure": STRUCTURE,
    },
)
