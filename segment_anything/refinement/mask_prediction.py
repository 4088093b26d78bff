"""`MaskPrediction`: what a model says of one prompt, before it is brought to the photograph's size."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from torch import Tensor

from ..modeling import Sam
from ..preprocessing import Frame
from ..utils.column_runs import ColumnRuns


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskPrediction:
    """Candidate masks of one prompt, small until `logits` or `mask` is called, so that many of them fit into memory.

    Attributes:
        candidates: logits [M, s, s] of the M candidate masks, s = S/4, or the frame's S with a detail head or tiles.
        candidate_iou: predicted IoU [M] of the candidates.
        points: the prompt as labelled points of the photograph's model frame: coords [P, 2] (x, y) and labels [P].
        frame: where the logits lie: the photograph's model frame, a window's, or one as fine as the photograph's tiles.
        presence: probability that the structure is in the photograph; NaN for weights that know no structures.
        absent: whether a structure was predicted absent, so that the mask is empty, whatever the logits say.
    """

    candidates: Tensor
    candidate_iou: Tensor
    points: tuple[Tensor, Tensor]
    frame: Frame
    presence: float = math.nan
    absent: bool = False

    @property
    def low_res(self) -> Tensor:
        """Logits float32 [s, s] of the candidate with the highest predicted IoU."""
        return self.candidates[int(self.candidate_iou.argmax())].float()

    @property
    def predicted_iou(self) -> float:
        """The highest predicted IoU."""
        return float(self.candidate_iou.max())

    def best(self) -> Self:
        """The prediction with its best candidate alone, M = 1, which keeps no other tensor in memory."""
        return replace(self, candidates=self.low_res[None].clone(), candidate_iou=self.candidate_iou.amax()[None])

    def logits(self) -> Tensor:
        """Logits float32 [H, W] of the best candidate at the photograph's size, also of what is predicted absent."""
        return self.frame.logits_to_original(self.low_res[None, None])[0, 0]

    def runs(self, threshold: float = Sam.mask_threshold) -> ColumnRuns:
        """The best candidate's mask at the photograph's size, above a threshold of logits; empty where absent."""
        if self.absent:
            return ColumnRuns.empty(self.frame.original)
        return self.frame.runs_above(self.low_res, threshold)

    def mask(self, threshold: float = Sam.mask_threshold) -> np.ndarray:
        """The pixels of `runs`, bool [H, W]."""
        return self.runs(threshold).mask()
