"""The same photograph twice, however it was resized, recompressed or brightened.

Candidates come from thumbnails (`thumbnails`, `candidates`); `compare` looks at the two pictures of a candidate. What
makes two pictures one photograph is that details of every size agree and that nothing has moved: another visit of the
same eye shows the same vessels, but elsewhere in the field of view, and under another light.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from segment_anything.utils.field_of_view import FieldOfView, find_field_of_view

THUMBNAIL = 32
# Least correlation of the two thumbnails of candidates. Of 440 photographs, copies of 60 % of the size and JPEG
# quality 40 have it, but for one; of 10,000 pairs of different photographs one has it.
CANDIDATE = (0.7, 0.85)
MOST_CANDIDATES = 8  # of one photograph among those after it
BLOCK = 1024  # photographs
SMALL_PART = 0.6  # of the picture
SIDE = 256  # of the pictures that are compared
BANDS = ((1, 4), (2, 8), (4, 16), (8, 32), (2, 0))  # differences of Gaussians: standard deviations, 0 for no second
# Least correlation in each band. Copies of 440 photographs of 256 to 512 pixels, of 60 % of the size and JPEG quality
# 40, have at least 0.41, 0.74, 0.92, 0.98, 0.94 and moved by at most 0.006; of 38 million pairs of different
# photographs one pair, taken within seconds, is as alike. Photographs of one eye at two times moved more.
DUPLICATE = np.array([0.35, 0.65, 0.88, 0.96, 0.93])
SAME_EYE = np.array([0.8, 0.85, 0.85, 0.7, 0.5])
MOVED_DUPLICATE = 0.008  # share of the side
MOVED_EYE = 0.1


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike two pictures are once aligned.

    Attributes:
        correlation: in each of BANDS.
        moved: how far a corner had to move, as a share of the picture's side; infinite where no alignment was found.
    """

    correlation: tuple[float, ...]
    moved: float

    @property
    def is_duplicate(self) -> bool:
        """Whether the two are one photograph."""
        return self.moved <= MOVED_DUPLICATE and bool((self.correlation >= DUPLICATE).all())

    @property
    def same_eye(self) -> bool:
        """Whether the two show the same eye (or are one photograph)."""
        return self.is_duplicate or (self.moved <= MOVED_EYE and bool((self.correlation >= SAME_EYE).all()))


def thumbnails(image: np.ndarray, view: FieldOfView | None = None) -> np.ndarray:
    """Thumbnails of a photograph's field of view and of the whole picture: float16 [2, THUMBNAIL ** 2], of length 1.

    The second is 0 where the field of view is a small part of the picture: the dark surround says nothing.

    Args:
        image: RGB uint8 [H, W, 3].
        view: its field of view; None where it is not known yet.
    """
    top, left, bottom, right = (view or find_field_of_view(image)).box
    small_part = (bottom - top) * (right - left) < SMALL_PART * image.shape[0] * image.shape[1]
    whole = np.zeros(THUMBNAIL**2, np.float16) if small_part else _thumbnail(image)
    return np.stack([_thumbnail(image[top:bottom, left:right]), whole])


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """What a picture shows, without its illumination: float16 [THUMBNAIL ** 2].

    Of mean 0 and length 1, so that a product of two is their correlation; all 0 for a picture without content.
    """
    green = _shrink(image[..., 1], 2 * THUMBNAIL)
    detail = green - cv2.GaussianBlur(green, (0, 0), 3)
    y, x = np.mgrid[: len(detail), : len(detail)] - (len(detail) - 1) / 2
    detail *= np.hypot(y, x) < 0.45 * len(detail)  # the rim looks alike in all photographs of a camera
    small = cv2.resize(detail, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    limit = 3 * small.std()
    small = np.clip(small, -limit, limit)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return (small / length if length > 1 else 0 * small).ravel().astype(np.float16)


def candidates(thumbnails: np.ndarray) -> set[tuple[int, int]]:
    """Pairs (i < j) of photographs that may be one: of each, the most similar ones after it, by thumbnails [N, 2, D].

    So each of many copies is paired with a later one, and all are joined up to the last one. Works on blocks of
    photographs: memory grows with the pairs alone, and 10,000 photographs take seconds.
    """
    pairs = set()
    for start in range(0, len(thumbnails), BLOCK):
        rows = thumbnails[start : start + BLOCK].astype(np.float32)
        most_similar = np.zeros((len(rows), 0), np.float32)
        where = np.zeros((len(rows), 0), int)
        for other in range(start, len(thumbnails), BLOCK):
            columns = thumbnails[other : other + BLOCK].astype(np.float32)
            similarity = np.maximum(*(rows[:, k] @ columns[:, k].T / CANDIDATE[k] for k in (0, 1)))
            if start == other:  # each pair once
                similarity[np.tril_indices_from(similarity)] = 0
            numbers = np.broadcast_to(np.arange(other, other + len(columns)), similarity.shape)
            most_similar, where = (np.hstack(both) for both in ((most_similar, similarity), (where, numbers)))
            best = np.argpartition(-most_similar, min(MOST_CANDIDATES, most_similar.shape[1]) - 1)[:, :MOST_CANDIDATES]
            most_similar, where = (np.take_along_axis(kept, best, axis=1) for kept in (most_similar, where))
        pairs |= {(start + int(i), int(where[i, k])) for i, k in np.argwhere(most_similar >= 1)}
    return pairs


def compare(first: np.ndarray, second: np.ndarray) -> Similarity:
    """How alike two photographs are.

    Pictures of one shape are compared as they are; others may be cut differently and are compared within their
    fields of view.

    Args:
        first, second: RGB uint8 [H, W, 3] of any sizes.
    """
    ratios = [image.shape[1] / image.shape[0] for image in (first, second)]
    if abs(ratios[0] / ratios[1] - 1) > 0.01:
        first, second = (_cut_to_field(image) for image in (first, second))
    a, b = (_shrink(image[..., 1], SIDE) for image in (first, second))
    inside = _inside(first) & _inside(second)
    if not inside.any():
        return Similarity((0.0,) * len(BANDS), np.inf)
    motion = _alignment(_band(a, *BANDS[0]), _band(b, *BANDS[0]), inside)
    if motion is None:
        motion = np.eye(2, 3, dtype=np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    b = cv2.warpAffine(b, motion, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    correlation = tuple(_correlation(_band(a, *band)[inside], _band(b, *band)[inside]) for band in BANDS)
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]])
    moved = np.abs(corners @ (motion[:, :2].T - np.eye(2)) + motion[:, 2]).max() / SIDE
    return Similarity(correlation, float(moved))


def _alignment(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """The affine motion [2, 3] that takes `a` to `b`; None where there is none.

    Maximises the correlation, see Evangelidis and Psarakis, IEEE TPAMI 30(10), 2008.
    """
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        start = np.eye(2, 3, dtype=np.float32)
        return cv2.findTransformECC(a, b, start, cv2.MOTION_AFFINE, stop, inside.astype(np.uint8), 5)[1]
    except cv2.error:  # it does not converge: the pictures have nothing in common
        return None


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two vectors whose outliers (reflexes, stamped dates) are limited."""
    a, b = (_limited(x) for x in (a, b))
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6))


def _limited(values: np.ndarray) -> np.ndarray:
    """Values around 0, limited to four robust standard deviations."""
    values = values - np.median(values)
    limit = 4 * 1.4826 * float(np.median(np.abs(values)))
    values = np.clip(values, -limit, limit)
    return values - values.mean()


def _band(picture: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Details between two sizes, in pixels; all coarse ones for `coarse` 0."""
    smooth = cv2.GaussianBlur(picture, (0, 0), fine)
    return smooth - cv2.GaussianBlur(picture, (0, 0), coarse) if coarse else smooth


def _shrink(channel: np.ndarray, side: int) -> np.ndarray:
    """A channel [h, w] as float32 [side, side]."""
    return cv2.resize(channel, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def _inside(image: np.ndarray) -> np.ndarray:
    """Pixels well inside the field of view: bool [SIDE, SIDE]."""
    mask = find_field_of_view(image).mask().astype(np.uint8)
    mask = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    margin = SIDE // 28
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return cv2.erode(framed, np.ones((3, 3)), iterations=margin)[1:-1, 1:-1].astype(bool)


def _cut_to_field(image: np.ndarray) -> np.ndarray:
    top, left, bottom, right = find_field_of_view(image).box
    return image[top:bottom, left:right]
