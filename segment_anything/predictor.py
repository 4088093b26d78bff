"""`SamPredictor`: one photograph, any number of prompts, masks at the photograph's size."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .modeling import Sam
from .modeling.mask_decoder import Decoded
from .modeling.prompt_checks import Area, refuse_labels, refuse_positions, shaped, window_within
from .preprocessing import Frame, FrameTransform, to_tensor
from .refinement.refine import Refinement, refine
from .refinement.tiling import Tiles
from .utils.transforms import ResizeLongestSide


class SamPredictor:
    """Encodes a photograph once and predicts masks of prompts from its embedding. NumPy in, NumPy out.

    Args:
        sam_model: the model, in evaluation mode.
    """

    def __init__(self, sam_model: Sam) -> None:
        self.model = sam_model
        self.reset_image()

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def transform(self) -> ResizeLongestSide:
        """What brings positions on the photograph that is set, or on SAM's resized pictures, to the model frame."""
        return ResizeLongestSide(self.model.image_size) if self.frame is None else FrameTransform(self.frame)

    @property
    def is_image_set(self) -> bool:
        return self.features is not None

    @property
    def original_size(self) -> tuple[int, int] | None:
        """(height, width) of the photograph."""
        return None if self.frame is None else self.frame.original

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of its used part in the model frame."""
        return None if self.frame is None else self.frame.inner[2:]

    def reset_image(self) -> None:
        """Forget the photograph."""
        self.features: Tensor | None = None
        self.detail: Tensor | None = None
        self.frame: Frame | None = None
        self.image: np.ndarray | None = None

    @torch.no_grad()
    def set_image(self, image: np.ndarray, image_format: str = "RGB", window: Sequence[int] | None = None) -> None:
        """Encode a photograph.

        Args:
            image: uint8 [H, W, 3].
            image_format: order of the channels, "RGB" or "BGR".
            window: the part of it to encode, half-open x0, y0, x1, y1 in pixels; prompts and masks stay those of the
                whole photograph.

        Raises:
            ValueError: for another type, shape or format, and for a window outside.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format={image_format!r} is unknown: use 'RGB' or 'BGR'.")
        check_image(image)
        window = window if window is None else window_within(window, image.shape[:2])
        rgb = image if image_format == "RGB" else image[..., ::-1]
        self.reset_image()
        frame = self.model.preprocessing.frame(rgb)
        frame = frame if window is None else self.model.preprocessing.window(frame, window)
        pixels = to_tensor(self.model.preprocessing.image(rgb, frame), self.device)[None]
        self.features, self.detail = self.model.encode_all(pixels)
        self.frame, self.image = frame, rgb

    @torch.no_grad()
    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, int]) -> None:
        """Encode a photograph as Segment Anything prepares it.

        It is padded at the right and at the bottom, whatever the preprocessing of the model.

        Args:
            transformed_image: RGB 0..255, [1, 3, h, w], its longer side S.
            original_image_size: (height, width) before it was resized.

        Raises:
            ValueError: for another shape, and for pixels in 0..1.
        """
        size, shape = self.model.image_size, tuple(transformed_image.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != size:
            raise ValueError(f"The image has shape {list(shape)}: give [1, 3, h, w] with a longer side of {size}.")
        if transformed_image.is_floating_point() and 0 < transformed_image.max() <= 1:
            raise ValueError("The image has pixels in 0..1: give 0..255, which are scaled as the weights expect.")
        self.reset_image()
        height, width = original_image_size
        pixels = self.model.preprocess(transformed_image.to(self.device))
        self.frame = Frame(size, (int(height), int(width)), (0, 0, int(height), int(width)), (0, 0, *shape[2:]))
        self.features, self.detail = self.model.encode_all(pixels)

    def get_image_embedding(self) -> Tensor:
        """The embedding of the photograph.

        Returns:
            [1, C, S/16, S/16].

        Raises:
            RuntimeError: without an image.
        """
        self._require_image()
        return self.features

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        zoom: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masks for one prompt, or for N at once.

        Args:
            point_coords: [P, 2] or [N, P, 2], x, y in pixels of the photograph.
            point_labels: [P] or [N, P]: 1 foreground, 0 background, -1 not a point, from 4 on a structure prompt (see
                `PromptEncoder.label_of`), whose position is ignored.
            box: [4] or [N, 4], half-open x0, y0, x1, y1 in pixels of the photograph; [1, 4] is one box, as in Segment
                Anything, and [N, 1, 4] a list of any length.
            mask_input: logits [1, S/4, S/4] or [N, 1, S/4, S/4]: `low_res` of an earlier call for one mask.
            multimask_output: whether M = 3 candidates are given, else M = 1.
            return_logits: float32 logits instead of bool masks.
            zoom: repeat each prompt in a window around its box, or around its clicks and its first mask, which the
                model sees larger; low_res stays that of the first prediction.

        Returns:
            masks [M, H, W], bool at the photograph's size; predicted IoU [M]; low_res logits [M, S/4, S/4]; each with
            N in front where a prompt had it.

        Raises:
            ValueError: for prompts that do not fit together or cannot be meant (not finite, x1 <= x0, all within 0..1,
                boxes that lie outside the photograph by more than 2 % of its longer side and 10 pixels, points by more
                than one), for zoom after `set_torch_image`.
            RuntimeError: without an image.
        """
        self._require_image()
        prompts = self._prompts(point_coords, point_labels, box, mask_input)
        many = any(
            given is not None and np.ndim(given) > single
            for given, single in ((point_coords, 2), (box, 1 if np.shape(box)[:-1] != (1,) else 2), (mask_input, 3))
        )
        refinement = self._refinement(zoom=zoom, multimask=multimask_output)
        logits, iou = self._decode(**prompts, multimask=multimask_output)
        masks, low_res = self.frame.logits_to_original(logits), self.model.low_res(logits)
        if refinement.active and len(masks):
            masks, iou = self._refined(refinement, prompts, logits, iou)
        masks = masks if return_logits else masks > self.model.mask_threshold
        arrays = [tensor.float().cpu().numpy() for tensor in (iou, low_res)]
        outputs = [(masks.float() if return_logits else masks).cpu().numpy(), *arrays]
        return tuple(outputs if many else [output[0] for output in outputs])

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
        """As `predict`, for N prompts in pixels of the model frame.

        Args:
            point_coords: [N, P, 2], x, y.
            point_labels: [N, P], as in `predict`.
            boxes: [N, 4], half-open x0, y0, x1, y1.
            mask_input: logits [N, 1, S/4, S/4].
            multimask_output: whether M = 3 candidates are given, else M = 1.
            return_logits: logits instead of bool masks.

        Returns:
            masks [N, M, H, W], predicted IoU [N, M], low_res logits [N, M, S/4, S/4].

        Raises:
            ValueError: for prompts that cannot be meant, as in `predict`; here they may also lie on the padding.
            RuntimeError: without an image.
        """
        self._require_image()
        self._refuse_model_positions(boxes, point_coords, point_labels)
        prompts = {"point_coords": point_coords, "point_labels": point_labels, "boxes": boxes, "mask_input": mask_input}
        logits, iou = self._decode(**prompts, multimask=multimask_output)
        masks = self.frame.logits_to_original(logits)
        return masks if return_logits else masks > self.model.mask_threshold, iou, self.model.low_res(logits)

    @torch.no_grad()
    def _decode(
        self,
        point_coords: Tensor | None = None,
        point_labels: Tensor | None = None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits [N, M, s, s] of the model frame, empty for a structure that is predicted absent, and IoU [N, M]."""
        points = None if point_coords is None else (point_coords, point_labels)
        prompts = {"points": points, "boxes": boxes, "masks": mask_input}
        return self.model.answer(self.features, **prompts, multimask=multimask, features=self.detail)

    def _refined(
        self, refinement: Refinement, prompts: dict[str, Tensor], logits: Tensor, iou: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits [N, M, H, W] and predicted IoU [N, M] of prompts in the model frame, from their first predictions."""
        given = (prompts["point_coords"], prompts["point_labels"]) if "point_coords" in prompts else None
        points = self.model.prompt_encoder.as_points(given, prompts.get("boxes"))
        if points[0] is None:  # a mask alone
            points = iou.new_zeros(len(iou), 0, 2), iou.new_zeros(len(iou), 0)
        decoded = Decoded(logits, iou, None)
        found = list(refine(self.model, refinement, [self.image], [self.frame], decoded, points))
        masks = torch.cat([one.frame.logits_to_original(one.candidates[None]) for one in found])
        return masks, torch.stack([one.candidate_iou for one in found])

    def predict_structure(
        self, structure: str, *, tiles: bool | Tiles = False, zoom: bool = False, mirror: bool = False
    ) -> tuple[np.ndarray, float]:
        """Mask of a structure prompt: `predict_structures` for a single one.

        Args:
            structure: its name.
            tiles: as in `predict_structures`.
            zoom: as in `predict_structures`.
            mirror: as in `predict_structures`.

        Returns:
            mask, bool [H, W], empty where the structure is predicted absent; predicted IoU.

        Raises:
            ValueError: for a structure that the weights do not know, for a refinement after `set_torch_image`.
            RuntimeError: without an image.
        """
        return self.predict_structures([structure], tiles=tiles, zoom=zoom, mirror=mirror)[structure]

    @torch.no_grad()
    def predict_structures(
        self,
        structures: Sequence[str],
        *,
        tiles: bool | Tiles = False,
        zoom: bool = False,
        mirror: bool = False,
        multimask_output: bool = True,
    ) -> dict[str, tuple[np.ndarray, float]]:
        """Masks of several structure prompts, refined as `Refinement` says.

        The prediction for the whole photograph decides whether a structure is there, and with what IoU. With `zoom`
        what tiles leave to the whole photograph is repeated in a window around its first mask.

        Args:
            structures: their names.
            tiles: blend with windows all over the photograph, as `Tiles` says; True stands for its defaults.
            zoom: repeat in a window around the first mask.
            mirror: average over the photograph and its three mirror images; tiles are mirrored as well.
            multimask_output: take the candidate of the highest predicted IoU, else the single mask, which is right for
                weights that trained no other.

        Returns:
            {name: (mask, predicted IoU)}: masks bool [H, W], empty where the structure is predicted absent.

        Raises:
            ValueError: for a structure that the weights do not know, for a refinement after `set_torch_image`.
            RuntimeError: without an image.
        """
        self._require_image()
        names = list(dict.fromkeys(structures))
        if not names:
            return {}
        points = self.model.prompt_encoder.structure_points(names)
        refinement = self._refinement(tiles=tiles, zoom=zoom, mirror=mirror, multimask=multimask_output)
        decoded = self.model.decode_points(self.features, *points, features=self.detail, multimask=multimask_output)
        found = refine(self.model, refinement, [self.image], [self.frame], decoded, points)
        threshold = self.model.mask_threshold
        return {name: (one.mask(threshold), one.predicted_iou) for name, one in zip(names, found, strict=True)}

    def _refinement(
        self, *, tiles: bool | Tiles = False, zoom: bool = False, mirror: bool = False, multimask: bool
    ) -> Refinement:
        """The settings. Raises ValueError for a refinement where only the encoder's input was given."""
        own = tiles if isinstance(tiles, Tiles) else Tiles() if tiles else None
        refinement = Refinement(mirror=bool(mirror), zoom=bool(zoom), tiles=own, multimask=bool(multimask))
        if refinement.active and self.image is None:
            raise ValueError(
                f"{refinement.active[0]} needs the photograph itself: give it to set_image, not to set_torch_image."
            )
        return refinement

    def _require_image(self) -> None:
        if self.features is None:
            raise RuntimeError("No photograph is set: call set_image first.")

    def _prompts(
        self,
        point_coords: np.ndarray | None,
        point_labels: np.ndarray | None,
        box: np.ndarray | None,
        mask_input: np.ndarray | None,
    ) -> dict[str, Tensor]:
        """Checked prompts in the model frame, with the prompt dimension in front."""
        if (point_coords is None) != (point_labels is None):
            raise ValueError("point_coords and point_labels go together: give both or none.")
        encoder, single = self.model.prompt_encoder, {"point_labels": (-1,), "point_coords": (-1, 2), "box": (4,)}
        box = np.reshape(box, (-1, 4)) if np.shape(box)[1:] == (1, 4) else box
        given = {"point_labels": point_labels, "point_coords": point_coords, "box": box, "mask_input": mask_input}
        single["mask_input"] = (1, encoder.mask_size, encoder.mask_size)
        arrays = {name: shaped(name, value, single[name]) for name, value in given.items() if value is not None}
        prompts = {{"box": "boxes"}.get(name, name): array for name, array in arrays.items()}
        labels, points, boxes = (prompts.get(name) for name in ("point_labels", "point_coords", "boxes"))
        if points is not None:
            if labels.shape != points.shape[:2]:
                raise ValueError(f"{np.shape(point_labels)} point_labels for {np.shape(point_coords)} point_coords.")
            if not labels.shape[1] and boxes is None:
                raise ValueError("point_coords holds no point: give one or more, or a box, or leave it out.")
            refuse_labels(labels, encoder.structures)
        if not prompts:
            raise ValueError("No prompt: give point_coords with point_labels, box or mask_input.")
        counts = {name: len(value) for name, value in prompts.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"The prompts disagree on their number: {counts}.")
        refuse_positions(Area.of(self.original_size).with_overhang(), boxes=boxes, points=points, labels=labels)
        if points is not None:
            prompts["point_coords"] = self.frame.points_to_model(points)
        if boxes is not None:
            prompts["boxes"] = self.frame.boxes_to_model(boxes)
        return {name: to_tensor(value.astype(np.float32), self.device) for name, value in prompts.items()}

    def _refuse_model_positions(self, boxes: Tensor | None, points: Tensor | None, labels: Tensor | None) -> None:
        """Raise ValueError for prompts in pixels of the model frame that cannot be meant; other shapes pass."""
        height, width = self.original_size
        whole, size = self.frame.boxes_to_model(np.array([0, 0, width, height])), self.model.image_size
        edges = (*np.minimum(whole[:2], 0), *np.maximum(whole[2:], size))  # positions beside what the model sees, too
        area, given = Area(edges, "the model frame").with_overhang(), (boxes, points, labels)
        boxes, points, labels = (None if value is None else value.detach().float().cpu().numpy() for value in given)
        if boxes is not None and boxes.shape[-1:] == (4,):
            refuse_positions(area, boxes=boxes)
        if labels is not None and points is not None and points.shape == (*labels.shape, 2):
            refuse_labels(labels, self.model.prompt_encoder.structures)
            refuse_positions(area, points=points, labels=labels)


def check_image(image: np.ndarray) -> None:
    """Refuse anything but a photograph.

    Args:
        image: uint8 [H, W, 3].

    Raises:
        ValueError: for another type or shape, and for one without pixels.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"The image is a {type(image).__name__}, no array: give uint8 [H, W, 3].")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"The image is {image.dtype} {list(image.shape)}: give uint8 [H, W, 3], 1 x 1 at least.")
