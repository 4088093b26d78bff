"""What a run leaves: masks and overlays of each photograph, and from all of them predictions.csv and coco.json."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.data.mask_png import write_mask
from sam_med2d.data.photographs import Photograph, check_text
from sam_med2d.dataset_conversion.formats.coco_ids import CocoIds
from sam_med2d.errors import UsageError
from sam_med2d.inference.photograph_prediction import Encoded, PromptPrediction
from sam_med2d.inference.prompt_sources import PhotographPrompts, Prompt
from sam_med2d.inference.segmentation_files import FOLDER, SegmentationFiles
from sam_med2d.runtime.run_store import RunStore
from sam_med2d.visualization.overlays import Overlay, write_picture
from sam_med2d.visualization.tables import write_csv
from segment_anything.preprocessing import Frame
from segment_anything.utils.atomic import atomic_path
from segment_anything.utils.digest import digest
from segment_anything.utils.rle import area_from_rle, box_from_rle

FOUND, EMPTY, ABSENT, NO_PROMPT, FAILED = "found", "empty", "absent", "no prompt", "failed"
# of predictions.csv, one line per prompt: docs/how-to/predict.md says what they mean
PREDICTION_COLUMNS = ("image", "name", "label", "number", "state", "mask", "x0", "y0", "x1", "y1", "area")
PREDICTION_COLUMNS += ("predicted_iou", "presence", "presence_threshold", "score", "message")
MASKS, OVERLAYS, STATE, DONE = "masks", "overlays", "state", "photographs"
FOLDERS = (MASKS, OVERLAYS, FOLDER)
NAME_BYTES = 255  # of a file, on most disks
PredictionRow = dict[str, Any]


class ResultFiles:
    """The files of a prediction run. What is done is known from a small file for each photograph, written last."""

    def __init__(self, out: Path, *, overlays: bool, segmentations: SegmentationFiles | None = None) -> None:
        self.out, self.overlays, self.segmentations = out, overlays, segmentations
        self.store = RunStore(out / STATE)

    def tidy(self) -> None:
        """Remove the temporary files of a run that was killed. Only while no other process writes."""
        self.store.tidy(*(self.out / folder for folder in FOLDERS))

    def is_done(self, photograph: Photograph) -> bool:
        """Whether the photograph's results are there, of the file as it is now."""
        try:
            entry = self.store.read(DONE, photograph.name)
            return entry["file"] == _identity(photograph) and not entry["failed"] and "digest" in entry
        except (OSError, ValueError, KeyError):
            return False

    # --- one photograph -------------------------------------------------------------------------------------------

    def write(
        self,
        photograph: Photograph,
        encoded: Encoded,
        predictions: Iterable[PromptPrediction],
        thresholds: dict[str, float],
    ) -> None:
        """Write the masks as they come, then the overlay and the segmentation, then that it is done.

        Args:
            photograph: where it lies and what it is called.
            encoded: its pixels and their place in the model frame.
            predictions: whose masks are made, and dropped, one after the other.
            thresholds: presence thresholds of the structures.

        Raises:
            DataError: the photograph cannot have a segmentation.
        """
        overlay = Overlay(encoded.image) if self.overlays else None
        counts: Counter[str] = Counter()
        rows, rles, united = {}, {}, {}
        for prediction in predictions:
            prompt, mask = prediction.prompt, prediction.runs()
            slug = _slug(prompt.label)
            path = Path(MASKS, photograph.name, _mask_name(photograph, slug, counts[slug.casefold()]))
            write_mask(self.out / path, mask)
            rle = mask.rle()
            row = _row(prediction, rle, thresholds) | {"number": counts[slug.casefold()], "mask": path.as_posix()}
            rows[prediction.number], rles[prediction.number] = row, rle
            counts[slug.casefold()] += 1
            if self.segmentations:
                united[prompt.label] = united.get(prompt.label, False) | mask.mask()
            if overlay:
                title = f"{prompt.label} (absent)" if prediction.absent else prompt.label
                overlay.add(title, mask.sampled(overlay.size), *_marks(prompt, encoded.frame))
        if overlay:
            write_picture(self.out / OVERLAYS / f"{photograph.name}.png", overlay.picture())
        numbers = sorted(rows)
        if self.segmentations:
            labels = dict.fromkeys(rows[i]["label"] for i in numbers)
            self.segmentations.write(photograph, {label: united[label] for label in labels})
        size = encoded.image.shape[:2]
        found = [rows[i] for i in numbers] or [{"state": NO_PROMPT}]
        self._end(photograph, found, [rles[i] for i in numbers] or [None], size=size)

    def write_failure(self, photograph: Photograph, message: str) -> None:
        """Write that a photograph has no results; the next run tries it again.

        Args:
            photograph: where it lies and what it is called.
            message: why.
        """
        self._end(photograph, [{"state": FAILED, "message": message}], [None], failed=True)

    def _end(
        self,
        photograph: Photograph,
        rows: Sequence[PredictionRow],
        rles: Sequence[dict[str, Any] | None],
        *,
        size: tuple[int, int] | None = None,
        failed: bool = False,
    ) -> None:
        """Write down what is known of a photograph."""
        entry = {"file": _identity(photograph), "failed": failed, "size": size, "rows": rows, "rles": rles}
        entry["digest"] = "" if failed else digest(photograph.path.read_bytes())
        self.store.write(DONE, photograph.name, entry)

    # --- all of them ----------------------------------------------------------------------------------------------

    def merge(self, photographs: Sequence[Photograph], ids: CocoIds) -> Counter[str]:
        """Write predictions.csv and coco.json, read one by one: how many lines of the table have each state.

        Raises:
            UsageError: the ids are of a file that has a photograph in another size.
        """
        states: Counter[str] = Counter()
        write_csv(self.out / "predictions.csv", PREDICTION_COLUMNS, self._rows(photographs, states))
        self._write_coco(photographs, ids)
        return states

    def _rows(self, photographs: Sequence[Photograph], states: Counter[str]) -> Iterator[PredictionRow]:
        """All lines of predictions.csv; counts their states on the way."""
        for photograph, entry in self._entries(photographs):
            for row in entry["rows"]:
                states[row["state"]] += 1
                yield {"image": photograph.path, "name": photograph.name, **row}

    def _entries(self, photographs: Sequence[Photograph]) -> Iterator[tuple[Photograph, dict[str, Any]]]:
        """What is known of each photograph."""
        for photograph in photographs:
            yield photograph, self.store.read(DONE, photograph.name)

    def _write_coco(self, photographs: Sequence[Photograph], ids: CocoIds) -> None:
        """Photographs that failed are left out; empty masks are no annotation."""
        with atomic_path(self.out / "coco.json") as temporary, temporary.open("w", encoding="utf-8") as file:
            for part, items in (("images", self._images), ("annotations", self._annotations)):
                separator = "{" if part == "images" else ",\n"
                file.write(f'{separator}"{part}": [')
                for number, item in enumerate(items(photographs, ids)):
                    file.write(",\n" * bool(number) + json.dumps({"id": number + 1, **item}, ensure_ascii=False))
                file.write("]")
            file.write(f',\n"categories": {json.dumps(ids.listed_categories(), ensure_ascii=False)}}}\n')

    def _images(self, photographs: Sequence[Photograph], ids: CocoIds) -> Iterator[dict[str, Any]]:
        """COCO's images, with their own ids."""
        for photograph, entry in self._entries(photographs):
            if entry["size"]:
                height, width = entry["size"]
                ids.check_size(photograph.path, (height, width))
                name = _relative(photograph.path, self.out)
                yield {
                    "id": ids.image(photograph.path, entry["digest"]),
                    "file_name": name,
                    "width": width,
                    "height": height,
                }

    def _annotations(self, photographs: Sequence[Photograph], ids: CocoIds) -> Iterator[dict[str, Any]]:
        """COCO's annotations."""
        for photograph, entry in self._entries(photographs):
            number = ids.image(photograph.path, entry["digest"])
            for row, rle in zip(entry["rows"], entry["rles"], strict=True):
                if rle and (area := area_from_rle(rle)):
                    about = {"area": area, "bbox": list(box_from_rle(rle)), "iscrowd": 0}
                    about |= {"score": row["predicted_iou"], "mask": row["mask"]}
                    place = {"image_id": number, "category_id": ids.categories[row["label"]]}
                    yield {**place, "segmentation": rle, **about}


def check_names(photographs: Sequence[Photograph], prompts: PhotographPrompts) -> None:
    """Refuse photographs and labels that the results cannot be named after.

    Args:
        photographs: all of the run.
        prompts: their prompts.

    Raises:
        UsageError: names the first one.
    """
    for photograph in photographs:
        labels = {prompt.label for prompt in prompts[photograph.name]}
        for what, text in (("INPUT", str(photograph.path)), *(("label", label) for label in labels)):
            check_text(what, text)
        files = [f"{photograph.stem}.json", *(_mask_name(photograph, _slug(label), 0) for label in labels)]
        for name in files:
            if len(name.encode()) > NAME_BYTES:
                raise UsageError(
                    f"INPUT {photograph.path}: its results would have names of more than {NAME_BYTES} bytes ({name}): "
                    "give it, or the label, a shorter name."
                )


def _slug(label: str) -> str:
    """A label as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", label).strip(".") or "mask"


def _mask_name(photograph: Photograph, slug: str, number: int) -> str:
    """File name of a photograph's mask."""
    return f"{photograph.stem}_{slug}_{number:03d}.png"


def _identity(photograph: Photograph) -> dict[str, Any]:
    """What tells a photograph's file from a changed one."""
    try:
        about = photograph.path.stat()
    except OSError:
        return {"path": str(photograph.path)}
    return {"path": str(photograph.path), "bytes": about.st_size, "changed": about.st_mtime_ns}


def _row(prediction: PromptPrediction, rle: dict[str, Any], thresholds: dict[str, float]) -> PredictionRow:
    """A prediction's columns; a box of an empty mask is left out."""
    x, y, width, height = box_from_rle(rle)
    state = ABSENT if prediction.absent else FOUND if width else EMPTY
    row: PredictionRow = {"label": prediction.prompt.label, "state": state, "area": area_from_rle(rle)}
    if width:
        row |= {"x0": x, "y0": y, "x1": x + width, "y1": y + height}
    row["predicted_iou"] = round(prediction.predicted_iou, 4)
    if prediction.prompt.structure:
        row |= {"presence": round(prediction.presence, 4), "presence_threshold": thresholds[prediction.prompt.label]}
    if prediction.prompt.score is not None:
        row["score"] = prediction.prompt.score
    if prediction.absent:
        row["message"] = f"{prediction.prompt.label} is held not to be in this photograph"
    return row


def _marks(prompt: Prompt, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 2] and labels [P] that draw the prompt; a box by its corners, 2 and 3."""
    box, coords, labels = prompt.placed(frame)
    if box is None:
        return coords, labels
    return np.concatenate((coords, box.reshape(2, 2))), np.concatenate((labels, (2, 3)))


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder."""
    try:
        return Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
