"""The whole model: an image encoder, a prompt encoder and a mask decoder (Kirillov et al. 2023)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import PIXEL_MEAN, PIXEL_STD
from .image_encoder import ImageEncoderViT
from .mask_decoder import Decoded, MaskDecoder
from .prompt_checks import Area, refuse_positions
from .prompt_encoder import FOREGROUND, STRUCTURE, PromptEncoder

ABSENT_LOGIT = -20.0  # of all pixels of a structure that is not there


class Sam(nn.Module):
    """Predicts masks from an image and prompts. `encode` once, then `decode` as often as there are prompts.

    Attributes:
        preprocessing: how photographs become input, a `Preprocessing`; the builder sets it.
    """

    mask_threshold = 0.0
    image_format = "RGB"  # of the pixels that `preprocess` and `forward` take

    def __init__(
        self, image_encoder: ImageEncoderViT, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.preprocessing = None
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def image_size(self) -> int:
        """Side S of the square input in pixels."""
        return self.image_encoder.image_size

    def encode(self, image: Tensor) -> Tensor:
        """Embed normalised images [B, 3, S, S] (ValueError for another shape): [B, C, S/16, S/16]."""
        return self._embed(image)[0]

    def features(self, image: Tensor, embedding: Tensor) -> Tensor | None:
        """What the detail head sees of images.

        Args:
            image: normalised, [B, 3, S, S].
            embedding: their embeddings [B, C, S/16, S/16].

        Returns:
            [B, channels, S, S]; None for weights without a detail head.
        """
        detail = self.mask_decoder.detail
        return None if detail is None else detail.features(detail.levels(image), embedding)

    def encode_all(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """All that the decoder wants of normalised images [B, 3, S, S]: their embeddings and `features`."""
        embedding, levels = self._embed(image)
        return embedding, None if levels is None else self.mask_decoder.detail.features(levels, embedding)

    def _embed(self, image: Tensor) -> tuple[Tensor, list[Tensor] | None]:
        """The embeddings, and the detail head's levels, of which some may go into the embeddings."""
        embedding, detail = self.image_encoder(image), self.mask_decoder.detail
        if detail is None:
            return embedding, None
        levels = detail.levels(image)
        return detail.enrich(embedding, levels), levels

    def decode(
        self,
        embedding: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool | None = True,
        features: Tensor | None = None,
    ) -> Decoded:
        """Decode the prompts of N masks, given as `PromptEncoder.forward` takes them.

        Args:
            embedding: [N, C, S/16, S/16], or [1, C, S/16, S/16] which serves all prompts.
            points: coords [N, P, 2] in model-frame pixels x, y, and labels [N, P].
            boxes: [N, 4] as x0, y0, x1, y1 in model-frame pixels.
            masks: mask prompts [N, 1, S/4, S/4].
            multimask: see `MaskDecoder.decode`.
            features: of the images that the embeddings are of, see `features`.

        Returns:
            Logits, predicted IoU and presence.

        Raises:
            ValueError: the number of embeddings is neither 1 nor that of the prompts.
        """
        coords, labels = self.prompt_encoder.as_points(points, boxes)
        if coords is None:
            count = 1 if masks is None else masks.shape[0]
            coords, labels = embedding.new_zeros(count, 0, 2), embedding.new_zeros(count, 0)
        return self.decode_points(embedding, coords, labels, masks, multimask=multimask, features=features)

    def answer(
        self,
        embedding: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        multimask: bool,
        features: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """As `decode`, with the rules of a predictor.

        Args:
            embedding: this and the others as of `decode`.
            masks: logits [N, 1, S/4, S/4], `low_res` of an earlier answer, whatever the model is used to.

        Returns:
            Logits [N, M, s, s], empty for a structure that is predicted absent, and predicted IoU [N, M].

        Raises:
            ValueError: points without labels, or as `decode`.
        """
        if points is not None and points[1] is None:
            raise ValueError("point_coords and point_labels go together: give both or none.")
        if masks is not None and self.preprocessing is not None and self.preprocessing.mask_prompt == "probability":
            masks = masks.sigmoid()
        prompts = {"points": points, "boxes": boxes, "masks": masks}
        logits, iou, presence = self.decode(embedding, **prompts, multimask=multimask, features=features)
        if points is not None and boxes is None:
            logits = self.withhold_absent(logits, presence, points[1])
        return logits, iou

    def low_res(self, logits: Tensor) -> Tensor:
        """Logits [N, M, s, s] at the size of a mask prompt, [N, M, S/4, S/4], by means of cells."""
        return F.adaptive_avg_pool2d(logits, self.prompt_encoder.mask_size)

    def decode_points(
        self,
        embedding: Tensor,
        coords: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        multimask: bool | None = True,
        features: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> Decoded:
        """As `decode`, with the sparse prompts given as labelled positions, nothing added to them.

        Args:
            embedding: [N, C, S/16, S/16], or [1, C, S/16, S/16] which serves all prompts, or of B images.
            coords: [N, P, 2] model-frame pixels x, y; P may be 0.
            labels: [N, P] as in `PromptEncoder.embed_points`.
            masks: mask prompts [N, 1, S/4, S/4].
            multimask: see `MaskDecoder.decode`.
            features: of the images that the embeddings are of, see `features`.
            image_index: int64 [N], in order: the image of each mask, where embedding and features are of B images.
        """
        encoder = self.prompt_encoder
        return self.mask_decoder.decode(
            embedding,
            encoder.get_dense_pe(),
            encoder.embed_points(coords, labels),
            encoder.embed_no_mask(1) if masks is None else encoder.embed_masks(masks),
            multimask=multimask,
            features=features,
            points=(coords, labels),
            image_index=image_index,
        )

    def withhold_absent(self, logits: Tensor, presence: Tensor | None, labels: Tensor) -> Tensor:
        """Logits [N, M, s, s], ABSENT_LOGIT everywhere for a structure that is predicted absent.

        Args:
            logits: [N, M, s, s].
            presence: logits [N] of the decoder; None for weights that know no structures.
            labels: [N, P] of the prompts. A click on the structure or a box says that it is there.
        """
        if presence is None:
            return logits
        return torch.where(self.is_absent(presence, labels).view(-1, 1, 1, 1), ABSENT_LOGIT, logits)

    def is_absent(self, presence: Tensor | None, labels: Tensor) -> Tensor:
        """Which prompts are for a structure that is predicted absent.

        Args:
            presence: see `withhold_absent`.
            labels: see `withhold_absent`.

        Returns:
            bool [N]: the probability of presence is below the structure's `prompt_encoder.presence_thresholds`.
        """
        names = self.prompt_encoder.structures
        if presence is None or not names:
            return torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        levels = torch.tensor([self.prompt_encoder.presence_thresholds[name] for name in names], device=labels.device)
        of_structure = (labels >= STRUCTURE) & (labels < STRUCTURE + len(names))
        level = torch.where(of_structure, levels[(labels.long() - STRUCTURE).clamp(0, len(names) - 1)], 0).amax(1)
        shown = ((labels >= FOREGROUND) & (labels < STRUCTURE)).any(1)
        return of_structure.any(1) & ~shown & (presence.sigmoid() < level)

    def preprocess(self, x: Tensor) -> Tensor:
        """SAM's own: RGB [..., 3, h, w] in 0..255 -> normalised [..., 3, S, S], with zeros right and below.

        Pixels in 0..1 of each picture, where the weights expect MedSAM's.
        """
        if self.preprocessing is not None and self.preprocessing.pixel_scale == "unit":
            low, high = (bound(x, dim=(-3, -2, -1), keepdim=True) for bound in (torch.amin, torch.amax))
            x = (x - low) / (high - low).clamp(min=1e-8)
        else:
            x = (x - self.pixel_mean) / self.pixel_std
        height, width = x.shape[-2:]
        return F.pad(x, (0, self.image_size - width, 0, self.image_size - height))

    def postprocess_masks(self, masks: Tensor, input_size: tuple[int, int], original_size: tuple[int, int]) -> Tensor:
        """Undo SAM's own preprocessing: logits [N, M, H, W], bilinear.

        Args:
            masks: logits [N, M, S/4, S/4].
            input_size: (height, width) of what was given to `preprocess`.
            original_size: (H, W) of the photograph.
        """
        size = (self.image_size, self.image_size)
        masks = F.interpolate(masks, size, mode="bilinear", align_corners=False)
        masks = masks[..., : input_size[0], : input_size[1]]
        return F.interpolate(masks, tuple(original_size), mode="bilinear", align_corners=False)

    @torch.no_grad()
    def forward(self, batched_input: list[dict[str, Any]], multimask_output: bool) -> list[dict[str, Tensor]]:
        """SAM's own batch interface; `SamPredictor` is the comfortable one.

        Args:
            batched_input: for each photograph `image` [3, h, w] (RGB, 0..255, longer side at most S), `original_size`
                (H, W), and any of `point_coords` [N, P, 2] with `point_labels` [N, P], `boxes` [N, 4], `mask_inputs`
                [N, 1, S/4, S/4], all in pixels of `image`; boxes may overhang it by what training jitters.
            multimask_output: True for three candidates of each mask, False for one mask.

        Returns:
            For each photograph `masks` bool [N, M, H, W], `iou_predictions` [N, M] and `low_res_logits`
            [N, M, S/4, S/4], which `mask_inputs` takes.

        Raises:
            ValueError: a box or a point of a photograph cannot be meant, or points have no labels.
        """
        for i, item in enumerate(batched_input):
            _refuse_prompts(item, f"image {i}")
        embeddings, features = self.encode_all(torch.stack([self.preprocess(item["image"]) for item in batched_input]))
        return [
            self._forward_one(
                item, embeddings[i : i + 1], None if features is None else features[i : i + 1], multimask_output
            )
            for i, item in enumerate(batched_input)
        ]

    def _forward_one(
        self, item: dict[str, Any], embedding: Tensor, features: Tensor | None, multimask: bool
    ) -> dict[str, Tensor]:
        points = (item["point_coords"], item.get("point_labels")) if "point_coords" in item else None
        prompts = {"points": points, "boxes": item.get("boxes"), "masks": item.get("mask_inputs")}
        logits, iou = self.answer(embedding, **prompts, multimask=multimask, features=features)
        masks = self.postprocess_masks(logits, item["image"].shape[-2:], item["original_size"])
        return {"masks": masks > self.mask_threshold, "iou_predictions": iou, "low_res_logits": self.low_res(logits)}


def _refuse_prompts(item: dict[str, Any], name: str) -> None:
    """Refuse boxes and points of a photograph of `Sam.forward` that cannot be meant (ValueError)."""
    area = Area.of(item["image"].shape[-2:], name).with_overhang()
    names = {"boxes": "boxes", "points": "point_coords", "labels": "point_labels"}
    given = {key: item[of].cpu().numpy() for key, of in names.items() if item.get(of) is not None}
    if ("points" in given) == ("labels" in given):  # one without the other is refused where they are decoded
        refuse_positions(area, **given)


class SharedSam(Sam):
    """A model that shares the parts of another, which stays as it is: for classes that compute one part otherwise."""

    def __init__(self, model: Sam) -> None:
        """Share the parts, settings, device and mode of a model."""
        super().__init__(model.image_encoder, model.prompt_encoder, model.mask_decoder)
        self.preprocessing = model.preprocessing
        self.pixel_mean, self.pixel_std = model.pixel_mean, model.pixel_std
        self.training = model.training
