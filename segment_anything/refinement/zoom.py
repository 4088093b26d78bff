"""Zoom: a prompt is repeated in a window around it, which the model sees larger."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..modeling import Sam
from ..modeling.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, FOREGROUND
from ..preprocessing import Frame, to_tensor, window_around
from .progress import Report, no_report
from .tiling import AT_ONCE, window_pixels


class _ZoomedMasks(NamedTuple):
    """The candidate masks of prompt `index` in its window."""

    index: int  # of the prompt
    frame: Frame  # of the window
    logits: Tensor  # of the candidates, [M, s, s]
    iou: Tensor  # their predicted IoU, [M]


@torch.no_grad()
def zoom_in(
    model: Sam,
    photographs: Sequence[np.ndarray],
    frames: Sequence[Frame],
    points: tuple[Tensor, Tensor],
    first: Tensor,
    *,
    multimask: bool = True,
    at_once: int = AT_ONCE,
    report: Report = no_report,
) -> Iterator[_ZoomedMasks]:
    """Repeat N prompts, each in a window around its box, or around its clicks and its first mask.

    Args:
        model: that predicts.
        photographs: of each prompt, RGB uint8 [H, W, 3].
        frames: model frame of each prompt's photograph.
        points: the prompts in the model frames, coords [N, P, 2] (x, y) and labels [N, P], padded as
            `PromptEncoder.embed_points` wants them.
        first: logits [N, s, s] of the first masks.
        multimask: whether three candidates are predicted, else the single mask.
        at_once: windows that go through the encoder together.
        report: called before windows are encoded.

    Yields:
        Candidate masks in the order of the prompts, without those whose window would not be smaller than the used part
        of the photograph, and those of prompts without a place.
    """
    places = prompt_places(points, first, model.image_size)
    windows = [
        frame if np.isnan(place).any() else window_around(frame, frame.boxes_to_original(place))
        for frame, place in zip(frames, places, strict=True)
    ]
    todo = [i for i, (frame, window) in enumerate(zip(frames, windows, strict=True)) if window != frame]
    for begin in range(0, len(todo), at_once):
        report("zoom windows", begin, len(todo))
        own = todo[begin : begin + at_once]
        pixels = window_pixels(model, [photographs[i] for i in own], [windows[i] for i in own])
        embedding, features = model.encode_all(pixels)
        coords = np.stack([_moved(points[0][i], points[1][i], frames[i], windows[i]) for i in own])
        coords = to_tensor(coords.astype(np.float32), model.device)
        decoded = model.decode_points(embedding, coords, points[1][own], multimask=multimask, features=features)
        for i, logits, iou in zip(own, decoded.logits, decoded.iou, strict=True):
            yield _ZoomedMasks(i, windows[i], logits, iou)


def prompt_places(points: tuple[Tensor, Tensor], first: Tensor, image_size: int) -> np.ndarray:
    """Where prompts are: their own box, or the smallest one around their foreground clicks and their first mask.

    Args:
        points: the prompts in the model frame, coords [N, P, 2] (x, y) and labels [N, P].
        first: logits [N, s, s] of the first masks.
        image_size: S.

    Returns:
        Boxes x0, y0, x1, y1 in the model frame, float64 [N, 4]; NaN where a prompt has no place.
    """
    coords, labels = (part.cpu().numpy() for part in points)
    positive = first > 0
    columns, rows = positive.any(1).cpu().numpy(), positive.any(2).cpu().numpy()
    scale = image_size / first.shape[-1]
    places = np.full((len(labels), 4), np.nan)
    for i, (xy, kind) in enumerate(zip(coords, labels, strict=True)):
        corners = np.concatenate((xy[kind == BOX_TOP_LEFT], xy[kind == BOX_BOTTOM_RIGHT]))
        if not len(corners):
            clicks = xy[kind == FOREGROUND]
            x, y = np.flatnonzero(columns[i]) * scale, np.flatnonzero(rows[i]) * scale
            mask = np.array([[x[0], y[0]], [x[-1] + scale, y[-1] + scale]]) if len(x) else np.zeros((0, 2))
            corners = np.concatenate((mask, clicks, clicks + 1))
        if len(corners):
            places[i] = *corners.min(0), *corners.max(0)
    return places


def _moved(coords: Tensor, labels: Tensor, frame: Frame, window: Frame) -> np.ndarray:
    """Positions [P, 2] of one frame in another; corners of boxes are edges, the others are pixels."""
    xy, kind = coords.cpu().numpy(), labels.cpu().numpy()
    corner = np.isin(kind, (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT))[:, None]
    edges = window.boxes_to_model(frame.boxes_to_original(xy))
    return np.where(corner, edges, window.points_to_model(frame.points_to_original(xy)))
