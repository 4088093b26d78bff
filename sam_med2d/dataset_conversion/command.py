"""What scripts/prepare_dataset.py does: a data set as downloaded, or a folder of one's own, becomes JSON maps."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from sam_med2d.data.picture_signs import tell_dicom
from sam_med2d.dataset_conversion.archives import unpacked
from sam_med2d.dataset_conversion.build import DatasetInProgress, build, refuse_output
from sam_med2d.dataset_conversion.conversion_report import describe_sources, summary
from sam_med2d.dataset_conversion.convert_sample import Options
from sam_med2d.dataset_conversion.dataset_spec import DataSet
from sam_med2d.dataset_conversion.formats.folder_layout import is_picture
from sam_med2d.dataset_conversion.request import choice_of, describe, find_data_set, find_samples, split_samples
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError, UsageError
from sam_med2d.runtime.devices import cpu_workers
from sam_med2d.runtime.signals import sigterm_as_ctrl_c
from segment_anything.utils.atomic import naming


def prepare(args: argparse.Namespace) -> int:
    """Convert a data set as downloaded, or print the table of those known, as the flags of prepare_dataset.py say.

    Returns:
        The exit code: 0, or 130 for a run that was interrupted and can go on.

    Raises:
        UsageError: for flags that cannot work.
        DataError: for a source that is not the data set, or files that cannot be used.
    """
    if args.list:
        print(describe_sources())
        return 0
    _check_args(args)
    data_set = find_data_set(args.name)
    choice = choice_of(args, data_set)
    refuse_output(args.out, args.source, overwrite=args.overwrite)
    unfinished = DatasetInProgress(args.out)
    try:
        with sigterm_as_ctrl_c():
            print(_convert(args, data_set, choice, unfinished))
        return 0
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on. What is done lies in {unfinished.folder}", file=sys.stderr)
        return 130
    except (DataError, UsageError):
        unfinished.drop_if_nothing_is_done()
        raise


def _convert(args: argparse.Namespace, data_set: DataSet, choice: Choice, unfinished: DatasetInProgress) -> str:
    """Make the data set in `unfinished`, and put it in its place; what was made, in lines for the user."""
    tree = unpacked(args.source, unfinished.scratch)
    if data_set.has_masks:  # all but that of DICOM
        tell_dicom(path for name, path in tree.files.items() if not is_picture(name))
    offer = find_samples(data_set, tree, choice, leave_out=args.leave_out)
    if args.link and any(sample.image.is_relative_to(unfinished.scratch) for sample in offer.samples):
        raise UsageError(
            "--link: photographs in archives or in annotation files cannot be linked to; unpack them first, or leave "
            "it out"
        )
    division = split_samples(data_set, offer.samples, args)
    offer.notes += division.notes
    options = Options(**{name: getattr(args, name) for name in Options.__dataclass_fields__})
    if data_set.has_instances:
        options = replace(options, instances=False)
    if not data_set.has_masks:
        options = replace(options, keep_empty=True)
    about = describe(data_set, choice, division.how, args.seed)
    workers = max(1, cpu_workers(args.num_workers))
    with naming(unfinished.folder):
        built = build(
            division.samples,
            division.splits,
            options,
            unfinished,
            about=about,
            workers=workers,
            leave_out=args.leave_out,
            names_persons=data_set.names_persons,
        )
    return summary(data_set, built, division.how, offer, args.out)


def _check_args(args: argparse.Namespace) -> None:
    """Raise UsageError for flags that cannot work."""
    if None in (args.name, args.source, args.out):
        raise UsageError("give NAME, SOURCE and OUT, or --list")
    if not args.source.exists():
        raise UsageError(f"SOURCE: {args.source} does not exist")
    for flag, lowest in {"max_side": 0, "min_area": 1, "tile": 0, "overlap": 0}.items():
        if getattr(args, flag) < lowest:
            raise UsageError(f"--{flag} {getattr(args, flag)}: give at least {lowest}")
    if args.tile and not args.overlap < args.tile:
        raise UsageError(f"--overlap {args.overlap}: give less than --tile {args.tile}")
    if not args.tile and (args.overlap or args.keep_empty):
        raise UsageError("--overlap and --keep_empty belong to --tile: give a size")
    if not 0 <= args.val < 100:
        raise UsageError(f"--val {args.val}: give a percentage from 0 to below 100")
    if args.threshold is not None and not 0 < args.threshold <= 1:
        raise UsageError(f"--threshold {args.threshold}: give a share above 0, up to 1")
    if args.salt_file and Path(args.salt_file).resolve().is_relative_to(args.out.resolve()):
        raise UsageError(
            f"--salt_file {args.salt_file} lies in OUT, which is to be shared or replaced: keep it elsewhere"
        )
