"""Predictions on photographs, from embeddings that are kept for the last few of them."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from app.stamps import Version, stamp_of, version_of
from app.turns import Turn, Turns
from sam_med2d.data.image_io import COPY_AGAIN, read_image, size_of
from sam_med2d.data.photographs import Photograph
from sam_med2d.errors import DataError
from sam_med2d.inference.photograph_prediction import (
    Encoded,
    PromptPrediction,
    check_not_empty,
    encode,
    predict_click_sequence,
)
from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.modeling import Sam
from segment_anything.modeling.prompt_checks import Area
from segment_anything.refinement.refine import Refinement

KEPT = 4  # photographs whose pixels and embeddings stay in memory
PATIENCE = 0.1  # seconds after which a prompt that waits looks whether it is still wanted


class _Kept(NamedTuple):
    """A photograph with its embedding, and the version of its file that both are of."""

    version: Version
    encoded: Encoded


class Annotator:
    """The model, in evaluation mode, and the photographs, known by their number, of `max_pixels` at most.

    One prompt is predicted at a time, whatever thread it comes from, and of those of a page the last one alone;
    pictures and checks never wait for it. With `multimask` the best of three candidates counts. A `page` is told
    apart by its name, "" for a program that is none: its prompts and masks are of the photograph that it was given.
    """

    def __init__(self, model: Sam, photographs: Sequence[Photograph], *, multimask: bool, max_pixels: int) -> None:
        self.model, self.photographs = model, photographs
        self.multimask, self.max_pixels = multimask, max_pixels
        self.turns = Turns()
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._opened: dict[tuple[str, int], Version] = {}  # what each page was given
        self._guard, self._predicting = Lock(), Lock()  # of both, held for no longer than they are read or changed

    def image(self, number: int, page: str = "") -> np.ndarray:
        """Read a photograph that a page opens.

        Args:
            number: of the photograph.
            page: that opens it.

        Returns:
            RGB uint8 [H, W, 3], upright.

        Raises:
            DataError: for a file that cannot be read.
        """
        version = self._version(number)
        with self._guard:
            kept = self._kept.get(number)
        pixels = kept.encoded.image if kept and kept.version == version else self._read(number)
        with self._guard:
            self._opened[page, number] = version
        return pixels

    def check(self, number: int, page: str = "", *, content: bool = False) -> Version:
        """Check that a photograph is the file that a page has opened: else its masks would not fit.

        Args:
            number: of the photograph.
            page: that asks; where it has opened nothing, the file is what it is now.
            content: whether the file is read, too: else another one of its time and size is not noticed.

        Returns:
            The version.

        Raises:
            DataError: for another file, and for none.
        """
        path = self._path(number)
        with self._guard:
            opened = self._opened.get((page, number))
        if opened is None:
            now = self._version(number)
            with self._guard:
                opened = self._opened.setdefault((page, number), now)
        stamp = stamp_of(path)
        if stamp is None:
            raise _gone(path)
        if opened.stamp != stamp or (content and self._version(number) != opened):
            raise _changed(path)
        return opened

    def predict(
        self,
        number: int,
        prompt: Prompt,
        refinement: Refinement,
        *,
        page: str = "",
        number_of_prompt: int | None = None,
    ) -> PromptPrediction:
        """Predict a prompt on a photograph, click by click; see `predict_click_sequence`. The mask is not yet made.

        Args:
            number: of the photograph.
            prompt: structure prompt, box and clicks in pixels of the photograph.
            refinement: of the prediction after the last click.
            page: that asks.
            number_of_prompt: of the page's prompts, by which `turns` finds it; see `Turns.take`.

        Raises:
            DataError: for a photograph that cannot be read, or is not the one that the page has opened.
            Dropped: a newer prompt of the page came, or this one was cancelled.
            ValueError: for a prompt that cannot be meant, such as one outside it, or an empty one; it drops no other.
        """
        version = self.check(number, page)
        check_not_empty(prompt)
        if fault := prompt.fault(Area.of(size_of(self._path(number)))):
            raise ValueError(f"{fault}.")
        with self.turns.take(page, number_of_prompt) as turn, self._alone(turn):
            encoded = self._encoded(number, version, turn)
            return predict_click_sequence(self.model, encoded, prompt, refinement, report=turn.report)

    @contextmanager
    def _alone(self, turn: Turn) -> Iterator[None]:
        """Wait until no other prompt is predicted, or this one is dropped."""
        while not self._predicting.acquire(timeout=PATIENCE):
            turn.check()
        try:
            turn.check()
            yield
        finally:
            self._predicting.release()

    def _encoded(self, number: int, version: Version, turn: Turn) -> Encoded:
        """A version of a photograph with its embedding; the least recently used one is forgotten."""
        with self._guard:
            kept = self._kept.get(number)
        if kept is None or kept.version != version:
            turn.report("photograph", 0, 1)
            pixels = self._read(number)
            if self._version(number) != version:
                raise _changed(self._path(number))
            kept = _Kept(version, encode(self.model, pixels))
        with self._guard:
            self._kept[number] = kept
            self._kept.move_to_end(number)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept.encoded

    def _path(self, number: int) -> Path:
        return self.photographs[number].path

    def _version(self, number: int) -> Version:
        """The version of a photograph's file. Raises DataError where it is gone."""
        version = version_of(self._path(number))
        if version is None:
            raise _gone(self._path(number))
        return version

    def _read(self, number: int) -> np.ndarray:
        return read_image(self._path(number), max_pixels=self.max_pixels, advice=COPY_AGAIN)


def _gone(path: Path) -> DataError:
    return DataError(f"{path} is gone: put it back, or restart the server without it")


def _changed(path: Path) -> DataError:
    return DataError(f"{path} has changed on the disk since it was opened: open the photograph again")
