"""Draw synthetic fundus photographs with exact masks.

Pure code: no files, no global random state. All geometry is in units of the field-of-view radius (see
`synthetic_geometry`). The same seed therefore gives the same eye at any size; only noise and lesions that touch a
clipped border differ.
"""

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from sam_med2d.data.synthetic_colours import paint, photograph
from sam_med2d.data.synthetic_geometry import SHIFT, DrawingFrame, Eye, Vessel, make_frame

STRUCTURES = ("optic_disc", "optic_cup", "vessel", "microaneurysm", "haemorrhage", "hard_exudate")

# A circle of this radius, in pixels, covers at least half of one pixel wherever its centre falls.
_MIN_LESION_PX = 0.9


def field_of_view(*, height: int, width: int) -> np.ndarray:
    """The lit circle of a synthetic picture of this size: bool [H,W]."""
    x, y = make_frame(height, width).grid()
    return x * x + y * y <= 1


def synthetic_fundus(
    *, height: int, width: int, seed: int, lesions: bool = True
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw one eye.

    Args:
        height: of the picture in pixels, MIN_SIDE to MAX_SIDE (ValueError for others).
        width: as the height.
        seed: decides everything.
        lesions: whether there are any.

    Returns:
        The photograph, RGB uint8 [H, W, 3], and {structure: bool mask [H, W]}: the pixels that the structure covers by
        half or more. There are no empty masks: a healthy eye has no lesion keys.
    """
    frame = make_frame(height, width)
    eye_rng, tree_rng, lesion_rng, colour_rng, noise_rng = np.random.default_rng(seed).spawn(5)
    eye = make_eye(eye_rng)
    vessels = _grow_tree(tree_rng, eye)
    cover = _draw_anatomy(frame, eye, vessels)
    if lesions:
        cover |= _draw_lesions(lesion_rng, frame, eye, vessels)
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


def _grow_tree(rng: np.random.Generator, eye: Eye) -> list[Vessel]:
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


def _draw_anatomy(frame: DrawingFrame, eye: Eye, vessels: list[Vessel]) -> dict[str, np.ndarray]:
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


def _fill(frame: DrawingFrame, outlines: list[np.ndarray]) -> np.ndarray:
    """Fill closed outlines [N,2] on a new canvas; one call each, so that overlaps stay filled."""
    canvas = frame.canvas()
    for outline in outlines:
        cv2.fillPoly(canvas, [frame.to_canvas(outline)], 255, cv2.LINE_8, SHIFT)
    return canvas


def _strokes(frame: DrawingFrame, vessels: list[Vessel], share: float) -> np.ndarray:
    """Draw vessels at `share` of their width: one quadrilateral a step, with round joints."""
    canvas = frame.canvas()
    for vessel in vessels:
        half = vessel.widths * share / 2
        along = np.gradient(vessel.points, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        across *= (half / np.maximum(np.linalg.norm(across, axis=1), 1e-9))[:, None]
        left, right = (frame.to_canvas(vessel.points + sign * across) for sign in (1, -1))
        centres = frame.to_canvas(vessel.points)
        radii = np.round(half * frame.radius * frame.scale * (1 << SHIFT)).astype(int)
        for i in range(len(centres) - 1):
            quad = np.array([left[i], left[i + 1], right[i + 1], right[i]])
            cv2.fillConvexPoly(canvas, quad, 255, cv2.LINE_8, SHIFT)
            cv2.circle(canvas, centres[i].tolist(), int(radii[i]), 255, -1, cv2.LINE_8, SHIFT)
    return canvas


def _draw_lesions(
    rng: np.random.Generator, frame: DrawingFrame, eye: Eye, vessels: list[Vessel]
) -> dict[str, np.ndarray]:
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


def _visible(point: np.ndarray, frame: DrawingFrame, eye: Eye) -> bool:
    """True where a lesion fits: in the picture, off the rim and off the disc."""
    in_picture = bool(np.all(np.abs(point) < frame.half_extent() - 0.07))
    off_disc = np.linalg.norm(point - eye.disc) > eye.disc_axes[1] + 0.08
    return in_picture and bool(off_disc) and bool(np.linalg.norm(point) < 0.88)


def _places(rng: np.random.Generator, frame: DrawingFrame, eye: Eye, *, count: int) -> list[np.ndarray]:
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
