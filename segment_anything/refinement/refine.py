"""Test-time refinement: the one way from a prompt's first prediction to one from several views of a photograph.

Mirror images and tiles refine structure prompts, zoom windows refine boxes, clicks, and what tiles leave out.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..modeling import Sam
from ..modeling.mask_decoder import Decoded
from ..modeling.prompt_encoder import PADDING, STRUCTURE
from ..preprocessing import Frame
from .mask_prediction import MaskPrediction
from .mirroring import mirrored
from .progress import Report, no_report
from .tiling import AT_ONCE, Tiles, blend_tiles, window_pixels
from .zoom import zoom_in


@dataclass(frozen=True)
class Refinement:
    """All settings of test-time refinement. The default refines nothing.

    Attributes:
        mirror: average the logits of structure prompts over the photograph and its three mirror images.
        zoom: repeat each prompt in a window around its box, or around its clicks and its first mask.
        tiles: blend structure prompts with windows all over the photograph; None for no tiles.
        multimask: whether the decoder gives three candidates, of which the best is taken, or the single mask.
        windows_at_once: windows that go through the encoder together.

    Raises:
        ValueError: for values of another kind.
    """

    mirror: bool = False
    zoom: bool = False
    tiles: Tiles | None = None
    multimask: bool = True
    windows_at_once: int = AT_ONCE

    def __post_init__(self) -> None:
        for name in ("mirror", "zoom", "multimask"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: give True or False.")
        if self.tiles is not None and not isinstance(self.tiles, Tiles):
            raise ValueError(f"tiles={self.tiles!r}: give Tiles(...) or None.")
        if self.windows_at_once < 1:
            raise ValueError(f"windows_at_once={self.windows_at_once}: give 1 or more.")

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the refinements in use; all of them need the photograph itself."""
        return tuple(name for name in ("mirror", "tiles", "zoom") if getattr(self, name))

    @property
    def uses_windows(self) -> bool:
        """Whether windows of a photograph are encoded."""
        return self.zoom or self.tiles is not None

    def as_dict(self) -> dict[str, Any]:
        """What decides the masks, for JSON; tiles as `Tiles.as_dict` has them, or None."""
        tiles = self.tiles and self.tiles.as_dict()
        return {"mirror": self.mirror, "zoom": self.zoom, "tiles": tiles, "multimask": self.multimask}

    def describe(self) -> str:
        """Sentences for a report; none where nothing is refined."""
        sentences = {
            "mirror": "Mirrored: structures are the mean over the photograph and its three mirror images.",
            "zoom": "Zoom: each prompt was repeated in a window around it.",
            "tiles": self.tiles and self.tiles.describe(),
        }
        return " ".join(sentences[name] for name in ("mirror", "zoom", "tiles") if name in self.active)


NO_REFINEMENT = Refinement()


@torch.no_grad()
def refine(
    model: Sam,
    refinement: Refinement,
    photographs: Sequence[np.ndarray] | None,
    frames: Sequence[Frame],
    decoded: Decoded,
    points: tuple[Tensor, Tensor],
    *,
    image_index: Tensor | None = None,
    skip_absent: bool = False,
    report: Report = no_report,
) -> Iterator[MaskPrediction]:
    """Refine the first predictions of N prompts, and yield them in order.

    Whether a structure is present is decided by the first prediction. Windows are encoded a few at a time, those of
    zoom not before their predictions are iterated over: memory does not grow with the number of windows.

    Args:
        model: of the first predictions.
        refinement: the settings.
        photographs: B photographs, RGB uint8 [H, W, 3]; None will do where nothing is to be refined.
        frames: model frames of the B photographs.
        decoded: the first predictions.
        points: the prompts as labelled points of the model frames: coords [N, P, 2] (x, y) and labels [N, P].
        image_index: int64 [N], the photograph of each prompt; None where all prompts are of the first one.
        skip_absent: whether structures that are predicted absent, whose masks are empty anyway, are left as they are.
        report: called before views are encoded; what it raises ends the refinement.

    Yields:
        A prediction for each prompt, with all candidates but for structures from mirror images or tiles.
    """
    images = [0] * len(points[1]) if image_index is None else image_index.tolist()
    prompts = _Prompts(model, refinement, photographs, frames, points, images, report)
    predictions = prompts.first_predictions(decoded)
    rows = [row for row, prediction in enumerate(predictions) if not (skip_absent and prediction.absent)]
    if refinement.mirror or refinement.tiles:
        for image, structures in prompts.structures(rows).items():
            prompts.refine_structures(image, structures, predictions)
    rows = [row for row in rows if refinement.zoom and predictions[row].frame == prompts.frame_of(row)]
    yield from prompts.zoomed(rows, predictions) if rows else predictions


@dataclass(frozen=True)
class _Prompts:
    """N prompts on B photographs, as `refine` gets them; images: the photograph of each prompt."""

    model: Sam
    refinement: Refinement
    photographs: Sequence[np.ndarray] | None
    frames: Sequence[Frame]
    points: tuple[Tensor, Tensor]
    images: Sequence[int]
    report: Report

    def frame_of(self, row: int) -> Frame:
        """The model frame of the photograph of a prompt."""
        return self.frames[self.images[row]]

    def first_predictions(self, decoded: Decoded) -> list[MaskPrediction]:
        """The first predictions one by one; their predicted IoU and presence come to the CPU together."""
        presence = [math.nan] * len(self.images)
        if decoded.presence is not None:
            presence = decoded.presence.float().sigmoid().tolist()
        absent = self.model.is_absent(decoded.presence, self.points[1]).tolist()
        iou = decoded.iou.float().cpu()
        return [
            MaskPrediction(
                candidates=decoded.logits[row],
                candidate_iou=iou[row],
                points=(self.points[0][row], self.points[1][row]),
                frame=self.frames[image],
                presence=presence[row],
                absent=absent[row],
            )
            for row, image in enumerate(self.images)
        ]

    def structures(self, rows: Iterable[int]) -> dict[int, dict[str, list[int]]]:
        """Those of the rows whose prompt is a structure and nothing else, by photograph and structure."""
        names, labels = self.model.prompt_encoder.structures, self.points[1].tolist()
        found: dict[int, dict[str, list[int]]] = {}
        for row in rows:
            given = [int(label) for label in labels[row] if label != PADDING]
            if len(given) == 1 and given[0] >= STRUCTURE:
                own = found.setdefault(self.images[row], {})
                own.setdefault(names[given[0] - STRUCTURE], []).append(row)
        return found

    def refine_structures(
        self, image: int, structures: Mapping[str, Sequence[int]], predictions: list[MaskPrediction]
    ) -> None:
        """Replace predictions of structures of a photograph by those from its mirror images and tiles."""
        model, settings, multimask = self.model, self.refinement, self.refinement.multimask
        photograph, frame = self.photographs[image], self.frames[image]
        whole = {name: predictions[rows[0]].low_res for name, rows in structures.items()}
        if settings.mirror:
            pixels = window_pixels(model, [photograph], [frame])
            whole = mirrored(model, pixels, whole, multimask=multimask, report=self.report)
        found = {name: (logits, frame) for name, logits in whole.items()}
        if settings.tiles:
            how = {"mirror": settings.mirror, "multimask": multimask, "at_once": settings.windows_at_once}
            blended, fine = blend_tiles(model, photograph, frame, whole, settings.tiles, report=self.report, **how)
            found |= {name: (logits, fine) for name, logits in blended.items()}
        for name, row in ((name, row) for name, rows in structures.items() for row in rows):
            logits, own = found[name]
            predictions[row] = replace(predictions[row].best(), candidates=logits[None], frame=own)

    def zoomed(self, rows: Sequence[int], predictions: Sequence[MaskPrediction]) -> Iterator[MaskPrediction]:
        """All predictions in order; those of the rows come from a window where there is one."""
        windows = zoom_in(
            self.model,
            [self.photographs[self.images[row]] for row in rows],
            [self.frames[self.images[row]] for row in rows],
            (self.points[0][rows], self.points[1][rows]),
            torch.stack([predictions[row].low_res for row in rows]),
            multimask=self.refinement.multimask,
            at_once=self.refinement.windows_at_once,
            report=self.report,
        )
        window = next(windows, None)
        for row, prediction in enumerate(predictions):
            if window is None or rows[window.index] != row:
                yield prediction
            else:
                iou = window.iou.float().cpu()
                yield replace(prediction, candidates=window.logits, candidate_iou=iou, frame=window.frame)
                window = next(windows, None)
