"""A photograph's embedding and prompts -> masks at the photograph's size, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.modeling import Sam
from segment_anything.modeling.sam import ABSENT_LOGIT
from segment_anything.preprocessing import Frame, to_tensor
from segment_anything.refinement.mirroring import mirrored
from segment_anything.refinement.tiling import Tiles, blend_tiles, window_pixels
from segment_anything.refinement.zoom import zoom_in

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
def encode(model: Sam, image: np.ndarray) -> Encoded:
    """A photograph, RGB uint8 [H, W, 3], encoded."""
    frame = model.preprocessing.frame(image)
    embedding, detail = model.encode_all(window_pixels(model, [image], [frame]))
    return Encoded(image, frame, embedding, detail)


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
    for numbers in groups.values():
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            points = _points(model, encoded.frame, [prompts[i] for i in some])
            decoded = model.decode_points(encoded.embedding, *points, multimask=multimask, features=encoded.detail)
            logits = dict(zip(some, decoded.best()[:, 0], strict=True))
            whole = {prompts[i].label: low for i, low in logits.items() if prompts[i].structure}
            if mirror and whole:
                pixels = window_pixels(model, [encoded.image], [encoded.frame])
                whole = mirrored(model, pixels, whole, multimask=multimask)
                logits |= {i: whole[prompts[i].label] for i in some}
            place, looks = (encoded.image, encoded.frame), {"mirror": mirror, "multimask": multimask}
            tiled = blend_tiles(model, *place, whole, Tiles(), **looks) if tiles else {}
            presence = [None] * len(some) if decoded.presence is None else decoded.presence.float().sigmoid().tolist()
            for row, (number, iou) in enumerate(zip(some, decoded.iou.amax(1).tolist(), strict=True)):
                prompt, low = prompts[number], logits[number]
                there = presence[row] if prompt.structure else None
                absent = there is not None and there < model.prompt_encoder.presence_thresholds[prompt.label]
                full = tiled.get(prompt.label) if prompt.structure else None
                if absent:
                    full = low.new_full(encoded.frame.original, ABSENT_LOGIT)
                elif full is None and zoom:
                    full, iou = _closer(model, encoded, tuple(part[row, None] for part in points), low, multimask, iou)
                elif full is None:
                    full = encoded.frame.logits_to_original(low[None, None])[0, 0]
                yield Answer(number, prompt, (full > model.mask_threshold).cpu().numpy(), iou, there, absent)


@torch.no_grad()
def refined(
    model: Sam, encoded: Encoded, prompt: Prompt, *, named: bool = False, zoom: bool = False, multimask: bool = True
) -> Answer:
    """Answer to a box, a name or a first click, and to the clicks after it, one after the other.

    The prompt opens with its box, with its label as a name (`named`), or with both; without them with its first click.
    Each click that follows is asked together with all before it and with the probabilities of the mask that was shown,
    as in training and testing (see `interactive.run`): that is what the decoder has learnt. With `zoom` the last mask
    is found again in a window, see `SamPredictor.predict`. Raises ValueError for a prompt that asks for nothing.
    """
    first = 0 if named or prompt.box is not None else 1
    if first > len(prompt.points):
        raise ValueError("The prompt has neither a box nor a click nor a name.")
    shown = None
    for count in range(first, len(prompt.points) + 1):
        so_far = replace(prompt, points=prompt.points[:count])
        points = _points(model, encoded.frame, [so_far], named=named)
        decoded = model.decode_points(encoded.embedding, *points, shown, multimask=multimask, features=encoded.detail)
        low = decoded.best()
        shown = low.sigmoid()
    iou = float(decoded.iou.amax())
    absent = bool(model.held_absent(decoded.presence, points[1]))
    if absent:
        full = low.new_full(encoded.frame.original, ABSENT_LOGIT)
    elif zoom:
        full, iou = _closer(model, encoded, points, low[0, 0], multimask, iou)
    else:
        full = encoded.frame.logits_to_original(low)[0, 0]
    presence = float(decoded.presence.sigmoid()) if named and decoded.presence is not None else None
    return Answer(0, prompt, (full > model.mask_threshold).cpu().numpy(), iou, presence, absent)


def _points(model: Sam, frame: Frame, prompts: Sequence[Prompt], *, named: bool = False) -> tuple[Tensor, Tensor]:
    """Prompts alike in shape as labelled points of the model frame: coords [N, P, 2] and labels [N, P].

    named: with their labels as names, besides boxes and clicks.
    """
    if prompts[0].structure:
        return model.prompt_encoder.structure_points([prompt.label for prompt in prompts])
    boxes, coords, labels = zip(*(prompt.placed(frame) for prompt in prompts), strict=True)
    coords, labels = frame.points_to_model(np.stack(coords)), np.stack(labels)
    if named:  # their positions are ignored
        names = [[model.prompt_encoder.label_of(prompt.label)] for prompt in prompts]
        coords = np.concatenate((coords, np.zeros((len(prompts), 1, 2))), axis=1)
        labels = np.concatenate((labels, names), axis=1)
    points, corners = None, None
    if labels.shape[1]:
        points = tuple(to_tensor(part.astype(np.float32), model.device) for part in (coords, labels))
    if boxes[0] is not None:
        corners = to_tensor(frame.boxes_to_model(np.stack(boxes)).astype(np.float32), model.device)
    return model.prompt_encoder.as_points(points, corners)


def _closer(
    model: Sam, encoded: Encoded, points: tuple[Tensor, Tensor], first: Tensor, multimask: bool, iou: float
) -> tuple[Tensor, float]:
    """Logits [H, W] and predicted IoU of a prompt's answer from a window; those of the first one where there is none.

    points: the prompt, coords [1, P, 2] and labels [1, P]; first, iou: its first answer, logits [s, s].
    """
    place = [encoded.image], [encoded.frame]
    for answer in zoom_in(model, *place, points, first[None], multimask=multimask):
        logits, quality = answer.best()
        return answer.frame.logits_to_original(logits[None, None])[0, 0], float(quality)
    return encoded.frame.logits_to_original(first[None, None])[0, 0], iou
