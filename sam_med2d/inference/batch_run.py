"""A prediction run from checked inputs to its results: shared by processes, taken up again where it was interrupted."""

import argparse
import errno
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sam_med2d.data.image_io import COPY_AGAIN, read_image
from sam_med2d.data.photographs import Photograph
from sam_med2d.dataset_conversion.formats.coco_ids import CocoIds
from sam_med2d.errors import DataError, UsageError
from sam_med2d.inference.embedding_cache import EmbeddingCache
from sam_med2d.inference.photograph_prediction import Encoded, predict_prompts
from sam_med2d.inference.pipeline import Pipeline
from sam_med2d.inference.prompt_sources import PhotographPrompts
from sam_med2d.inference.result_files import FAILED, ResultFiles
from sam_med2d.inference.segmentation_files import FOLDER, SegmentationFiles, algorithm_of
from sam_med2d.notes import REMARKS
from sam_med2d.runtime.devices import autocast_dtype, torch_threads
from sam_med2d.runtime.distributed import Processes
from segment_anything.checkpoint import tensor_digest
from segment_anything.modeling import Sam
from segment_anything.modeling.prompt_checks import Area
from segment_anything.preprocessing import Frame, to_tensor
from segment_anything.refinement.refine import Refinement
from segment_anything.refinement.tiling import Tiles

logger = logging.getLogger("predict")
BINDING = ("page", "zoom", "tiles", "mirror", "multimask", "use_amp", "overlays", "dicom_seg")
BINDING += ("structures", "box", "point", "background", "label", "prompt_frame")


@dataclass
class _Task:
    """A photograph on its way through the pipeline."""

    photograph: Photograph  # where it lies and what it is called
    message: str = ""  # why it got no further
    image: np.ndarray | None = None  # its pixels, RGB uint8 [H, W, 3]
    frame: Frame | None = None  # their place in the model frame
    pixels: Tensor | None = None  # the encoder's input, float32 [1, 3, S, S]
    embedding: Tensor | None = None  # the encoder's output, [1, C, S/16, S/16]
    detail: Tensor | None = None  # what the detail head sees, [1, F, S, S]
    key: str | None = None  # of the embedding in the cache
    fresh: bool = False  # whether it was encoded now, and is not in the cache


class BatchRun:
    """Predicts photographs and leaves the results in --out; each process takes its share.

    Args:
        args: the flags of scripts/predict.py, checked.
        model: on its device, in evaluation mode.
        photographs: to predict.
        prompts: by the photographs' names.
        processes: that share the work.
        coco_ids: of coco.json.
        prompt_digest: of the file that the prompts came from, "" without one.
        workers: photographs that are worked on beside the one that is encoded.
        multimask: whether the best of three candidates is taken, else the single mask.

    Raises:
        UsageError: where --out holds results of other settings.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        model: Sam,
        photographs: Sequence[Photograph],
        prompts: PhotographPrompts,
        processes: Processes,
        *,
        coco_ids: CocoIds,
        prompt_digest: str,
        workers: int,
        multimask: bool = True,
    ) -> None:
        self.args, self.model, self.photographs, self.prompts = args, model, photographs, prompts
        self.processes, self.workers, self.coco_ids = processes, workers, coco_ids
        tiles = Tiles() if args.tiles else None
        self.refinement = Refinement(mirror=args.mirror, zoom=args.zoom, tiles=tiles, multimask=multimask)
        self.settings = self._settings(prompt_digest)
        segmentations = None
        if args.dicom_seg:
            segmentations = SegmentationFiles(args.out, algorithm_of(args, self.settings["weights"]), args.page)
        self.results = ResultFiles(args.out, overlays=args.overlays, segmentations=segmentations)
        self.cache = self._cache()

    def run(self) -> int:
        """Predict what is not done yet, and write the tables of all results.

        Returns:
            Exit code: 0, or 1 where photographs could not be predicted.

        Raises:
            UsageError: where --out holds results of other settings, or the disk is full.
        """
        todo = self._begin()
        cv2.setNumThreads(0)  # the photographs are the parallel part
        on_cpu = self.model.device.type == "cpu"
        threads = max(1, min(self.workers + 1, len(todo))) if on_cpu else 2 * self.workers + 1
        stages = self._read, self._encode, self._finish
        pipeline = Pipeline(*stages, threads=threads, encoders=threads if on_cpu else 1)
        bar = tqdm(total=len(todo), desc="predict", unit="image", disable=not self.processes.first)
        try:
            with bar, REMARKS.collected(), torch_threads(-(-torch.get_num_threads() // threads)):
                for message in pipeline.run(todo):
                    if message:
                        bar.write(f"left out: {message}")
                    bar.update()
                for share in self.processes.gather(REMARKS.take()):
                    REMARKS.merge(share)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise UsageError(f"{error}: what is done is kept; free some space and start again.") from error
            raise
        return self._end(len(todo), pipeline)

    # --- a new run or an unfinished one -----------------------------------------------------------------------

    def _settings(self, prompt_digest: str) -> dict[str, Any]:
        """What decides the masks, by the name that a user knows."""
        return {
            **{f"--{name}": getattr(self.args, name) for name in BINDING},
            "--boxes_csv or --prompt_path": prompt_digest,
            "preprocessing": self.model.preprocessing.as_dict(),
            "weights": tensor_digest(self.model.state_dict()),
            "presence thresholds": self.model.prompt_encoder.presence_thresholds,
            "mask rule": self.model.mask_decoder.mask_rule,
        }

    def _cache(self) -> EmbeddingCache | None:
        if not self.args.embedding_cache:
            return None
        about = {
            "weights": tensor_digest(self.model.image_encoder.state_dict()),
            "preprocessing": self.model.preprocessing.as_dict(),
            "autocast": str(autocast_dtype(self.model.device)) if self.args.use_amp else "",
        } | ({"page": self.args.page} if self.args.page else {})
        return EmbeddingCache(self.args.embedding_cache, round(self.args.cache_gb * 1e9), about)

    def _begin(self) -> list[Photograph]:
        """This process's share of what is not done. Raises UsageError where --out holds masks of other settings."""
        if self.processes.first:
            store, what = self.results.store, f"--out {self.args.out} holds results with"
            if store.settings() is not None:
                store.refuse_other(self.settings, what=what, cure="give another folder, or remove it")
                self.results.tidy()
            store.begin(self.settings)
        self.processes.wait()
        rest = [photograph for photograph in self.photographs if not self.results.is_done(photograph)]
        if self.processes.first and len(rest) < len(self.photographs):
            done = len(self.photographs) - len(rest)
            logger.info(f"{done} of {len(self.photographs)} photographs are done already, {len(rest)} to do")
        self.processes.wait()  # until all have looked: from now on there are more
        return rest[self.processes.rank :: self.processes.count]

    # --- the stages -------------------------------------------------------------------------------------------

    def _read(self, photograph: Photograph) -> _Task:
        """The photograph, and its embedding from the cache or the encoder's input."""
        task = _Task(photograph)
        try:
            task.image = read_image(
                photograph.path, max_pixels=self.args.max_pixels, advice=COPY_AGAIN, page=self.args.page
            )
            if self.cache:
                task.key = self.cache.key(photograph.path.read_bytes())
                task.embedding = self.cache.get(task.key)
        except (DataError, OSError) as error:
            task.message = str(error)
            return task
        preprocessing = self.model.preprocessing
        task.frame = preprocessing.frame(task.image)
        if task.embedding is None or self.model.mask_decoder.detail is not None:
            task.pixels = to_tensor(preprocessing.image(task.image, task.frame))[None]
        return task

    @torch.no_grad()
    def _encode(self, task: _Task) -> _Task:
        """The photograph's embedding, if the cache has none, and what the detail head sees of it."""
        if task.message or not self.prompts[task.photograph.name]:
            return task
        device = self.model.device
        pixels = None if task.pixels is None else task.pixels.to(device)
        task.fresh = task.embedding is None
        with self._autocast():
            if task.fresh:
                task.embedding, task.detail = self.model.encode_all(pixels)
            else:
                task.embedding = task.embedding.to(device)
                task.detail = self.model.features(pixels, task.embedding)
        task.pixels = None
        if device.type == "cuda":
            torch.cuda.synchronize()
        return task

    @torch.no_grad()
    def _finish(self, task: _Task) -> str:
        """Decode, and write the results; what went wrong, "" for nothing."""
        photograph, prompts = task.photograph, self.prompts[task.photograph.name]
        size = task.image.shape[:2] if task.image is not None else (0, 0)
        for prompt in prompts:
            known = prompt.frame == "photograph" and not task.message
            task.message = (prompt.fault(Area.of(size, str(photograph.path))) if known else None) or task.message
        if task.message:
            self.results.write_failure(photograph, task.message)
            return task.message
        with self._autocast():
            if self.cache and task.fresh:
                self.cache.put(task.key, task.embedding)
            encoded = Encoded(task.image, task.frame, task.embedding, task.detail)
            found = predict_prompts(self.model, encoded, prompts, self.refinement) if prompts else ()
            try:
                self.results.write(photograph, encoded, found, self.model.prompt_encoder.presence_thresholds)
            except DataError as error:
                self.results.write_failure(photograph, str(error))
                return str(error)
        return ""

    def _autocast(self) -> torch.autocast:
        device = self.model.device
        return torch.autocast(device.type, autocast_dtype(device), enabled=self.args.use_amp)

    # --- results ----------------------------------------------------------------------------------------------

    def _end(self, count: int, pipeline: Pipeline) -> int:
        """Merge what all processes did, and say how it went."""
        hits = self.cache.hits if self.cache else 0
        shares = self.processes.gather((count, pipeline.encoding, pipeline.seconds, hits))
        states: Counter[str] = Counter()
        if self.processes.first:
            states = self.results.merge(self.photographs, self.coco_ids)
            for line in self._summary(shares, states):
                logger.info(line)
        self.processes.wait()
        return self.processes.gather(1 if states[FAILED] else 0)[0]

    def _summary(self, shares: Sequence[tuple[int, float, float, int]], states: Counter[str]) -> list[str]:
        done, encoding, seconds, hits = (sum(values) for values in zip(*shares, strict=True))
        longest = max(share[2] for share in shares)
        lines = [f"masks: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}"]
        if done:
            lines.append(
                f"{done} photographs in {longest:.1f} s, {done / longest:.2f} images/s; "
                f"the encoder was busy {encoding / seconds:.1%} of the time"
            )
        if self.cache:
            lines.append(f"embeddings: {hits} of {done} from {self.args.embedding_cache}")
        more = ", overlays/" * self.args.overlays + f", {FOLDER}/" * self.args.dicom_seg
        return [*lines, f"results: {self.args.out}/predictions.csv, coco.json, masks/{more}"]
