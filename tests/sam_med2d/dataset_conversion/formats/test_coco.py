"""COCO files: read with every kind of outline."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import find_contours

from sam_med2d.dataset_conversion.archives import unpacked
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples
from sam_med2d.dataset_conversion.drawings import Bitmap, Drawing
from sam_med2d.dataset_conversion.formats.coco import COCO, find
from sam_med2d.dataset_conversion.polygons import outlines, rasterize
from sam_med2d.dataset_conversion.samples import Choice, Sample
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS
from segment_anything.utils.rle import mask_to_rle

pycoco = pytest.importorskip("pycocotools.mask")

SIZE = (40, 60)
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=16))
SQUARE = [10, 5, 20, 5, 20, 15, 10, 15]


def picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


def coco_file(path: Path, *segmentations: Any, image: dict | None = None, **more: Any) -> Path:
    """A COCO file of one photograph, "eye.png", where each segmentation is an annotation of category 1."""
    image = {"id": 7, "file_name": "eye.png", "height": SIZE[0], "width": SIZE[1], **(image or {})}
    annotations = [
        {"id": i, "image_id": 7, "category_id": 1, "segmentation": drawn} for i, drawn in enumerate(segmentations)
    ]
    categories = [{"id": 1, "name": "Optic Disc"}, {"id": 2, "name": "vessel"}]
    content = {"images": [image], "annotations": annotations, "categories": categories, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def found(source: Path, **options: Any) -> FoundSamples:
    return find(unpacked(source, source / ".scratch"), Choice(options=options))


def masks_of(sample: Sample, size: tuple[int, int] = SIZE) -> list[tuple[str, np.ndarray]]:
    sources = pickle.loads(pickle.dumps(sample.masks))  # other processes read them
    return [(source.structure, source.decode(source.path, size)) for source in sources]


def square() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:15, 10:20] = True
    return mask


def disc() -> np.ndarray:
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - 25) ** 2 + (columns - 40) ** 2 < 80


# --- polygons -------------------------------------------------------------------------------------------------


@given(MASKS)
@example(np.zeros((3, 3), bool))
@example(np.ones((1, 1), bool))
@example(np.eye(5, dtype=bool))
@example(~np.eye(5, dtype=bool))
def test_outlines_give_the_mask_back_exactly_here_and_in_pycocotools(mask):
    polygons = outlines(mask)
    assert np.array_equal(rasterize(polygons, mask.shape), mask)
    assert len(polygons) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    if polygons:
        written = [polygon.ravel().astype(float).tolist() for polygon in polygons]
        assert np.array_equal(pycoco.decode(pycoco.merge(pycoco.frPyObjects(written, *mask.shape))), mask)


@given(st.lists(st.tuples(st.floats(-8, 28), st.floats(-8, 28)), min_size=3, max_size=9))
@example([(0.0, 0.0), (1.5, 0.0), (1.5, 1.0)])
def test_a_pixel_belongs_to_a_polygon_that_holds_its_middle(points):
    """Even-odd rule, by a loop over pixels and edges; what lies on an upright edge belongs to its right."""
    mask = rasterize([np.array(points)], (20, 24))
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    for row in range(20):
        for column in range(24):
            x, y, above = column + 0.5, row + 0.5, []
            for (x0, y0), (x1, y1) in edges:
                if (x0 <= x) != (x1 <= x):
                    above.append(y0 + (x - x0) * (y1 - y0) / (x1 - x0))
            if all(abs(at - y) > 1e-6 for at in above):  # the middle is on no edge
                assert mask[row, column] == (sum(at < y for at in above) % 2 == 1)


CORNERS = st.one_of(
    st.integers(-8, 28).map(float),
    st.integers(-16, 56).map(lambda value: value / 2),
    st.floats(-8, 28, allow_subnormal=False),
)
POLYGON = st.lists(st.tuples(CORNERS, CORNERS), min_size=3, max_size=9)


def segments(*polygons: list[tuple[float, float]]) -> Drawing:
    return Drawing("", (), tuple(tuple(np.ravel(polygon).tolist()) for polygon in polygons))


def by_pycocotools(*polygons: list[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    written = [np.ravel(polygon).astype(float).tolist() for polygon in polygons]
    return pycoco.decode(pycoco.merge(pycoco.frPyObjects(written, *size))).astype(bool)


def nearest_edge(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance of each point, float [n, 2], to the polygon's outline."""
    starts, sides = polygon, np.roll(polygon, -1, axis=0) - polygon
    lengths = np.maximum((sides**2).sum(axis=1), 1e-12)
    along = ((points[:, None] - starts) * sides).sum(axis=2) / lengths
    nearest = starts + along.clip(0, 1)[..., None] * sides
    return np.hypot(*np.moveaxis(points[:, None] - nearest, 2, 0)).min(axis=1)


@given(st.lists(POLYGON, min_size=1, max_size=3))
@example([[(0.5, 0.5), (9.5, 9.5), (9.5, 0.5), (0.5, 9.5)]])
@example([[(-0.5, 2.5), (5.0, -0.5), (10.5, 2.5), (5.0, 30.0)], [(4.5, 4.5), (8.5, 4.5), (8.5, 8.5)]])
def test_polygons_of_any_corners_are_those_of_pycocotools(polygons):
    """Several parts, outside and across themselves. pycocotools walks edges in fifths of a pixel: middles that lie
    nearer than half of that to an edge may fall to either side of it."""
    mask, expected = segments(*polygons)(Path("a.json"), (20, 24)), by_pycocotools(*polygons, size=(20, 24))
    rows, columns = np.nonzero(mask != expected)
    middles = np.stack([columns, rows], axis=1) + 0.5
    edges = [nearest_edge(np.trunc(5 * np.array(polygon) + 0.5) / 5, middles) for polygon in polygons]
    assert (np.min(edges, axis=0) < 0.1).all()


@given(MASKS)
@example(np.pad(np.ones((3, 3), bool), 2))
def test_outlines_on_half_pixels_are_exactly_those_of_pycocotools(mask):
    """What `find_contours(mask, 0.5)` gives: corners on the middles of pixels' sides. A hole is one more part."""
    contours = [contour[:, ::-1] - 1 for contour in find_contours(np.pad(mask, 1).astype(float), 0.5)]
    drawn = segments(*contours)(Path("a.json"), mask.shape)
    assert np.array_equal(drawn, by_pycocotools(*contours, size=mask.shape) if contours else mask)


@given(MASKS, st.sampled_from([cv2.CHAIN_APPROX_NONE, cv2.CHAIN_APPROX_SIMPLE]))
def test_whole_corners_stay_where_they_are(mask, chain):
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, chain)
    parts = [contour[:, 0] for contour in contours if len(contour) > 2]
    assert np.array_equal(segments(*parts)(Path("a.json"), mask.shape), rasterize(parts, mask.shape))


def test_polygons_without_a_pixel_are_noted():
    """The outline of a lesion of one pixel, as find_contours gives it, holds none for pycocotools."""
    lesion = np.zeros(SIZE, bool)
    lesion[5, 7] = True
    [outline] = [contour[:, ::-1] for contour in find_contours(lesion.astype(float), 0.5)]
    outside = [(70, 5), (80, 5), (80, 9)]
    with REMARKS.collected():
        mask = segments(outline, outside, [(1, 1), (5, 1), (5, 4)])(Path("a.json"), SIZE)
        remarks = REMARKS.take()
    assert mask.any() and remarks == {"polygons that hold no pixel are lost": {"a.json, ": "2 of 3"}}
    assert np.array_equal(segments(outline + 0.5)(Path("a.json"), SIZE), lesion)


@given(MASKS)
def test_run_lengths_are_those_of_pycocotools(mask):
    encoded = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))
    bitmap = Bitmap(0, 0, *mask.shape, encoded["counts"].decode())
    assert np.array_equal(Drawing("", bitmaps=(bitmap,))(Path("a.json"), mask.shape), mask)


def test_a_disc_drawn_as_a_polygon():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    mask = rasterize([np.stack([50.5 + 30 * np.cos(angles), 40 + 30 * np.sin(angles)], axis=1)], (100, 100))
    assert abs(mask.sum() - np.pi * 900) < 15
    assert np.allclose(np.argwhere(mask).mean(axis=0) + 0.5, (40, 50.5), atol=0.05)


# --- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "drawn",
    [
        [SQUARE],
        SQUARE,
        [[*SQUARE[:4], 20, 10, 10, 10], [10, 10, 20, 10, 20, 15, 10, 15]],
        mask_to_rle(square()),
        mask_to_rle(square(), compressed=False),
    ],
)
def test_every_kind_of_outline(tmp_path, drawn):
    picture(tmp_path / "eye.png")
    coco_file(tmp_path / "all.json", drawn)
    [sample] = found(tmp_path).samples
    [(structure, mask)] = masks_of(sample)
    assert structure == "optic_disc" and np.array_equal(mask, square())
    assert (sample.name, sample.split, sample.image) == ("eye", "", tmp_path / "eye.png")


def test_annotations_of_a_category_are_united_or_kept(tmp_path):
    picture(tmp_path / "eye.png")
    crowd = {"image_id": 7, "category_id": 2, "segmentation": mask_to_rle(disc(), compressed=False), "iscrowd": 1}
    coco_file(tmp_path / "all.json")
    content = json.loads((tmp_path / "all.json").read_text())
    disc_, square_ = mask_to_rle(disc()), [SQUARE]
    content["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": disc_},
        {"id": 2, "image_id": 7, "category_id": 1, "segmentation": square_},
        crowd,
    ]
    (tmp_path / "all.json").write_text(json.dumps(content))
    united = dict(masks_of(found(tmp_path).samples[0]))
    assert np.array_equal(united["optic_disc"], disc() | square()) and np.array_equal(united["vessel"], disc())
    single = masks_of(found(tmp_path, instances=True).samples[0])
    assert [structure for structure, _ in single] == ["optic_disc", "optic_disc", "vessel"]
    assert np.array_equal(single[0][1], disc()) and np.array_equal(single[1][1], square())


def test_empty_annotations_are_passed_over_and_boxes_named(tmp_path):
    picture(tmp_path / "eye.png")
    coco_file(tmp_path / "all.json", [SQUARE], [], None, mask_to_rle(np.zeros(SIZE, bool)))
    offer = found(tmp_path)
    assert len(offer.samples[0].masks) == 1 and not offer.problems
    box = {"id": 5, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}
    coco_file(tmp_path / "all.json", annotations=[box])
    problems = found(tmp_path).problems
    assert "annotation 5: it has a box and no outline" in problems[0] and "eye.png has no mask" in problems[1]


def test_splits_and_places_of_the_photographs(tmp_path):
    for name in ("photos/1.png", "train/1.png", "deep/down/valid/2.png"):
        picture(tmp_path / name)
    coco_file(tmp_path / "annotations/instances_test2017.json", [SQUARE], image={"file_name": "photos\\1.png"})
    coco_file(tmp_path / "train/_annotations.coco.json", [SQUARE], image={"file_name": "./1.png"})
    coco_file(tmp_path / "x.json", [SQUARE], image={"file_name": "valid/2.png", "split": "val"})
    (tmp_path / "package.json").write_text('{"name": "something else"}')
    offer = found(tmp_path)
    assert {sample.name: sample.split for sample in offer.samples} == {
        "test_photos_1": "test",
        "train_1": "train",
        "2": "val",
    }
    assert not offer.problems


def test_one_photograph_in_two_files(tmp_path):
    """One structure a file; and both draw the same one."""
    picture(tmp_path / "eye.png")
    coco_file(tmp_path / "a.json", [SQUARE])
    coco_file(tmp_path / "b.json", mask_to_rle(disc()))
    [sample] = found(tmp_path).samples
    [(_, mask)] = masks_of(sample)
    assert np.array_equal(mask, disc() | square())
    coco_file(tmp_path / "test.json", [SQUARE])
    with pytest.raises(DataError, match=r"eye\.png is in two splits, none and in .*test\.json test"):
        found(tmp_path)


def test_the_json_alone_and_an_image_root(tmp_path):
    picture(tmp_path / "elsewhere" / "eye.png")
    path = coco_file(tmp_path / "labels" / "a.json", [SQUARE])
    (tmp_path / "labels" / "b.json").write_text("no JSON, and not asked for")
    tree = unpacked(path, tmp_path / "scratch")
    assert "eye.png is not there" in find(tree, Choice()).problems[0]
    [sample] = find(tree, Choice(options={"image_root": str(tmp_path / "elsewhere")})).samples
    assert sample.image == tmp_path / "elsewhere" / "eye.png"
    with pytest.raises(DataError, match="--image_root .*nowhere: there is no such folder"):
        find(tree, Choice(options={"image_root": "nowhere"}))


@pytest.mark.parametrize(
    "name", ["../eye.png", "a/../../eye.png", "/etc/passwd", "C:\\eye.png", "..\\eye.png", "\\\\x\\y"]
)
def test_paths_that_leave_the_folder_are_refused(tmp_path, name):
    picture(tmp_path / "eye.png")
    coco_file(tmp_path / "in" / "a.json", [SQUARE], image={"file_name": name})
    with pytest.raises(DataError, match=r"a\.json: the image .* leaves the folder; .* or give --image_root"):
        found(tmp_path / "in")


@pytest.mark.parametrize(
    "name",
    ["/data/set/deep/eye.png", "../../set/deep/eye.png", "C:\\set\\deep\\eye.png", "x/../deep/./eye.png", "eye.png"],
)
def test_an_image_root_mends_paths_of_elsewhere(tmp_path, name):
    """By their longest end that is there, and never outside of it."""
    picture(tmp_path / "photos/eye.png")
    picture(tmp_path / "photos/deep/eye.png")
    picture(tmp_path / "set/deep/eye.png")
    coco_file(tmp_path / "in/a.json", [SQUARE], image={"file_name": name})
    [sample] = found(tmp_path / "in", image_root=tmp_path / "photos").samples
    assert sample.image == tmp_path / "photos" / ("deep/eye.png" if "deep" in name else "eye.png")


def test_an_image_root_is_searched_for_a_name_that_is_there_once(tmp_path):
    picture(tmp_path / "photos/left/eye.png")
    coco_file(tmp_path / "in/a.json", [SQUARE], image={"file_name": "/data/eye.png"})
    [sample] = found(tmp_path / "in", image_root=tmp_path / "photos").samples
    assert sample.image == tmp_path / "photos/left/eye.png"
    picture(tmp_path / "photos/right/eye.png")
    assert "or several are" in found(tmp_path / "in", image_root=tmp_path / "photos").problems[0]


@pytest.mark.parametrize("name", ["../eye.png", "/etc/passwd", "deep/..", ".."])
def test_an_image_root_is_not_left(tmp_path, name):
    picture(tmp_path / "eye.png")
    (tmp_path / "photos/deep").mkdir(parents=True)
    coco_file(tmp_path / "in/a.json", [SQUARE], image={"file_name": name})
    offer = found(tmp_path / "in", image_root=tmp_path / "photos")
    assert not offer.samples and f"the image {name} is not there" in offer.problems[0]


def test_two_names_are_not_one_photograph_below_an_image_root(tmp_path):
    picture(tmp_path / "photos/eye.png")
    coco_file(tmp_path / "in/a.json", [SQUARE], image={"file_name": "/train/eye.png"})
    coco_file(tmp_path / "in/b.json", [SQUARE], image={"file_name": "/test/eye.png"})
    with pytest.raises(DataError, match=r"train/eye\.png and test/eye\.png are both .*photos/eye\.png"):
        found(tmp_path / "in", image_root=tmp_path / "photos")


@pytest.mark.parametrize(
    "drawn",
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, "x"]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [{}],
        "text",
        {"size": [40], "counts": [1]},
        {"size": [40, 60], "counts": [1, 2]},
        {"size": [40, 60], "counts": "~~~"},
        {"size": [40, 60]},
        {"size": [40, 60], "counts": [10**30]},
    ],
)
def test_what_is_no_outline_is_named(tmp_path, drawn):
    picture(tmp_path / "eye.png")
    path = coco_file(tmp_path / "a.json", [SQUARE], drawn)
    offer = found(tmp_path)
    assert len(offer.problems) == 1 and f"{path}, image eye.png, annotation 1: " in offer.problems[0]
    assert len(offer.samples[0].masks) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"images": {}}, "images is no list of objects"),
        ({"categories": None}, "categories is no list"),
        ({"annotations": [3]}, "annotations is no list of objects"),
        ({"images": [{"id": 1}]}, r"images\[0\] has no file_name"),
        ({"images": [{"id": 1, "file_name": 2}]}, r"images\[0\] has no file_name"),
        ({"images": [{"id": 1, "file_name": "a"}] * 2}, "several images have the id 1"),
        ({"categories": [{"id": 2, "name": "a"}, {"id": 2, "name": "b"}]}, "several categories have the id 2"),
        ({"categories": [{"id": 1, "name": "--"}]}, "'--' is no name of a structure"),
    ],
)
def test_what_is_not_coco_is_named(tmp_path, more, message):
    coco_file(tmp_path / "a.json", **more)
    with pytest.raises(DataError, match=message):
        found(tmp_path)


def test_json_of_other_kinds(tmp_path):
    (tmp_path / "a.json").write_text('["something"]')
    with pytest.raises(DataError, match="no COCO file"):
        found(tmp_path)
    for text in ("{", "[" * 100_000, "\xff"):
        (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=r"a\.json cannot be read as JSON"):
            found(tmp_path)


def test_references_to_nothing_are_named(tmp_path):
    picture(tmp_path / "eye.png")
    lost = [
        {"id": 1, "image_id": 7, "category_id": 9, "segmentation": [SQUARE]},
        {"id": 2, "image_id": 8, "category_id": 1, "segmentation": [SQUARE]},
        {"id": 3, "image_id": 7, "category_id": 2, "segmentation": [SQUARE]},
    ]
    coco_file(tmp_path / "a.json", annotations=lost)
    offer = found(tmp_path)
    assert len(offer.problems) == 2 and "image 8, which is not listed" in offer.problems[0]
    assert "annotation 1: there is no category 9" in offer.problems[1]
    assert [source.structure for source in offer.samples[0].masks] == ["vessel"]


def test_another_size_than_the_photographs(tmp_path):
    picture(tmp_path / "eye.png")
    coco_file(tmp_path / "a.json", [SQUARE], image={"width": 61})
    [source] = found(tmp_path).samples[0].masks
    with pytest.raises(DataError, match="annotation 0: drawn on 61 x 40 pixels, the photograph has 60 x 40"):
        source.decode(source.path, SIZE)
    coco_file(tmp_path / "a.json", mask_to_rle(np.ones((3, 4), bool)), image={"width": None})
    [source] = found(tmp_path).samples[0].masks
    with pytest.raises(DataError, match="drawn on 4 x 3 pixels"):
        source.decode(source.path, SIZE)


def test_patients_and_absent_structures(tmp_path):
    for name in ("P1_a.png", "P1_b.png"):
        picture(tmp_path / name)
    images = [{"id": i, "file_name": f"P1_{letter}.png"} for i, letter in enumerate("ab")]
    annotations = [{"id": 1, "image_id": 0, "category_id": 1, "segmentation": [SQUARE]}]
    coco_file(tmp_path / "a.json", images=images, annotations=annotations)
    offer = found(tmp_path, patient=r"(P\d)_", missing="absent")
    assert [(sample.patient, sample.absent) for sample in offer.samples] == [("P1", ()), ("P1", ("optic_disc",))]
    assert not offer.problems and COCO.find is find
