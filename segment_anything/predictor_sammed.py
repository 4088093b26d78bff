"""`SammedPredictor`: SAM-Med2D's class, for code that was written for it. `SamPredictor` can do more."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .predictor import SamPredictor


class SammedPredictor(SamPredictor):
    """As `SamPredictor`, but with `multimask_output` only the candidate of the highest predicted IoU, M = 1.

    Masks are float32 of 0 and 1. Photographs are prepared as the model's weights say; a mask prompt holds the
    probabilities of an earlier mask, the sigmoid of its low_res logits, as in SAM-Med2D's notebooks.

    Args:
        sam_model: the model, in evaluation mode.
    """

    def set_image(
        self, image: np.ndarray, image_format: str | None = None, window: Sequence[int] | None = None
    ) -> None:
        """Encode a photograph. Errors are those of `SamPredictor.set_image`.

        Args:
            image: uint8 [H, W, 3].
            image_format: order of the channels, "RGB" or "BGR"; None: the order that the model's weights expect.
                SAM-Med2D's notebooks give what OpenCV reads, BGR, to weights for BGR, and do not say so.
            window: as in `SamPredictor.set_image`.
        """
        super().set_image(image, image_format or self.model.preprocessing.channel_order.upper(), window)

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask for one prompt, or for N at once. Arguments and errors are those of `SamPredictor.predict`.

        But for mask_input: the sigmoid of `low_res` of an earlier call, an array or a tensor; numbers outside 0..1 are
        taken for logits.

        Returns:
            masks [1, H, W], float32 of 0 and 1, or logits; predicted IoU [1]; low_res logits [1, S/4, S/4]; each with N
            in front where a prompt had it.
        """
        if mask_input is not None:
            mask_input = self._logits_of(torch.as_tensor(mask_input)).cpu().numpy()
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
        """Masks of N prompts. Arguments and errors are those of `SamPredictor.predict_torch`, but for mask_input.

        Returns:
            masks [N, 1, H, W], float32 of 0 and 1, or logits; predicted IoU [N, 1]; low_res logits [N, 1, S/4, S/4].
        """
        masks, iou, low_res = super().predict_torch(
            point_coords, point_labels, boxes, self._logits_of(mask_input), multimask_output, return_logits=True
        )
        best = iou.argmax(1)
        masks, iou, low_res = (tensor[torch.arange(len(best)), best][:, None] for tensor in (masks, iou, low_res))
        return masks if return_logits else (masks > self.model.mask_threshold).float(), iou, low_res

    def _logits_of(self, mask_input: Tensor | None) -> Tensor | None:
        """A mask prompt as `SamPredictor` takes it; weights that take logits get it as it is."""
        if mask_input is None or self.model.preprocessing.mask_prompt != "probability" or not mask_input.numel():
            return mask_input
        if mask_input.min() < 0 or mask_input.max() > 1:
            return mask_input
        return mask_input.float().logit(eps=1e-7)

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
        """Bring positions to the model frame: [..., 2], x, y.

        Args:
            coords: [..., 2], x, y in pixels of the photograph that is set.
            original_size: (height, width) of that photograph (ValueError for another).
            new_size: of the model frame; not used.
        """
        return self.transform.apply_coords_torch(coords, original_size)

    def apply_boxes_torch(self, boxes: Tensor, original_size: Sequence[int], new_size: Sequence[int]) -> Tensor:
        """Bring boxes to the model frame: [N, 4].

        Args:
            boxes: [..., 4], half-open x0, y0, x1, y1 in pixels of the photograph that is set.
            original_size: (height, width) of that photograph (ValueError for another).
            new_size: of the model frame; not used.
        """
        return self.transform.apply_boxes_torch(boxes, original_size)
