"""Photograph -> S x S model frame, and the exact way back.

`Preprocessing` says how (it is stored in each checkpoint); `Frame` is the geometry of one photograph. Pixel
(0, 0) is the top-left one. Points are pixel indices in x, y order; boxes are half-open edges x0, y0, x1, y1.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .choices import CHANNEL_ORDERS, MASK_PROMPTS, MODES, PIXEL_SCALES
from .modeling.common import PIXEL_MEAN, PIXEL_STD
from .modeling.prompt_checks import Area, refuse_positions
from .utils.column_runs import ColumnRuns, runs_above
from .utils.field_of_view import FieldOfView, find_field_of_view
from .utils.masks import resize_mask
from .utils.transforms import ResizeLongestSide

OUTSIDE_LOGIT = -20.0  # of pixels that the model never saw


@dataclass(frozen=True)
class Frame:
    """Where a photograph's pixels lie in the model frame.

    original: (H, W) of the photograph. crop: (top, left, bottom, right) of the part that was used. inner:
    (top, left, height, width) of that part in the S x S frame, S = image_size. view: what the camera saw, outside of
    which the frame is black; None where that was not looked for.
    """

    image_size: int
    original: tuple[int, int]
    crop: tuple[int, int, int, int]
    inner: tuple[int, int, int, int]
    view: FieldOfView | None = None

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of the used part, in original pixels."""
        top, left, bottom, right = self.crop
        return bottom - top, right - left

    def _scale_xy(self) -> np.ndarray:
        (height, width), (_, _, inner_height, inner_width) = self.crop_size, self.inner
        return np.array([inner_width / width, inner_height / height])

    def _edges_to_model(self, xy: np.ndarray) -> np.ndarray:
        return (xy - (self.crop[1], self.crop[0])) * self._scale_xy() + (self.inner[1], self.inner[0])

    def _edges_to_original(self, xy: np.ndarray) -> np.ndarray:
        return (xy - (self.inner[1], self.inner[0])) / self._scale_xy() + (self.crop[1], self.crop[0])

    def points_to_model(self, xy: np.ndarray) -> np.ndarray:
        """Pixel positions [..., 2] of the photograph -> positions in the model frame (float64)."""
        return self._edges_to_model(np.asarray(xy, np.float64) + 0.5) - 0.5

    def points_to_original(self, xy: np.ndarray) -> np.ndarray:
        """Inverse of `points_to_model`."""
        return self._edges_to_original(np.asarray(xy, np.float64) + 0.5) - 0.5

    def boxes_to_model(self, boxes: np.ndarray) -> np.ndarray:
        """Half-open boxes [..., 4] of the photograph -> boxes in the model frame (float64)."""
        boxes = np.asarray(boxes, np.float64)
        return self._edges_to_model(boxes.reshape(-1, 2)).reshape(boxes.shape)

    def boxes_to_original(self, boxes: np.ndarray) -> np.ndarray:
        """Inverse of `boxes_to_model`."""
        boxes = np.asarray(boxes, np.float64)
        return self._edges_to_original(boxes.reshape(-1, 2)).reshape(boxes.shape)

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """Pixels left, right, above and below the used part, in the order of `F.pad`."""
        top, left, bottom, right = self.crop
        return left, self.original[1] - right, top, self.original[0] - bottom

    def logits_to_crop(self, logits: Tensor) -> Tensor:
        """Logits [N, M, s, s] at any resolution s of the model frame -> [N, M, h, w] of the used part.

        Bilinear to S x S, cut, bilinear to the cropped size.
        """
        return _bilinear(self._inner_logits(logits), self.crop_size)

    def _inner_logits(self, logits: Tensor) -> Tensor:
        """Logits [N, M, s, s] -> those of the used part in the S x S frame."""
        top, left, height, width = self.inner
        return _bilinear(logits, (self.image_size, self.image_size))[..., top : top + height, left : left + width]

    def logits_to_original(self, logits: Tensor) -> Tensor:
        """`logits_to_crop`, [N, M, H, W]: pixels outside the crop get OUTSIDE_LOGIT."""
        logits = self.logits_to_crop(logits)
        return F.pad(logits, self.margins, value=OUTSIDE_LOGIT) if any(self.margins) else logits

    def runs_above(self, logits: Tensor, threshold: float) -> ColumnRuns:
        """The mask of `logits_to_original`, without its pixels: a tenth of its time for a large photograph.

        Args:
            logits: [s, s] at any resolution s of the model frame.
            threshold: of logits, not below OUTSIDE_LOGIT.

        Returns:
            Runs of a mask of the photograph's size.

        Raises:
            ValueError: for a lower threshold.
        """
        if threshold < OUTSIDE_LOGIT:
            raise ValueError(f"threshold {threshold}: give {OUTSIDE_LOGIT} or more, a logit.")
        inner = self._inner_logits(logits.float().cpu()[None, None])
        height, width = self.crop_size
        columns = _bilinear(inner, (inner.shape[2], width))[0, 0].T.contiguous().numpy()
        return runs_above(columns, threshold, height, self.crop[:2], self.original)


def _bilinear(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [N, M, h, w] at another size (height, width)."""
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


class FrameTransform(ResizeLongestSide):
    """Brings positions on one photograph to its model frame. Pictures are resized as by `ResizeLongestSide`."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame.image_size)
        self.frame = frame

    def _check(self, original_size: Sequence[int]) -> None:
        if tuple(original_size) != self.frame.original:
            raise ValueError(f"a size of {tuple(original_size)}: the photograph that is set has {self.frame.original}.")

    def apply_coords(self, coords: np.ndarray, original_size: Sequence[int]) -> np.ndarray:
        """Positions [..., 2] on the photograph -> positions in the model frame."""
        self._check(original_size)
        return self.frame.points_to_model(coords)

    def apply_boxes(self, boxes: np.ndarray, original_size: Sequence[int]) -> np.ndarray:
        """Half-open boxes [..., 4] on the photograph -> boxes [N, 4] in the model frame."""
        self._check(original_size)
        refuse_positions(Area.of(self.frame.original).with_overhang(), boxes=boxes)
        return self.frame.boxes_to_model(np.reshape(boxes, (-1, 4)))


ZOOM_MARGIN = 0.5  # around a box, in shares of its longer side
LEAST_ZOOM = 0.25  # side of a window, in shares of S: pixels are enlarged four times at most


def window_around(frame: Frame, box: Sequence[float]) -> Frame:
    """Frame of a square window around a box, x0, y0, x1, y1 in pixels of the photograph, with a margin.

    It lies in the part of the photograph that `frame` uses, which stays as it is where the window would not be smaller.
    """
    top, left, bottom, right = frame.crop
    height, width = frame.crop_size
    longer = max(box[2] - box[0], box[3] - box[1])
    side = max(math.ceil(longer * (1 + 2 * ZOOM_MARGIN)), round(LEAST_ZOOM * frame.image_size))
    if side >= min(height, width):
        return frame
    x = min(max(round((box[0] + box[2] - side) / 2), left), right - side)
    y = min(max(round((box[1] + box[3] - side) / 2), top), bottom - side)
    return window_frame(frame, (y, x, y + side, x + side))


def window_frame(frame: Frame, crop: tuple[int, int, int, int]) -> Frame:
    """Frame of another part of the photograph, (top, left, bottom, right); in the middle where it is not square."""
    inner = inside_square(frame.image_size, crop[2] - crop[0], crop[3] - crop[1])
    return replace(frame, crop=crop, inner=inner)


def inside_square(size: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a picture that is resized to fill a square of this size, and centred."""
    inner_height, inner_width = (max(1, round(side * size / max(height, width))) for side in (height, width))
    return (size - inner_height) // 2, (size - inner_width) // 2, inner_height, inner_width


@dataclass(frozen=True)
class Preprocessing:
    """How photographs and mask prompts are given to a model.

    mode: "fundus" (crop to the field of view, black outside of it, pad to a square, area interpolation down, linear
    up) or "sam_med2d" (centre-pad where the photograph is smaller than S in both directions, else stretch, nearest).
    channel_order: order of the channels the weights expect. mask_prompt: whether a mask prompt is the earlier
    logits or their sigmoid. pixel_scale: see `normalise`. Raises ValueError for other values.
    """

    image_size: int
    mode: str = "fundus"
    channel_order: str = "rgb"
    mask_prompt: str = "probability"
    pixel_scale: str = "sam"

    def __post_init__(self) -> None:
        allowed = {"mode": MODES, "channel_order": CHANNEL_ORDERS, "mask_prompt": MASK_PROMPTS}
        allowed["pixel_scale"] = PIXEL_SCALES
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(values)}.")

    def as_dict(self) -> dict[str, int | str]:
        """What is stored; without the pixel scale where it is SAM's, as in files that are older than the setting."""
        found = asdict(self)
        return found if self.pixel_scale != "sam" else {key: found[key] for key in found if key != "pixel_scale"}

    def overridden(self, **values: str | None) -> "Preprocessing":
        """A copy with other values; None keeps what is there. Raises ValueError as the constructor does."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def frame(self, image: np.ndarray) -> Frame:
        """Geometry for a photograph [H, W, 3], RGB uint8."""
        height, width = image.shape[:2]
        if self.mode == "fundus":
            view = find_field_of_view(image)
            inner = inside_square(self.image_size, view.box[2] - view.box[0], view.box[3] - view.box[1])
            return Frame(self.image_size, (height, width), view.box, inner, view)
        return Frame(self.image_size, (height, width), (0, 0, height, width), self._pad_or_stretch(height, width))

    def window(self, frame: Frame, box: Sequence[int]) -> Frame:
        """Frame of a part of the photograph: what lies in a half-open box x0, y0, x1, y1 of what `frame` uses.

        The box alone where the two have nothing in common.
        """
        edges = np.array([box[1], box[0], box[3], box[2]])
        crop = np.concatenate((np.maximum(edges[:2], frame.crop[:2]), np.minimum(edges[2:], frame.crop[2:])))
        crop = tuple(int(edge) for edge in (crop if (crop[:2] < crop[2:]).all() else edges))
        if self.mode == "fundus":
            return window_frame(frame, crop)
        return replace(frame, crop=crop, inner=self._pad_or_stretch(crop[2] - crop[0], crop[3] - crop[1]))

    def _pad_or_stretch(self, height: int, width: int) -> tuple[int, int, int, int]:
        size = self.image_size
        if height < size and width < size:
            return (size - height) // 2, (size - width) // 2, height, width
        return 0, 0, size, size

    def image(self, image: np.ndarray, frame: Frame) -> np.ndarray:
        """RGB uint8 photograph [H, W, 3] -> normalised float32 [3, S, S] in the model's channel order."""
        pixels = image if self.channel_order == "rgb" else image[..., ::-1]
        if self.mode == "fundus":  # the surround is black, whatever it is in the photograph
            part = _cut(pixels, frame)
            part = frame.view.blackened(part, frame.crop) if frame.view else part
            placed = normalise(place(resize(part, frame, self.interpolation(frame)), frame), self.pixel_scale)
        else:  # padded after normalisation: the surround is the mean colour, or the darkest one
            inner = resize(_cut(pixels, frame), frame, cv2.INTER_NEAREST)
            placed = place(normalise(inner, self.pixel_scale), frame)
        return np.ascontiguousarray(placed.transpose(2, 0, 1))

    def mask(self, mask: np.ndarray, frame: Frame) -> np.ndarray:
        """Mask [H, W] (bool or 0 / non-zero) -> uint8 {0, 1} [S, S] in the model frame."""
        binary = (mask != 0).astype(np.uint8)
        if self.mode == "fundus":
            return place(resize_mask(_cut(binary, frame), frame.inner[2:]), frame)
        return place(resize(_cut(binary, frame), frame, cv2.INTER_NEAREST), frame)

    @staticmethod
    def interpolation(frame: Frame) -> int:
        """OpenCV's way of resizing: by area where the used part shrinks, else linear."""
        (height, width), (_, _, inner_height, inner_width) = frame.crop_size, frame.inner
        return cv2.INTER_AREA if inner_height < height or inner_width < width else cv2.INTER_LINEAR


def normalise(pixels: np.ndarray, scale: str = "sam") -> np.ndarray:
    """Pixels as a model's weights expect them.

    Args:
        pixels: [H, W, 3] in 0..255, of the size of the model's input.
        scale: "sam" is (pixels - mean) / deviation with SAM's constants; "unit" is MedSAM's 0..1, (pixels - low) /
            (high - low) with the lowest and the highest number of the picture, all channels together.

    Returns:
        float32 [H, W, 3].
    """
    values = pixels.astype(np.float32)
    if scale == "unit":
        return (values - values.min()) / max(values.max() - values.min(), np.float32(1e-8))
    return (values - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)


def resize(array: np.ndarray, frame: Frame, interpolation: int) -> np.ndarray:
    """Resize an [h, w(, C)] array to the inner size of `frame`."""
    height, width = frame.inner[2:]
    if array.shape[:2] == (height, width):
        return array
    return cv2.resize(np.ascontiguousarray(array), (width, height), interpolation=interpolation)


def place(inner: np.ndarray, frame: Frame) -> np.ndarray:
    """Put an [h, w(, C)] array at its place in an S x S frame of zeros."""
    top, left, height, width = frame.inner
    out = np.zeros((frame.image_size, frame.image_size, *inner.shape[2:]), inner.dtype)
    out[top : top + height, left : left + width] = inner
    return out


def _cut(array: np.ndarray, frame: Frame) -> np.ndarray:
    top, left, bottom, right = frame.crop
    return array[top:bottom, left:right]


def coverage(mask: np.ndarray, frame: Frame) -> np.ndarray:
    """Share of each pixel of the model frame that a mask [H, W] covers: float32 [S, S]."""
    part = _cut(mask, frame).astype(np.float32)
    return place(resize(part, frame, Preprocessing.interpolation(frame)), frame)


def to_tensor(array: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """NumPy array -> tensor of the same shape on `device`."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
