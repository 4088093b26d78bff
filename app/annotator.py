"""Predictions on photographs, from embeddings that are kept for the last few of them."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np

from app.stamps import Stamp, stamp_of
from sam_med2d.data.image_io import COPY_AGAIN, read_image
from sam_med2d.data.photographs import Photograph
from sam_med2d.errors import DataError
from sam_med2d.inference.photograph_prediction import Encoded, PromptPrediction, encode, predict_click_sequence
from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.modeling import Sam
from segment_anything.modeling.prompt_checks import Area
from segment_anything.refinement.refine import Refinement

KEPT = 4  # photographs whose pixels and embeddings stay in memory


class Dropped(Exception):
    """A prompt was not predicted, as a newer one of the same page came meanwhile."""


class Annotator:
    """The model, in evaluation mode, and the photographs, known by their number, of `max_pixels` at most.

    One prompt is predicted at a time, whatever thread it comes from, and of those that wait the last one alone;
    pictures never wait. With `multimask` the best of three candidates counts.
    """

    def __init__(self, model: Sam, photographs: Sequence[Photograph], *, multimask: bool, max_pixels: int) -> None:
        self.model, self.photographs = model, photographs
        self.multimask, self.max_pixels = multimask, max_pixels
        self._kept: OrderedDict[int, Encoded] = OrderedDict()
        self._opened: dict[int, Stamp | None] = {}  # the files as they were when their pictures were read
        self._last = 0  # number of the newest prompt
        self._count, self._predicting = Lock(), Lock()

    def image(self, number: int) -> np.ndarray:
        """Read a photograph that is opened: RGB uint8 [H, W, 3], upright; DataError for a file that cannot be read."""
        stamp = stamp_of(self.photographs[number].path)
        kept = self._kept.get(number)
        if kept and self._opened.get(number) == stamp:
            return kept.image
        pixels = self._read(number)
        self._kept.pop(number, None)
        self._opened[number] = stamp
        return pixels

    def check(self, number: int) -> None:
        """Raise DataError where a photograph is not the file that was opened: its masks would not fit."""
        path = self.photographs[number].path
        stamp = stamp_of(path)
        if stamp is None:
            raise DataError(f"{path} is gone: put it back, or restart the server without it")
        if self._opened.setdefault(number, stamp) != stamp:
            raise DataError(f"{path} has changed on the disk since it was opened: open the photograph again")

    def predict(self, number: int, prompt: Prompt, refinement: Refinement) -> PromptPrediction:
        """Predict a prompt on a photograph, click by click; see `predict_click_sequence`. The mask is not yet made.

        Args:
            number: of the photograph.
            prompt: structure prompt, box and clicks in pixels of the photograph.
            refinement: of the prediction after the last click.

        Raises:
            DataError: for a photograph that cannot be read, or is not the one that was opened.
            Dropped: a newer prompt came before this one's turn.
            ValueError: for a prompt that cannot be meant, such as one outside it, or an empty one.
        """
        self.check(number)
        with self._count:
            self._last += 1
            own = self._last
        with self._predicting:
            if own != self._last:
                raise Dropped
            encoded = self._encoded(number)
            if fault := prompt.fault(Area.of(encoded.frame.original)):
                raise ValueError(f"{fault}.")
            return predict_click_sequence(self.model, encoded, prompt, refinement)

    def _encoded(self, number: int) -> Encoded:
        """A photograph with its embedding; the least recently used one is forgotten."""
        if number not in self._kept:
            self._kept[number] = encode(self.model, self._read(number))
        self._kept.move_to_end(number)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[number]

    def _read(self, number: int) -> np.ndarray:
        return read_image(self.photographs[number].path, max_pixels=self.max_pixels, advice=COPY_AGAIN)
