"""What scripts/export_annotations.py does: a data set, or predictions, in the files of another tool."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from sam_med2d.annotation_export.annotation_source import load_source
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.annotation_export.formats import EXPORTS
from sam_med2d.errors import UsageError
from sam_med2d.notes import REMARKS
from sam_med2d.runtime.run_folder import make_folder
from sam_med2d.runtime.signals import sigterm_as_ctrl_c
from segment_anything.utils.atomic import atomic_folder, atomic_path


def export_annotations(args: argparse.Namespace) -> int:
    """Write SOURCE as the flags say, and print what was written; OUT appears whole or not at all.

    Args:
        args: the flags of scripts/export_annotations.py.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: for flags that cannot work.
        DataError: for files that cannot be used.
    """
    form = EXPORTS[args.format]
    return export(form, args, _options(args, form))


def export(form: ExportFormat, args: argparse.Namespace, options: Mapping[str, object]) -> int:
    """Write SOURCE in a format, as `export_annotations` does.

    Args:
        form: the format.
        args: with source, split, structures and out.
        options: values of the format's flags.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: for flags that cannot work.
        DataError: for files that cannot be used.
    """
    _check_out(args.out, form)
    source = load_source(args.source, args.split, args.structures)
    if not form.has_splits and len(splits := sorted({one.split for one in source.photographs})) > 1:
        source.notes.append(f"{form.name} does not hold the splits {', '.join(splits)}: export each with --split")
    run = Export(source, args.out.parent if form.suffix else args.out, args.out, options)
    whole = atomic_path if form.suffix else atomic_folder
    with sigterm_as_ctrl_c(), REMARKS.collected(), whole(args.out) as target:
        written = form.write(run, target)
    print("\n".join([*_report(args.out, written), *(f"note: {note}" for note in (*source.notes, *written.notes))]))
    return 0


def _options(args: argparse.Namespace, form: ExportFormat) -> dict[str, object]:
    """The values of the format's own flags. Raises UsageError for those of others."""
    names = {flag: flag.lstrip("-") for other in EXPORTS.values() for flag in other.flags}
    for flag in names.keys() - form.flags.keys():
        if getattr(args, names[flag]) is not None:
            raise UsageError(f"{flag} is of no use for --format {form.name}: leave it out")
    return {names[flag]: getattr(args, names[flag]) for flag in form.flags}


def _check_out(out: Path, form: ExportFormat) -> None:
    """Raise UsageError for an OUT that cannot be made without loss; a file is replaced, a folder is not."""
    if form.suffix and out.suffix.lower() != form.suffix:
        raise UsageError(f"OUT: {out} must end in {form.suffix}")
    if form.suffix and out.is_dir():
        raise UsageError(f"OUT: {out} is a folder: give the name of a file")
    if not form.suffix and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"OUT: {out} exists: give a folder that does not, or remove it")
    make_folder(out.parent, "OUT")


def _report(out: Path, written: Written) -> list[str]:
    """What was written, and what the masks lost in a format that cannot hold them exactly."""
    lines = [f"{out}: {', '.join(f'{count} {what}' for what, count in written.counts.items())}"]
    if written.dice:
        lines += ["What the files hold of each mask:", written.table()]
    return lines
