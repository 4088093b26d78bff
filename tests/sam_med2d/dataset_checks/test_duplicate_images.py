"""Two copies of one photograph are told from two photographs."""

import itertools

import cv2
import numpy as np
import pytest

from sam_med2d.dataset_checks import duplicate_images
from sam_med2d.dataset_checks.duplicate_images import BLOCK, candidates, compare, thumbnails
from tests.helpers.photographs import texture

SIDE = 256


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def widened(picture: np.ndarray) -> np.ndarray:
    """More of the dark surround at the left and the right: the same photograph, cut differently."""
    return cv2.copyMakeBorder(picture, 0, 0, 40, 30, cv2.BORDER_CONSTANT)


COPIES = {
    "smaller": lambda p: cv2.resize(p, (154, 154), interpolation=cv2.INTER_AREA),
    "larger": lambda p: cv2.resize(p, (400, 400), interpolation=cv2.INTER_CUBIC),
    "recompressed": lambda p: jpeg(p, 40),
    "both": lambda p: jpeg(cv2.resize(p, (180, 180), interpolation=cv2.INTER_AREA), 50),
    "brighter": lambda p: cv2.convertScaleAbs(p, alpha=1.08, beta=6),
    "darker": lambda p: cv2.convertScaleAbs(p, alpha=0.85),
    "widened": widened,
}


def moved(picture: np.ndarray, share: float) -> np.ndarray:
    """The retina moved below a field of view that stays, as in another photograph of the eye."""
    shift = np.float32([[1, 0, share * SIDE], [0, 1, 0]])
    retina = cv2.warpAffine(picture, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    return np.where(texture(0, SIDE) > 0, np.maximum(retina, 40), 0).astype(np.uint8)


def is_candidate(a: np.ndarray, b: np.ndarray) -> bool:
    return candidates(np.stack([thumbnails(a), thumbnails(b)])) == {(0, 1)}


@pytest.mark.parametrize("change", COPIES)
@pytest.mark.parametrize("seed", range(4))
def test_a_copy_is_found(change, seed):
    photograph = texture(seed, SIDE)
    copy = COPIES[change](photograph)
    assert is_candidate(photograph, copy) and is_candidate(copy, photograph)
    assert compare(photograph, copy).is_duplicate and compare(copy, photograph).is_duplicate


def test_other_photographs_are_no_copies():
    photographs = [texture(seed, SIDE) for seed in range(12)]
    assert not candidates(np.stack([thumbnails(p) for p in photographs]))
    for a, b in itertools.combinations(photographs[:6], 2):
        assert not compare(a, b).is_duplicate and not compare(a, b).same_eye


@pytest.mark.parametrize("share", [0.015, 0.02])
def test_another_photograph_of_an_eye_is_no_copy(share):
    for seed in range(3):
        photograph = texture(seed, SIDE)
        similarity = compare(photograph, moved(photograph, share))
        assert similarity.same_eye and not similarity.is_duplicate
        assert similarity.moved == pytest.approx(share, abs=0.006)


def test_a_mirrored_photograph_is_no_copy():
    photograph = texture(1, SIDE)
    assert not compare(photograph, np.ascontiguousarray(photograph[:, ::-1])).is_duplicate


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (64, 64)])
def test_pictures_without_content_are_like_nothing(shape):
    plain = np.full((*shape, 3), 70, np.uint8)
    assert not thumbnails(plain).any()
    assert not compare(plain, texture(0, SIDE)).is_duplicate and not compare(plain, plain).is_duplicate


@pytest.mark.parametrize("block", [3, 7, BLOCK])
def test_candidates_are_those_of_all_pairs(monkeypatch, block):
    monkeypatch.setattr(duplicate_images, "BLOCK", block)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 2, 40))[rng.integers(0, 5, 20)] + 0.3 * rng.normal(size=(20, 2, 40))
    rows = (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float16)
    similarity = np.einsum("ikd,jkd->kij", *[rows.astype(np.float64)] * 2)
    assert abs(similarity - np.reshape(duplicate_images.CANDIDATE, (2, 1, 1))).min() > 1e-5  # none hangs on rounding
    wanted = np.logical_or(*(similarity[k] >= duplicate_images.CANDIDATE[k] for k in (0, 1)))
    assert candidates(rows) == {(int(i), int(j)) for i, j in np.argwhere(wanted) if i < j}
