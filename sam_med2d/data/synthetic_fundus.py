"""Draw synthetic fundus photographs with exact masks.

Pure code: no files, no global random state. All geometry is in units of the field-of-view radius, with the
origin in the middle of the picture, x to the right and y down. The same seed therefore gives the same eye at
any size; only noise and lesions that touch a clipped border differ.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

MIN_SIDE, MAX_SIDE = 64, 4096
STRUCTURES = ("optic_disc", "optic_cup", "vessel", "microaneurysm", "haemorrhage", "hard_exudate")

# OpenCV draws at 1 / 2**4 of a canvas pixel.
_SHIFT = 4
# A circle of this radius, in pixels, covers at least half of one pixel wherever its centre falls.
_MIN_LESION_PX = 0.9
# Pigmentation from light to dark: RGB in 0..1 of an evenly lit retina.
_PIGMENTS = np.array([[0.78, 0.47, 0.25], [0.80, 0.36, 0.25], [0.68, 0.32, 0.13], [0.48, 0.20, 0.08]])


@dataclass(frozen=True)
class Frame:
    """Places the unit circle in a picture. Lengths in pixels; `scale` canvas pixels per picture pixel."""

    height: int
    width: int
    radius: float
    scale: int

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixel centres in radii: x and y, each float32 [H,W]."""
        x = (np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) / self.radius
        y = (np.arange(self.height, dtype=np.float32) + 0.5 - self.height / 2) / self.radius
        return tuple(np.meshgrid(x, y))

    def half_extent(self) -> np.ndarray:
        """Half width and half height of the picture in radii, (2,) in XY order."""
        return np.array([self.width, self.height]) / (2 * self.radius)

    def to_canvas(self, points: np.ndarray) -> np.ndarray:
        """Points [N,2] XY in radii -> int32 [N,2] XY in fixed-point canvas coordinates."""
        pixels = (points + self.half_extent()) * self.radius * self.scale - 0.5
        return np.round(pixels * (1 << _SHIFT)).astype(np.int32)

    def canvas(self) -> np.ndarray:
        """An empty canvas, uint8 [H*scale, W*scale]."""
        return np.zeros((self.height * self.scale, self.width * self.scale), np.uint8)

    def coverage(self, canvas: np.ndarray) -> np.ndarray:
        """Share of each picture pixel that the canvas fills: float32 [H,W] in 0..1."""
        small = cv2.resize(canvas.astype(np.float32), (self.width, self.height), interpolation=cv2.INTER_AREA)
        return small / 255


@dataclass(frozen=True)
class Eye:
    """Landmarks in radii, XY. `temporal` is +1 where the temple is on the right of the picture, else -1."""

    temporal: int
    disc: np.ndarray
    disc_axes: np.ndarray
    cup: np.ndarray
    cup_axes: np.ndarray
    tilt: float
    fovea: np.ndarray


@dataclass(frozen=True)
class Vessel:
    """A centre line [N,2] XY with its full width [N], both in radii."""

    points: np.ndarray
    widths: np.ndarray
    artery: bool


def make_frame(height: int, width: int) -> Frame:
    """Fit the circle into the picture; an oblong picture clips it on its long sides, as many cameras do."""
    for name, side in (("height", height), ("width", width)):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise ValueError(f"{name} must be from {MIN_SIDE} to {MAX_SIDE} pixels, got {side}")
    short, long = sorted((height, width))
    radius = min(0.6 * short, 0.48 * long) if long >= 1.25 * short else 0.48 * short
    return Frame(height, width, radius, int(np.clip(round(2048 / long), 2, 8)))


def field_of_view(*, height: int, width: int) -> np.ndarray:
    """The lit circle of a synthetic picture of this size: bool [H,W]."""
    x, y = make_frame(height, width).grid()
    return x * x + y * y <= 1


def synthetic_fundus(
    *, height: int, width: int, seed: int, lesions: bool = True
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw one eye.

    Returns an RGB uint8 picture [H,W,3] and {structure: bool mask [H,W]}. A mask holds the pixels that the
    structure covers by half or more. The dictionary has no empty masks: a healthy eye has no lesion keys.
    """
    frame = make_frame(height, width)
    eye_rng, tree_rng, lesion_rng, colour_rng, noise_rng = np.random.default_rng(seed).spawn(5)
    eye = make_eye(eye_rng)
    vessels = grow_tree(tree_rng, eye)
    cover = draw_anatomy(frame, eye, vessels)
    if lesions:
        cover |= draw_lesions(lesion_rng, frame, eye, vessels)
    fov = field_of_view(height=height, width=width)
    masks = {name: (cover[name] >= 0.5) & fov for name in STRUCTURES if name in cover}
    image = photograph(noise_rng, frame, paint(colour_rng, frame, eye, cover), fov)
    return image, {name: mask for name, mask in masks.items() if mask.any()}


def make_eye(rng: np.random.Generator) -> Eye:
    """Choose the landmarks: the disc nasal of the centre, the fovea 2.5 disc diameters temporal of it."""
    temporal = int(rng.choice([-1, 1]))
    disc = np.array([-temporal * rng.uniform(0.34, 0.54), rng.uniform(-0.08, 0.05)])
    tall = rng.uniform(0.125, 0.16)
    disc_axes = np.array([tall * rng.uniform(0.84, 0.96), tall])
    ratio = rng.uniform(0.3, 0.7)
    # A shift of a third of the free rim keeps the cup inside the disc in every direction.
    angle = rng.uniform(0, 2 * np.pi)
    shift = (1 - ratio) * disc_axes[0] / 3 * np.array([np.cos(angle), np.sin(angle)])
    fovea = disc + np.array([temporal * 5 * tall * rng.uniform(0.95, 1.05), rng.uniform(0.02, 0.1)])
    tilt = rng.uniform(-15, 15)
    return Eye(temporal, disc, disc_axes, disc + shift, disc_axes * ratio, tilt, fovea)


def grow_tree(rng: np.random.Generator, eye: Eye) -> list[Vessel]:
    """Four arcades, each an artery and a vein, fine twigs from the disc, and the branches of all of them."""
    reach = float(np.linalg.norm(eye.fovea - eye.disc))
    temporal = np.array([[0, 0], [0.03, 0.2], [0.2, 0.45], [0.6, 0.7], [1.1, 0.72], [1.6, 0.5], [2.1, 0.35]])
    nasal = np.array([[0, 0], [-0.04, 0.2], [-0.22, 0.5], [-0.55, 0.8], [-0.9, 1.15], [-1.1, 1.6]])
    twig = np.array([[0, 0], [0.25, 0.03], [0.5, 0.14]])
    trunks = []
    for up in (-1, 1):
        for artery in (True, False):
            width = rng.uniform(0.018, 0.023) if artery else rng.uniform(0.025, 0.03)
            for path, share in ((temporal, 1.0), (nasal, 0.75)):
                squeeze = rng.uniform(0.76, 0.86) if artery else rng.uniform(0.95, 1.05)
                path = path * [eye.temporal, up * squeeze] * reach
                trunks.append(_trunk(rng, start=eye.disc, path=path, width=width * share, artery=artery))
        for side in (-1, 1):
            path = twig * [eye.temporal * side * rng.uniform(0.8, 1.4), up * rng.uniform(0.6, 2.4)] * reach
            width, artery = rng.uniform(0.008, 0.012), bool(rng.integers(2))
            trunks.append(_trunk(rng, start=eye.disc, path=path, width=width, artery=artery))
    return [vessel for trunk in trunks for vessel in _with_branches(rng, trunk, eye.fovea, depth=3)]


def _trunk(rng: np.random.Generator, *, start: np.ndarray, path: np.ndarray, width: float, artery: bool) -> Vessel:
    """A smooth line through jittered control points `path` [K,2], given relative to `start`."""
    wander = rng.normal(0, 0.035, path.shape) * np.linspace(0.5, 1, len(path))[:, None]
    knots = start + path + wander
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    count = int(along[-1] / 0.012) + 2
    points = CubicSpline(along, knots)(np.linspace(0, along[-1], count))
    points += _wiggle(rng, count, amplitude=0.006)
    return _inside(Vessel(points, width * np.linspace(1, 0.45, count), artery))


def _wiggle(rng: np.random.Generator, count: int, *, amplitude: float) -> np.ndarray:
    """Slow sideways waves [count,2]: real vessels are never quite smooth. Zero at the start."""
    phase = np.arange(count)[:, None] * 0.012 * rng.uniform(14, 26, (1, 2))
    offset = rng.uniform(0, 2 * np.pi, (1, 2))
    return amplitude * (np.sin(phase + offset) - np.sin(offset))


def _inside(vessel: Vessel) -> Vessel:
    """Cut the vessel where it first leaves the field of view by more than its own width."""
    outside = np.flatnonzero(np.linalg.norm(vessel.points, axis=1) > 1.05)
    end = outside[0] if outside.size else len(vessel.points)
    return Vessel(vessel.points[:end], vessel.widths[:end], vessel.artery)


def _with_branches(rng: np.random.Generator, parent: Vessel, fovea: np.ndarray, *, depth: int) -> list[Vessel]:
    """The vessel itself and its branches, recursively; branches stop short of the vessel-free fovea."""
    family = [parent]
    count = len(parent.points)
    if depth == 0 or count < 12:
        return family
    side = int(rng.choice([-1, 1]))
    spacing = 0.17 if depth == 3 else 0.15
    places = np.arange(rng.uniform(0.1, 0.3), count * 0.012, spacing) / 0.012
    for start in (places * rng.uniform(0.9, 1.1, places.size)).astype(int):
        if not 3 <= start < count - 3 or rng.random() < 0.25:
            continue
        side = -side
        child = _branch(rng, parent, start, side)
        near = np.flatnonzero(np.linalg.norm(child.points - fovea, axis=1) < rng.uniform(0.09, 0.15))
        end = near[0] if near.size else len(child.points)
        if end >= 6 and child.widths[0] > 0.0045:
            child = Vessel(child.points[:end], child.widths[:end], child.artery)
            family += _with_branches(rng, child, fovea, depth=depth - 1)
    return family


def _branch(rng: np.random.Generator, parent: Vessel, start: int, side: int) -> Vessel:
    """A branch that leaves the parent at an angle and bends back towards the parent's direction."""
    ahead = parent.points[start + 2] - parent.points[start - 2]
    heading = np.arctan2(ahead[1], ahead[0]) + side * rng.uniform(0.6, 1.15)
    width = parent.widths[start] * rng.uniform(0.45, 0.75)
    # Wider vessels run further before they are too fine to see.
    count = int(np.clip(width * rng.uniform(24, 50), 0.08, 0.7) / 0.012)
    turn = np.cumsum(rng.normal(0, 0.035, count)) - side * np.linspace(0, rng.uniform(0, 0.6), count)
    angles = heading + turn + 0.15 * np.sin(np.arange(count) * rng.uniform(0.2, 0.35))
    steps = 0.012 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = parent.points[start] + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return _inside(Vessel(points, width * np.linspace(1, 0.5, count + 1), parent.artery))


def draw_anatomy(frame: Frame, eye: Eye, vessels: list[Vessel]) -> dict[str, np.ndarray]:
    """Coverage float32 [H,W] of disc, cup and vessels, also of arteries, veins and light reflexes apart."""
    arteries = _strokes(frame, [vessel for vessel in vessels if vessel.artery], 1.0)
    veins = _strokes(frame, [vessel for vessel in vessels if not vessel.artery], 1.0)
    canvases = {
        "optic_disc": _fill(frame, [_ellipse(eye.disc, eye.disc_axes, eye.tilt)]),
        "optic_cup": _fill(frame, [_ellipse(eye.cup, eye.cup_axes, eye.tilt)]),
        "vessel": np.maximum(arteries, veins),
        "artery": arteries,
        "vein": veins,
        "reflex": _strokes(frame, [vessel for vessel in vessels if vessel.widths[0] > 0.014], 0.3),
    }
    return {name: frame.coverage(canvas) for name, canvas in canvases.items()}


def _ellipse(centre: np.ndarray, axes: np.ndarray, tilt: float) -> np.ndarray:
    """An outline [64,2] XY; `axes` are half lengths in radii, `tilt` is in degrees."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x, y = axes[0] * np.cos(angle), axes[1] * np.sin(angle)
    cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return centre + np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def _fill(frame: Frame, outlines: list[np.ndarray]) -> np.ndarray:
    """Fill closed outlines [N,2] on a new canvas; one call each, so that overlaps stay filled."""
    canvas = frame.canvas()
    for outline in outlines:
        cv2.fillPoly(canvas, [frame.to_canvas(outline)], 255, cv2.LINE_8, _SHIFT)
    return canvas


def _strokes(frame: Frame, vessels: list[Vessel], share: float) -> np.ndarray:
    """Draw vessels at `share` of their width: one quadrilateral a step, with round joints."""
    canvas = frame.canvas()
    for vessel in vessels:
        half = vessel.widths * share / 2
        along = np.gradient(vessel.points, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        across *= (half / np.maximum(np.linalg.norm(across, axis=1), 1e-9))[:, None]
        left, right = (frame.to_canvas(vessel.points + sign * across) for sign in (1, -1))
        centres = frame.to_canvas(vessel.points)
        radii = np.round(half * frame.radius * frame.scale * (1 << _SHIFT)).astype(int)
        for i in range(len(centres) - 1):
            quad = np.array([left[i], left[i + 1], right[i + 1], right[i]])
            cv2.fillConvexPoly(canvas, quad, 255, cv2.LINE_8, _SHIFT)
            cv2.circle(canvas, centres[i].tolist(), int(radii[i]), 255, -1, cv2.LINE_8, _SHIFT)
    return canvas


def draw_lesions(rng: np.random.Generator, frame: Frame, eye: Eye, vessels: list[Vessel]) -> dict[str, np.ndarray]:
    """Coverage float32 [H,W] of exudates in clusters, blot haemorrhages and single microaneurysms."""
    lines = np.concatenate([vessel.points for vessel in vessels])
    smallest = _MIN_LESION_PX / frame.radius
    spots = []
    for centre in _places(rng, frame, eye, count=int(rng.integers(2, 5))):
        spots += list(centre + rng.normal(0, rng.uniform(0.03, 0.07), (int(rng.integers(5, 14)), 2)))
    spots = [spot for spot in spots if _visible(spot, frame, eye)]
    blots = _places(rng, frame, eye, count=int(rng.integers(4, 10)))
    dots = [dot for dot in _places(rng, frame, eye, count=60) if np.hypot(*(lines - dot).T).min() > 0.03]
    dots = dots[: rng.integers(7, 18)]
    outlines = {
        "hard_exudate": [_blob(rng, spot, max(rng.uniform(0.005, 0.015), smallest), 0.25) for spot in spots],
        "haemorrhage": [_blob(rng, blot, max(rng.uniform(0.01, 0.035), smallest), 0.4) for blot in blots],
        "microaneurysm": [_blob(rng, dot, max(rng.uniform(0.007, 0.012), smallest), 0.0) for dot in dots],
    }
    return {name: frame.coverage(_fill(frame, shapes)) for name, shapes in outlines.items()}


def _visible(point: np.ndarray, frame: Frame, eye: Eye) -> bool:
    """True where a lesion fits: in the picture, off the rim and off the disc."""
    in_picture = bool(np.all(np.abs(point) < frame.half_extent() - 0.07))
    off_disc = np.linalg.norm(point - eye.disc) > eye.disc_axes[1] + 0.08
    return in_picture and bool(off_disc) and bool(np.linalg.norm(point) < 0.88)


def _places(rng: np.random.Generator, frame: Frame, eye: Eye, *, count: int) -> list[np.ndarray]:
    """`count` positions scattered around the fovea, where most lesions of diabetic eyes lie."""
    found: list[np.ndarray] = []
    while len(found) < count:
        point = eye.fovea * 0.6 + rng.normal(0, 0.36, 2)
        if _visible(point, frame, eye):
            found.append(point)
    return found


def _blob(rng: np.random.Generator, centre: np.ndarray, size: float, rough: float) -> np.ndarray:
    """An outline [32,2] of mean radius about `size`; `rough` 0 is a circle. Never smaller than a circle."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    waves = sum(np.sin(k * angle + rng.uniform(0, 2 * np.pi)) / k for k in (2, 3, 5))
    length = size * (1 + rough * (waves + 1.2).clip(0))
    return centre + length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def paint(rng: np.random.Generator, frame: Frame, eye: Eye, cover: dict[str, np.ndarray]) -> np.ndarray:
    """Colour the evenly lit retina: float32 RGB [H,W,3], about 0..1."""
    x, y = frame.grid()
    shade = float(rng.uniform(0, len(_PIGMENTS) - 1))
    step = min(int(shade), len(_PIGMENTS) - 2)
    base = _PIGMENTS[step] + (shade - step) * (_PIGMENTS[step + 1] - _PIGMENTS[step])
    texture = 1 + 0.05 * _noise(rng, x, y, 7) + 0.025 * _noise(rng, x, y, 30)
    texture += rng.uniform(0, 0.07) * (0.4 - np.abs(_noise(rng, x, y, 22)))
    image = base.astype(np.float32) * texture[..., None]
    disc_glow = np.exp(-(((x - eye.disc[0]) ** 2 + (y - eye.disc[1]) ** 2) / (2 * 0.21**2)))
    image += disc_glow[..., None] * np.array([0.06, 0.08, 0.05], np.float32)
    squared = (x - eye.fovea[0]) ** 2 + (y - eye.fovea[1]) ** 2
    macula = rng.uniform(0.25, 0.42) * np.exp(-squared / (2 * 0.13**2)) + 0.15 * np.exp(-squared / 0.001)
    image *= 1 - macula[..., None] * np.array([0.7, 1.0, 1.0], np.float32)
    _paint_disc(rng, frame, image, cover, base)
    _paint_lesions(rng, frame, image, cover)
    _tint(image, cover["artery"], np.array([0.88, 0.58, 0.58]))
    _tint(image, cover["vein"], np.array([0.76, 0.46, 0.50]))
    image += 0.07 * _soft(cover["reflex"], frame, 0.004)[..., None] * base.astype(np.float32)
    return image


def _noise(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, cells: int) -> np.ndarray:
    """Smooth noise float32 [H,W] of unit size, tied to the eye and not to the pixels. x, y: of `Frame.grid`."""
    grid = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    column, row = ((axis + 1.1) * ((cells - 1) / 2.2) for axis in (x[0], y[:, 0]))
    return _cubic(_cubic(grid.T, column).T, row)


def _cubic(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows of `values` [N,C] at fractional positions [P]: float32 [P,C], beyond the first and last row mirrored.

    Cubic convolution (Keys 1981) with OpenCV's a = -0.75. OpenCV's own `remap` moves in steps of 1/32 pixel before
    version 5, which shows where a small grid is enlarged.
    """
    a, first = -0.75, np.floor(positions).astype(np.int64)
    t = (positions - first).astype(np.float32)[:, None]
    before = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    at, after = (((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t))
    total = np.zeros((len(positions), values.shape[1]), np.float32)
    for offset, weight in zip((-1, 0, 1, 2), (before, at, after, 1 - before - at - after), strict=True):
        index = (first + offset) % (2 * len(values))
        total += weight * values[np.minimum(index, 2 * len(values) - 1 - index)]
    return total


def _soft(cover: np.ndarray, frame: Frame, sigma: float) -> np.ndarray:
    """Blur a coverage map by `sigma` radii."""
    return cv2.GaussianBlur(cover, (0, 0), max(sigma * frame.radius, 0.3))


def _blend(image: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    """Move the picture towards `colour` (RGB 0..1) where alpha [H,W] is 1, in place."""
    image += alpha[..., None] * (colour.astype(np.float32) - image)


def _tint(image: np.ndarray, alpha: np.ndarray, factor: np.ndarray) -> None:
    """Multiply the picture by `factor` (RGB) where alpha [H,W] is 1, in place: blood filters light."""
    image *= 1 + alpha[..., None] * (factor.astype(np.float32) - 1)


def _paint_disc(
    rng: np.random.Generator, frame: Frame, image: np.ndarray, cover: dict[str, np.ndarray], base: np.ndarray
) -> None:
    """The disc is brighter than any retina around it; the cup is the palest part of it."""
    glow = 0.65 + 0.35 * base[0] / _PIGMENTS[0, 0]
    rim = np.array([1.0, rng.uniform(0.64, 0.74), rng.uniform(0.32, 0.44)]) * glow
    pale = np.array([1.08, rng.uniform(0.96, 1.04), rng.uniform(0.66, 0.82)]) * glow
    _blend(image, 0.92 * _soft(cover["optic_disc"], frame, 0.009), rim)
    _blend(image, 0.9 * _soft(cover["optic_cup"], frame, 0.012), pale)


def _paint_lesions(rng: np.random.Generator, frame: Frame, image: np.ndarray, cover: dict[str, np.ndarray]) -> None:
    """Exudates are yellow deposits; haemorrhages and microaneurysms are blood."""
    if "hard_exudate" not in cover:
        return
    yellow = np.array([1.0, rng.uniform(0.82, 0.9), rng.uniform(0.4, 0.55)])
    _blend(image, 0.8 * _soft(cover["hard_exudate"], frame, 0.004), yellow)
    _tint(image, _soft(cover["haemorrhage"], frame, 0.005), np.array([0.66, 0.36, 0.4]))
    _tint(image, _soft(cover["microaneurysm"], frame, 0.002), np.array([0.66, 0.34, 0.38]))


def photograph(rng: np.random.Generator, frame: Frame, image: np.ndarray, fov: np.ndarray) -> np.ndarray:
    """What the camera adds: uneven light, haze, blur, noise, the dark surround. uint8 RGB [H,W,3]."""
    x, y = frame.grid()
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.28)
    light = 1 - rng.uniform(0.12, 0.4) * (x * x + y * y) + slope * (x * np.cos(angle) + y * np.sin(angle))
    image = image * (rng.uniform(0.85, 1.08) * light.clip(0.1))[..., None]
    haze = rng.uniform(0, 0.16) if rng.random() < 0.4 else 0.0
    image += haze * (np.array([0.62, 0.55, 0.46], np.float32) - image)
    blur = rng.uniform(0.006, 0.011) if rng.random() < 0.3 else rng.uniform(0.001, 0.004)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(blur * frame.radius, 0.3))
    # A lens closes softly, but nothing of the eye may show outside the circle.
    rim = ((1 - np.hypot(x, y)) / 0.012).clip(0, 1) * fov
    levels = 255 * image * rim[..., None] + rng.uniform(1, 4)
    grain = rng.uniform(0.8, 3.5) * (0.25 + 0.75 * rim[..., None])
    levels += grain * rng.standard_normal(image.shape, np.float32)
    return np.round(levels).clip(0, 255).astype(np.uint8)
