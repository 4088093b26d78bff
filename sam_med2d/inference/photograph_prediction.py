"""A photograph's embedding and prompts -> predictions, whose masks are made at the photograph's size one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.preprocessing import Frame, to_tensor
from segment_anything.refinement.mask_prediction import MaskPrediction
from segment_anything.refinement.progress import Report, no_report
from segment_anything.refinement.refine import NO_REFINEMENT, Refinement, refine
from segment_anything.refinement.tiling import window_pixels

PROMPTS_AT_ONCE = 64  # that go through the decoder together


@dataclass(frozen=True)
class Encoded:
    """A photograph and what the decoder wants of it."""

    image: np.ndarray  # RGB uint8 [H, W, 3]
    frame: Frame  # its place in the model frame
    embedding: Tensor  # [1, C, S/16, S/16]
    detail: Tensor | None  # what the detail head sees of it, [1, F, S, S]; None without one


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptPrediction(MaskPrediction):
    """The prediction of a prompt, which is the one of this `number` among those of its photograph."""

    number: int
    prompt: Prompt


@torch.no_grad()
def encode(model: Sam, image: np.ndarray) -> Encoded:
    """Encode a photograph, RGB uint8 [H, W, 3]."""
    frame = model.preprocessing.frame(image)
    embedding, detail = model.encode_all(window_pixels(model, [image], [frame]))
    return Encoded(image, frame, embedding, detail)


@torch.no_grad()
def predict_prompts(
    model: Sam, encoded: Encoded, prompts: Sequence[Prompt], refinement: Refinement = NO_REFINEMENT
) -> Iterator[PromptPrediction]:
    """Predict each prompt by itself, all its points at once.

    Args:
        model: in evaluation mode.
        encoded: the photograph.
        prompts: what to predict.
        refinement: of the first predictions; structures that are predicted absent are not refined.

    Yields:
        A prediction for each prompt; prompts of one kind come together, in their order. Nothing is of the photograph's
        size but structures from tiles, until a prediction's `mask` is called.

    Raises:
        ValueError: for a structure prompt that the weights do not know.
    """
    groups: dict[tuple[bool, bool, int], list[int]] = {}
    for number, prompt in enumerate(prompts):
        kind = prompt.structure, prompt.box is not None, len(prompt.points)
        groups.setdefault(kind, []).append(number)
    for numbers in groups.values():
        for start in range(0, len(numbers), PROMPTS_AT_ONCE):
            some = numbers[start : start + PROMPTS_AT_ONCE]
            points = _points(model, encoded.frame, [prompts[number] for number in some])
            decoded = _decode(model, encoded, points, refinement)
            for number, prediction in zip(some, _refine(model, encoded, points, decoded, refinement), strict=True):
                yield PromptPrediction(number=number, prompt=prompts[number], **vars(prediction))


@torch.no_grad()
def predict_click_sequence(
    model: Sam,
    encoded: Encoded,
    prompt: Prompt,
    refinement: Refinement = NO_REFINEMENT,
    *,
    report: Report = no_report,
) -> PromptPrediction:
    """Predict a prompt click by click, as in training and testing (see `click_loop.run`).

    The first prompt is the box, the structure or both; without them it is the first click. Each click that follows
    is decoded with all prompts before it and, as mask prompt, the probabilities of the mask so far.

    Args:
        model: in evaluation mode.
        encoded: the photograph.
        prompt: the clicks in the order in which they were made.
        refinement: of the last prediction; a structure that is predicted absent is not refined.
        report: called before each step from click to click, and before views of the refinement; what it raises ends
            the prediction.

    Returns:
        The prediction after the last click.

    Raises:
        ValueError: for a prompt without box, click and structure, and for a structure that the weights do not know.
    """
    check_not_empty(prompt)
    first = 0 if prompt.structure or prompt.box is not None else 1
    mask = None
    for count in range(first, len(prompt.points) + 1):
        report("prompts", count - first, len(prompt.points) + 1 - first)
        points = _points(model, encoded.frame, [replace(prompt, points=prompt.points[:count])])
        decoded = _decode(model, encoded, points, refinement, mask)
        mask = decoded.best().sigmoid()
    (prediction,) = _refine(model, encoded, points, decoded, refinement, report)
    return PromptPrediction(number=0, prompt=prompt, **vars(prediction))


def check_not_empty(prompt: Prompt) -> None:
    """Raise ValueError for a prompt without box, click and structure."""
    if prompt.box is None and not prompt.structure and not prompt.points:
        raise ValueError("The prompt has neither a box nor a click nor a name.")


def _points(model: Sam, frame: Frame, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """Prompts of one kind as labelled points of the model frame: coords [N, P, 2] and labels [N, P]."""
    boxes, coords, labels = zip(*(prompt.placed(frame) for prompt in prompts), strict=True)
    coords, labels = frame.points_to_model(np.stack(coords)), np.stack(labels)
    if prompts[0].structure:  # its position is ignored
        structures = [[model.prompt_encoder.label_of(prompt.label)] for prompt in prompts]
        coords = np.concatenate((coords, np.zeros((len(prompts), 1, 2))), axis=1)
        labels = np.concatenate((labels, structures), axis=1)
    points, corners = None, None
    if labels.shape[1]:
        points = tuple(to_tensor(part.astype(np.float32), model.device) for part in (coords, labels))
    if boxes[0] is not None:
        corners = to_tensor(frame.boxes_to_model(np.stack(boxes)).astype(np.float32), model.device)
    return model.prompt_encoder.as_points(points, corners)


def _decode(
    model: Sam,
    encoded: Encoded,
    points: tuple[Tensor, Tensor],
    refinement: Refinement,
    mask: Tensor | None = None,
) -> Decoded:
    """The decoder's output for prompts, with the probabilities of an earlier mask [1, 1, s, s] or without."""
    settings = {"multimask": refinement.multimask, "features": encoded.detail}
    return model.decode_points(encoded.embedding, *points, mask, **settings)


def _refine(
    model: Sam,
    encoded: Encoded,
    points: tuple[Tensor, Tensor],
    decoded: Decoded,
    refinement: Refinement,
    report: Report = no_report,
) -> Iterator[MaskPrediction]:
    """The predictions of prompts from the decoder's output."""
    views = [encoded.image], [encoded.frame]
    return refine(model, refinement, *views, decoded, points, skip_absent=True, report=report)
