"""The field of view of a fundus photograph: a circle with up to four straight cuts, whatever surrounds it.

The rim is where brightness or colour changes along rays from the middle of the picture. Circles through three changes
that are drawn by chance (RANSAC, Fischler and Bolles 1981) are weighed by all changes, and the best ones refined by
least squares. Straight lines behind which one colour alone is seen cut the picture first and the circle then.
Photographs without a rim in view (square crops, ultra-wide fields) have no circle: their field of view is the picture
without flat margins.

This file needs nothing else of the project; examples/SAM-Med2D-onnxruntime holds a copy of it.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

WORKING_SIDE = 256  # longer side of the picture that is searched, pixels; the values below are in its pixels
BLUR = 0.7
LEAST_SIDE = 48  # of what may hold a rim
FLAT = 0.3  # spread of the square root of grey levels in what is not seen
STEP = 2.0  # change of the square root of grey levels at a straight cut
LEAST_STEP = 0.7  # share of it that is found on average along a cut
LEAST_DEPTH = 3  # of what a cut takes away
THIN = 4  # pixels a sample along the sides
RAYS = 128
PER_RAY = 3  # changes of a ray that may be the rim
HALF_WIDTH = 3  # pixels before and behind a change that are compared
WEAKEST = 0.15  # change of the square root of grey levels that can be a rim
STRONG = 0.8  # change from which on a rim is certain
LEAST_CHANGES = 12  # that a circle is looked for in
SAMPLES, TRIED = 2500, 300  # triples of changes, and circles of them that are weighed
LEAST_AREA = 0.075  # of the triangle of three changes, in squares of the radius
HYPOTHESES, APART = 12, 8  # circles that are refined, and the sum of their differences in pixels
TOLERANCES = (4.0, 2.5, 1.7, 1.5)  # distance of changes from the circle while it is refined, pixels
NEAR = 2.0  # pixels from a circle at which changes count for it
LEAST_RADIUS, LARGEST_RADIUS, FARTHEST = 0.28, 0.8, 0.65  # shares of the shorter, of the longer and of each side
ON_RIM = 1.5  # pixels from a circle at which the rim is found in a direction
EVIDENCE = 0.24  # share of all directions in which the rim is found, times the cube of that of those in view
LIKE_INSIDE, LEAST_EVIDENCE = 0.5, 0.1  # texture is as dense outside as inside from here on; share of it that is needed
COARSE = 4  # pixels of the picture a pixel of its texture

_ANGLES = np.arange(RAYS, dtype=np.float32) * np.float32(2 * np.pi / RAYS)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)
_DRAWN = np.random.default_rng(0).permutation(3 * SAMPLES).reshape(SAMPLES, 3)
_STEP = np.repeat(np.float32([[1, -1]]), HALF_WIDTH, axis=1) / HALF_WIDTH


@dataclass(frozen=True)
class FieldOfView:
    """What the camera saw of a photograph.

    Attributes:
        size: (height, width) of the photograph, pixels.
        box: (top, left, bottom, right) of the field of view, half-open pixels.
        centre: (x, y) of its circle, where (0, 0) is the corner of the first pixel; None without a rim in view.
        radius: of the circle in pixels; None without a rim in view.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int]
    centre: tuple[float, float] | None = None
    radius: float | None = None

    def mask(self) -> np.ndarray:
        """Pixels inside: bool [H, W]."""
        return self.inside((0, 0, *self.size))

    def inside(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """Pixels of a part of the photograph, (top, left, bottom, right), that lie inside: bool [h, w]."""
        (begin, end), column = self._spans(window), np.arange(window[3] - window[1], dtype=np.int32)
        return (column >= begin[:, None]) & (column < end[:, None])

    def _spans(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """The first pixel that lies inside, and the one after the last, of each row of such a part: int32 [2, h]."""
        (top, left, bottom, right), (first, start, last, stop) = window, self.box
        row = np.arange(top, bottom, dtype=np.int32)
        begin, end = np.full(len(row), start, np.int32), np.full(len(row), stop, np.int32)
        if self.radius is not None:
            x, y = self.centre
            half = np.sqrt((self.radius**2 - (row + 0.5 - y) ** 2).clip(0))
            begin, end = np.maximum(begin, np.ceil(x - half - 0.5)), np.minimum(end, np.floor(x + half - 0.5) + 1)
        end[(row < first) | (row >= last)] = 0
        return (np.stack((begin, np.maximum(begin, end))) - left).clip(0, right - left).astype(np.int32)

    def resized(self, size: tuple[int, int]) -> "FieldOfView":
        """That of the photograph resized to (height, width)."""
        circle = None if self.radius is None else np.array([self.centre[0] - 0.5, self.centre[1] - 0.5, self.radius])
        return _scaled(circle, self.box, self.size, size)

    def blackened(self, pixels: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
        """A copy of the pixels uint8 [h, w, 3] of such a part in which those outside are black."""
        found = pixels.copy()
        for row, begin, end in zip(found, *self._spans(window).tolist(), strict=True):
            row[:begin] = row[end:] = 0
        return found


def find_field_of_view(image: np.ndarray) -> FieldOfView:
    """Find the field of view of a photograph.

    Args:
        image: RGB uint8 [H, W, 3]. What is transparent must have become one colour.

    Returns:
        A circle with straight cuts; the picture without flat margins where no rim is in view.
    """
    levels = _levels(image)
    top, left, bottom, right = _cuts(levels)
    part = levels[top:bottom, left:right]
    circle = _find_rim(part) if min(part.shape[:2]) >= LEAST_SIDE else None
    if circle is not None:
        cuts = _cuts(part, circle)
        circle += np.array([left, top, 0])
        top, left, bottom, right = top + cuts[0], left + cuts[1], top + cuts[2], left + cuts[3]
    return _scaled(circle, (top, left, bottom, right), levels.shape[:2], image.shape[:2])


def _levels(image: np.ndarray) -> np.ndarray:
    """Square roots of the grey levels (noise is alike in all), float32, with a longer side of WORKING_SIDE at most."""
    height, width = image.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return cv2.GaussianBlur(np.sqrt(small, dtype=np.float32), (0, 0), BLUR)


def _scaled(
    circle: np.ndarray | None, cuts: tuple[int, int, int, int], small: tuple[int, int], size: tuple[int, int]
) -> FieldOfView:
    """A circle and the cuts in a picture of the size `small`, brought to the photograph."""
    down, across = size[0] / small[0], size[1] / small[1]
    top, left, bottom, right = cuts[0] * down, cuts[1] * across, cuts[2] * down, cuts[3] * across
    if circle is None:
        return FieldOfView(size, (round(top), round(left), round(bottom), round(right)))
    x, y, radius = (circle + np.array([0.5, 0.5, 0])) * (across, down, math.sqrt(down * across))
    tall, wide = _half_chord(radius, x, left, right), _half_chord(radius, y, top, bottom)
    box = (
        math.floor(max(top, y - tall)),
        math.floor(max(left, x - wide)),
        math.ceil(min(bottom, y + tall)),
        math.ceil(min(right, x + wide)),
    )
    return FieldOfView(size, box, (float(x), float(y)), float(radius))


def _half_chord(radius: float, middle: float, first: float, last: float) -> float:
    """Half the length of the longest chord of a circle between two lines across its middle's axis."""
    distance = max(0.0, first - middle, middle - last)
    return math.sqrt(max(0.0, radius**2 - distance**2))


# --- straight cuts ------------------------------------------------------------------------------------------------


def _cuts(levels: np.ndarray, circle: np.ndarray | None = None) -> tuple[int, int, int, int]:
    """Where the field of view ends: top, left, bottom, right in pixels of [h, w, 3]."""
    inside = np.ones(levels.shape[:2], np.float32)
    if circle is not None:
        row, column = np.ogrid[: levels.shape[0], : levels.shape[1]]
        inside[(column - circle[0]) ** 2 + (row - circle[1]) ** 2 > (circle[2] - 2) ** 2] = 0
    top, bottom = _ends(levels[:, THIN:-THIN:THIN], inside[:, THIN:-THIN:THIN])
    left, right = _ends(levels[THIN:-THIN:THIN].transpose(1, 0, 2), inside[THIN:-THIN:THIN].T)
    return top, left, bottom, right


def _ends(levels: np.ndarray, inside: np.ndarray) -> tuple[int, int]:
    """First row of [h, w, 3] at which something is seen, and the one after the last."""
    rows, height = np.flatnonzero(inside.any(axis=1)), len(levels)
    if not len(rows):
        return 0, height
    count = np.maximum(inside.sum(axis=1), 1)
    mean = np.einsum("rcd,rc->rd", levels, inside) / count[:, None]
    spread = np.einsum("rcd,rc->r", np.abs(levels - mean[:, None]), inside) / (3 * count)
    first = _cut(levels, inside, mean, spread, rows)
    last = _cut(levels[::-1], inside[::-1], mean[::-1], spread[::-1], height - 1 - rows[::-1])
    return (first, height - last) if first + last < height else (0, height)


def _cut(levels: np.ndarray, inside: np.ndarray, mean: np.ndarray, spread: np.ndarray, rows: np.ndarray) -> int:
    """The row of the last step along a whole row before which all rows have one colour each; 0 where there is none."""
    flat = int((spread[rows] > FLAT).argmax())
    near = np.arange(max(int(rows[0]), 2), min(int(rows[flat]) + 4, int(rows[-1])))
    if flat < 2 or not len(near):
        return 0
    change = np.linalg.norm(levels[near + 1] - levels[near - 2], axis=2)
    seen = inside[near + 1] * inside[near - 2]
    count = np.maximum(seen.sum(axis=1), 1)
    weak = (np.minimum(change / STEP, 1) * seen).sum(axis=1) < LEAST_STEP * count
    if weak.all():
        return 0
    last = len(near) - int((~weak)[::-1].argmax())  # of the last rows in sequence with a step the one of the largest
    first = last - int(weak[:last][::-1].argmax()) if weak[:last].any() else 0
    cut = int(near[first + int(((change * seen).sum(axis=1) / count)[first:last].argmax())]) + 1  # nothing of both
    lasting = mean[min(cut + 5, rows[-1])] - mean[max(cut - 5, rows[0])]  # small where a vessel lies along the row
    return cut if cut - rows[0] >= LEAST_DEPTH and np.linalg.norm(lasting) > STEP * LEAST_STEP else 0


# --- the rim -------------------------------------------------------------------------------------------------------


def _find_rim(levels: np.ndarray) -> np.ndarray | None:
    """x, y and radius of the rim, where (0, 0) is the middle of the first pixel; None where no rim is in view."""
    size, changes = levels.shape[:2], _changes(levels)
    if (changes.weight > 0).sum() < LEAST_CHANGES:
        return None
    circles = _refined(changes, _hypotheses(changes, size))
    circles = circles[_plausible(circles, size)]
    if not len(circles):
        return None
    outside, density = _texture_outside(levels, circles)
    needed = EVIDENCE * (density / LIKE_INSIDE).clip(LEAST_EVIDENCE, 1)  # less where nothing is outside
    best_first = np.argsort(-_support(changes, circles) * (1 - outside) ** 3, kind="stable")
    return next((circles[i] for i in best_first if _evidence(changes, circles[i], size) >= needed[i]), None)


@dataclass(frozen=True)
class _Changes:
    """Largest changes along rays, [RAYS * PER_RAY]: positions, weights in [0, 1], and how much darker it is outside."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    step: np.ndarray  # of each channel, [RAYS * PER_RAY, 3]

    @property
    def sign(self) -> np.ndarray:
        """1 for those that turn darker outwards, -1 for the others."""
        return np.where(self.step.sum(axis=1) > 0, 1, -1)


def _changes(levels: np.ndarray) -> _Changes:
    """The PER_RAY largest changes of each ray from the middle that lie apart, to a part of a pixel."""
    x, y = ((side - 1) / 2 for side in levels.shape[1::-1])
    step, change = _along_rays(levels, x, y)
    rays, last = np.arange(RAYS), change.shape[1] - 1
    (radius, weight), steps = np.zeros((2, RAYS, PER_RAY), np.float32), np.zeros((RAYS, PER_RAY, 3), np.float32)
    for k in range(PER_RAY):
        peak = change.argmax(axis=1)
        weight[:, k], steps[:, k] = change[rays, peak], step[rays, peak]
        before, behind = change[rays, np.maximum(peak - 1, 0)], change[rays, np.minimum(peak + 1, last)]
        bend = np.minimum(before - 2 * weight[:, k] + behind, -1e-6)
        radius[:, k] = peak - 0.5 + (0.5 * (before - behind) / bend).clip(-0.5, 0.5)
        around = peak[:, None] + np.arange(-HALF_WIDTH, HALF_WIDTH + 1)
        change[rays[:, None], around.clip(0, last)] = 0
    share = weight / np.maximum(weight[:, :1], 1e-6)
    weight = np.where(weight > WEAKEST, share * np.minimum(weight / STRONG, 1), 0)
    across, down = x + _COS[:, None] * radius, y + _SIN[:, None] * radius
    return _Changes(across.ravel(), down.ravel(), weight.ravel(), steps.reshape(-1, 3))


def _along_rays(levels: np.ndarray, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """How much darker it gets half a pixel before each place of each ray, [RAYS, n, 3], and the length of that."""
    count = int(np.hypot(x, y)) + 2
    # without the second flag OpenCV leaves what lies outside of the picture as the memory was
    along = cv2.warpPolar(levels, (count, RAYS), (x, y), count, cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS)
    step = cv2.filter2D(along, -1, _STEP, anchor=(HALF_WIDTH, 0), borderType=cv2.BORDER_REPLICATE)
    change = np.sqrt(np.einsum("rcd,rcd->rc", step, step))
    with np.errstate(divide="ignore"):
        end = np.minimum(x / np.abs(_COS), y / np.abs(_SIN))  # of the ray in the picture
    change[np.arange(count) > end[:, None] - 2] = 0
    change[:, : min(levels.shape[:2]) // 8] = 0
    return step, change


# --- circles through them -----------------------------------------------------------------------------------------


def _hypotheses(changes: _Changes, size: tuple[int, int]) -> np.ndarray:
    """The best circles through three changes that differ from each other: x, y, radius [n, 3]."""
    # the rim is the outermost change
    far = np.hypot(changes.x - size[1] / 2, changes.y - size[0] / 2) / np.hypot(*size)
    total = np.cumsum(changes.weight**2 * far**4)
    chosen = np.searchsorted(total, (np.arange(3 * SAMPLES) + 0.5) * (total[-1] / (3 * SAMPLES)))[_DRAWN]
    sign = changes.sign[chosen]
    chosen = chosen[(sign[:, 1] == sign[:, 0]) & (sign[:, 2] == sign[:, 0])]
    circles, area = _through(changes.x[chosen], changes.y[chosen])
    circles = circles[_plausible(circles, size) & (area > LEAST_AREA * circles[:, 2] ** 2)][:TRIED]
    support, kept = _support(changes, circles) * circles[:, 2] ** 2, []
    while len(kept) < HYPOTHESES and len(support) and support.max() > 0:
        kept.append(circles[support.argmax()])
        support[np.abs(circles - kept[-1]).sum(axis=1) <= APART] = 0
    return np.array(kept, np.float32).reshape(-1, 3)


def _through(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Circles through three points each, [n, 3]: x, y, radius [n, 3], not finite for points on a line; areas [n]."""
    (x1, y1), (x2, y2) = ((x[:, i] - x[:, 0], y[:, i] - y[:, 0]) for i in (1, 2))
    first, second, double = x1 * x1 + y1 * y1, x2 * x2 + y2 * y2, x1 * y2 - y1 * x2
    with np.errstate(all="ignore"):
        right, down = (y2 * first - y1 * second) / (2 * double), (x1 * second - x2 * first) / (2 * double)
        return np.stack((x[:, 0] + right, y[:, 0] + down, np.hypot(right, down)), axis=1), np.abs(double) / 2


def _plausible(circles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether circles [n, 3] can be the rim of a photograph of this (height, width)."""
    height, width = size
    x, y, radius = circles.T
    large = (radius > LEAST_RADIUS * min(size)) & (radius < LARGEST_RADIUS * max(size))
    return large & (np.abs(x - width / 2) < FARTHEST * width) & (np.abs(y - height / 2) < FARTHEST * height)


def _distance(changes: _Changes, circles: np.ndarray) -> np.ndarray:
    """Distance of the changes from circles [n, 3]: [n, RAYS * PER_RAY]."""
    x, y, radius = circles.T[..., None]
    return np.abs(np.sqrt((changes.x - x) ** 2 + (changes.y - y) ** 2) - radius)


def _support(changes: _Changes, circles: np.ndarray) -> np.ndarray:
    """Sum of the weights of changes near circles [n, 3], of those that all turn darker or all brighter outwards."""
    near = (1 - _distance(changes, circles) / NEAR).clip(0) * changes.weight
    darker = changes.sign > 0
    return (near @ np.stack((darker, ~darker), axis=1).astype(np.float32)).max(axis=1)


def _refined(changes: _Changes, circles: np.ndarray) -> np.ndarray:
    """Weighted least squares on the changes near each circle (Kasa 1976), again and again with less tolerance."""
    x, y = changes.x.astype(np.float64), changes.y.astype(np.float64)
    columns = np.stack((2 * x, 2 * y, np.ones_like(x), x * x + y * y))
    products = (columns[:3, None] * columns).reshape(12, -1).T
    for tolerance in TOLERANCES:
        weight = (1 - (_distance(changes, circles) / tolerance) ** 2).clip(0) * changes.weight
        enough = (weight > 0).sum(axis=1) >= 8
        normal = (weight[enough] ** 2 @ products).reshape(-1, 3, 4)
        normal[:, range(3), range(3)] += 1e-6
        across, down, rest = np.linalg.solve(normal[..., :3], normal[..., 3:])[..., 0].T
        circles = np.stack((across, down, np.sqrt((rest + across**2 + down**2).clip(0))), axis=1)
    return circles


# --- is it a rim? -------------------------------------------------------------------------------------------------


def _texture_outside(levels: np.ndarray, circles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the texture beyond each of the circles [n, 3], and its density there in shares of that inside."""
    texture = _texture(levels)
    row, column = np.ogrid[: texture.shape[0], : texture.shape[1]]
    x, y, radius = circles.T[..., None, None]
    beyond = (COARSE * column - x) ** 2 + (COARSE * row - y) ** 2 > (radius + 3) ** 2
    area, whole = beyond.mean(axis=(1, 2)), float(texture.sum())
    share = (beyond * texture).sum(axis=(1, 2)) / whole if whole > 0 else area
    return share, share * (1 - area) / np.maximum(area * (1 - share), 1e-6)


def _texture(levels: np.ndarray) -> np.ndarray:
    """How much changes around every COARSE-th pixel, 0 in flat regions and at the picture's border."""
    half = cv2.resize(levels, None, fx=2 / COARSE, fy=2 / COARSE, interpolation=cv2.INTER_AREA)[..., :2]
    gradient = np.zeros(half.shape[:2], np.float32)
    across, down = half[1:-1, 2:] - half[1:-1, :-2], half[2:, 1:-1] - half[:-2, 1:-1]
    gradient[1:-1, 1:-1] = (np.abs(across) + np.abs(down)).sum(axis=2)
    texture = np.minimum(gradient, 1)[::2, ::2]
    return np.maximum(texture - np.percentile(texture, 15), 0)


def _evidence(changes: _Changes, circle: np.ndarray, size: tuple[int, int]) -> float:
    """Share of all directions in which a change lies on the rim, times the cube of that of those in view."""
    x, y, radius = circle
    near = (_distance(changes, circle[None])[0] < ON_RIM) & (changes.weight > 0)
    near &= changes.step @ changes.step[near].mean(axis=0) > 0  # the same change all around
    angle = np.arctan2(changes.y[near] - y, changes.x[near] - x)
    found = np.zeros(RAYS, bool)
    found[np.round(angle * (RAYS / (2 * np.pi))).astype(int) % RAYS] = True
    found |= np.roll(found, 1) | np.roll(found, -1)
    rim_x, rim_y = x + radius * _COS, y + radius * _SIN
    seen = (rim_x > 2) & (rim_x < size[1] - 3) & (rim_y > 2) & (rim_y < size[0] - 3)
    found &= seen
    return float(found.mean() * (found.sum() / max(1, seen.sum())) ** 3)
