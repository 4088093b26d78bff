"""Resolution limit: the best that a model's grid of logits can hold of a mask, whatever its weights."""

import numpy as np
import torch
from torch.nn import functional as F

from sam_med2d.evaluation.mask_pair import MaskPair
from sam_med2d.evaluation.metrics import dice
from segment_anything.preprocessing import Frame, coverage

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)  # of the coverage, at which it is cut


class Ceilings:
    """Ceilings of a mask of a photograph, alone or with all others of its structure; each is computed once.

    The masks must live as long: they are told apart by their identity.
    """

    def __init__(self, own: Frame, region: np.ndarray | None = None) -> None:
        """Begin with the frame of a photograph, and the pixels that count, bool [H, W]; None for all."""
        self.own, self.region = own, region
        self._known: dict[tuple[Frame, int, int], float] = {}

    def of(self, truth: np.ndarray, frame: Frame | None, side: int) -> float:
        """`ceiling` of a mask.

        Args:
            truth: bool [H, W].
            frame: of the logits; None for the photograph's own. Another one has a grid of the same fineness.
            side: of the logits [side, side] of the photograph's own frame.
        """
        fineness = self.own.image_size // side
        key = frame or self.own, fineness, id(truth)
        if key not in self._known:
            self._known[key] = ceiling(truth if self.region is None else truth & self.region, *key[:2])
        return self._known[key]


def ceiling(truth: np.ndarray, frame: Frame, fineness: int = 1) -> float:
    """Dice of a mask that was averaged by area on the grid and brought back, at the best of LEVELS; NaN if empty.

    Not a bound in the strict sense: another choice of logits can draw an outline a little better than the true
    coverage of each cell.

    Args:
        truth: bool [H, W], in pixels of the photograph.
        frame: where the photograph lies in the model frame.
        fineness: side of a grid's cell in pixels of the model frame, 1 or 4.
    """
    if not truth.any():
        return float("nan")
    cells = torch.from_numpy(coverage(truth, frame))[None, None]
    cells = F.avg_pool2d(cells, fineness) if fineness > 1 else cells
    back = frame.logits_to_original(cells)[0, 0].numpy()  # outside is far below all levels
    return max(dice(MaskPair(back > level, truth)) for level in LEVELS)
