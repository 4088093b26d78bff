"""Projects of Supervisely: by hand as its documentation has them, and written by its package."""

import base64
import json
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples
from sam_med2d.dataset_conversion.formats.supervisely import SUPERVISELY
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError
from segment_anything.utils.rle import rle_to_mask
from tests.helpers.annotation_files import WRITTEN
from tests.helpers.round_trips import SIZE, drawn, ellipse

RING = "]65T17H8I4K01O001\\OC:?FD6<JD6=JB6>JA7`0"
RING += "I_O7a0J^O5d0J\\O6e0JYO7g0IYO7h0IWO7i041O0O2O1O001O001N101O1O001O0O2O001Oof0"
DISC = ellipse(18, 25, 10, 9)
# writes a project, and the masks that the package itself makes of its objects
WRITE = """
import sys
import numpy as np
import supervisely as sly
masks = dict(np.load(sys.argv[2]))
kinds = {name: sly.ObjClass(name, sly.Bitmap) for name in masks} | {"ring": sly.ObjClass("ring", sly.Polygon)}
project = sly.Project(sys.argv[1], sly.OpenMode.CREATE)
project.set_meta(sly.ProjectMeta(obj_classes=list(kinds.values())))
labels = [sly.Label(sly.Bitmap(mask), kinds[name]) for name, mask in masks.items()]
at = lambda points: [sly.PointLocation(row, column) for row, column in points]
ring = sly.Polygon(at([(5, 5), (30, 8), (25, 40)]), [at([(12, 12), (20, 13), (18, 22)])])
labels.append(sly.Label(ring, kinds["ring"]))
size = next(iter(masks.values())).shape
image = np.full((*size, 3), 90, np.uint8)
project.create_dataset("train").add_item_np("eye.png", image, sly.Annotation(size, labels))
drawn = np.zeros(size, np.uint8)
ring.draw(drawn, 1)
np.savez(f"{sys.argv[1]}/ring.npz", drawn)
"""


def packed(mask: np.ndarray, *, alpha: bool = False) -> str:
    """A mask as Supervisely stores it."""
    pixels = (
        np.dstack([np.full((*mask.shape, 3), 255, np.uint8), mask * np.uint8(255)]) if alpha else mask * np.uint8(255)
    )
    return base64.b64encode(zlib.compress(cv2.imencode(".png", pixels)[1].tobytes())).decode()


def put(folder: Path, *objects: dict, name: str = "eye.png", data_set: str = "ds", **more: object) -> Path:
    """A project of one photograph."""
    for kind in ("img", "ann"):
        (folder / data_set / kind).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / data_set / "img" / name), np.full((*SIZE, 3), 90, np.uint8))
    content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "tags": [], "objects": list(objects), **more}
    (folder / data_set / f"ann/{name}.json").write_text(json.dumps(content))
    classes = [{"title": title, "shape": "any"} for title in ("Optic Disc", "vessel")]
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return folder


def bitmap(mask: np.ndarray, left: int = 0, top: int = 0, label: str = "Optic Disc", **about: bool) -> dict:
    shape = {"data": packed(mask, **about), "origin": [left, top]}
    return {"id": 3, "classTitle": label, "geometryType": "bitmap", "bitmap": shape}


def polygon(outer: list, *holes: list, kind: str = "polygon") -> dict:
    points = {"exterior": outer, "interior": list(holes)}
    return {"id": 4, "classTitle": "vessel", "geometryType": kind, "points": points}


def found(folder: Path, **options: object) -> FoundSamples:
    return SUPERVISELY.find(Tree(folder), Choice(options=options))


def masks(folder: Path, **options: object) -> dict[str, np.ndarray]:
    offer = found(folder, **options)
    assert not offer.problems
    [sample] = offer.samples
    return {source.structure: source.decode(source.path, SIZE) for source in sample.masks}


@pytest.mark.parametrize("alpha", [False, True])
def test_bitmaps_and_polygons(tmp_path, alpha):
    part = DISC[5:30, 10:40]
    read = masks(put(tmp_path, bitmap(part, 10, 5, alpha=alpha), polygon([[50, 2], [55, 2], [55, 6], [50, 6]])))
    assert np.array_equal(read["optic_disc"], DISC) and read["vessel"].sum() == 6 * 5
    plain = base64.b64encode(cv2.imencode(".png", part * np.uint8(255))[1].tobytes()).decode()
    shape = bitmap(part, 10, 5) | {"bitmap": {"data": plain, "origin": [10, 5]}}
    assert np.array_equal(masks(put(tmp_path, shape))["optic_disc"], DISC)


def test_splits_are_tags_or_data_sets(tmp_path):
    put(tmp_path, bitmap(DISC), name="a.png", data_set="train")
    put(tmp_path, bitmap(DISC), name="b.png", data_set="x", tags=[{"name": "Valid"}])
    put(tmp_path, bitmap(DISC), name="c.png", data_set="x", tags=[{"name": "blurred"}])
    assert {sample.name: sample.split for sample in found(tmp_path).samples} == {"a": "train", "b": "val", "c": ""}


def test_what_is_no_mask_is_named_and_counted(tmp_path):
    broken = bitmap(DISC) | {"bitmap": {"data": "AAAA", "origin": [0, 0]}}
    bomb = base64.b64encode(zlib.compress(b"\0" * 10**7)).decode()
    large = bitmap(DISC) | {"bitmap": {"data": bomb, "origin": [0, 0]}}
    line = polygon([[1, 1], [5, 5]], kind="line")
    box = polygon([[1, 1], [5, 5]], kind="rectangle")
    offer = found(put(tmp_path, bitmap(DISC), line, line, box, polygon([[1, 1], [2, 2]]), broken, large, {"id": 9}))
    assert "shapes without an area are left out: 2 line of vessel" in offer.notes[0]
    for i, text in enumerate(
        ("rectangle: only bitmaps", "three points", "its bitmap is damaged", "larger than", "'classTitle'")
    ):
        assert text in offer.problems[i] and "eye.png.json, object" in offer.problems[i]
    with pytest.raises(DataError, match="leave the photograph of"):
        masks(put(tmp_path, bitmap(DISC, 1, 0)))


def test_what_is_no_project_is_refused(tmp_path):
    with pytest.raises(DataError, match="no project of Supervisely"):
        found(tmp_path)
    put(tmp_path, bitmap(DISC), size={"height": SIZE[1], "width": SIZE[0]})
    with pytest.raises(DataError, match="drawn on 40 x 60 pixels, the photograph has 60 x 40"):
        masks(tmp_path)
    for content, message in (
        ("[]", "it has no objects"),
        ("{", "cannot be read as JSON"),
        ('{"objects": []}', "has no size"),
    ):
        (tmp_path / "ds/ann/eye.png.json").write_text(content)
        with pytest.raises(DataError, match=message):
            found(tmp_path)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(DataError, match="it has no classes"):
        found(tmp_path)


def test_a_file_of_the_package(tmp_path):
    """Written once by supervisely 6.74.51, as the next test does; the ring is what the package fills."""
    put(tmp_path, bitmap(DISC))
    (tmp_path / "ds/ann/eye.png.json").write_bytes((WRITTEN / "supervisely.json").read_bytes())
    expected = drawn(0) | {"ring": rle_to_mask({"size": SIZE, "counts": RING})}
    read = masks(tmp_path)
    assert read.keys() == expected.keys() and all(np.array_equal(read[name], mask) for name, mask in expected.items())


@pytest.mark.slow
def test_the_package_writes_the_same(tmp_path):
    if find_spec("supervisely") is None:
        pytest.skip("supervisely is not installed")
    np.savez(tmp_path / "masks.npz", **drawn(0))
    words = [sys.executable, "-c", WRITE, str(tmp_path / "project"), str(tmp_path / "masks.npz")]
    subprocess.run(words, check=True, capture_output=True)
    read = masks(tmp_path / "project")
    assert all(np.array_equal(read[name], mask) for name, mask in drawn(0).items())
    assert np.array_equal(read["ring"], np.load(tmp_path / "project/ring.npz")["arr_0"] > 0)
    assert [sample.split for sample in found(tmp_path / "project").samples] == ["train"]
