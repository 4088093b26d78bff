"""Questions about photographs, answered from embeddings that are kept for the last few of them."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np

from sam_med2d.data.image_io import COPY_AGAIN, read_image
from sam_med2d.data.photographs import Photograph
from sam_med2d.inference.photograph_prediction import Answer, Encoded, answers, encode, refined
from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.modeling import Sam

KEPT = 4  # photographs whose pixels and embeddings stay in memory


class Annotator:
    """The model and the photographs. One question is answered at a time, whatever thread asks."""

    def __init__(self, model: Sam, photographs: Sequence[Photograph], *, multimask: bool, max_pixels: int) -> None:
        self.model, self.photographs = model, photographs
        self.multimask, self.max_pixels = multimask, max_pixels
        self._kept: OrderedDict[int, Encoded] = OrderedDict()
        self._lock = Lock()

    def image(self, number: int) -> np.ndarray:
        """A photograph, RGB uint8 [H, W, 3], upright. Raises DataError for a file that cannot be read."""
        with self._lock:
            kept = self._kept.get(number)
        return kept.image if kept else self._read(number)

    def answer(
        self,
        number: int,
        prompt: Prompt,
        *,
        named: bool = False,
        zoom: bool = False,
        tiles: bool = False,
        mirror: bool = False,
    ) -> Answer:
        """The mask that a prompt asks for; see `refined`. `named`: by its label, too, which the weights know.

        A name alone may be answered from tiles and mirror images. Raises DataError for a photograph that cannot be read
        and ValueError for a prompt outside it, or one that asks for nothing.
        """
        with self._lock:
            encoded = self._encoded(number)
            height, width = encoded.frame.original
            if outside := prompt.outside((height, width)):
                raise ValueError(f"{outside} lies outside the photograph ({width} x {height}).")
            if named and not prompt.points and prompt.box is None:
                looks = {"zoom": zoom, "tiles": tiles, "mirror": mirror}
                asked = [Prompt(prompt.label, structure=True)]
                return next(answers(self.model, encoded, asked, **looks, multimask=self.multimask))
            return refined(self.model, encoded, prompt, named=named, zoom=zoom, multimask=self.multimask)

    def _encoded(self, number: int) -> Encoded:
        """A photograph with its embedding; the one that was not asked about for longest is forgotten."""
        if number not in self._kept:
            self._kept[number] = encode(self.model, self._read(number))
        self._kept.move_to_end(number)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[number]

    def _read(self, number: int) -> np.ndarray:
        return read_image(self.photographs[number].path, max_pixels=self.max_pixels, advice=COPY_AGAIN)
