"""Where a mask fits its photograph best: where it is given, shifted, or mirrored.

`evidence` scores the places, here is what the scores say. Everything has the scale of a photograph whose longer side is
SEARCH_SIDE.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

SEARCH_SIDE = 256
REACH = 80  # largest shift that is searched: 31 % of the longer side
SAME_PLACE = 3  # search pixels: a better place this near is the given place
MIRRORS = ("left-right", "upside-down", "by 180 degrees")
TURNS = ("by 90 degrees clockwise", "by 90 degrees counterclockwise")  # of square photographs

# Least length of the line in working pixels that a lesion must be shorter than, and whether it is dark. Among 7, 9, 11,
# 17, 25 and 31 these set the lesions of the train map best apart from shifted and mirrored copies.
SPOTS = {
    "microaneurysm": (7, True),
    "haemorrhage": (11, True),
    "hard_exudate": (9, False),
    "soft_exudate": (25, False),
}


@dataclass(frozen=True, slots=True)
class Landmark:
    """A linear detector of the optic disc or cup.

    Bands along the outline: upper bounds of the distance to it in search pixels, inside negative; in radii of the mask
    where `relative`. weights: of the mean of each band in each map. margin: by how much (in logits) another place must
    look more like the structure than the given one.
    """

    bands: tuple[float, ...]
    relative: bool
    margin: float
    weights: tuple[tuple[float, ...], ...]


# Logistic regression on the train map (281 discs, 119 cups) of the given places against shifted ones, of which the
# hardest were added four times. In five-fold cross-validation the margins flag 2 of 281 sound discs and 1 of 119
# sound cups, and find 98 % of the discs and 99 % of the cups that are shifted by 5 % of the width.
LANDMARKS = {
    "optic_disc": Landmark(
        bands=(-0.5, -0.2, 0, 0.2, 0.5, 1),
        relative=True,
        margin=2.0,
        weights=(
            (-0.35, 0.11, 2.56, -2.58, -1.33, 1.07),
            (0.69, -1.0, 1.23, -0.61, 0.59, 0.04),
            (-0.39, 0.28, -1.93, 0.35, 1.28, -0.15),
            (-0.32, 0.83, 0.78, -1.17, -0.93, -0.19),
        ),
    ),
    "optic_cup": Landmark(
        bands=(-4, 0, 4, 10, 18),
        relative=False,
        margin=1.0,
        weights=(
            (-1.29, -0.51, 2.67, 0.36, -2.24),
            (0.82, 0.23, 0.08, -0.24, -0.22),
            (0.62, -0.79, -0.17, -0.13, 0.4),
            (-0.44, -0.05, 2.02, -0.2, -1.14),
        ),
    ),
}
VESSELS = ("vessel", "artery", "vein")
PLACEABLE = (*VESSELS, *SPOTS, *LANDMARKS)

# Lesions and vessels: the other place must score this many times as much as the given place and as any third one.
# Sound lesions of the train map reach 1.18, sound vessels 0.35.
LEAST_RATIO = 1.3
# A single lesion has no pattern: any spot alike fits it, so where it belongs is not said.
LEAST_LESIONS = 2
# A mask that scores less in its place shows nothing of its structure there: 0.6 of the least score of a sound disc, cup
# or vessel of the train map; no sound lesion mask of it, and 3 of the 514 of its tiles, score less than these. Of
# shifted and mirrored masks 80 % of discs, 91 % of cups, all vessels and nine in ten lesions do.
LEAST_SCORE = {
    **{"optic_disc": 1.6, "optic_cup": 3.4, "vessel": 0.32, "artery": 0.32, "vein": 0.32},
    **{"microaneurysm": 0.6, "haemorrhage": 0.22, "hard_exudate": 0.4, "soft_exudate": 0.6},
}
# Least shifts in search pixels (2.3 % and 3.9 % of the longer side). Pale crescents beside the disc draw it further.
LEAST_SHIFT, LEAST_LANDMARK_SHIFT = 6, 10
PEAK = 8  # search pixels: places nearer than this to the best one belong to it


@dataclass(frozen=True, slots=True)
class Move:
    """How to bring a mask to its structure: a mirror to undo (or ""), else a shift in search pixels."""

    mirror: str = ""
    down: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """Scores of one mask."""

    structure: str
    single_lesion: bool  # whether it is a mask of less than LEAST_LESIONS lesions
    radius: float  # of a disc of the mask's area, in search pixels
    given: float  # score in its place
    mirrored: dict[str, float]  # score with each of MIRRORS, and TURNS where they fit, undone
    shifted: np.ndarray  # scores of all shifts, float [2 R + 1, 2 R + 1] (row, column), R = REACH

    @property
    def not_visible(self) -> bool:
        """Whether the photograph shows nothing of the structure where the mask is, but might elsewhere."""
        least = LEAST_SCORE[self.structure]
        return self.given < least <= max(float(self.shifted.max()), *self.mirrored.values())

    def doubtful(self, move: Move) -> bool:
        """Whether the mask may be right without the move.

        It fits its place, too, or a pale crescent beside the disc draws it over by less than its radius.
        """
        near = self.structure in LANDMARKS and not move.mirror and np.hypot(move.down, move.right) < self.radius
        return near or not self.not_visible

    def score(self, move: Move) -> float:
        """Score after the move, at its best within one pixel."""
        if move.mirror:
            return self.mirrored[move.mirror]
        row, column = REACH + move.down, REACH + move.right
        return float(self.shifted[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max())

    def moves(self) -> list[Move]:
        """The moves after which the mask fits clearly better than in its place, best first.

        More than one only for a disc or cup: being round, it fits as well mirrored as shifted to the same place.
        """
        if self.single_lesion:
            return []
        landmark = LANDMARKS.get(self.structure)
        shift, rival = self._best_shift(LEAST_LANDMARK_SHIFT if landmark else LEAST_SHIFT)
        ranked = sorted([shift, *map(Move, self.mirrored)], key=self.score, reverse=True)
        best = self.score(ranked[0])
        if landmark:
            near = [move for move in ranked if self.score(move) > best - landmark.margin]
            mirrors = [move for move in near if move.mirror][:1]
            return [move for move in (*mirrors, *([shift] if shift in near else [])) if self.improves(move)]
        rival = max(self.score(ranked[1]), rival if ranked[0] == shift else 0)
        return ranked[:1] if self.improves(ranked[0]) and best > LEAST_RATIO * rival else []

    def improves(self, move: Move) -> bool:
        """Whether the mask fits clearly better after the move than in its place."""
        landmark = LANDMARKS.get(self.structure)
        if landmark:
            return self.score(move) > self.given + landmark.margin
        return self.score(move) > max(LEAST_RATIO * self.given, 0)

    def _best_shift(self, least: int) -> tuple[Move, float]:
        """The best shift of at least `least`, and the best score of the places away from it."""
        far = np.where(distances() >= least, self.shifted, -np.inf)
        row, column = np.unravel_index(far.argmax(), far.shape)
        move = Move("", int(row) - REACH, int(column) - REACH)
        top, left = max(row - PEAK, 0), max(column - PEAK, 0)
        far[top : row + PEAK + 1, left : column + PEAK + 1] = -np.inf
        return move, float(far.max())


@cache
def distances() -> np.ndarray:
    """Length of each shift in search pixels: float [2 R + 1, 2 R + 1]."""
    axis = np.arange(-REACH, REACH + 1)
    return np.hypot(axis[:, None], axis)
