"""`SammedPredictor`: SAM-Med2D's class, for code that was written for it. `SamPredictor` can do more."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .predictor import SamPredictor


class SammedPredictor(SamPredictor):
    """As `SamPredictor`, but with `multimask_output` only the candidate of the highest predicted IoU, M = 1.

    Masks are float32 of 0 and 1. Photographs are prepared as the model's weights say.

    Args:
        sam_model: the model, in evaluation mode.
    """

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask for one prompt, or for N at once. Arguments and errors are those of `SamPredictor.predict`.

        Returns:
            masks [1, H, W], float32 of 0 and 1, or logits; predicted IoU [1]; low_res logits [1, S/4, S/4]; each with N
            in front where a prompt had it.
        """
        masks, iou, low_res = super().predict(
            point_coords, point_labels, box, mask_input, multimask_output, return_logits
        )
        best = iou.argmax(-1)[..., None]
        masks, low_res = (np.take_along_axis(array, best[..., None, None], -3) for array in (masks, low_res))
        return masks.astype(np.float32), np.take_along_axis(iou, best, -1), low_res

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None = None,
        point_labels: Tensor | None = None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks of N prompts. Arguments and errors are those of `SamPredictor.predict_torch`.

        Returns:
            masks [N, 1, H, W], float32 of 0 and 1, or logits; predicted IoU [N, 1]; low_res logits [N, 1, S/4, S/4].
        """
        masks, iou, low_res = super().predict_torch(
            point_coords, point_labels, boxes, mask_input, multimask_output, return_logits=True
        )
        best = iou.argmax(1)
        masks, iou, low_res = (tensor[torch.arange(len(best)), best][:, None] for tensor in (masks, iou, low_res))
        return masks if return_logits else (masks > self.model.mask_threshold).float(), iou, low_res

    @property
    def new_size(self) -> tuple[int, int]:
        """(height, width) of the model frame."""
        return self.model.image_size, self.model.image_size

    @property
    def devices(self) -> torch.device:
        return self.device

    def apply_coords(self, coords: np.ndarray, original_size: Sequence[int], new_size: Sequence[int]) -> np.ndarray:
        """As `apply_coords_torch`, for an array.

        Args:
            coords: [..., 2], x, y in pixels of the photograph that is set.
            original_size: (height, width) of that photograph.
            new_size: of the model frame; not used.

        Returns:
            float64 [..., 2], x, y in the model frame.

        Raises:
            ValueError: for another original size than that of the photograph.
        """
        return self.transform.apply_coords(coords, original_size)

    def apply_boxes(self, boxes: np.ndarray, original_size: Sequence[int], new_size: Sequence[int]) -> np.ndarray:
        """As `apply_boxes_torch`, for an array.

        Args:
            boxes: [..., 4], half-open x0, y0, x1, y1 in pixels of the photograph that is set.
            original_size: (height, width) of that photograph.
            new_size: of the model frame; not used.

        Returns:
            float64 [N, 4] in the model frame.

        Raises:
            ValueError: for another original size than that of the photograph.
        """
        return self.transform.apply_boxes(boxes, original_size)

    def apply_coords_torch(self, coords: Tensor, original_size: Sequence[int], new_size: Sequence[int]) -> Tensor:
        """Bring positions to the model frame.

        Args:
            coords: [..., 2], x, y in pixels of the photograph that is set.
            original_size: (height, width) of that photograph.
            new_size: of the model frame; not used.

        Returns:
            [..., 2], x, y in the model frame.

        Raises:
            ValueError: for another original size than that of the photograph.
        """
        return self.transform.apply_coords_torch(coords, original_size)

    def apply_boxes_torch(self, boxes: Tensor, original_size: Sequence[int], new_size: Sequence[int]) -> Tensor:
        """Bring boxes to the model frame.

        Args:
            boxes: [..., 4], half-open x0, y0, x1, y1 in pixels of the photograph that is set.
            original_size: (height, width) of that photograph.
            new_size: of the model frame; not used.

        Returns:
            [N, 4] in the model frame.

        Raises:
            ValueError: for another original size than that of the photograph.
        """
        return self.transform.apply_boxes_torch(boxes, original_size)
