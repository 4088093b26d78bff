"""An evaluation from checked files to its report: shared by processes, taken up again where it was interrupted."""

import argparse
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sam_med2d.data.dataset import Batch, FundusDataset, collate, make_loader
from sam_med2d.data.record_checks import repeated_masks
from sam_med2d.data.records import Record, saved_name
from sam_med2d.errors import DataError, UsageError, raise_problems
from sam_med2d.evaluation import report
from sam_med2d.evaluation.batch_prediction import BOX, POINTS, STRUCTURE, Mode, Prediction, misplaced, predict_batch
from sam_med2d.evaluation.case_row import CEILING, CaseRow
from sam_med2d.evaluation.metrics import SOFT
from sam_med2d.evaluation.scoring import draw_predictions, score_batch
from sam_med2d.evaluation.summary import RunningSummary
from sam_med2d.prompts.prompt_file import OpeningPrompts, Prompts, make_prompts, read_prompts, without, write_prompts
from sam_med2d.runtime import json_files
from sam_med2d.runtime.devices import autocast_dtype, cpu_workers
from sam_med2d.runtime.distributed import Processes
from sam_med2d.runtime.journal import Journal
from sam_med2d.runtime.reproducibility import record
from sam_med2d.runtime.run_store import RunStore, refuse_other_settings
from sam_med2d.visualization import overlays
from segment_anything.checkpoint import tensor_digest
from segment_anything.modeling import Sam
from segment_anything.refinement.refine import Refinement
from segment_anything.utils.digest import digest

logger = logging.getLogger("test")
# flags that decide the numbers of a run, beside model, data, prompts and refinement
BINDING = ("metrics", "point_num", "seed", "use_amp", "nsd_tolerance", "save_pred", "save_prob", "ceiling")


class Evaluator:
    """Evaluates `records` and leaves the results in `out`; each process takes its share of the photographs."""

    def __init__(
        self,
        args: argparse.Namespace,
        model: Sam,
        records: Sequence[Record],
        modes: Sequence[Mode],
        out: Path,
        processes: Processes,
        refinement: Refinement,
    ) -> None:
        self.refinement = refinement
        self.args, self.model, self.records, self.modes, self.processes = args, model, records, modes, processes
        self.out, self.store = out, RunStore(out / "unfinished")
        self.checked, self.cases = self.store.journal("checked"), self.store.journal("cases")
        self.workers = cpu_workers(args.num_workers, here=processes.here)
        self.unreadable: dict[int, dict[str, str]] = {}
        self.prompts: Prompts | None = None
        self.outside, self.seconds = 0, 0.0

    def run(self) -> int:
        """Exit code: 0, or 1 where files could not be read and their cases are missing."""
        raise_problems(repeated_masks(self.records))
        if self.args.prompt_path:
            refs = [mask for record in self.records for mask in record.masks]
            self.prompts = read_prompts(self.args.prompt_path, refs, self.model.image_size)
            self.modes = modes_for_prompts(self.modes, self.prompts)
        if self.args.save_pred or self.args.save_prob:
            self._check_names()
        if (code := self._begin()) is not None:
            return code
        try:
            self._check()
        except DataError:
            self.processes.wait()
            if self.processes.first and self.cases.is_empty:
                self.store.remove()
            raise
        self._predict()
        if self.processes.first:
            self._report()
            self.store.remove()
        self.processes.wait()
        return 1 if self.unreadable else 0

    # --- a new run or an unfinished one -----------------------------------------------------------------------

    def _begin(self) -> int | None:
        """Prepare the run's folder; the exit code when --resume finds a finished run.

        Raises UsageError where the folder holds what would be lost, or a run with other settings.
        """
        settings, summary = self._settings(), self.out / "summary.json"
        code = None
        if self.processes.first:
            if not self.cases.is_empty and not self.args.resume:
                raise UsageError(f"{self.out} holds an unfinished run: add --resume to go on with it, or remove it.")
            if self.args.resume and (old := self.store.settings()) is not None:
                _refuse_other(self.out, old, settings)
                self.store.tidy(*(self.out / folder for mode in self.modes for folder in _folders(mode)))
                done = [len(journal.numbers()) for journal in (self.checked, self.cases)]
                logger.info(f"going on with {self.out}: {done[0]} images are checked, {done[1]} done")
            elif self.args.resume and summary.is_file():
                old = json.loads(summary.read_text(encoding="utf-8"))
                _refuse_other(self.out, old.get("settings", {}), settings)
                logger.info(f"{self.out} is finished: see {self.out}/report.md. Without --resume it is computed anew.")
                code = 1 if old["failed"] else 0
            else:
                summary.unlink(missing_ok=True)  # of an earlier run
                self.store.remove()
                self.store.begin(settings)
        return self.processes.gather(code)[0]

    def _settings(self) -> dict[str, Any]:
        """What decides the numbers, by the name that a user knows."""
        data = ((item.data_set, item.image.name, [mask.name for mask in item.masks]) for item in self.records)
        return {
            **{f"--{name}": getattr(self.args, name) for name in BINDING},
            **{f"--{name}": value for name, value in self.refinement.as_dict(self.model.image_size).items()},
            "--prompts": [mode.name for mode in self.modes],
            "--prompt_path": digest(self.args.prompt_path.read_bytes()) if self.args.prompt_path else None,
            "preprocessing": self.model.preprocessing.as_dict(),
            "weights": tensor_digest(self.model.state_dict()),
            "presence thresholds": self.model.prompt_encoder.presence_thresholds,
            "--mask_rule": self.model.mask_decoder.mask_rule,
            "data": digest(repr(names).encode() for names in data),
        }

    # --- checking, and opening prompts ------------------------------------------------------------------------

    def _dataset(self, records: Sequence[Record], **options: Any) -> FundusDataset:
        options |= {"keep_truth": True, "keep_photograph": bool(self.refinement.active)}
        return FundusDataset(records, self.model.preprocessing, **options)

    def _share_of_the_rest(self, lines: Journal, numbers: Iterable[int]) -> list[int]:
        """What this process has to do of `numbers`, but for those that are in `lines`."""
        done = lines.numbers()
        rest = [number for number in numbers if number not in done]
        self.processes.wait()  # until all have read the lines: from now on they grow
        return rest[self.processes.rank :: self.processes.count]

    def _bar(self, total: int, what: str) -> tqdm:
        return tqdm(total=total, desc=what, unit="image", disable=not self.processes.first)

    def _check(self) -> None:
        """Read every file once: unusable data ends the run, unreadable files are left out; prompts are written."""
        todo = self._share_of_the_rest(self.checked, range(len(self.records)))
        dataset = self._dataset([self.records[number] for number in todo])
        openings = OpeningPrompts(dataset, self.args.point_num, self.args.seed)
        loader = make_loader(openings, num_workers=self.workers, join=itemgetter(0))
        problems: list[str] = []
        with self.checked.writer() as lines, self._bar(len(todo), "checking files") as bar:
            for number, checked in zip(todo, loader, strict=True):
                found = [*checked.problems, *self._missing_prompts(checked.prompts)]
                if found:
                    problems += [*checked.unreadable.values(), *found]
                else:
                    lines.add(number, {"prompts": checked.prompts, "unreadable": checked.unreadable})
                bar.update()
        problems = [problem for share in self.processes.gather(problems) for problem in share]
        self.unreadable = {number: u for number, entry in self.checked.values() if (u := entry["unreadable"])}
        if problems or not any(self._readable(number) for number in range(len(self.records))):
            raise_problems([*(why for files in self.unreadable.values() for why in files.values()), *problems])
        self._refuse_incomplete(self.checked, range(len(self.records)))
        for line in self._failures() if self.processes.first else ():
            logger.error(f"left out: {line}")
        if self.processes.first and self.prompts is None:
            path = Path(self.args.work_dir) / f"{self.model.image_size}_prompt.json"
            write_prompts(path, (entry["prompts"] for _, entry in self.checked.values()))
            logger.info(f"prompts written to {path}")
        self.processes.wait()

    def _missing_prompts(self, own: Prompts) -> list[str]:
        """Masks whose entry in --prompt_path lacks what a column needs, though they exist in the model frame."""
        if self.prompts is None:
            return []
        openings = {mode.opening for mode in self.modes} - {STRUCTURE}
        needed = {"boxes" if opening == BOX else "point_labels" for opening in openings}
        found = [(name, kind) for name in own for kind in needed if own[name][kind] and not self.prompts[name][kind]]
        return [f"--prompt_path {self.args.prompt_path}: the entry of {name} has no {kind}" for name, kind in found]

    def _refuse_incomplete(self, lines: Journal, expected: Iterable[int]) -> None:
        """Raise UsageError unless there is one line for each expected photograph."""
        found = Counter(number for number, _ in lines.entries())
        odd = [number for number in expected if found[number] != 1]
        if odd:
            raise UsageError(
                f"{self.store.folder} has not one result for each of {len(odd)} photographs, such as "
                f"{self.records[odd[0]].image}: does another run write there, or do the machines see different folders "
                "under --work_dir? Remove it and start again."
            )

    def _check_names(self) -> None:
        """Raise UsageError where two masks would be saved under one name."""
        names = Counter(saved_name(mask.name) for record in self.records for mask in record.masks)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise UsageError(f"--save_pred: several masks would be saved as {', '.join(twice[:5])}: rename them.")

    def _readable(self, number: int) -> Record | None:
        return without(self.records[number], self.unreadable.get(number, {}))

    def _failures(self) -> list[str]:
        """A line for each unreadable file, with the masks that are not evaluated for it."""
        lines = []
        for number, files in self.unreadable.items():
            item = self.records[number]
            for file, why in files.items():
                masks = [mask.name for mask in item.masks if file in (str(item.image), str(mask.path))]
                lines.append(f"{why}; not evaluated: {', '.join(masks)}")
        return lines

    # --- predictions ------------------------------------------------------------------------------------------

    def _predict(self) -> None:
        """Predict and score what is not done yet; the rows of each image are on disk when the next batch begins."""
        readable = [number for number in range(len(self.records)) if self._readable(number)]
        todo = self._share_of_the_rest(self.cases, readable)
        keep_fov = any(name in SOFT for name in self.args.metrics)
        by_name = any(mode.opening == STRUCTURE for mode in self.modes)
        names = {"structures": self.model.prompt_encoder.structures, "every_absent": True} if by_name else {}
        dataset = self._dataset([self._readable(number) for number in todo], keep_fov=keep_fov, **names)
        loader = make_loader(dataset, batch_size=self.args.batch_size, num_workers=self.workers)
        if self.args.compile or self.model.device.type == "cuda":
            more = {self.refinement.windows_at_once} if self.refinement.uses_windows else set()
            more |= {1} if self.refinement.mirror else set()
            for size in {min(self.args.batch_size, len(todo)), len(todo) % self.args.batch_size, *more} - {0}:
                self._encode_nothing(size)
        save = self._save if self.args.save_pred or self.args.save_prob else None
        batches = (todo[i : i + self.args.batch_size] for i in range(0, len(todo), self.args.batch_size))
        with self.cases.writer() as lines, self._bar(len(todo), "test") as bar:
            for numbers, batch in zip(batches, loader, strict=True):
                predictions, seconds = self._timed(batch := batch.to(self.model.device))
                how = {"tolerance": self.args.nsd_tolerance, "ceilings": self.args.ceiling}
                scored = score_batch(batch, predictions, self.args.metrics, save=save, **how)
                share = seconds / max(1, sum(map(len, scored)))
                for number, rows in zip(numbers, scored, strict=True):
                    lines.add(number, [replace(row, seconds=share).as_columns() for row in rows])
                bar.update(len(numbers))
        if outside := sum(self.processes.gather(self.outside)):
            logger.warning(
                f"{outside} foreground clicks lie outside their masks: is --prompt_path of another preprocessing?"
            )

    def _timed(self, batch: Batch) -> tuple[list[list[Prediction]], float]:
        """Predictions of a batch, and the seconds that they took."""
        prompts = self._prompts_of(batch)
        if self.prompts is not None:  # our own lie inside
            self.outside += misplaced(batch, prompts)
        start = time.perf_counter()
        predictions = self._predictions(batch, prompts)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return predictions, time.perf_counter() - start

    def _prompts_of(self, batch: Batch) -> Prompts:
        """Those of --prompt_path, or those that were written, made once more: a million would fill the memory."""
        if self.prompts is not None:
            return self.prompts
        return make_prompts(batch, point_num=self.args.point_num, seed=self.args.seed)

    def _predictions(self, batch: Batch, prompts: Prompts) -> list[list[Prediction]]:
        device = self.model.device
        with torch.autocast(device.type, autocast_dtype(device), enabled=self.args.use_amp):
            settings = {"seed": self.args.seed, "refinement": self.refinement}
            return predict_batch(self.model, batch, prompts, self.modes, **settings)

    @torch.no_grad()
    def _encode_nothing(self, count: int) -> None:
        """Have the encoder compiled, and a GPU's routines chosen, before time is taken."""
        size, device = self.model.image_size, self.model.device
        with torch.autocast(device.type, autocast_dtype(device), enabled=self.args.use_amp):
            self.model.encode(torch.zeros(count, 3, size, size, device=device))

    def _save(self, row: CaseRow, mask: np.ndarray, probability: np.ndarray) -> None:
        """Write a case's mask (0 and 255) and probabilities (0 to 65535), as asked for."""
        masks, probabilities = next(_folders(mode) for mode in self.modes if mode.name == row.prompt)
        name = saved_name(row.mask)
        if self.args.save_pred:
            overlays.write_picture(self.out / masks / name, mask.astype(np.uint8) * 255)
        if self.args.save_prob:
            overlays.write_picture(self.out / probabilities / name, np.rint(probability * 65535).astype(np.uint16))

    # --- results ----------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Merge what all processes did: cases.csv, summary.json, report.md and the pictures."""
        self._refuse_incomplete(self.cases, (n for n in range(len(self.records)) if self._readable(n)))
        running = RunningSummary([*self.args.metrics, *[CEILING] * self.args.ceiling], seed=self.args.seed)
        report.write_cases(self.out / "cases.csv", self._summarised_rows(running))
        summary = running.summary() | {
            "images": running.images,
            "failed": self._failures(),
            "fps": running.images / self.seconds,
            "fps_covers": self._fps_covers(),
            "windows": self.refinement.describe(self.model.image_size),
            "preprocessing": self.model.preprocessing.as_dict(),
            "settings": self._settings(),
            "nsd_tolerance": self.args.nsd_tolerance,
        }
        summary |= record(self.args)
        json_files.write_summary(self.out / "summary.json", summary)
        pictures = report.draw(self.out, running, summary)
        if cases := running.representative_cases():
            overlays.write_picture(self.out / "overlay.png", self._contact_sheet(cases))
            pictures.append("overlay.png")
        report.write_report(self.out / "report.md", summary, pictures)

    def _fps_covers(self) -> str:
        device, count, batch = self.model.device, self.processes.count, self.args.batch_size
        precision = f"{autocast_dtype(device)} autocast".removeprefix("torch.") if self.args.use_amp else "float32"
        threads = f" with {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        what = "encoding and decoding of all prompts" + " and windows" * self.refinement.uses_windows
        what += " and mirror images" * self.refinement.mirror
        processes = f", {count} processes" * (count > 1)
        return (
            f"images per second of one process, {what}, batch {batch}, {device.type}{threads}, {precision}{processes}"
        )

    def _summarised_rows(self, running: RunningSummary) -> Iterator[CaseRow]:
        """All rows, in the order of the data; the summary takes them in on the way."""
        for number, entries in self.cases.values():
            if not entries:  # nothing in the photograph can be asked for
                continue
            rows = [CaseRow.from_columns(entry) for entry in entries]
            running.add(number, rows)
            self.seconds += sum(row.seconds for row in rows)
            yield from rows

    def _contact_sheet(self, cases: Sequence[tuple[int, str]]) -> np.ndarray:
        """A row per mask, a column per mode. The few masks are predicted once more, photograph by photograph."""
        drawn: dict[tuple[int, str], dict[str, np.ndarray]] = {}
        for number in dict.fromkeys(number for number, _ in cases):
            record = self.records[number]
            masks = tuple(mask for mask in record.masks if (number, mask.name) in cases)
            batch = collate([self._dataset([Record(record.image, masks)])[0]]).to(self.model.device)
            for i, own in enumerate(self._predictions(batch, self._prompts_of(batch))):
                names = [prediction.mode.name for prediction in own]
                drawn[number, masks[i].name] = dict(zip(names, draw_predictions(batch, i, own), strict=True))
        blank = np.zeros_like(next(iter(drawn[cases[0]].values())))
        tiles = [drawn[case].get(mode.name, blank) for case in cases for mode in self.modes]
        return overlays.contact_sheet(tiles, columns=len(self.modes))


def modes_for_prompts(modes: Sequence[Mode], prompts: Prompts) -> list[Mode]:
    """Modes whose names count the points of a prompt file: its openings may have several.

    Raises UsageError where they have different numbers of points, so that no name is right.
    """
    counts = {len(entry["point_labels"]) for entry in prompts.values()} - {0}
    if all(mode.opening != POINTS for mode in modes) or not counts:
        return list(modes)
    if len(counts) > 1:
        raise UsageError(
            f"--prompt_path: its entries have {', '.join(map(str, sorted(counts)))} points: give all the same number."
        )
    opening = counts.pop()
    return [replace(mode, name=str(opening + mode.clicks - 1)) if mode.opening == POINTS else mode for mode in modes]


def _refuse_other(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise UsageError that names what differs between a run and its continuation."""
    refuse_other_settings(old, new, what=f"--resume: {out} was computed with", cure="give another --run_name")


def _folders(mode: Mode) -> tuple[str, str]:
    """Where masks and probabilities of a mode are saved, below the run's folder."""
    return mode.folder, f"{mode.folder}_prob"
