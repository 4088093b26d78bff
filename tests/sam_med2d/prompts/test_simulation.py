"""Boxes and clicks drawn from masks: labels, uniformity, boxes as in scikit-image, streams of their own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage.measure import label as sk_label
from skimage.measure import regionprops

from sam_med2d.prompts.simulation import (
    append_points,
    box_points,
    error_points,
    first_points,
    jitter_boxes,
    pad_points,
    sample_points,
    uniform,
)
from segment_anything.utils.masks import bounding_box, largest_component

masks = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_masks(count: int, height: int, width: int, seed: int = 0, density: float = 0.3) -> torch.Tensor:
    return torch.rand(count, height, width, generator=generator(seed)) < density


def values_at(mask: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
    """mask [N, H, W] at integer x, y [N, P, 2], pixel by pixel."""
    return torch.tensor([[mask[n, int(y), int(x)] for x, y in points] for n, points in enumerate(coords)])


# --- clicks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (2, [1, 0]), (3, [1, 0, 0]), (5, [1, 1, 0, 0, 0])])
@pytest.mark.parametrize("shape", [(64, 64), (17, 300), (200, 3)])
def test_first_points_have_the_label_of_their_pixel(shape, count, expected):
    mask = random_masks(6, *shape)
    coords, labels = first_points(mask, count, generator())
    assert coords.shape == (6, count, 2) and coords.dtype == torch.float32
    assert labels.tolist() == [expected] * 6
    assert torch.equal(values_at(mask, coords), labels.bool())


@pytest.mark.parametrize("shape", [(64, 64), (17, 300), (200, 3)])
def test_error_points_lie_on_errors_and_tell_the_truth(shape):
    mask, predicted = random_masks(6, *shape, seed=1), random_masks(6, *shape, seed=2)
    coords, labels = error_points(predicted, mask, 40, generator())
    assert (values_at(mask, coords) != values_at(predicted, coords)).all()
    assert torch.equal(values_at(mask, coords), labels.bool()) and len(labels.unique()) == 2


@pytest.mark.parametrize(("truth", "predicted", "expected"), [(1, 0, 1), (0, 1, 0), (1, 1, -1), (0, 0, -1)])
def test_error_labels_by_hand(truth, predicted, expected):
    pair = (torch.full((2, 9, 5), bool(value)) for value in (predicted, truth))
    coords, labels = error_points(*pair, 3, generator())
    assert (labels == expected).all() and labels.shape == (2, 3)
    if expected == -1:
        assert not coords.any()


def test_rows_without_a_place_are_marked_and_do_not_touch_the_others():
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[1, 2, 5] = mask[2] = True
    coords, labels = first_points(mask, 4, generator())
    assert labels.tolist() == [[-1, -1, 0, 0], [1, 1, 0, 0], [1, 1, -1, -1]]
    assert coords[1, :2].tolist() == [[5, 2]] * 2 and not coords[0, :2].any()


@pytest.mark.parametrize("draw", [first_points, lambda m, n, g: error_points(torch.zeros_like(m), m, n, g)])
def test_points_are_uniform_over_the_region(draw):
    mask = torch.zeros(1, 9, 12, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 8, 11] = mask[0, 3:6, 2:8] = True  # the first and the last pixel count too
    draws = 8000
    coords, labels = draw(mask, draws, generator(3))
    x, y = coords[labels == 1].long().unbind(-1)
    frequency = torch.bincount(y * 12 + x, minlength=108)[mask.flatten()].double()
    expected = len(x) / 20
    chi_square = float(((frequency - expected) ** 2 / expected).sum())
    assert frequency.sum() == len(x) >= draws // 2
    assert 5 < chi_square < 44  # 19 degrees of freedom: 0.1 % to 99.9 %


@pytest.mark.parametrize("top", [0.0, 1 - 2**-24])
def test_extreme_random_numbers_stay_in_the_region(monkeypatch, top):
    mask = random_masks(2, 300, 300)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, top))
    coords, found = sample_points(mask, 1, generator())
    assert found.all() and values_at(mask, coords).all()


def test_a_stream_per_mask_makes_points_independent_of_the_batch():
    mask = random_masks(5, 40, 30)
    together = first_points(mask, 3, [generator(i) for i in range(5)])
    alone = [first_points(mask[i : i + 1], 3, [generator(i)]) for i in range(5)]
    backwards = first_points(mask.flip(0), 3, [generator(i) for i in reversed(range(5))])
    for part in range(2):
        assert torch.equal(together[part], torch.cat([points[part] for points in alone]))
        assert torch.equal(together[part], backwards[part].flip(0))


def test_one_stream_is_reproducible_and_moves_on():
    mask, shared = random_masks(4, 30, 30), generator(7)
    first, second = (first_points(mask, 2, shared)[0] for _ in range(2))
    assert torch.equal(first, first_points(mask, 2, generator(7))[0]) and not torch.equal(first, second)


def test_wrong_number_of_streams_is_told():
    with pytest.raises(ValueError, match="2 random streams for 3 masks"):
        uniform(3, 1, [generator(), generator()])


def test_padding_and_appending():
    points = (torch.ones(2, 1, 2), torch.ones(2, 1, dtype=torch.int64))
    coords, labels = append_points(points, pad_points(points))
    assert labels.tolist() == [[1, 1, -1]] * 2
    assert coords[:, 2].abs().sum() == 0 and (coords[:, :2] == 1).all()


# --- boxes ----------------------------------------------------------------------------------------------------


@given(mask=masks)
def test_box_of_the_largest_component_is_that_of_scikit_image(mask):
    regions = regionprops(sk_label(mask, connectivity=2))
    if not regions:
        assert not largest_component(mask).any()
        return
    best = max(regions, key=lambda region: region.area)  # of equal ones the first, in reading order
    component = largest_component(mask)
    assert np.array_equal(component, (sk_label(mask, connectivity=2) == best.label).astype(np.uint8))
    top, left, bottom, right = best.bbox
    assert bounding_box(component) == (left, top, right, bottom)


@given(mask=masks)
def test_box_is_tight_and_half_open(mask):
    if not mask.any():
        with pytest.raises(ValueError, match="empty mask"):
            bounding_box(mask)
        return
    x0, y0, x1, y1 = bounding_box(mask)
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum()
    assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 5), (3, 0)), ((0, 0), (3, 3)), ((1, 6), (2, 0))],  # top left of two equal components, in reading order
)
def test_of_equal_components_the_first_in_reading_order(first, second):
    mask = np.zeros((9, 9), np.uint8)
    for top, left in (first, second):
        mask[top : top + 2, left : left + 2] = 1
    assert bounding_box(largest_component(mask))[:2] == first[::-1]


def test_box_points_are_labelled_corners():
    coords, labels = box_points(torch.tensor([[1.0, 2, 7, 9], [0, 0, 0, 0], [3, 3, 3, 8]]))
    assert coords[0].tolist() == [[1, 2], [7, 9]]
    assert labels.tolist() == [[2, 3], [-1, -1], [-1, -1]]


# --- jitter ---------------------------------------------------------------------------------------------------


def test_jitter_moves_each_side_by_itself():
    boxes = torch.tensor([[100.0, 60, 180, 200]]).expand(4000, 4)
    offset = jitter_boxes(boxes, 256, generator()) - boxes
    reach = torch.tensor([8.0, 14, 8, 14])
    assert (offset.abs() <= reach).all() and torch.equal(offset.abs().amax(0), reach)
    assert (offset.mean(0).abs() < 0.05 * reach).all()
    correlation = torch.corrcoef(offset.T) - torch.eye(4)
    assert correlation.abs().max() < 0.06


@given(size=st.integers(1, 300), fraction=st.sampled_from([0.1, 0.5, 3.0]), seed=st.integers(0, 9999))
def test_jittered_boxes_stay_in_the_frame_and_keep_a_pixel(size, fraction, seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, size, (20, 2))
    high = rng.integers(low + 1, size + 1)
    boxes = torch.tensor(np.concatenate((low, high), 1), dtype=torch.float32)
    jittered = jitter_boxes(boxes, size, generator(seed), fraction=fraction)
    assert ((jittered >= 0) & (jittered <= size)).all() and torch.equal(jittered, jittered.round())
    assert (jittered[:, 2:] - jittered[:, :2] >= 1).all()


def test_jitter_of_a_small_box_reaches_a_pixel():
    boxes = torch.tensor([[10.0, 10, 12, 12]]).expand(500, 4)
    assert (jitter_boxes(boxes, 64, generator()) - boxes).abs().amax(0).tolist() == [1, 1, 1, 1]


def test_jitter_gives_a_mask_that_vanished_no_box():
    _, labels = box_points(jitter_boxes(torch.zeros(1, 4), 64, generator()))
    assert (labels == -1).all()
