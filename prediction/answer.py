"""A photograph's embedding and prompts -> masks at the photograph's size, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prediction.prompts import Prompt
from segment_anything import SamPredictor
from segment_anything.mirrors import mirrored
from segment_anything.modeling import Sam
from segment_anything.modeling.sam import ABSENT_LOGIT
from segment_anything.utils.transforms import Frame, to_tensor
from segment_anything.windows import Tiles, blend_tiles, window_pixels

AT_ONCE = 64  # prompts that go through the decoder together


@dataclass(frozen=True)
class Encoded:
    """A photograph, RGB uint8 [H, W, 3], its place in the model frame, its embedding [1, C, s, s] and what the detail
    head sees of it [1, 16, S, S], None without one."""

    image: np.ndarray
    frame: Frame
    embedding: Tensor
    detail: Tensor | None


@dataclass(frozen=True)
class Answer:
    """A prompt's mask, bool [H, W], and predicted IoU; of a structure also the probability that it is there.

    number: the prompt's place among those of its photograph. absent: it is held not to be there, the mask is empty.
    """

    number: int
    prompt: Prompt
    mask: np.ndarray
    predicted_iou: float
    presence: float | None = None
    absent: bool = False


@torch.no_grad()
def answers(
    model: Sam,
    encoded: Encoded,
    prompts: Sequence[Prompt],
    *,
    zoom: bool = False,
    tiles: bool = False,
    mirror: bool = False,
    multimask: bool = True,
) -> Iterator[Answer]:
    """Answers to the prompts; those alike in their number of points come together.

    The mask of highest predicted IoU is taken. Masks of full size are made one by one, as they are asked for. With
    `zoom` each is found again in a window, see `SamPredictor.predict`; with `mirror` structures come from mirror
    images, too, with `tiles` from windows all over the photograph, see `SamPredictor.predict_structures`, and then
    their logits are all made at once.
    """
    groups: dict[tuple[bool, int], list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault((prompt.box is not None, max(len(prompt.points), prompt.structure)), []).append(number)
    closer = _predictor(model, encoded) if zoom else None
    for numbers in groups.values():
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            logits, iou, presence = _decode(model, encoded, [prompts[i] for i in some], multimask)
            whole = {prompts[i].label: low[0] for i, low in zip(some, logits, strict=True) if prompts[i].structure}
            if mirror and whole:
                pixels = window_pixels(model, [encoded.image], [encoded.frame])
                whole = mirrored(model, pixels, whole, multimask=multimask)
            place, looks = (encoded.image, encoded.frame), {"mirror": mirror, "multimask": multimask}
            tiled = blend_tiles(model, *place, whole, Tiles(), **looks) if tiles else {}
            for row, number in enumerate(some):
                prompt = prompts[number]
                there = float(presence[row]) if presence is not None and prompt.structure else None
                absent = there is not None and there < model.prompt_encoder.presence_thresholds[prompt.label]
                blended = tiled.get(prompt.label) if prompt.structure and not absent else None
                if closer and not absent and blended is None:
                    mask, quality = _closer(closer, prompt, multimask)
                else:
                    own = whole[prompt.label] if prompt.structure else logits[row, 0]
                    low = torch.full_like(own, ABSENT_LOGIT) if absent else own
                    full = encoded.frame.logits_to_original(low[None, None])[0, 0] if blended is None else blended
                    mask, quality = (full > model.mask_threshold).cpu().numpy(), float(iou[row])
                yield Answer(number, prompt, mask, quality, there, absent)


def _given(model: Sam, prompt: Prompt, frame: Frame) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Points [P, 2], their labels [P] and box [4] in pixels of the photograph, as `SamPredictor.predict` takes them."""
    if prompt.structure:
        return np.zeros((1, 2)), np.array([model.prompt_encoder.label_of(prompt.label)]), None
    box, coords, labels = prompt.placed(frame)
    return (coords, labels, box) if len(labels) else (None, None, box)


def _decode(
    model: Sam, encoded: Encoded, prompts: Sequence[Prompt], multimask: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Prompts alike in shape: logits of the best mask [N, 1, s, s], predicted IoU [N] and presence [N] or None."""
    coords, labels, boxes = zip(*(_given(model, prompt, encoded.frame) for prompt in prompts), strict=True)
    points = None
    if coords[0] is not None:
        placed = encoded.frame.points_to_model(np.stack(coords)).astype(np.float32)
        points = (to_tensor(placed, model.device), to_tensor(np.stack(labels).astype(np.float32), model.device))
    placed = None if boxes[0] is None else encoded.frame.boxes_to_model(np.stack(boxes)).astype(np.float32)
    corners = None if placed is None else to_tensor(placed, model.device)
    decoded = model.decode(
        encoded.embedding, points=points, boxes=corners, multimask=multimask, features=encoded.detail
    )
    rows, best = torch.arange(len(prompts), device=model.device), decoded.iou.argmax(1)
    presence = None if decoded.presence is None else decoded.presence.float().sigmoid()
    return decoded.logits[rows, best][:, None].float(), decoded.iou[rows, best].float(), presence


# --- from closer ----------------------------------------------------------------------------------------------


def _predictor(model: Sam, encoded: Encoded) -> SamPredictor:
    """A predictor that has seen the photograph already."""
    predictor = SamPredictor(model)
    predictor.features, predictor.detail = encoded.embedding, encoded.detail
    predictor.frame, predictor.image = encoded.frame, encoded.image
    return predictor


def _closer(predictor: SamPredictor, prompt: Prompt, multimask: bool) -> tuple[np.ndarray, float]:
    coords, labels, box = _given(predictor.model, prompt, predictor.frame)
    masks, iou, _ = predictor.predict(coords, labels, box, multimask_output=multimask, zoom=True)
    best = int(iou.argmax())
    return masks[best], float(iou[best])
