"""GeoJSON files written from our maps: read back, valid polygons, and as QuPath has them."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis.extra import numpy as hnp

from sam_med2d.dataset_conversion.polygons import rasterize, rings
from tests.helpers.round_trips import lost, masks_in, read_back, small_data, splits_in, written

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def test_round_trip(tmp_path):
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "out", "geojson")
    back = read_back("geojson", out, tmp_path / "back", "--image_root", data)
    assert not lost(masks_in(data), masks_in(back)) and splits_in(back) == splits_in(data)


def test_features_are_those_of_qupath(tmp_path):
    out = written(small_data(tmp_path / "data"), tmp_path / "out", "geojson")
    content = json.loads((out / "train/eye_0.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    by_name = {item["properties"]["classification"]["name"]: item for item in content["features"]}
    assert by_name["optic_disc"]["geometry"]["type"] == "Polygon"
    outer, hole = by_name["hard_exudate"]["geometry"]["coordinates"]
    assert outer[0] == outer[-1] and hole[0] == hole[-1]
    assert by_name["microaneurysm"]["geometry"]["type"] == "MultiPolygon"


@given(MASKS)
@example(~np.eye(3, dtype=bool))
@example(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool))
def test_rings_give_the_mask_back_and_no_ring_touches_itself(mask):
    areas = rings(mask)
    back = np.zeros(mask.shape, bool)
    for outer, *holes in areas:
        back |= rasterize([outer], mask.shape) & ~rasterize(holes, mask.shape)
        assert all(len({tuple(point) for point in ring.tolist()}) == len(ring) for ring in (outer, *holes))
    assert np.array_equal(back, mask)


@given(MASKS)
@example(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool))
def test_polygons_are_valid_for_shapely(mask):
    shapely = pytest.importorskip("shapely")
    for outer, *holes in rings(mask):
        assert shapely.Polygon(outer, holes).is_valid
