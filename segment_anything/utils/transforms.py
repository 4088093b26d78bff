"""SAM's own resizing, for code that was written for Segment Anything: the longer side becomes S.

`SamPredictor` and `Preprocessing` need none of it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class ResizeLongestSide:
    """Brings pictures, and positions on them, to a longer side of `target_length` pixels.

    Sizes are (height, width). Positions, in x, y order, are multiplied by the scale alone, as in Segment Anything.
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Size of a picture after it was resized."""
        scale = long_side_length / max(oldh, oldw)
        return int(oldh * scale + 0.5), int(oldw * scale + 0.5)

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize a picture, uint8 [H, W, 3]."""
        from PIL import Image  # whose filter Segment Anything uses; nothing else here needs it

        height, width = self.get_preprocess_shape(*image.shape[:2], self.target_length)
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize pictures, float [N, 3, H, W]."""
        size = self.get_preprocess_shape(*image.shape[-2:], self.target_length)
        return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def apply_coords(self, coords: np.ndarray, original_size: Sequence[int]) -> np.ndarray:
        """Positions [..., 2] on a picture of `original_size` -> positions after it was resized."""
        height, width = self.get_preprocess_shape(*original_size, self.target_length)
        return np.asarray(coords, np.float64) * (width / original_size[1], height / original_size[0])

    def apply_boxes(self, boxes: np.ndarray, original_size: Sequence[int]) -> np.ndarray:
        """Boxes [..., 4] as x0, y0, x1, y1 -> boxes [N, 4] after the picture was resized."""
        return self.apply_coords(np.reshape(boxes, (-1, 2, 2)), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: Tensor, original_size: Sequence[int]) -> Tensor:
        """As `apply_coords`, for a tensor; float32."""
        moved = self.apply_coords(coords.detach().cpu().numpy(), original_size)
        return torch.from_numpy(moved).to(coords.device, torch.float32)

    def apply_boxes_torch(self, boxes: Tensor, original_size: Sequence[int]) -> Tensor:
        """As `apply_boxes`, for a tensor; float32."""
        moved = self.apply_boxes(boxes.detach().cpu().numpy(), original_size)
        return torch.from_numpy(moved).to(boxes.device, torch.float32)
