"""GeoJSON files, one a photograph, as QuPath and other programs export them: polygons with holes, in pixels."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import Drawing, check_inside
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotograph, DrawnPhotographs
from sam_med2d.dataset_conversion.formats.folder_layout import split_of, stem_of
from sam_med2d.dataset_conversion.formats.json_content import read_json
from sam_med2d.dataset_conversion.polygons import joined
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

SUFFIXES = (".geojson", ".json")
POINTS = ("Point", "MultiPoint", "LineString", "MultiLineString")


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Each feature is an annotation; NAME.geojson, or NAME.jpg.geojson, is of the photograph NAME.

    Raises DataError where there is no GeoJSON file, for files that are not, and for two of one photograph.
    """
    drawn, seen = DrawnPhotographs(tree, choice), dict[Path, Path]()
    for name, path in tree.files.items():
        suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
        if not suffix or (features := _features(path)) is None:
            continue
        stem = stem_of(name[: -len(suffix)].rpartition("/")[2])
        if (found := drawn.files.with_stem(stem, name)) is None:
            drawn.problems.append(f"{path}: the photograph {stem} is not there, or several are (see --image_root)")
        elif (other := seen.setdefault(found, path)) != path:
            raise DataError(f"{path} and {other} are both of {found}: keep one")
        else:
            place = f"{name.rpartition('/')[0]}/{found.name}".lstrip("/")
            _draw(drawn, drawn.add(place, found, split_of(name), path), features, path)
    if not seen and not drawn.problems:
        raise DataError(f"no GeoJSON file (.geojson or .json with features). Found:\n  {tree.summary()}")
    return drawn.samples()


def _features(path: Path) -> list[Any] | None:
    """The features of a file; None for another JSON file."""
    content = read_json(path)
    if isinstance(content, list):  # QuPath writes a bare list, too
        return content if all(isinstance(item, dict) and item.get("type") == "Feature" for item in content) else None
    if not isinstance(content, dict) or content.get("type") not in ("Feature", "FeatureCollection"):
        return None
    features = [content] if content["type"] == "Feature" else content.get("features")
    if not isinstance(features, list):
        raise DataError(f"{path}: features is no list, as GeoJSON has it")
    return features


def _draw(drawn: DrawnPhotographs, photograph: DrawnPhotograph, features: list[Any], path: Path) -> None:
    """Add the features of one file."""
    size = size_of(photograph.path)
    for i, feature in enumerate(features):
        where = f"feature {i + 1}"
        try:
            geometry, label = feature.get("geometry") or {}, _class(feature.get("properties") or {})
            if geometry.get("type") in POINTS:
                drawn.leave_out(geometry["type"], label, f"{path}, {where}")
                continue
            polygons = tuple(_polygons(geometry))
            for polygon in polygons:
                check_inside(polygon, size)
        except (AttributeError, ValueError, TypeError, IndexError) as error:
            drawn.problems.append(f"{path}, {where}: {error}")
            continue
        drawn.draw(photograph, label, path, Drawing(where, polygons=polygons), group=i)


def _polygons(geometry: Mapping[str, Any]) -> Iterator[tuple[float, ...]]:
    """The polygons of a geometry, with their holes. Raises ValueError for one of another kind."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"its geometry is {kind or 'missing'}: a Polygon or MultiPolygon is needed")
    for rings in [coordinates] if kind == "Polygon" else coordinates:
        if not rings:
            raise ValueError("its polygon has no ring")
        outer, *holes = map(_ring, rings)
        yield tuple(joined(outer, holes).ravel().tolist())


def _ring(points: object) -> np.ndarray:
    numbers = np.asarray(points, np.float64)
    if numbers.ndim != 2 or numbers.shape[1] < 2 or len(numbers) < 4 or not np.isfinite(numbers).all():
        raise ValueError("a ring is a list of four points [x, y] or more, of which the last is the first")
    return numbers[:, :2]


def _class(properties: Mapping[str, Any]) -> str:
    """The name of a feature's class. Raises ValueError where it has none."""
    found = properties.get("classification")
    if isinstance(found, Mapping):
        found = found.get("name") or "_".join(found.get("names") or [])
    found = found or properties.get("label")
    if not isinstance(found, str):
        raise ValueError("it has no class in properties.classification.name: give it one")
    return found


GEOJSON = DataSet(
    name="geojson",
    title="GeoJSON files of QuPath and others (polygons with holes, in pixels)",
    layout="""eye_1.geojson (or .json), one a photograph, with the class in properties.classification.name
eye_1.jpg beside it, anywhere below SOURCE, or below --image_root""",
    find=find,
    has_instances=True,
    flags=FLAGS,
)
