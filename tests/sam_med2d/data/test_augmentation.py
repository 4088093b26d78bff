"""Augmentation: geometry, light and colour, and what it never does."""

from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_med2d.data.augmentation import Augmentation, cut_strip, zoom_window
from segment_anything.modeling.common import PIXEL_MEAN, PIXEL_STD
from segment_anything.preprocessing import Frame, Preprocessing, inside_square, normalise

SIZE = 64
MODES = [("fundus", "rgb"), ("fundus", "bgr"), ("sam_med2d", "rgb"), ("sam_med2d", "bgr")]


def augmentation_of(mode: str = "fundus", channel_order: str = "rgb") -> Augmentation:
    return Augmentation(Preprocessing(SIZE, mode, channel_order))


def model_image(pixels: np.ndarray, channel_order: str = "rgb") -> np.ndarray:
    """RGB uint8 [S, S, 3] -> normalised float32 [3, S, S], as `Preprocessing.image` makes it."""
    return normalise(pixels if channel_order == "rgb" else pixels[..., ::-1]).transpose(2, 0, 1).copy()


def rgb_of(image: np.ndarray, channel_order: str = "rgb") -> np.ndarray:
    pixels = image.transpose(1, 2, 0) * PIXEL_STD + PIXEL_MEAN
    return pixels if channel_order == "rgb" else pixels[..., ::-1]


def bright_disc() -> tuple[np.ndarray, np.ndarray]:
    """A grey image [3, S, S] with a bright disc off its centre and a mask [1, S, S] of the same."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(mask, (24, 38), 12, 1, -1)
    pixels = np.where(mask[..., None] > 0, 200, 90).astype(np.uint8)
    return model_image(np.repeat(pixels, 3, axis=-1)), mask[None]


def corner_mask() -> np.ndarray:
    corner = np.zeros((1, SIZE, SIZE), np.uint8)
    corner[0, :4, :4] = 1
    return corner


def eye(side: int = SIZE) -> np.ndarray:
    """An orange disc on black, with a bright spot: RGB uint8 [side, side, 3]."""
    pixels = np.zeros((side, side, 3), np.uint8)
    cv2.circle(pixels, (side // 2, side // 2), side * 3 // 8, (190, 90, 40), -1)
    cv2.circle(pixels, (side // 3, side // 2), side // 12, (230, 200, 110), -1)
    return pixels


# --- image and masks together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "channel_order"), MODES)
def test_image_and_mask_move_together(mode, channel_order):
    image, masks = bright_disc()
    augment, centres = augmentation_of(mode, channel_order), []
    for seed in range(60):
        changed, new_masks, kept = augment(image, masks, np.random.default_rng(seed))
        assert changed.dtype == np.float32 and changed.shape == image.shape and kept.tolist() == [0]
        assert new_masks.dtype == np.uint8 and set(np.unique(new_masks)) <= {0, 1}
        inside, around = changed[1][new_masks[0] > 0], changed[1][cv2.dilate(new_masks[0], np.ones((5, 5))) == 0]
        level = (np.median(inside) + np.median(around)) / 2
        seen = changed[1] > level
        seen &= cv2.dilate(new_masks[0], np.ones((7, 7))) > 0  # uneven light may brighten another part
        overlap = (seen & (new_masks[0] > 0)).sum() / (seen | (new_masks[0] > 0)).sum()
        assert overlap > 0.9, f"seed {seed}: IoU of picture and mask {overlap:.2f}"
        centres.append(np.argwhere(new_masks[0]).mean(0))
    assert np.ptp(centres, axis=0).min() > 15, "the disc must move"


def test_transforms_are_drawn_independently():
    """Each of the four combinations of the two flips comes about as often: no seed is shared."""
    image, _ = bright_disc()
    quadrants = np.zeros((4, SIZE, SIZE), np.uint8)
    half = SIZE // 2
    for k, (top, left) in enumerate([(0, 0), (0, half), (half, 0), (half, half)]):
        quadrants[k, top + 12 : top + 20, left + 12 : left + 20] = 1
    places: Counter[int] = Counter()
    still, times = 0, 400
    augment = augmentation_of()
    for seed in range(times):
        changed, masks, _ = augment(image, quadrants, np.random.default_rng(seed))
        still += np.array_equal(changed, image)
        y, x = np.argwhere(masks[0]).mean(0)
        places[2 * int(y > half) + int(x > half)] += 1
    assert min(places.values()) > 0.18 * times and max(places.values()) < 0.32 * times, places
    assert still < 0.01 * times, "rarely is nothing changed"


def test_discs_stay_round():
    """Scale is the same in both directions: a cup-to-disc ratio means something afterwards too."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(mask, (32, 32), 11, 1, -1)
    image, _ = bright_disc()
    for seed in range(40):
        _, masks, _ = augmentation_of()(image, mask[None], np.random.default_rng(seed))
        height, width = np.ptp(np.argwhere(masks[0]), axis=0) + 1
        assert abs(int(height) - int(width)) <= 2, f"seed {seed}: {height} x {width}"


def test_masks_that_left_the_frame_are_dropped():
    image, disc = bright_disc()
    masks = np.concatenate([corner_mask(), disc])
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(40):
        _, new_masks, kept = augmentation_of()(image, masks, np.random.default_rng(seed))
        assert len(new_masks) == len(kept) and new_masks.any((1, 2)).all()
        counts[tuple(kept.tolist())] += 1
    assert set(counts) == {(0, 1), (1,)}


def test_an_image_never_stays_without_masks():
    image, _ = bright_disc()
    corner = corner_mask()
    unchanged = 0
    for seed in range(40):
        changed, new_masks, kept = augmentation_of()(image, corner, np.random.default_rng(seed))
        assert kept.tolist() == [0] and new_masks.any()
        unchanged += changed is image and new_masks is corner
    assert 0 < unchanged < 40


@pytest.mark.parametrize(("mode", "channel_order"), MODES)
def test_the_generator_alone_decides(mode, channel_order):
    image, masks = model_image(eye()), bright_disc()[1]
    one, other, third = (
        augmentation_of(mode, channel_order)(image, masks, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0], third[0])
    augment = augmentation_of(mode, channel_order)
    augment(image, masks, np.random.default_rng(9))
    assert np.array_equal(augment(image, masks, np.random.default_rng(3))[0], one[0]), "earlier calls have no say"


# --- light and colour ---------------------------------------------------------------------------------------------


def test_the_surround_of_a_photograph_stays_black():
    """In the fundus mode black pixels, and those that rotation brings in, are exactly black."""
    pixels = eye()
    image, masks = model_image(pixels), (pixels.max(-1) > 0).astype(np.uint8)[None]
    for seed in range(60):
        changed, new_masks, _ = augmentation_of()(image, masks, np.random.default_rng(seed))
        outside = cv2.dilate(new_masks[0], np.ones((3, 3))) == 0
        assert np.array_equal(changed[:, outside], np.broadcast_to(model_image(pixels)[:, :1, 0], (3, outside.sum())))


def test_the_padding_of_sam_med2d_stays_the_mean_colour():
    small = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    preprocessing = Preprocessing(SIZE, "sam_med2d", "bgr")
    frame = preprocessing.frame(small)
    image = preprocessing.image(small, frame)
    masks = preprocessing.mask(np.ones((40, 50), np.uint8), frame)[None]
    for seed in range(60):
        changed, new_masks, _ = Augmentation(preprocessing)(image, masks, np.random.default_rng(seed))
        assert (changed[:, new_masks[0] == 0] == 0).all() and changed.any()


def test_the_pixel_scale_has_no_say():
    pixels, masks = eye(), (eye().max(-1) > 0).astype(np.uint8)[None]
    pixels[:2] = 255  # so that 0..1 is 0..255
    unit = Augmentation(Preprocessing(SIZE, pixel_scale="unit"))
    for seed in range(5):
        expected = augmentation_of()(model_image(pixels), masks, np.random.default_rng(seed))[0]
        image = normalise(pixels, "unit").transpose(2, 0, 1)
        found = unit(image, masks, np.random.default_rng(seed))[0].transpose(1, 2, 0) * 255
        np.testing.assert_allclose(found, rgb_of(expected), atol=0.01)


@pytest.mark.parametrize("channel_order", ["rgb", "bgr"])
def test_colours_stay_those_of_a_fundus(channel_order):
    """Red over green over blue in every picture, other exposure in most, and in both channel orders alike."""
    image, masks = model_image(eye(), channel_order), (eye().max(-1) > 0).astype(np.uint8)[None]
    reds = []
    for seed in range(60):
        changed, new_masks, _ = augmentation_of("fundus", channel_order)(image, masks, np.random.default_rng(seed))
        red, green, blue = np.median(rgb_of(changed, channel_order)[new_masks[0] > 0], axis=0)
        assert 255.5 > red > 1.4 * green and green > 1.3 * blue > 0, f"seed {seed}: {red} {green} {blue}"
        reds.append(red)
    assert np.ptp(reds) > 60


def test_rgb_and_bgr_are_augmented_alike():
    pixels, masks = eye(), bright_disc()[1]
    rgb, bgr = (
        rgb_of(augmentation_of("fundus", order)(model_image(pixels, order), masks, np.random.default_rng(5))[0], order)
        for order in ("rgb", "bgr")
    )
    assert np.abs(rgb - bgr).max() < 1e-3


# --- the closer view ----------------------------------------------------------------------------------------------


@given(st.integers(20, 300), st.integers(20, 300), st.integers(0, 10**6), st.data())
def test_a_window_is_square_inside_the_used_part_and_shows_the_pixel(height, width, seed, data):
    top, left = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    frame = Frame(SIZE, (height + 20, width + 20), (top, left, top + height, left + width), (0, 0, SIZE, SIZE))
    mask = np.zeros(frame.original, np.uint8)
    y, x = top + data.draw(st.integers(0, height - 1)), left + data.draw(st.integers(0, width - 1))
    mask[y, x] = 1
    window = zoom_window(frame, mask, np.random.default_rng(seed))
    y0, x0, y1, x1 = window.crop
    assert top <= y0 <= y < y1 <= top + height and left <= x0 <= x < x1 <= left + width
    assert y1 - y0 == x1 - x0
    assert 0.2 * min(height, width) - 1 < y1 - y0 < 0.9 * min(height, width) + 1
    assert window.inner == (0, 0, SIZE, SIZE) and window.original == frame.original


@given(st.integers(20, 300), st.integers(20, 300), st.integers(0, 10**6), st.data())
def test_a_strip_reaches_three_sides_and_shows_the_pixel(height, width, seed, data):
    frame = Frame(SIZE, (height + 20, width + 20), (5, 7, 5 + height, 7 + width), (0, 0, SIZE, SIZE))
    mask = np.zeros(frame.original, np.uint8)
    y, x = 5 + data.draw(st.integers(0, height - 1)), 7 + data.draw(st.integers(0, width - 1))
    mask[y, x] = 1
    strip = cut_strip(frame, mask, np.random.default_rng(seed))
    y0, x0, y1, x1 = strip.crop
    assert 5 <= y0 <= y < y1 <= 5 + height and 7 <= x0 <= x < x1 <= 7 + width
    assert sum(a != b for a, b in zip(strip.crop, frame.crop, strict=True)) == 1
    assert min((y1 - y0) / height, (x1 - x0) / width) > 0.35
    assert strip.inner == inside_square(SIZE, y1 - y0, x1 - x0)


def test_the_strong_augmentation_shows_strips_and_parts_of_photographs_without_a_mask():
    preprocessing = Preprocessing(SIZE)
    frame = preprocessing.frame(np.full((200, 200, 3), (200, 120, 60), np.uint8))
    standard, strong = Augmentation(preprocessing), Augmentation(preprocessing, "strong")
    frames = [strong.zoom(frame, [], np.random.default_rng(seed)) for seed in range(200)]
    strips = [found for found in frames if len(set(found.crop_size)) == 2]
    assert 10 < len(strips) < 45 and 70 < sum(found is not frame for found in frames) - len(strips) < 110
    assert all(standard.zoom(frame, [], np.random.default_rng(seed)) is frame for seed in range(20))


def test_the_strong_augmentation_changes_colours_more_and_keeps_the_surround_black():
    image = Preprocessing(SIZE).image(eye(200), Preprocessing(SIZE).frame(eye(200)))
    changes = []
    for strength in ("standard", "strong"):
        augment = Augmentation(Preprocessing(SIZE), strength)
        runs = [augment(image, np.ones((1, SIZE, SIZE), np.uint8), np.random.default_rng(i))[0] for i in range(40)]
        changes.append(np.mean([np.abs(run.mean((1, 2)) - image.mean((1, 2))).mean() for run in runs]))
        corners = np.array([run[:, :3, :3] for run in runs])
        surround = image[:, 0, 0]
        assert np.mean(np.abs(corners - surround[:, None, None]).max((1, 2, 3)) < 1e-3) > 0.8
    assert changes[1] > 1.3 * changes[0]


def test_a_mask_outside_the_used_part_gives_no_window():
    frame = Frame(SIZE, (100, 100), (20, 20, 80, 80), (0, 0, SIZE, SIZE))
    mask = np.zeros((100, 100), np.uint8)
    mask[5, 5] = 1
    assert zoom_window(frame, mask, np.random.default_rng(0)) is frame


def test_some_photographs_are_shown_from_nearer_and_with_more_detail():
    """A window of the photograph is resized, not the model frame: lines that the whole view blurs are seen."""
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[:, ::4] = pixels[:, 1::4] = (200, 120, 60)
    preprocessing = Preprocessing(SIZE)
    frame, mask = preprocessing.frame(pixels), np.ones((512, 512), np.uint8)
    augment = Augmentation(preprocessing)
    frames = [augment.zoom(frame, [mask], np.random.default_rng(seed)) for seed in range(300)]
    windows = [window for window in frames if window is not frame]
    assert 100 < len(windows) < 170
    nearest = min(windows, key=lambda window: window.crop_size)
    whole, near = (np.ptp(preprocessing.image(pixels, f)[0]) for f in (frame, nearest))
    assert nearest.crop_size < (256, 256) and near > 1.5 * max(whole, 0.1)


def test_sam_med2d_always_shows_the_whole_photograph():
    preprocessing = Preprocessing(SIZE, "sam_med2d")
    frame, mask = preprocessing.frame(eye(128)), np.ones((128, 128), np.uint8)
    zoom = Augmentation(preprocessing).zoom
    assert all(zoom(frame, [mask], np.random.default_rng(seed)) is frame for seed in range(50))
