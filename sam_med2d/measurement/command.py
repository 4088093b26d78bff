"""What scripts/measure.py does: photographs and their masks become a table and pictures."""

import argparse
import math
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from sam_med2d.choices import CUP, DISC
from sam_med2d.data.index_table import FILE
from sam_med2d.data.mask_folder import records_in, with_masks
from sam_med2d.data.record_checks import repeated_masks
from sam_med2d.data.records import SPLITS, Record, has_map, load_index, structures_in
from sam_med2d.errors import DataError, UsageError, raise_problems
from sam_med2d.measurement.photograph_facts import Facts, check_fovea, facts_of
from sam_med2d.measurement.photograph_measurement import (
    NOTES,
    Measurements,
    columns,
    draw,
    largest_part,
    load,
    measure,
    write_table,
)
from sam_med2d.measurement.retina_measurement import in_mm, measure_retina
from sam_med2d.measurement.scale import Scales
from sam_med2d.notes import REMARKS
from sam_med2d.runtime.run_folder import make_folder
from sam_med2d.visualization.overlays import write_picture
from segment_anything.utils.field_of_view import find_field_of_view


def measure_photographs(args: argparse.Namespace) -> None:
    """Measure the photographs of a data set or a folder, print a summary, and write a table and pictures.

    Raises:
        UsageError: for flags that cannot work.
        DataError: lists every file that cannot be measured.
    """
    scales = _scales(args)
    records = find_records(args)
    raise_problems(repeated_masks(records))
    known = facts_of(records, args.data, scales)
    out = make_folder(results_folder(args), "--out")
    measured = _each(list(zip(records, known, strict=True)), lambda item: _row(*item, args), "measuring")
    raise_problems([problem for problem in measured if isinstance(problem, str)])
    rows = [row for row in measured if isinstance(row, dict)]
    write_table(out / "measurements.csv", rows)
    if args.pictures:
        drawn = zip(records, rows, _picture_names(records), strict=True)
        _each(list(drawn), lambda item: _draw(item, args, out / "pictures"), "drawing")
    print(summary(rows))
    print(f"results: {out}/measurements.csv" + f", {out}/pictures/" * args.pictures)


def _scales(args: argparse.Namespace) -> Scales:
    return Scales(args.scale_csv, args.mm_per_pixel, args.scale_axial_length)


def results_folder(args: argparse.Namespace) -> Path:
    """Where the results go: --out, or a folder of the data's name."""
    return args.out or Path("workdir/measure") / args.data.resolve().name


def words_of_prediction(args: argparse.Namespace) -> list[str]:
    """The words of predict.py that --predict stands for; `args.masks` becomes the folder in --out that they write to.

    Raises:
        UsageError: --masks is given, too.
        DataError: as of the photographs.
    """
    if args.masks:
        raise UsageError("--masks and --predict: give one, the masks or what predicts them.")
    _scales(args)  # whose flags are checked before anything is predicted
    out = results_folder(args) / "predictions"
    args.masks = out / "masks"
    words = [str(record.image) for record in find_photographs(args)]
    words += ["--structures", "all", "--out", str(out), "--overlays", "False"]
    return words + (["--sam_checkpoint", args.predict] if args.predict else [])


def find_photographs(args: argparse.Namespace) -> list[Record]:
    """The photographs of a data set or a folder, with the masks of its maps.

    Raises:
        UsageError: there is none.
        DataError: for maps that cannot be used.
    """
    if not args.data.is_dir():
        raise UsageError(f"DATA: {args.data} is no folder.")
    splits = [args.split] if args.split else [split for split in SPLITS if has_map(args.data, split)]
    if splits:
        about = {"without_masks": True, "masks_elsewhere": args.masks is not None}
        found = [record for split in splits for record in load_index(args.data, split, **about)]
        records = [record for record in found if args.masks or record.masks or record.absent]
    elif args.masks:
        records = records_in(args.data)
    else:
        raise UsageError(
            f"DATA: {args.data} has no map, such as label2image_test.json: give the masks with --masks, or --predict."
        )
    if not records:
        raise UsageError(f"DATA: {args.data} has no photograph: give the folder in which they lie themselves.")
    return records


def find_records(args: argparse.Namespace) -> list[Record]:
    """The photographs with the masks to measure, disc and cup under the names that are used here.

    Raises:
        UsageError: for flags that cannot work.
        DataError: for maps and names that cannot be used.
    """
    names, records = _names(args), find_photographs(args)
    if args.masks:
        records = _with_masks_of(args.masks, records)
    known = structures_in(records)
    for flag, name, usual in (("--disc", args.disc, DISC), ("--cup", args.cup, CUP)):
        if name not in (*known, usual):
            raise UsageError(f"{flag} {name}: no mask shows it; there are {', '.join(sorted(known))}.")
    return [_renamed(record, names) for record in records]


def _renamed(record: Record, names: dict[str, str]) -> Record:
    """The record with other names of structures."""
    masks = tuple(replace(mask, structure=names.get(mask.structure, mask.structure)) for mask in record.masks)
    return replace(record, masks=masks, absent=tuple(names.get(name, name) for name in record.absent))


def _names(args: argparse.Namespace) -> dict[str, str]:
    """What disc and cup are called in the data: what they are called here."""
    for flag, name, usual in (("--disc", args.disc, DISC), ("--cup", args.cup, CUP)):
        if not name.strip():
            raise UsageError(f"{flag} is empty: give the structure's name, such as {usual}, or leave the flag out.")
    if args.disc == args.cup:
        raise UsageError(f"--disc {args.disc} and --cup {args.cup}: give two names, one for each.")
    return {args.disc: DISC, args.cup: CUP}


def _with_masks_of(folder: Path, records: Sequence[Record]) -> list[Record]:
    """The records with the masks of a folder instead of their own. Raises UsageError where it has none of them."""
    if not folder.is_dir():
        raise UsageError(f"--masks: {folder} is no folder.")
    found, rest = with_masks(records, folder)
    if not any(record.masks for record in found):
        shown = f", such as {rest[0].relative_to(folder)} for {records[0].image.name}" if rest else ""
        raise UsageError(f"--masks: no picture in {folder} has the name of a photograph's mask{shown}.")
    if rest:
        print(f"note: {len(rest)} pictures in {folder} belong to no photograph, such as {rest[0].name}")
    return found


def _each(items: Sequence, work: Callable, what: str) -> list:
    """`work` on each item, in order, by one thread a core."""
    cv2.setNumThreads(0)  # the photographs are the parallel part
    with REMARKS.collected(), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(work, items), total=len(items), desc=what, unit="image", leave=False))


def _load(record: Record, args: argparse.Namespace) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A photograph and its masks, as the flags have them."""
    image, masks = load(record, may_be_empty=args.masks is not None)
    if args.largest:
        masks |= {name: largest_part(masks[name]) for name in (DISC, CUP) if name in masks}
    return image, masks


def _row(record: Record, facts: Facts, args: argparse.Namespace) -> Measurements | str:
    """A photograph's line of the table, or what is wrong with its files."""
    try:
        image, masks = _load(record, args)
        check_fovea(facts.fovea, record.image, image.shape[:2])
    except DataError as error:
        return str(error)
    field = find_field_of_view(image)
    if not args.masks:
        masks = {**dict.fromkeys(record.absent, np.zeros(image.shape[:2], bool)), **masks}
    row = {"image": str(record.image)} | measure(masks, field.mask())
    values, notes = measure_retina(masks, field, eye=facts.eye, fovea=facts.fovea)
    row |= values
    if facts.scale:
        row |= {"mm_per_pixel": facts.scale.mm_per_pixel, "scale_source": facts.scale.source}
        row |= in_mm(row, facts.scale.mm_per_pixel)
    row[NOTES] = "; ".join(filter(None, [row[NOTES], *notes]))
    _remark(record, row)
    return row


def _remark(record: Record, row: Measurements) -> None:
    """Tell what many photographs may lack, and why."""
    if row.get("disc_area_px") and math.isnan(row["disc_diameter_px"]):
        kind = "a disc in parts or cut off: no zones and rims (--largest takes its largest part)"
        REMARKS.add(kind, record.image, row[NOTES])
    elif row.get("laterality") == "" and "rim_to_disc_nasal" in row:
        REMARKS.add("which eye is unknown: no nasal and temporal rims", record.image, f"no laterality in {FILE}")


def _draw(item: tuple[Record, Measurements, str], args: argparse.Namespace, out: Path) -> None:
    """Write the picture of a photograph with its measurements."""
    record, row, file = item
    write_picture(out / file, draw(*_load(record, args), row))


def _picture_names(records: Sequence[Record]) -> list[str]:
    """A file name for each photograph: its own, with its folder's where another has the same, else a number."""
    names: dict[str, None] = {}
    for record in records:
        stem, folder = record.image.stem, record.image.resolve().parent.name
        candidates = chain((stem, f"{folder}__{stem}"), (f"{stem}__{number}" for number in count(2)))
        names[next(name for name in candidates if name not in names)] = None
    return [f"{name}.png" for name in names]


def summary(rows: Sequence[Measurements]) -> str:
    """How many photographs have each value, its median and range: a few lines."""
    lines = [f"{len(rows)} photographs"]
    for name in columns(rows):
        values = [row[name] for row in rows if isinstance(row.get(name), int | float) and not math.isnan(row[name])]
        if values:
            median, low, high = (f"{v:.4g}" for v in (statistics.median(values), min(values), max(values)))
            lines.append(f"  {name:<28} {len(values):>5} values, median {median} ({low} to {high})")
    if doubtful := sum(bool(row[NOTES]) for row in rows):
        lines.append(f"  {doubtful} photographs have notes: see the last column")
    return "\n".join(lines)
