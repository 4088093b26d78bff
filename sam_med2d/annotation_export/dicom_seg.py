"""What scripts/export_dicom_seg.py does: masks of a data set, or predictions, as DICOM segmentations."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from sam_med2d.annotation_export.annotation_source import TABLE, AnnotatedPhotograph
from sam_med2d.annotation_export.command import export
from sam_med2d.annotation_export.dicom_sources import DicomSources
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.data.image_io import read_mask
from sam_med2d.data.record_checks import check_size
from sam_med2d.dicom_seg.segmentation import (
    AUTOMATIC,
    MAKER,
    MANUAL,
    SEMIAUTOMATIC,
    Algorithm,
    DicomSource,
    check_installed,
    check_label,
    write_segmentation,
)
from sam_med2d.errors import DataError, UsageError
from sam_med2d.runtime.run_store import RunStore

STATE = "state"  # of predict.py, beside TABLE
CLICKS = ("--box", "--point", "--background")


def export_dicom_seg(args: argparse.Namespace) -> int:
    """Write a segmentation of each photograph of SOURCE; OUT appears whole or not at all.

    Args:
        args: the flags of scripts/export_dicom_seg.py.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: for flags that cannot work, or photographs that are no DICOM files.
        DataError: for files that cannot be used.
    """
    check_installed()
    run = _settings(args.source)
    options = {
        "algorithm": _algorithm(args, run),
        "sources": DicomSources(args.dicom, args.salt_file, run.get("--page")),
    }
    return export(DICOM_SEG, args, options)


def _settings(source: Path) -> dict[str, object]:
    """What decided the masks of a run of predict.py; {} for a data set."""
    if not (source / TABLE).is_file():
        return {}
    try:
        return RunStore(source / STATE).settings() or {}
    except ValueError as error:
        raise DataError(f"{source / STATE} is damaged ({error}): run predict.py again") from error


def _algorithm(args: argparse.Namespace, run: dict[str, object]) -> Algorithm:
    """What made the masks: what the flags say, else the settings of a run of predict.py, {} for a data set."""
    kind, name, version = args.algorithm_type, args.algorithm_name, args.algorithm_version
    if run and not kind:
        kind = AUTOMATIC if run.get("--structures") else SEMIAUTOMATIC if any(map(run.get, CLICKS)) else None
    if not kind:
        what = "it does not say whether its boxes or points came from a person" if run else "it is no run of predict.py"
        raise UsageError(
            f"SOURCE {args.source}: {what}: say with --algorithm_type how the masks were made, by a person (MANUAL), a "
            "program (AUTOMATIC) or both (SEMIAUTOMATIC)."
        )
    if kind == MANUAL:
        if name or version:
            raise UsageError("--algorithm_name and --algorithm_version are of a program: leave them out for MANUAL.")
        return Algorithm(MANUAL)
    if not run and not (name and version):
        raise UsageError(f"--algorithm_type {kind}: give --algorithm_name and --algorithm_version of the program, too.")
    return Algorithm(kind, name or MAKER, version or str(run.get("weights", "")))


def _write(run: Export, folder: Path) -> Written:
    """A file for each photograph."""
    for structure in run.source.structures:
        check_label(structure)
    sources = run.options["sources"].find([photograph.path for photograph in run.source.photographs])
    count = sum(run.each(partial(_write_one, sources=sources, algorithm=run.options["algorithm"], folder=folder)))
    return Written({"segmentations": len(sources), "segments": count})


def _write_one(
    photograph: AnnotatedPhotograph, sources: dict[Path, DicomSource], algorithm: Algorithm, folder: Path
) -> int:
    """Write a photograph's segmentation; the number of its segments, of which those that are absent are empty."""
    source, masks = sources[photograph.path], {}
    for structure in sorted({*photograph.absent, *(mask.structure for mask in photograph.masks)}):
        masks[structure] = np.zeros(source.file.size, bool)
    for mask in photograph.masks:
        pixels = read_mask(mask.path)
        check_size(mask.path, pixels.shape, source.path, source.file.size)
        masks[mask.structure] |= pixels > 0
    write_segmentation(folder / f"{photograph.name}.dcm", source, masks, algorithm)
    return len(masks)


DICOM_SEG = ExportFormat(name="dicom_seg", title="DICOM segmentations", write=_write)
