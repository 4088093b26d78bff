"""A whole data set on disk: all samples converted in parallel, then the maps; it appears whole or not at all.

The files are made in a folder `.<name>.unfinished` beside the data set. An interrupted run leaves it there, and the
same command goes on with it: a photograph whose files and options have not changed is not converted again.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam_med2d.data.records import SPLITS
from sam_med2d.dataset_conversion.convert_sample import Options, convert
from sam_med2d.dataset_conversion.samples import Sample
from sam_med2d.errors import DataError, raise_problems
from sam_med2d.runtime.process_pool import in_processes
from sam_med2d.runtime.run_store import RunStore
from sam_med2d.visualization.tables import write_csv
from segment_anything.utils.digest import digest

RECORD = "prepared.json"
INDEX_COLUMNS = ("image", "dataset", "patient", "official_split", "split", "orig_w", "orig_h", "w", "h")  # of index.csv
INDEX_COLUMNS += ("x0", "y0", "x1", "y1", "structures", "absent")
SPACING = ("pixel_spacing_x", "pixel_spacing_y")  # further ones, in mm

Job = tuple[int, Sample]  # with its number
Outcome = tuple[int, list[dict[str, Any]], str]  # number, rows, problem


@dataclass(slots=True)
class Built:
    """What was made."""

    photographs: Counter[str]  # number of each split
    masks: Counter[str]  # number of each structure
    lost: Counter[str]  # masks of each structure without a pixel at the new size
    merged: Counter[str]  # parts of masks, of each structure, that the new size joined
    empty: Counter[str]  # masks of each structure that are empty in the source
    left_out: list[str]  # files that could not be used, with the reason

    def as_record(self) -> dict[str, Any]:
        """JSON values; `asdict` cannot copy a Counter."""
        counts = ("photographs", "masks", "lost", "merged", "empty")
        return {**{name: dict(sorted(getattr(self, name).items())) for name in counts}, "left_out": self.left_out}


class DatasetInProgress:
    """The folder in which a data set is made.

    Attributes:
        out: where the finished data set goes.
        folder: the folder in which it is made.
        data: the data set, as far as it is made.
        scratch: what archives held.
        done: journal of the samples that are converted: their number, stamp and rows.
    """

    def __init__(self, out: Path) -> None:
        """A data set that may have been begun; the folder in which it is made lies beside `out`, where it goes."""
        self.out = out
        self._store = RunStore(out.parent / f".{out.name}.unfinished")
        self.folder, self.done = self._store.folder, self._store.journal("done")
        self.data, self.scratch = self.folder / "data", self.folder / "unpacked"

    def rows(self, stamps: Sequence[str]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Number and rows of each sample that is done and has the same stamp as now."""
        return ((number, value["rows"]) for number, value in self.done.values() if _is_current(stamps, number, value))

    def forget_others(self, stamps: Sequence[str]) -> None:
        """Samples that were done with another stamp are not done: their files are about to be written over."""
        self.done.keep(partial(_is_current, stamps))

    def drop_if_nothing_is_done(self) -> None:
        """Remove the folder unless it holds work."""
        if self.done.is_empty:
            self._store.remove()

    def finish(self) -> None:
        """Put the data in place of `out`, which is removed if it is there."""
        os.sync()
        if self.out.exists():
            self.out.rename(self.folder / "old")
        self.data.rename(self.out)
        self._store.remove()


def _is_current(stamps: Sequence[str], number: int, value: dict[str, Any]) -> bool:
    """Whether what was written down of sample `number` is of the sample as it is now."""
    return number < len(stamps) and value["stamp"] == stamps[number]


def refuse_output(out: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse a folder that cannot be made without loss.

    Args:
        out: where the data set goes.
        source: what it is made of.
        overwrite: whether an earlier data set may be replaced.

    Raises:
        DataError: says why it cannot be, and what to do.
    """
    if out.name in ("", "..") or out.is_mount():
        raise DataError(f"{out} cannot be replaced as a whole: give a folder in it, such as {out / 'data'}")
    inside, around = out.resolve().is_relative_to(source.resolve()), source.resolve().is_relative_to(out.resolve())
    if inside or around:
        raise DataError(f"{out} and {source} lie in one another: give a folder elsewhere for the prepared data set")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise DataError(f"{out} exists: give another folder, or --overwrite to replace it")
    if not (out / RECORD).is_file():
        raise DataError(f"{out} is not a prepared data set (it has no {RECORD}): --overwrite does not remove it")


def build(
    samples: Sequence[Sample],
    splits: Sequence[str],
    options: Options,
    unfinished: DatasetInProgress,
    *,
    about: dict[str, Any],
    workers: int,
    leave_out: bool,
    names_persons: bool = False,
) -> Built:
    """Convert the samples and write the data set.

    Args:
        samples: photographs with their masks.
        splits: split of each sample.
        options: how they are converted.
        unfinished: where the data set is made; what is done there already is kept.
        about: goes into the record; holds "name".
        workers: processes that convert.
        leave_out: make the data set without files that cannot be used, and list them.
        names_persons: whether paths of the files may name persons: the record counts what is left out.

    Raises:
        DataError: lists the files that cannot be used, unless they are left out.
    """
    (unfinished.data / "images").mkdir(parents=True, exist_ok=True)
    (unfinished.data / "masks").mkdir(exist_ok=True)
    stamps = [_stamp(sample, options) for sample in samples]
    unfinished.forget_others(stamps)
    done = {number for number, _ in unfinished.rows(stamps)}
    todo = ((i, sample) for i, sample in enumerate(samples) if i not in done)
    problems: list[str] = []
    with unfinished.done.writer() as lines, tqdm(total=len(samples), initial=len(done), unit="image") as bar:
        for number, rows, problem in _converted(todo, options, unfinished.data, workers):
            if problem:
                problems.append(problem)
            else:
                lines.add(number, {"stamp": stamps[number], "rows": rows})
            bar.update()
    if problems and not leave_out:
        raise_problems(problems, "mend these and run the command again, or leave them out with --leave_out")
    rows = ((samples[number], splits[number], row) for number, found in unfinished.rows(stamps) for row in found)
    built = _write_maps(rows, unfinished.data, about["name"], _columns(samples))
    built.left_out = problems
    _remove_unknown(unfinished, stamps)
    record = {**about, "options": asdict(options), **built.as_record()}
    record |= {"left_out": len(problems)} if names_persons else {}
    (unfinished.data / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    unfinished.finish()
    return built


def _stamp(sample: Sample, options: Options) -> str:
    """Digest of everything that a sample's files depend on: sources with their sizes and times, and the options."""
    paths = [sample.image, *sample.channels, *(source.path for source in sample.masks)]
    paths += [sample.field_of_view] if sample.field_of_view else []
    files = [(str(path), stat.st_size, stat.st_mtime_ns) for path in paths for stat in [path.stat()]]
    return digest(repr((sample, options, files)).encode())


def _converted(jobs: Iterable[Job], options: Options, out: Path, workers: int) -> Iterator[Outcome]:
    """What became of each job, in the jobs' order."""
    return in_processes(partial(_convert, options=options, out=out), jobs, workers, died=_died)


def _convert(job: Job, *, options: Options, out: Path) -> Outcome:
    """Convert a sample, in a process of its own."""
    number, sample = job
    try:
        return number, convert(sample, options, out), ""
    except DataError as error:
        return number, [], str(error)


def _died(job: Job) -> Outcome:
    """The outcome of a job that ended its process."""
    number, sample = job
    return number, [], f"{sample.image} or one of its masks ended the process that read it: is there enough memory?"


def _columns(samples: Iterable[Sample]) -> list[str]:
    """Headings of index.csv."""
    more = {name: None for sample in samples for name, _ in sample.columns}
    return [*INDEX_COLUMNS, *more, *(SPACING if any(sample.spacing for sample in samples) else ())]


def _write_maps(
    rows: Iterable[tuple[Sample, str, dict[str, Any]]], out: Path, name: str, columns: Sequence[str]
) -> Built:
    """image2label and label2image of each split, index.csv, and the counts.

    label2image cannot list a photograph without a mask: where a split has one, image2label alone is written, so that
    testing, which prefers the other, sees all photographs.
    """
    built = Built(Counter(), Counter(), Counter(), Counter(), Counter(), [])
    images: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}

    def index() -> Iterator[dict[str, Any]]:
        for sample, split, row in rows:
            images[split][row["image"]] = row["masks"]
            _count(built, sample, split, row)
            yield _index_row(sample, split, row, name)

    write_csv(out / "index.csv", columns, index())
    for split, found in images.items():
        if found:
            labels = {mask: image for image, masks in found.items() for mask in masks}
            inverse = [("label2image", labels)] if all(found.values()) else []
            for direction, content in [("image2label", found), *inverse]:
                (out / f"{direction}_{split}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return built


def _index_row(sample: Sample, split: str, row: dict[str, Any], name: str) -> dict[str, Any]:
    """A photograph's line of index.csv."""
    about = [row["image"], sample.data_set or name, sample.patient, sample.split, split]
    lists = (" ".join(row[key]) for key in ("structures", "absent"))
    line = dict(zip(INDEX_COLUMNS, [*about, *row["original"], *row["size"], *row["window"], *lists], strict=True))
    return line | dict(sample.columns) | _spacing(sample, row)


def _spacing(sample: Sample, row: dict[str, Any]) -> dict[str, str]:
    """Width and height in mm of a pixel of the photograph as it is written."""
    if sample.spacing is None:
        return {}
    (x0, y0, x1, y1), (width, height) = row["window"], row["size"]
    scales = (x1 - x0) / width, (y1 - y0) / height
    return {name: f"{mm * scale:.6g}" for name, mm, scale in zip(SPACING, sample.spacing, scales, strict=True)}


def _count(built: Built, sample: Sample, split: str, row: dict[str, Any]) -> None:
    """Count a photograph and its masks."""
    built.photographs[split] += 1
    for mask in row["masks"]:
        built.masks[Path(mask).stem[len(Path(row["image"]).stem) + 1 :].rsplit("_", 1)[0]] += 1
    built.lost += Counter(row["lost"])
    built.merged += Counter({name: before - after for name, (before, after) in row.get("components", {}).items()})
    built.empty += Counter(set(row["absent"]) - set(sample.absent))


def _remove_unknown(unfinished: DatasetInProgress, stamps: Sequence[str]) -> None:
    """Remove files of an earlier, interrupted run that this one did not write."""
    known = {name for _, rows in unfinished.rows(stamps) for row in rows for name in (row["image"], *row["masks"])}
    for folder in ("images", "masks"):
        for path in (unfinished.data / folder).iterdir():
            if f"{folder}/{path.name}" not in known:
                path.unlink()
