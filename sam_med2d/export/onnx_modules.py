"""The encoder and its preprocessing as modules with the inputs and outputs of their ONNX file."""

import torch
from torch import Tensor, nn

from sam_med2d.export.onnx_image_encoder import OnnxImageEncoder
from segment_anything.modeling.common import PIXEL_MEAN, PIXEL_STD
from segment_anything.modeling.sam import Sam
from segment_anything.preprocessing import Preprocessing
from segment_anything.utils.onnx import inner_frame


class OnnxPreprocess(nn.Module):
    """Pixels [H, W, 3], float32 in 0..255, in the model's channel order -> normalised [1, 3, S, S].

    H and W are those of the part of the photograph that is used: with "fundus" the crop to the field of view is the
    caller's. The result is that of `Preprocessing.image`, up to the rounding of averages to whole grey levels.

    Args:
        preprocessing: the model's; its channel order is left to the caller.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.size, self.mode, self.scale = preprocessing.image_size, preprocessing.mode, preprocessing.pixel_scale
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN))
        self.register_buffer("std", torch.tensor(PIXEL_STD))

    def forward(self, pixels: Tensor) -> Tensor:
        shape = torch._shape_as_tensor(pixels).to(pixels.device)[:2]
        top, left, height, width = inner_frame(shape, self.size, self.mode)
        if self.mode == "fundus":
            shrinks = (height < shape[0]) | (width < shape[1])
            rows = self._averages(shape[0], top, height, shrinks)
            columns = self._averages(shape[1], left, width, shrinks)
            across = (rows @ pixels.flatten(1)).unflatten(1, (-1, 3)).permute(2, 0, 1) @ columns.t()
            return self._normalised(across.permute(1, 2, 0)).permute(2, 0, 1)[None]
        rows, above = self._nearest(shape[0], top, height)
        columns, beside = self._nearest(shape[1], left, width)
        chosen = self._normalised(pixels.index_select(0, rows).index_select(1, columns))
        return (chosen * (above[:, None] * beside)[..., None]).permute(2, 0, 1)[None]

    def _normalised(self, pixels: Tensor) -> Tensor:
        """[S, S, 3] in 0..255 -> the numbers that the weights expect."""
        if self.scale == "unit":
            return (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-8)
        return (pixels - self.mean) / self.std

    def _places(self, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Of each model pixel its place in the inner part, and whether it lies there."""
        place = torch.arange(self.size, device=start.device) - start
        return place, (place >= 0) & (place < length)

    def _nearest(self, count: Tensor, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Of each model pixel the source pixel, and 1.0 where it has one."""
        place, inside = self._places(start, length)
        source = (place.double() * (count.double() / length.double())).floor().long()
        return torch.minimum(source.clamp(min=0), count - 1), inside.float()

    def _averages(self, count: Tensor, start: Tensor, length: Tensor, shrinks: Tensor) -> Tensor:
        """Weights [S, count] of the source pixels: shares of area where the picture shrinks, else linear."""
        place, inside = self._places(start, length)
        place, step = place.double()[:, None], count.double() / length.double()
        pixel = torch.arange(count, device=count.device).double()
        covered = torch.minimum((place + 1) * step, pixel + 1) - torch.maximum(place * step, pixel)
        source = torch.minimum(((place + 0.5) * step - 0.5).clamp(min=0), count.double() - 1)
        weights = torch.where(shrinks, covered.clamp(min=0) / step, (1 - (source - pixel).abs()).clamp(min=0))
        return (weights * inside[:, None]).float()


class OnnxEncoder(nn.Module):
    """`input_image` -> `image_embeddings` [B, C, S/16, S/16] and, with a detail head, `detail_features` [B, F, S, S].

    Args:
        model: whose encoder it is.
        use_preprocess: the input is one photograph (see OnnxPreprocess), not a normalised batch [B, 3, S, S].
    """

    def __init__(self, model: Sam, *, use_preprocess: bool = False) -> None:
        super().__init__()
        self.preprocess = OnnxPreprocess(model.preprocessing) if use_preprocess else None
        self.encoder = OnnxImageEncoder(model.image_encoder)
        self.detail = model.mask_decoder.detail

    @torch.no_grad()
    def forward(self, input_image: Tensor) -> tuple[Tensor, ...]:
        image = input_image if self.preprocess is None else self.preprocess(input_image)
        embedding = self.encoder(image)
        if self.detail is None:
            return (embedding,)
        levels = self.detail.levels(image)
        embedding = self.detail.enrich(embedding, levels)
        return embedding, self.detail.features(levels, embedding)
