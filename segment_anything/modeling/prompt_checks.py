"""Prompts that cannot be meant: one check for the predictors, the commands and the app.

Positions are x before y, in pixels; boxes are half-open, x0, y0, x1, y1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .prompt_encoder import PADDING, STRUCTURE

SHARES = "these look like shares of the photograph, give pixels"
LARGEST = 1e30  # from here on float32 might not hold what becomes of a number


@dataclass(frozen=True)
class Area:
    """The pixels that positions are in."""

    edges: tuple[float, float, float, float]  # x0, y0, x1, y1
    name: str = "the photograph"  # for messages
    overhang: float = 0.0  # how far boxes may lie outside, in pixels; points then may by one pixel

    @classmethod
    def of(cls, size: Sequence[float], name: str = "the photograph") -> "Area":
        """The area of a picture of (height, width), outside of which nothing may lie."""
        return cls((0, 0, size[1], size[0]), name)

    def with_overhang(self) -> "Area":
        """The same, with room for boxes that are jittered in training: 2 % of the longer side, 10 pixels at least."""
        return Area(self.edges, self.name, max(10.0, 0.02 * max(self.size)))

    @property
    def size(self) -> tuple[float, float]:
        """(width, height)."""
        x0, y0, x1, y1 = self.edges
        return x1 - x0, y1 - y0

    def outside(self, what: str) -> str:
        """The message about a point or a box that lies outside."""
        more = f" by more than {self.overhang:g}" if self.overhang and what.startswith("box") else ""
        return f"{what} lies outside {self.name}{more} ({self.size[0]:g} x {self.size[1]:g} pixels)"


def box_fault(boxes: np.ndarray, area: Area | None = None) -> str | None:
    """What is wrong with the first box, [..., 4] (x0, y0, x1, y1), that cannot be meant, and what to do; or None.

    Args:
        boxes: in pixels.
        area: the pixels that they are in; None where that is not known yet.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    good = (np.abs(boxes) < LARGEST).all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1)
    if area is not None:
        edges = np.array(area.edges) + np.array((-1, -1, 1, 1)) * area.overhang
        good &= (boxes[:, :2] >= edges[:2]).all(1) & (boxes[:, 2:] <= edges[2:]).all(1)
        good &= ~_within_one(boxes).all(1) | (max(area.size) <= 1)  # 0, 0, 1, 1 is meant as the whole, not as a pixel
    return None if good.all() else _box_words(boxes[~good][0], area)


def _box_words(box: np.ndarray, area: Area | None) -> str:
    """What is wrong with a box."""
    what = f"box {_numbers(box)}"
    if not (np.abs(box) < LARGEST).all():
        return f"{what}: give finite numbers"
    if _within_one(box).all():
        return f"{what}: {SHARES}"
    if not (box[:2] < box[2:]).all():
        corners = np.concatenate((box[:2], box[:2] + box[2:]))
        sized = bool((box[2:] > 0).all()) and (area is None or box_fault(corners, area) is None)
        look = [f"these look like x, y, width, height, then give {_numbers(corners)}"] * sized
        if (box[:2] > box[2:]).all():
            look += [f"these look like exchanged corners, then give {_numbers(np.roll(box, 2))}"]
        return f"{what}: {'; or '.join(look) or 'give x0, y0, x1, y1'} (x0 < x1 and y0 < y1)"
    return area.outside(what)


def point_fault(points: np.ndarray, area: Area) -> str | None:
    """What is wrong with the first point, [..., 2] (x, y), that cannot be meant, and what to do; or None.

    A row and a column in the place of x and y cannot be told, unless they lead outside.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    low, high = np.array(area.edges[:2]), np.array(area.edges[2:])
    good = (points >= low).all(1) & (points < high).all(1)
    if area.overhang:
        good = (points >= low - 1).all(1) & (points <= high).all(1)
    if not good.all():
        worst = points[~good][0]
        what = f"point {_numbers(worst)}"
        return area.outside(what) if (np.abs(worst) < LARGEST).all() else f"{what}: give finite numbers"
    if max(area.size) > 1 and are_shares(points):
        return f"point {_numbers(points[0])}: {SHARES}"
    return None


def are_shares(values: np.ndarray) -> bool:
    """Whether positions, of any shape, look like shares of the photograph: all in 0..1, and not all whole numbers."""
    return bool(values.size and _within_one(values).all() and (values % 1).any())


def refuse_positions(
    area: Area,
    *,
    boxes: np.ndarray | None = None,
    points: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> None:
    """Refuse boxes [..., 4] (x0, y0, x1, y1) and points [..., 2] (x, y) that cannot be meant.

    Points whose labels say structure prompt or padding may lie anywhere.

    Raises:
        ValueError: names the first one, and what to do.
    """
    fault = None if boxes is None else box_fault(boxes, area)
    if points is not None and fault is None:
        labels = np.asarray(labels)
        fault = point_fault(np.asarray(points)[(labels != PADDING) & (labels < STRUCTURE)], area)
    if fault is not None:
        raise ValueError(f"{fault}.")


def refuse_labels(labels: np.ndarray, structures: Iterable[str]) -> None:
    """Refuse labels of points that mean nothing, by the names that have a structure prompt (ValueError)."""
    names = list(structures)
    if not np.isin(labels, (-1, 0, 1, *range(STRUCTURE, STRUCTURE + len(names)))).all():
        known = "".join(f", {STRUCTURE + i} ({name})" for i, name in enumerate(names))
        raise ValueError(f"point_labels are 1 (foreground), 0 (background), -1 (not a point){known}.")


def window_within(window: Sequence[float], size: tuple[int, int]) -> tuple[int, ...]:
    """The part of a window, x0, y0, x1, y1, in a photograph of (height, width). Raises ValueError for none."""
    edges = np.asarray(window, np.float64) if np.shape(window) == (4,) else None
    if edges is None or not np.isfinite(edges).all():
        raise ValueError(f"window={window!r}: give four numbers x0, y0, x1, y1.")
    height, width = size
    x0, y0, x1, y1 = (int(edge) for edge in edges.clip(0, (width, height, width, height)))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"window={window!r} shows nothing of the photograph, {width} x {height} pixels: give x0 < x1 and y0 < y1 "
            "that overlap with it."
        )
    return x0, y0, x1, y1


def shaped(name: str, value: np.ndarray, single: tuple[int, ...]) -> np.ndarray:
    """The values of N prompts, float64 [N, *single].

    Args:
        name: of the argument, for messages.
        value: of the shape `single`, or N of them; -1 fits any length.
        single: shape for one prompt.

    Raises:
        ValueError: for another shape, and for numbers that are not finite.
    """
    array = np.asarray(value, np.float64)
    array = array[None] if array.ndim == len(single) else array
    fits = array.ndim == len(single) + 1 and all(
        want in (-1, have) for want, have in zip(single, array.shape[1:], strict=False)
    )
    if not fits:
        shape = str(list(single)).replace("-1", "P")
        raise ValueError(f"{name} has shape {list(np.shape(value))}: give {shape}, or N of them.")
    if not (np.abs(array) < LARGEST).all():
        raise ValueError(f"{name} holds NaN, infinity or numbers from {LARGEST:g} on: give finite ones.")
    return array


def _within_one(values: np.ndarray) -> np.ndarray:
    """Which values lie in 0..1."""
    return (values >= 0) & (values <= 1)


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)
