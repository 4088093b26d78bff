"""Masks of vessels that lie a pixel beside them are found, in a whole set and alone."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.records import load_index
from sam_med2d.data.synthetic_fundus import synthetic_fundus
from sam_med2d.dataset_checks.pixel_shift import LARGEST, REACH, find_pixel_shifts, vessel_shift


@cache
def eye(seed: int) -> tuple[np.ndarray, np.ndarray]:
    image, masks = synthetic_fundus(height=240, width=256, seed=seed)
    return image, masks["vessel"].astype(np.uint8)


def moved(mask: np.ndarray, right: int, down: int) -> np.ndarray:
    return cv2.warpAffine(mask, np.float32([[1, 0, right], [0, 1, down]]), mask.shape[::-1], flags=cv2.INTER_NEAREST)


def test_a_shift_is_measured_to_a_part_of_a_pixel():
    image, mask = eye(0)
    for right, down in ((0, 0), (1, 0), (0, -1), (-2, 1)):
        assert vessel_shift(image, moved(mask, right, down)) == pytest.approx((-down, -right), abs=0.3)
    assert np.abs(vessel_shift(image, moved(mask, 9, 0))).max() <= REACH


def test_what_cannot_be_measured_is_left_out():
    image, mask = eye(0)
    assert vessel_shift(image, mask * 0) is None
    assert vessel_shift(np.full_like(image, 90), mask) is None
    assert vessel_shift(*(np.zeros((LARGEST + 1, 9, *more), np.uint8) for more in ((3,), ()))) is None


def messages(shifts: list[tuple[float, float]]) -> list[str]:
    found = find_pixel_shifts([(Path(f"{i}.png"), shift) for i, shift in enumerate(shifts)])
    return [finding.message for finding in found if finding.warning]


def test_a_set_is_judged_by_its_median_and_a_mask_by_its_set():
    sound = [(0.1, 0.0), (0.0, 0.1), (-0.1, 0.1)] * 4
    assert messages(sound) == [] == messages([(1.0, 1.0)] * 2)
    assert messages([*sound, (0.0, -1.1)]) == [
        "12.png lies 1.1 pixels too far to the right, unlike the others of its set: look at it, move it if so"
    ]
    assert messages([(0.9, 1.0)] * 3) == [
        "0.png and 2 more masks of vessels lie 0.9 pixels too far up and 1.0 pixels too far to the left: move them, or "
        "draw again"
    ]


@pytest.mark.slow
@pytest.mark.photographs
def test_real_masks_that_are_moved_by_a_pixel_are_found(fundus):
    """All of a set, and nearly all that are alone in it."""
    plain, shifted = {}, {}
    for record in load_index(fundus, "train"):
        for i in record.of("vessel"):
            if len(plain.setdefault(record.data_set, [])) < 12:
                path = record.masks[i].path
                image, mask = read_image(record.image), read_mask(path)
                moves = vessel_shift(image, mask), vessel_shift(image, moved(mask, 1, 1))
                if None not in moves:
                    plain[record.data_set].append((path, moves[0]))
                    shifted.setdefault(record.data_set, []).append((path, moves[1]))
    plain = {data_set: shifts for data_set, shifts in plain.items() if shifts}
    assert sum(map(len, plain.values())) >= 80
    for data_set in plain:
        assert not [one for one in find_pixel_shifts(plain[data_set]) if len(one.files) > 1], data_set
        assert [one for one in find_pixel_shifts(shifted[data_set]) if len(one.files) > 1], data_set
    alone = [
        any(one.files == (str(path),) for one in find_pixel_shifts([*own[:i], (path, shift), *own[i + 1 :]]))
        for data_set, own in plain.items()
        for i, (path, shift) in enumerate(shifted[data_set])
    ]
    assert np.mean(alone) >= 0.95
