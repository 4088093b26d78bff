"""Projects of Supervisely: meta.json, and in each data set a JSON file of bitmaps and polygons for each photograph."""

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_formats import MAX_PIXELS
from sam_med2d.dataset_conversion.dataset_spec import SPLIT_WORDS, DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import Bitmap, Drawing, bitmap_of
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotograph, DrawnPhotographs
from sam_med2d.dataset_conversion.formats.folder_layout import split_of
from sam_med2d.dataset_conversion.formats.json_content import read_json
from sam_med2d.dataset_conversion.polygons import fill_contours
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

NO_AREA = ("point", "line", "graph", "multiline")
ANNOTATION = re.compile(r"(?P<data_set>(.*/)?)ann/(?P<image>[^/]+)\.json$")


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Each object is an annotation; a tag or a folder called train, val or test is the split.

    Raises DataError where there is no project.
    """
    drawn = DrawnPhotographs(tree, choice)
    found = [(name, path, hit) for name, path in tree.files.items() if (hit := ANNOTATION.match(name))]
    for name, path in tree.files.items():
        if name.rpartition("/")[2] == "meta.json":
            _declare(drawn, path)
    for name, path, hit in found:
        content = read_json(path)
        objects = content.get("objects") if isinstance(content, dict) else None
        if not isinstance(objects, list):
            raise DataError(f"{path} is no annotation of Supervisely: it has no objects")
        place = f"{hit['data_set']}img/{hit['image']}"
        photograph = tree.files.get(place) or drawn.files.find(hit["image"], name, path)
        if photograph is None:
            drawn.problems.append(f"{path}: the photograph {place} is not there, or several are (see --image_root)")
            continue
        _draw(drawn, drawn.add(place, photograph, _split(content, hit["data_set"]), path), content, path)
    if not found:
        raise DataError(f"no project of Supervisely (ann/*.json beside img/). Found:\n  {tree.summary()}")
    return drawn.samples()


def _declare(drawn: DrawnPhotographs, path: Path) -> None:
    """Tell the classes that meta.json lists."""
    content = read_json(path)
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, list) or not all(isinstance(one, dict) for one in classes):
        raise DataError(f"{path} is no meta.json of Supervisely: it has no classes")
    drawn.declare(title for one in classes if isinstance(title := one.get("title"), str))


def _split(content: Mapping[str, Any], folder: str) -> str:
    """By the photograph's tags, else by its folders."""
    tags = content.get("tags") if isinstance(content.get("tags"), list) else []
    names = (str(tag.get("name", "")).lower() for tag in tags if isinstance(tag, dict))
    return next((SPLIT_WORDS[name] for name in names if name in SPLIT_WORDS), split_of(folder))


def _draw(drawn: DrawnPhotographs, photograph: DrawnPhotograph, content: Mapping[str, Any], path: Path) -> None:
    """Add the objects of one file."""
    try:
        size = int(content["size"]["height"]), int(content["size"]["width"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has no size of the photograph: export it again") from error
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"{path}: a photograph of {size[1]} x {size[0]} pixels; up to {MAX_PIXELS / 1e6:.0f} million are read"
        )
    for i, one in enumerate(content["objects"]):
        where = f"object {one.get('id', i + 1) if isinstance(one, dict) else i + 1}"
        try:
            kind, label = one.get("geometryType"), one["classTitle"]
            if kind in NO_AREA:
                drawn.leave_out(kind, label, f"{path}, {where}")
                continue
            drawing = _drawing(kind, one, where, size)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            drawn.problems.append(f"{path}, {where}: {reason}")
            continue
        drawn.draw(photograph, label, path, drawing, group=one.get("instance"))


def _drawing(kind: object, one: Mapping[str, Any], where: str, size: tuple[int, int]) -> Drawing:
    """The mask of an object. Raises ValueError for one of another kind, and for a damaged one."""
    if kind == "bitmap":
        return Drawing(where, (size,), bitmaps=(_bitmap(one["bitmap"], size),))
    if kind == "polygon":
        outer, *holes = (_ring(ring) for ring in (one["points"]["exterior"], *one["points"].get("interior", [])))
        if not holes:
            return Drawing(where, (size,), contours=(tuple(outer.ravel().tolist()),))
        inside = fill_contours([outer], size)
        for hole in holes:
            inside &= ~fill_contours([hole], size)
        return Drawing(where, (size,), bitmaps=(bitmap_of(inside),))
    raise ValueError(f"{kind}: only bitmaps and polygons are masks")


def _ring(points: object) -> np.ndarray:
    """The pixels of a polygon's corners, as Supervisely's package takes them."""
    numbers = np.asarray(points, np.float64)
    if numbers.ndim != 2 or numbers.shape[1] != 2 or len(numbers) < 3 or not np.isfinite(numbers).all():
        raise ValueError("a polygon is a list of three points [x, y] or more")
    return np.rint(numbers).astype(int)


def _bitmap(content: Mapping[str, Any], size: tuple[int, int]) -> Bitmap:
    """A picture in base64, compressed or not, from its origin on."""
    left, top = (int(side) for side in content["origin"])
    try:
        packed = base64.b64decode(content["data"], validate=True)
        data = packed if packed.startswith(b"\x89PNG") else _unpacked(packed, size)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (binascii.Error, zlib.error, cv2.error) as error:
        raise ValueError(f"its bitmap is damaged ({error})") from error
    if pixels is None:
        raise ValueError("its bitmap is damaged, or no PNG")
    if pixels.ndim == 3:
        pixels = pixels[..., 3] if pixels.shape[2] == 4 else pixels.max(axis=2)
    return bitmap_of(pixels > 0, left, top)


def _unpacked(packed: bytes, size: tuple[int, int]) -> bytes:
    """What zlib packed: not more than a picture of the photograph's size can have."""
    limit = 8 * size[0] * size[1] + 100_000
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, limit)
    if not unpacker.eof:
        raise ValueError(f"its bitmap is damaged, or larger than the photograph of {size[1]} x {size[0]} pixels")
    return data


SUPERVISELY = DataSet(
    name="supervisely",
    title="a project of Supervisely (bitmaps, polygons)",
    layout="""meta.json
DATA_SET/ann/eye_1.jpg.json
DATA_SET/img/eye_1.jpg, or below --image_root
a data set or a tag of the photograph called train, val or test is its split""",
    find=find,
    has_instances=True,
    flags=FLAGS,
)
