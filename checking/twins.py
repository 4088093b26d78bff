"""The same photograph twice, however it was resized, recompressed or brightened.

Candidates come from thumbnails (`thumbnail`, `candidates`); `compare` looks at the two pictures of a candidate. What
makes two pictures one photograph is that details of every size agree and that nothing has moved: another visit of the
same eye shows the same vessels, but elsewhere in the field of view, and under another light.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from segment_anything.utils.fov import find_fov, fov_mask

THUMBNAIL = 32
# Candidates: two copies of one photograph have a correlation of 0.74 and more (440 photographs, resized to 60 %
# and JPEG quality 40 at the worst), 4 of 10,000 pairs of different photographs 0.7.
CANDIDATE = 0.7
MOST_CANDIDATES = 8  # of one photograph
BLOCK = 1024
SIDE = 256  # of the pictures that are compared
BANDS = ((1, 4), (2, 8), (4, 16), (8, 32), (2, 0))  # differences of Gaussians: standard deviations, 0 for no second
# correlation in each band
COPY = np.array([0.35, 0.65, 0.88, 0.96, 0.93])
SAME_EYE = np.array([0.8, 0.85, 0.85, 0.7, 0.5])
MOVED_COPY = 0.008  # share of the side
MOVED_EYE = 0.1


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two pictures are once aligned: correlation in each of BANDS, and how far a corner had to move.

    moved: share of the picture's side, infinite where no alignment was found.
    """

    correlation: tuple[float, ...]
    moved: float

    @property
    def copies(self) -> bool:
        """Whether the two are one photograph."""
        return self.moved <= MOVED_COPY and bool((self.correlation >= COPY).all())

    @property
    def same_eye(self) -> bool:
        """Whether the two show the same eye (or are one photograph)."""
        return self.copies or (self.moved <= MOVED_EYE and bool((self.correlation >= SAME_EYE).all()))


# --- candidates -----------------------------------------------------------------------------------------------


def thumbnail(image: np.ndarray) -> np.ndarray:
    """RGB uint8 [H, W, 3] -> float16 [THUMBNAIL ** 2]: what the field of view shows, without its illumination.

    Of mean 0 and length 1, so that a product of two is their correlation; all 0 for a picture without content.
    """
    top, left, bottom, right = _field(image)
    green = _shrink(image[top:bottom, left:right, 1], 2 * THUMBNAIL)
    detail = green - cv2.GaussianBlur(green, (0, 0), 3)
    y, x = np.mgrid[: len(detail), : len(detail)] - (len(detail) - 1) / 2
    detail *= np.hypot(y, x) < 0.45 * len(detail)  # the rim looks alike in all photographs of a camera
    small = cv2.resize(detail, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    limit = 3 * small.std()
    small = np.clip(small, -limit, limit)
    small -= small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-3)).ravel().astype(np.float16)


def candidates(thumbnails: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) of rows of `thumbnails` [N, D] that may be one photograph, the likeliest of each row.

    Memory is BLOCK x N; 10,000 rows take seconds.
    """
    rows = thumbnails.astype(np.float32)
    for start in range(0, len(rows), BLOCK):
        likeness = rows[start : start + BLOCK] @ rows[start:].T
        likeness[np.tril_indices_from(likeness)] = -1  # each pair once
        for i in np.flatnonzero((likeness >= CANDIDATE).any(axis=1)):
            others = np.flatnonzero(likeness[i] >= CANDIDATE)
            likeliest = others[np.argsort(-likeness[i, others], kind="stable")[:MOST_CANDIDATES]]
            yield from ((start + int(i), start + int(j)) for j in np.sort(likeliest))


# --- comparison -----------------------------------------------------------------------------------------------


def compare(first: np.ndarray, second: np.ndarray) -> Likeness:
    """How alike two photographs, RGB uint8 [H, W, 3] of any sizes, are.

    Pictures of one shape are compared as they are; others may be cut differently and are compared within their
    fields of view.
    """
    ratios = [image.shape[1] / image.shape[0] for image in (first, second)]
    if abs(ratios[0] / ratios[1] - 1) > 0.01:
        first, second = (_cut_to_field(image) for image in (first, second))
    a, b = (_shrink(image[..., 1], SIDE) for image in (first, second))
    inside = _inside(first) & _inside(second)
    if not inside.any():
        return Likeness((0.0,) * len(BANDS), np.inf)
    motion = _alignment(_band(a, *BANDS[0]), _band(b, *BANDS[0]), inside)
    if motion is None:
        motion = np.eye(2, 3, dtype=np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    b = cv2.warpAffine(b, motion, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    correlation = tuple(_correlation(_band(a, *band)[inside], _band(b, *band)[inside]) for band in BANDS)
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]])
    moved = np.abs(corners @ (motion[:, :2].T - np.eye(2)) + motion[:, 2]).max() / SIDE
    return Likeness(correlation, float(moved))


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
    mask = fov_mask(_without_veil(image)).astype(np.uint8)
    mask = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    margin = SIDE // 28
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return cv2.erode(framed, np.ones((3, 3)), iterations=margin)[1:-1, 1:-1].astype(bool)


def _cut_to_field(image: np.ndarray) -> np.ndarray:
    top, left, bottom, right = _field(image)
    return image[top:bottom, left:right]


def _field(image: np.ndarray) -> tuple[int, int, int, int]:
    """Bounding box of the field of view, also of a photograph whose surround was brightened."""
    return find_fov(_without_veil(image))


def _without_veil(image: np.ndarray) -> np.ndarray:
    """The photograph with a surround of black, where it has one."""
    side = max(1, max(image.shape[:2]) // 128)
    darkest = int(np.percentile(image[::side, ::side].max(axis=2), 1))
    return cv2.subtract(image, (darkest,) * 4) if darkest else image
