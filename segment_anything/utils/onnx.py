"""The encoder and the decoder as modules with the inputs and outputs of their ONNX files.

`OnnxEncoder` maps `input_image` to `image_embeddings`; `SamOnnxModel` maps embeddings and prompts to masks at the
photograph's size. Both are plain PyTorch: an exporter traces them, tests call them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..modeling.sam import Sam

LONGEST_SIDE = "longest_side"  # SAM's own geometry: the longer side becomes S, padded right and bottom
STRETCH = "stretch"  # the whole picture fills the frame, whatever its shape
STABILITY_OFFSET = 1.0  # logits around the threshold between which a stable mask does not change


def inner_frame(shape: Tensor, size: int, mode: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where a picture of shape (H, W), int64 [2], lies in the S x S frame: top, left, height, width.

    The arithmetic of `Preprocessing.frame` on tensors; mode: "fundus", "sam_med2d", LONGEST_SIDE or STRETCH.
    """
    sides, full = shape.double(), torch.full_like(shape, size)
    if mode == STRETCH:
        inner = full
    elif mode == "sam_med2d":
        inner = torch.where((shape < size).all(), shape, full)
    elif mode == LONGEST_SIDE:
        inner = (sides * (size / sides.amax()) + 0.5).floor().long()
    else:
        inner = (sides * size / sides.amax()).round().long().clamp(min=1)
    corner = torch.zeros_like(shape) if mode == LONGEST_SIDE else (full - inner) // 2
    return corner[0], corner[1], inner[0], inner[1]


class SamOnnxModel(nn.Module):
    """Prompt encoder, mask decoder and the way back to the photograph: embeddings and the prompts of N masks -> masks.

    M, the masks of a prompt: 4, the single mask and three candidates (`multimask` None, as SAM's); 3, the candidates
    (True); 1, the single mask (False); or 1, the candidate of the best predicted IoU (`return_single_mask`).

    Args:
        model: The model whose weights are exported.
        return_single_mask: Return the best candidate alone, whatever the number of points: SAM's own returns the
            single-mask output, which SAM-Med2D does not train, from three points on.
        use_stability_score: Return the stability of each low-resolution mask in place of its predicted IoU.
        return_extra_metrics: Return stability and area of the masks, too.
        resize_logest_img_size: Masks return by SAM's geometry, longer side S, padded right and bottom, not by the
            model's preprocessing. (SAM-Med2D's spelling.)
        multimask: The decoder's outputs, as above.
    """

    def __init__(
        self,
        model: Sam,
        return_single_mask: bool = False,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
        resize_logest_img_size: bool = False,
        *,
        multimask: bool | None = None,
    ) -> None:
        super().__init__()
        self.model, self.decoder, self.prompts = model, model.mask_decoder, model.prompt_encoder
        self.multimask = True if multimask is None and return_single_mask else multimask
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.return_extra_metrics = return_extra_metrics
        self.mode = LONGEST_SIDE if resize_logest_img_size else model.preprocessing.mode
        self.register_buffer("image_pe", self.prompts.get_dense_pe().detach())

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
        detail_features: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Decode prompts; a structure that is predicted absent comes back empty. All inputs are float32.

        Args:
            image_embeddings: [N or 1, C, S/16, S/16].
            point_coords: [N, P, 2] (x, y) in model-frame pixels.
            point_labels: [N, P]: 1 foreground, 0 background, 2 and 3 the corners of a box, -1 padding, from 4 on a
                structure.
            mask_input: [N or 1, 1, S/4, S/4], a mask prompt, which counts where has_mask_input is 1.
            has_mask_input: [N or 1], 1 or 0.
            orig_im_size: [2], height H and width W of the photograph, with "fundus" preprocessing of the part of it
                that was used.
            detail_features: [N or 1, F, S, S], for models with a detail head.

        Returns:
            masks [N, M, H, W], logits; iou_predictions [N, M]; with `return_extra_metrics` stability_scores [N, M] and
            areas [N, M], of the masks; low_res_masks [N, M, S/4, S/4], logits.
        """
        sparse = self.prompts.embed_points(point_coords, point_labels)
        dense = self._dense(mask_input, has_mask_input.view(-1, 1, 1, 1))
        logits, iou, presence = self.decoder.decode(
            image_embeddings,
            self.image_pe,
            sparse,
            dense,
            multimask=self.multimask,
            features=detail_features,
            points=(point_coords, point_labels),
        )
        logits = self.model.withhold_absent(logits, presence, point_labels)
        if self.return_single_mask:
            logits, iou = _best(logits, iou)
        masks = self._restore(logits, orig_im_size)
        low_res = logits if detail_features is None else F.avg_pool2d(logits, 4)
        scores = self._stability(logits) if self.use_stability_score else iou
        extra = (self._stability(masks), self._area(masks, 0.0)) if self.return_extra_metrics else ()
        return masks, scores, *extra, low_res

    def _dense(self, mask_input: Tensor, given: Tensor) -> Tensor:
        """Dense prompts [N or 1, C, S/16, S/16]: of the mask where it is given."""
        nothing = self.prompts.no_mask_embed.weight.view(1, -1, 1, 1)
        return given * self.prompts.embed_masks(mask_input) + (1 - given) * nothing

    def _restore(self, logits: Tensor, original: Tensor) -> Tensor:
        """Logits [N, M, s, s] of the model frame -> [N, M, H, W]."""
        size, shape = self.model.image_size, original.long()
        if logits.shape[-1] != size:
            logits = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
        top, left, height, width = inner_frame(shape, size, self.mode)
        inner = logits[:, :, top : top + height, left : left + width]
        return F.interpolate(inner, (shape[0], shape[1]), mode="bilinear", align_corners=False)

    def _stability(self, logits: Tensor) -> Tensor:
        """Area above a raised threshold over that above a lowered one, [N, M]; 0 where both are empty."""
        least, most = (self._area(logits, offset) for offset in (STABILITY_OFFSET, -STABILITY_OFFSET))
        return least / most.clamp(min=1)

    def _area(self, logits: Tensor, offset: float) -> Tensor:
        return (logits > self.model.mask_threshold + offset).flatten(2).float().sum(2)


def _best(logits: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    """The candidate with the highest predicted IoU: logits [N, 1, s, s] and IoU [N, 1]."""
    best = iou.argmax(1, keepdim=True)
    places = best[..., None, None].expand(-1, -1, *logits.shape[2:])
    return logits.gather(1, places), iou.gather(1, best)
