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
from sam_med2d.evaluation.batch_prediction import STRUCTURE, Mode, Prediction, misplaced, predict_batch
from sam_med2d.evaluation.case_row import CEILING, CaseRow
from sam_med2d.evaluation.metrics import SOFT
from sam_med2d.evaluation.readable_records import ReadableRecords
from sam_med2d.evaluation.replayed_prompts import missing_prompts, modes_for_prompts
from sam_med2d.evaluation.scoring import draw_predictions, score_batch
from sam_med2d.evaluation.summary import RunningSummary
from sam_med2d.notes import REMARKS
from sam_med2d.prompts.prompt_file import OpeningPrompts, PromptEntries, make_prompts, read_prompts, write_prompts
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
# flags that decide the numbers, beside model, data, prompts and refinement
BINDING_FLAGS = ("metrics", "region", "point_num", "seed", "use_amp", "nsd_tolerance")
BINDING_FLAGS += ("save_pred", "save_prob", "ceiling")


class Evaluator:
    """Evaluates a model on photographs and leaves the results in a folder; each process takes its share."""

    def __init__(
        self,
        args: argparse.Namespace,
        model: Sam,
        records: Sequence[Record],
        *,
        modes: Sequence[Mode],
        out: Path,
        processes: Processes,
        refinement: Refinement,
    ) -> None:
        """Prepare an evaluation of the records of all processes by the flags of test.py; `run` does it."""
        self.refinement = refinement
        self.args, self.model, self.modes, self.processes = args, model, modes, processes
        self.records, self.readable = records, ReadableRecords(records)
        self.out, self.store = out, RunStore(out / "unfinished")
        self.checked, self.cases = self.store.journal("checked"), self.store.journal("cases")
        self.workers = cpu_workers(args.num_workers, here=processes.here)
        self.prompts: PromptEntries | None = None
        self.settings: dict[str, Any] = {}
        self.outside, self.seconds = 0, 0.0

    def run(self) -> int:
        """Check the files, predict, score and report, or what an interrupted run left of that.

        Returns:
            Exit code: 0, or 1 where files could not be read and their cases are missing.

        Raises:
            DataError: lists what is wrong with the data.
            UsageError: the folder holds another run, or the prompt file does not fit.
        """
        raise_problems(repeated_masks(self.records))
        if self.args.prompt_path:
            refs = [mask for record in self.records for mask in record.masks]
            self.prompts = read_prompts(self.args.prompt_path, refs, self.model.image_size)
            self.modes = modes_for_prompts(self.modes, self.prompts)
        if self.args.save_pred or self.args.save_prob:
            self._check_names()
        self.settings = _run_settings(self.args, self.model, self.records, self.modes, self.refinement)
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
        return 1 if self.readable.unreadable else 0

    # --- a new run or an unfinished one -----------------------------------------------------------------------

    def _begin(self) -> int | None:
        """Prepare the run's folder; the exit code when --resume finds a finished run.

        Raises UsageError where the folder holds what would be lost, or a run with other settings.
        """
        summary, code = self.out / "summary.json", None
        if self.processes.first:
            if not self.cases.is_empty and not self.args.resume:
                raise UsageError(f"{self.out} holds an unfinished run: add --resume to go on with it, or remove it.")
            if self.args.resume and (old := self.store.settings()) is not None:
                self._refuse_changed(old)
                self.store.tidy(*(self.out / folder for mode in self.modes for folder in _folders(mode)))
                done = [len(journal.numbers()) for journal in (self.checked, self.cases)]
                logger.info(f"going on with {self.out}: {done[0]} images are checked, {done[1]} done")
            elif self.args.resume and summary.is_file():
                old = json.loads(summary.read_text(encoding="utf-8"))
                self._refuse_changed(old.get("settings", {}))
                logger.info(f"{self.out} is finished: see {self.out}/report.md. Without --resume it is computed anew.")
                code = 1 if old["failed"] else 0
            else:
                summary.unlink(missing_ok=True)  # of an earlier run
                self.store.remove()
                self.store.begin(self.settings)
        return self.processes.gather(code)[0]

    def _refuse_changed(self, old: dict[str, Any]) -> None:
        """Refuse to go on with a run of other settings (UsageError names what differs)."""
        what = f"--resume: {self.out} was computed with"
        refuse_other_settings(old, self.settings, what=what, cure="give another --run_name")

    # --- checking, and opening prompts ------------------------------------------------------------------------

    def _dataset(self, records: Sequence[Record], **options: Any) -> FundusDataset:
        """The photographs with their masks at both sizes."""
        options |= {"keep_truth": True, "keep_photograph": bool(self.refinement.active)}
        return FundusDataset(records, self.model.preprocessing, **options)

    def _share_of_the_rest(self, journal: Journal, numbers: Iterable[int]) -> list[int]:
        """What this process has to do of `numbers`, but for those that are in the journal."""
        done = journal.numbers()
        rest = [number for number in numbers if number not in done]
        self.processes.wait()  # until all have read the journal: from now on it grows
        return rest[self.processes.rank :: self.processes.count]

    def _bar(self, total: int, what: str) -> tqdm:
        """A progress bar of the first process."""
        return tqdm(total=total, desc=what, unit="image", disable=not self.processes.first)

    def _check(self) -> None:
        """Read every file once: unusable data ends the run, unreadable files are left out; prompts are written."""
        todo = self._share_of_the_rest(self.checked, range(len(self.records)))
        dataset = self._dataset([self.records[number] for number in todo])
        openings = OpeningPrompts(dataset, self.args.point_num, self.args.seed)
        loader = make_loader(openings, num_workers=self.workers, join=itemgetter(0))
        problems: list[str] = []
        with REMARKS.collected(), self.checked.writer() as journal, self._bar(len(todo), "checking files") as bar:
            for number, checked in zip(todo, loader, strict=True):
                REMARKS.merge(checked.remarks)
                found = list(checked.problems)
                if self.prompts is not None:
                    found += missing_prompts(self.args.prompt_path, self.prompts, checked.prompts, self.modes)
                if found:
                    problems += [*checked.unreadable.values(), *found]
                else:
                    journal.add(number, {"prompts": checked.prompts, "unreadable": checked.unreadable})
                bar.update()
            for share in self.processes.gather(REMARKS.take()):
                REMARKS.merge(share)
        problems = [problem for share in self.processes.gather(problems) for problem in share]
        self.readable.unreadable = {number: u for number, entry in self.checked.values() if (u := entry["unreadable"])}
        if problems or not self.readable.numbers():
            raise_problems([*self.readable.reasons(), *problems])
        self._refuse_incomplete(self.checked, range(len(self.records)))
        for line in self.readable.failures() if self.processes.first else ():
            logger.error(f"left out: {line}")
        if self.processes.first and self.prompts is None:
            path = Path(self.args.work_dir) / f"{self.model.image_size}_prompt.json"
            write_prompts(path, (entry["prompts"] for _, entry in self.checked.values()))
            logger.info(f"prompts written to {path}")
        self.processes.wait()

    def _refuse_incomplete(self, journal: Journal, expected: Iterable[int]) -> None:
        """Raise UsageError unless there is one line for each expected photograph."""
        found = Counter(number for number, _ in journal.entries())
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

    # --- predictions ------------------------------------------------------------------------------------------

    def _predict(self) -> None:
        """Predict and score what is not done yet; the rows of each image are on disk when the next batch begins."""
        todo = self._share_of_the_rest(self.cases, self.readable.numbers())
        cut = self.args.region == "field_of_view"
        keep_fov = cut or (self.args.region is None and any(name in SOFT for name in self.args.metrics))
        by_structure = any(mode.opening == STRUCTURE for mode in self.modes)
        more = {"structures": self.model.prompt_encoder.structures, "every_absent": True} if by_structure else {}
        dataset = self._dataset([self.readable[number] for number in todo], keep_fov=keep_fov, **more)
        loader = make_loader(dataset, batch_size=self.args.batch_size, num_workers=self.workers)
        if self.args.compile or self.model.device.type == "cuda":
            self._warm_up(len(todo))
        save = self._save if self.args.save_pred or self.args.save_prob else None
        batches = (todo[i : i + self.args.batch_size] for i in range(0, len(todo), self.args.batch_size))
        with self.cases.writer() as journal, self._bar(len(todo), "test") as bar:
            for numbers, batch in zip(batches, loader, strict=True):
                predictions, seconds = self._timed(batch := batch.to(self.model.device))
                how = {"tolerance": self.args.nsd_tolerance, "ceilings": self.args.ceiling, "cut": cut}
                scored = score_batch(batch, predictions, self.args.metrics, save=save, **how)
                share = seconds / max(1, sum(map(len, scored)))
                for number, rows in zip(numbers, scored, strict=True):
                    journal.add(number, [replace(row, seconds=share).as_columns() for row in rows])
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

    def _prompts_of(self, batch: Batch) -> PromptEntries:
        """Those of --prompt_path, or those that were written, made once more: a million would fill the memory."""
        if self.prompts is not None:
            return self.prompts
        return make_prompts(batch, point_num=self.args.point_num, seed=self.args.seed)

    def _predictions(self, batch: Batch, prompts: PromptEntries) -> list[list[Prediction]]:
        """Predictions of each mask of a batch, one for each mode."""
        device = self.model.device
        with torch.autocast(device.type, autocast_dtype(device), enabled=self.args.use_amp):
            how = {"seed": self.args.seed, "refinement": self.refinement}
            return predict_batch(self.model, batch, prompts, self.modes, **how)

    @torch.no_grad()
    def _warm_up(self, count: int) -> None:
        """Encode batches of each size that `count` photographs need: compiles the encoder, chooses a GPU's routines."""
        sizes = {min(self.args.batch_size, count), count % self.args.batch_size}
        sizes |= {self.refinement.windows_at_once} if self.refinement.uses_windows else set()
        sizes |= {1} if self.refinement.mirror else set()
        side, device = self.model.image_size, self.model.device
        for size in sizes - {0}:
            with torch.autocast(device.type, autocast_dtype(device), enabled=self.args.use_amp):
                self.model.encode(torch.zeros(size, 3, side, side, device=device))

    def _save(self, row: CaseRow, mask: np.ndarray, probability: np.ndarray) -> None:
        """Write a case's mask (0 and 255) and probabilities (0 to 65535), as the flags say."""
        masks, probabilities = next(_folders(mode) for mode in self.modes if mode.name == row.prompt)
        name = saved_name(row.mask)
        if self.args.save_pred:
            overlays.write_picture(self.out / masks / name, mask.astype(np.uint8) * 255)
        if self.args.save_prob:
            overlays.write_picture(self.out / probabilities / name, np.rint(probability * 65535).astype(np.uint16))

    # --- results ----------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Merge what all processes did: cases.csv, summary.json, report.md and the pictures."""
        self._refuse_incomplete(self.cases, self.readable.numbers())
        metrics = [*self.args.metrics, *[CEILING] * self.args.ceiling]
        running = RunningSummary(metrics, seed=self.args.seed, data_path=self.args.data_path)
        report.write_cases(self.out / "cases.csv", self._summarised_rows(running))
        summary = running.summary() | {
            "images": running.images,
            "failed": self.readable.failures(),
            "fps": running.images / self.seconds,
            "fps_covers": self._fps_covers(),
            "windows": self.refinement.describe(),
            "preprocessing": self.model.preprocessing.as_dict(),
            "settings": self.settings,
            "nsd_tolerance": self.args.nsd_tolerance,
        }
        summary |= record(self.args)
        json_files.write_json(self.out / "summary.json", summary)
        pictures = report.draw(self.out, running, summary)
        if cases := running.representative_cases():
            overlays.write_picture(self.out / "overlay.png", self._contact_sheet(cases))
            pictures.append("overlay.png")
        report.write_report(self.out / "report.md", summary, pictures)

    def _fps_covers(self) -> str:
        """What the images per second are of."""
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
            if not entries:  # no column has a prompt for anything in the photograph
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


def _folders(mode: Mode) -> tuple[str, str]:
    """Where masks and probabilities of a mode are saved, below the run's folder."""
    return mode.folder, f"{mode.folder}_prob"


def _run_settings(
    args: argparse.Namespace, model: Sam, records: Sequence[Record], modes: Sequence[Mode], refinement: Refinement
) -> dict[str, Any]:
    """Everything that decides a run's numbers, by names that a user knows; of photographs the names count."""
    data = ((item.data_set, item.image.name, [mask.name for mask in item.masks]) for item in records)
    return {
        **{f"--{name}": getattr(args, name) for name in BINDING_FLAGS},
        **{f"--{name}": value for name, value in refinement.as_dict().items()},
        "--prompts": [mode.name for mode in modes],
        "--prompt_path": digest(args.prompt_path.read_bytes()) if args.prompt_path else None,
        "preprocessing": model.preprocessing.as_dict(),
        "weights": tensor_digest(model.state_dict()),
        "presence thresholds": model.prompt_encoder.presence_thresholds,
        "--mask_rule": model.mask_decoder.mask_rule,
        "data": digest(repr(names).encode() for names in data),
    }
