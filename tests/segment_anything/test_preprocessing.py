"""Photograph to model frame and back: golden geometry, slow oracles, small structures, the field of view."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from segment_anything.modeling.common import PIXEL_MEAN, PIXEL_STD
from segment_anything.preprocessing import (
    MODES,
    OUTSIDE_LOGIT,
    Frame,
    Preprocessing,
    normalise,
    place,
    resize,
    window_around,
)
from segment_anything.utils.field_of_view import find_field_of_view
from segment_anything.utils.masks import _level, bounding_box, resize_mask
from tests.helpers import paths

GOLDEN = np.load(paths.GOLDEN / "golden_losses_transforms.npz")
GOLDEN_SIZES = [tuple(int(side) for side in GOLDEN[f"t{i}_hw"]) for i in range(6)]
EIGHT = np.ones((3, 3))
sides, seeds = st.integers(1, 400), st.integers(0, 99)
modes, sizes = st.sampled_from(MODES), st.sampled_from([32, 64, 160])


def bright(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture without a dark surround."""
    return np.random.default_rng(seed).integers(60, 256, (height, width, 3), np.uint8)


def eye(height: int, width: int, centre: tuple[float, float], radius: float, level: float = 1.0) -> np.ndarray:
    """A noisy disc on an almost black surround, as a fundus camera gives it; `level` dims the disc."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - centre[0], x - centre[1]) <= radius
    noise = np.random.default_rng(1).integers(0, 6, (height, width, 1))
    colour = level * np.array([190, 90, 40]) * (1 - 0.3 * (y / height))[..., None]
    return (np.where(inside[..., None], colour, 0) + noise).astype(np.uint8)


def bilinear(out: int, size: int) -> np.ndarray:
    """Weights [out, size] of a linear resize with half-pixel centres, entry by entry."""
    weights = np.zeros((out, size))
    for row in range(out):
        position = min(max((row + 0.5) * size / out - 0.5, 0), size - 1)
        below = int(position)
        above = min(below + 1, size - 1)
        weights[row, below] += 1 - (position - below)
        weights[row, above] += position - below
    return weights


def slow_resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    return bilinear(height, array.shape[-2]) @ array @ bilinear(width, array.shape[-1]).T


def disc(side: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return (np.hypot(y - centre[0], x - centre[1]) <= radius).astype(np.uint8)


# --- sam_med2d ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(6))
def test_sam_med2d_geometry_is_the_public_one(case):
    height, width = GOLDEN_SIZES[case]
    image = np.random.default_rng(50 + case).random((height, width, 3))
    mask = np.random.default_rng(70 + case).random((height, width)) > 0.5
    preprocessing = Preprocessing(256, "sam_med2d")
    frame = preprocessing.frame(image)
    sums = place(resize(image, frame, cv2.INTER_NEAREST), frame).transpose(2, 0, 1).sum(axis=2)
    np.testing.assert_allclose(sums, GOLDEN[f"t{case}_image_sum_rows"], rtol=1e-3)
    assert np.array_equal(np.packbits(preprocessing.mask(mask, frame)), GOLDEN[f"t{case}_mask"])


@pytest.mark.parametrize(("height", "width"), [(20, 40), (64, 20), (100, 30)])
def test_sam_med2d_image_is_normalised_before_it_is_placed(height, width):
    picture = bright(height, width)
    preprocessing = Preprocessing(64, "sam_med2d")
    frame = preprocessing.frame(picture)
    placed = preprocessing.image(picture, frame)
    assert placed.dtype == np.float32 and placed.shape == (3, 64, 64)
    inside = place(np.ones(frame.inner[2:], bool), frame)
    assert not placed[:, ~inside].any()
    rows = np.arange(frame.inner[2]) * height // frame.inner[2]
    columns = np.arange(frame.inner[3]) * width // frame.inner[3]
    expected = (picture[rows][:, columns] - np.array(PIXEL_MEAN)) / PIXEL_STD
    np.testing.assert_allclose(placed[:, inside].T, expected.reshape(-1, 3), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_bgr_is_the_reversed_channel_order(mode):
    picture = eye(90, 120, (45, 60), 40)
    rgb, bgr = (Preprocessing(64, mode, order) for order in ("rgb", "bgr"))
    frame = rgb.frame(picture)
    assert frame == bgr.frame(picture)  # the geometry always sees RGB
    np.testing.assert_array_equal(bgr.image(picture, frame), rgb.image(picture[..., ::-1], frame))
    assert not np.allclose(bgr.image(picture, frame), rgb.image(picture, frame))


@pytest.mark.parametrize("name", ["mode", "channel_order", "mask_prompt", "pixel_scale"])
def test_unknown_choice_is_named(name):
    with pytest.raises(ValueError, match=f"{name}='sideways' is unknown"):
        Preprocessing(256, **{name: "sideways"})


def test_preprocessing_survives_its_dictionary():
    for scale in ("sam", "unit"):
        preprocessing = Preprocessing(512, "sam_med2d", "bgr", "logits", scale)
        assert Preprocessing(**preprocessing.as_dict()) == preprocessing
    assert "pixel_scale" not in Preprocessing(512).as_dict(), "files are as before where nothing is special"


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("mode", MODES)
def test_unit_is_0_to_1_of_each_picture(mode, order):
    """As MedSAM prepares a picture of the input's size: all channels by one lowest and one highest number."""
    picture = np.random.default_rng(5).integers(20, 181, (64, 64, 3)).astype(np.uint8)
    picture[3, 4] = 20, 40, 60
    picture[5, 6] = 180, 90, 30
    preprocessing = Preprocessing(64, mode, order, pixel_scale="unit")
    found = preprocessing.image(picture, preprocessing.frame(picture))
    expected = ((picture - 20.0) / 160)[..., :: 1 if order == "rgb" else -1].transpose(2, 0, 1)
    assert found.dtype == np.float32 and (found.min(), found.max()) == (0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_unit_of_one_colour_and_beside_the_picture_is_0(mode):
    preprocessing = Preprocessing(64, mode, pixel_scale="unit")
    for picture in (np.full((30, 20, 3), 77, np.uint8), eye(60, 90, (30, 40), 25)):
        found = preprocessing.image(picture, frame := preprocessing.frame(picture))
        assert np.isfinite(found).all() and found.min() == 0 and found.max() <= 1
        assert not found[:, ~place(np.ones(frame.inner[2:], bool), frame)].any()


# --- points, boxes, logits ------------------------------------------------------------------------------------


def assert_round_trip(height: int, width: int, mode: str, size: int, seed: int) -> None:
    """Points and boxes return exactly, and lie where the pixels themselves go (within one pixel)."""
    rng = np.random.default_rng(seed)
    preprocessing = Preprocessing(size, mode)
    frame = preprocessing.frame(bright(height, width))
    points = rng.uniform(-0.5, 1, (7, 2)) * (width, height)
    boxes = rng.uniform(0, 1, (2, 3, 4)) * (width, height, width, height)
    np.testing.assert_allclose(frame.points_to_original(frame.points_to_model(points)), points, atol=1e-6)
    np.testing.assert_allclose(frame.boxes_to_original(frame.boxes_to_model(boxes)), boxes, atol=1e-6)
    y0, y1 = sorted(rng.integers(0, height + 1, 2))
    x0, x1 = sorted(rng.integers(0, width + 1, 2))
    mapped = frame.boxes_to_model(np.array([x0, y0, x1, y1]))
    if (mapped[2:] - mapped[:2] >= 1).all() and y1 > y0 and x1 > x0:
        block = np.zeros((height, width), np.uint8)
        block[y0:y1, x0:x1] = 1
        found = np.array(bounding_box(preprocessing.mask(block, frame)))
        assert np.abs(found - mapped).max() <= 1
        middle = (found[:2] + found[2:] - 1) / 2
        assert np.abs(frame.points_to_model([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2]) - middle).max() <= 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), GOLDEN_SIZES)
def test_points_and_boxes_of_the_golden_sizes(height, width, mode):
    for seed in range(5):
        assert_round_trip(height, width, mode, 256, seed)


@given(height=sides, width=sides, mode=modes, size=sizes, seed=seeds)
def test_points_and_boxes_of_any_size(height, width, mode, size, seed):
    assert_round_trip(height, width, mode, size, seed)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 180, (10 + 38, 20 + 78)),  # padded: moved by half the free space
        (512, 400, (10.5 * 256 / 400 - 0.5, 20.5 / 2 - 0.5)),  # stretched: pixel centres are scaled
    ],
)
def test_point_by_hand(height, width, expected):
    frame = Preprocessing(256, "sam_med2d").frame(bright(height, width))
    np.testing.assert_allclose(frame.points_to_model([10, 20]), expected)


@given(data=st.data(), mode=st.sampled_from(MODES), size=st.sampled_from([16, 24]), low=st.sampled_from([4, 8, 16, 24]))
def test_logits_return_as_in_the_slow_formulation(data, mode, size, low):
    height, width = data.draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    frame = Preprocessing(size, mode).frame(bright(height, width))
    if data.draw(st.booleans()):  # a crop inside a larger photograph
        margin = data.draw(st.tuples(*[st.integers(0, 9)] * 4))
        top, left, bottom, right = margin
        original = (height + top + bottom, width + left + right)
        frame = Frame(size, original, (top, left, top + height, left + width), frame.inner)
    logits = np.random.default_rng(height * 51 + width).standard_normal((2, 3, low, low))
    top, left, inner_height, inner_width = frame.inner
    cut = slow_resize(logits, size, size)[..., top : top + inner_height, left : left + inner_width]
    expected = np.full((2, 3, *frame.original), OUTSIDE_LOGIT)
    expected[..., frame.crop[0] : frame.crop[2], frame.crop[1] : frame.crop[3]] = slow_resize(cut, *frame.crop_size)
    found = frame.logits_to_original(torch.from_numpy(logits))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_mask_there_and_back(mode):
    picture = eye(300, 420, (150, 200), 140)
    preprocessing = Preprocessing(256, mode)
    frame = preprocessing.frame(picture)
    truth = np.hypot(*np.ogrid[-120:180, -180:240]) <= 60
    logits = torch.from_numpy(preprocessing.mask(truth, frame) * 20.0 - 10)[None, None]
    back = frame.logits_to_original(logits)[0, 0].numpy() > 0
    assert back.shape == truth.shape
    assert (back & truth).sum() / (back | truth).sum() > 0.95


# --- fundus ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [(300, 400), (260, 330)])
@pytest.mark.parametrize("level", [1.0, 0.15])
def test_fundus_crops_to_the_field_of_view_and_pads_to_a_square(centre, level):
    picture = eye(600, 800, centre, 250, level)
    top, left, bottom, right = find_field_of_view(picture).box
    expected = (centre[0] - 250, centre[1] - 250, centre[0] + 251, centre[1] + 251)
    assert np.abs(np.subtract((top, left, bottom, right), expected)).max() <= 16  # 3 % of the diameter
    cut = eye(600, 800, centre, 250, level)[:, 200:]  # a strip of the circle lies outside the picture
    preprocessing = Preprocessing(128)
    frame = preprocessing.frame(cut)
    height, width = frame.crop_size
    assert height > width and frame.inner[2] == 128
    assert frame.inner[3] == pytest.approx(128 * width / height, abs=0.5)
    assert abs(2 * frame.inner[1] + frame.inner[3] - 128) <= 1  # centred
    surround = preprocessing.image(cut, frame)[:, :, : frame.inner[1]]
    assert np.allclose(surround, normalise(np.zeros(3)).reshape(3, 1, 1))  # black, as the photograph's own


@pytest.mark.parametrize("level", [1.0, 0.12])
def test_field_of_view_cut_at_top_and_bottom(level):
    top, left, bottom, right = find_field_of_view(eye(400, 800, (200, 400), 300, level)).box
    assert (top, bottom) == (0, 400)
    assert abs(left - 100) <= 12 and abs(right - 701) <= 12


@pytest.mark.parametrize(
    "picture",
    [np.zeros((240, 320, 3), np.uint8), eye(240, 320, (0, 0), 0), bright(200, 300), eye(300, 300, (150, 150), 20)],
    ids=["black", "noise", "bright", "speck"],
)
def test_field_of_view_falls_back_to_the_whole_picture(picture):
    assert find_field_of_view(picture).box == (0, 0, *picture.shape[:2])


@given(height=st.integers(1, 40), width=st.integers(1, 40), level=st.integers(0, 255))
def test_field_of_view_of_tiny_pictures_is_inside_them(height, width, level):
    picture = np.full((height, width, 3), level, np.uint8)
    top, left, bottom, right = find_field_of_view(picture).box
    assert 0 <= top < bottom <= height and 0 <= left < right <= width


def test_dust_on_the_surround_does_not_widen_the_field_of_view():
    picture = eye(600, 800, (300, 400), 250)
    clean = find_field_of_view(picture).box
    picture[10:30, 10:30] = 200
    assert find_field_of_view(picture).box == clean
    picture[296:307, 40:200] = 200  # a notch mark that sticks out of the circle
    assert np.abs(np.subtract(find_field_of_view(picture).box, clean)).max() <= 8


def test_fundus_averages_down_and_interpolates_up():
    preprocessing = Preprocessing(64)
    large, small = bright(192, 192), bright(32, 32)
    down = preprocessing.image(large, preprocessing.frame(large))
    blocks = large.reshape(64, 3, 64, 3, 3).mean((1, 3))
    up = preprocessing.image(small, preprocessing.frame(small))
    between = slow_resize(small.transpose(2, 0, 1).astype(float), 64, 64)
    for found, expected in ((down, blocks.transpose(2, 0, 1)), (up, between)):
        pixels = found * np.reshape(PIXEL_STD, (3, 1, 1)) + np.reshape(PIXEL_MEAN, (3, 1, 1))
        assert np.abs(pixels - expected).max() <= 1


# --- small and thin structures --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [256, 128])
@pytest.mark.parametrize("corner", [(1000, 1000), (703, 1201), (1402, 650)])
def test_three_pixel_lesion_survives(corner, size):
    preprocessing = Preprocessing(size)
    frame = preprocessing.frame(eye(2000, 2000, (1000, 1000), 900))
    mask = np.zeros((2000, 2000), np.uint8)
    mask[corner[0], corner[1] : corner[1] + 3] = 255
    small = preprocessing.mask(mask, frame)
    assert 1 <= small.sum() <= 2 and small.dtype == np.uint8
    y, x = np.argwhere(small)[0]
    assert np.abs(frame.points_to_model([corner[1] + 1, corner[0]]) - (x, y)).max() <= 1


def overlap(index: int, size: int, out: int) -> slice:
    """The pixels of a row resized from `size` to `out` that pixel `index` reaches into."""
    return slice(index * out // size, -(-(index + 1) * out // size))


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    out=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    density=st.sampled_from([0.01, 0.1, 0.4, 0.9]),
    seed=st.integers(0, 10**6),
)
def test_every_component_keeps_a_pixel(shape, out, density, seed):
    mask = (np.random.default_rng(seed).random(shape) < density).astype(np.uint8)
    small = resize_mask(mask, out)
    assert small.shape == out and small.dtype == np.uint8 and set(np.unique(small)) <= {0, 1}
    assert small.any() == mask.any()
    labels, count = ndimage.label(mask, EIGHT)
    for label in range(1, count + 1):
        pixels = np.argwhere(labels == label)
        places = [(overlap(y, shape[0], out[0]), overlap(x, shape[1], out[1])) for y, x in pixels]
        assert any(small[place].any() for place in places), f"component {label} of {count} is lost"


def test_a_lost_ring_keeps_a_pixel_of_its_own():
    ring = disc(320, (160, 160), 100) - disc(320, (160, 160), 99)
    ys, xs = np.nonzero(resize_mask(ring, (16, 16)))
    assert len(ys) and all(np.hypot(20 * y + 10 - 160, 20 * x + 10 - 160) > 70 for y, x in zip(ys, xs, strict=True))


@given(
    centre=st.tuples(st.floats(150, 350), st.floats(150, 350)),
    radius=st.floats(20, 140),
    out=st.integers(64, 700),
)
def test_discs_keep_their_area(centre, radius, out):
    mask = disc(500, centre, radius)
    area = resize_mask(mask, (out, out)).sum() * (500 / out) ** 2
    ties = 8 * (500 / out) ** 2  # mirror images of a pixel are kept or dropped together
    assert area == pytest.approx(mask.sum(), abs=0.03 * mask.sum() + ties)


@given(density=st.floats(0.001, 0.6), blob=st.sampled_from([1, 4]), out=st.integers(10, 79), seed=st.integers(0, 999))
def test_speckle_keeps_its_area_within_bounds(density, blob, out, seed):
    seeds = np.random.default_rng(seed).random((80 // blob, 80 // blob)) < density
    mask = np.kron(seeds, np.ones((blob, blob))).astype(np.uint8)
    area = resize_mask(mask, (out, out)).sum()
    target = mask.sum() * (out / 80) ** 2
    components = ndimage.label(mask, EIGHT)[1]
    assert target / 4 <= area + 1 and area <= 2 * target + components + 1


@pytest.mark.parametrize(("width", "share"), [(2, 0.75), (3, 0.9), (5, 0.97), (8, 0.99)])  # 0.5 to 2 model pixels
@pytest.mark.parametrize("slope", [0.0, 0.37, 1.0])
def test_thin_vessels_survive(width, share, slope):
    x = np.arange(1000)
    middle = 100 + slope * x * 0.8 + 30 * np.sin(x / 90)
    distance = np.abs(np.arange(1000)[:, None] - middle) / np.hypot(1, np.gradient(middle))
    mask = (distance <= width / 2).astype(np.uint8)
    small = resize_mask(mask, (256, 256))
    reached = cv2.dilate(small, np.ones((3, 3), np.uint8)).any(axis=0).mean()
    half = cv2.resize(mask.astype(np.float32), (256, 256), interpolation=cv2.INTER_AREA) >= 0.5
    assert reached >= share
    assert small.sum() >= half.sum()
    assert small.sum() * (1000 / 256) ** 2 == pytest.approx(mask.sum(), rel=0.1)


def test_empty_and_unchanged_masks():
    mask = disc(30, (10, 12), 5)
    assert np.array_equal(resize_mask(mask, (30, 30)), mask)
    assert not resize_mask(np.zeros((30, 30), np.uint8), (7, 9)).any()


# --- windows --------------------------------------------------------------------------------------------------


@given(st.integers(40, 900), st.integers(40, 900), st.data())
def test_a_window_holds_its_box_and_lies_in_the_photograph(height, width, data):
    frame = Frame(64, (height, width), (0, 0, height, width), (0, 0, 64, 64))
    x0, x1 = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2)))
    y0, y1 = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2)))
    window = window_around(frame, (x0, y0, x1, y1))
    top, left, bottom, right = window.crop
    assert 0 <= top <= y0 <= y1 <= bottom <= height and 0 <= left <= x0 <= x1 <= right <= width
    if window != frame:
        assert bottom - top == right - left >= 16 and bottom - top < min(height, width)
        assert window.inner == (0, 0, 64, 64)
        centre = np.array([[(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2]])
        np.testing.assert_allclose(window.points_to_original(window.points_to_model(centre)), centre, atol=1e-9)


@given(seed=seeds, share=st.floats(0, 1), side=st.integers(1, 60))
def test_the_level_is_that_of_the_largest_pixels(seed, share, side):
    """As sorting all pixels gives it, black ones too."""
    rng = np.random.default_rng(seed)
    coverage = (rng.random((side, side)) * (rng.random((side, side)) < share)).astype(np.float32)
    keep = max(1, round(float(coverage.sum())))
    level = np.clip(np.sort(coverage, axis=None)[-keep], 0.2, 0.5)
    assert np.array_equal(coverage >= _level(coverage), coverage >= level)
