"""Turn a public fundus data set, as downloaded, or a folder of one's own into JSON maps.

    python scripts/prepare_dataset.py --list                       # the data sets and where to get them
    python scripts/prepare_dataset.py drive ~/Downloads/DRIVE data/drive --val 10
    python scripts/prepare_dataset.py idrid "~/Downloads/A. Segmentation.zip" data/idrid --fov_crop --max_side 1024
    python scripts/prepare_dataset.py folder our_photos data/ours --mask optic_disc="discs/{name}.png"

SOURCE is a folder or an archive; archives in it are unpacked. Nothing is downloaded. OUT appears when it is complete;
an interrupted run goes on with the same command. Takes about 10 ms for a photograph of 512 pixels, a second or two for
one of 4000. Afterwards: `python scripts/check_dataset.py OUT`.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.dataset_conversion.archives import unpacked
from sam_med2d.dataset_conversion.build import DatasetInProgress, build, refuse_output
from sam_med2d.dataset_conversion.conversion_report import describe_sources, summary
from sam_med2d.dataset_conversion.convert_sample import Options
from sam_med2d.dataset_conversion.formats import FORMATS
from sam_med2d.dataset_conversion.public import PUBLIC_SETS
from sam_med2d.dataset_conversion.request import (
    DEFAULT_SPLIT,
    choice_of,
    describe,
    find_data_set,
    find_samples,
    split_samples,
)
from sam_med2d.errors import DataError, UsageError
from sam_med2d.runtime.cli import add_bool, run_main
from sam_med2d.runtime.devices import cpu_workers
from segment_anything.utils.atomic import naming


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of: {', '.join([*PUBLIC_SETS, *FORMATS])}")
    parser.add_argument("source", nargs="?", type=Path, metavar="SOURCE", help="folder or archive of the data set")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT", help="folder to make")
    add_bool(parser, "--list", default=False, help="print the table of the data sets and stop")
    add_bool(parser, "--overwrite", default=False, help="replace OUT if it is a prepared data set")
    add_bool(parser, "--leave_out", default=False, help="go on without files that are missing or cannot be used")
    parser.add_argument("--num_workers", type=int, help="processes; default: one for each core")
    _add_truth_flags(parser.add_argument_group("which truth"))
    _add_pixel_flags(parser.add_argument_group("pixels"))
    _add_split_flags(parser.add_argument_group("splits"))
    own = parser.add_argument_group("your own data")
    for flag, settings in {
        flag: keywords for form in FORMATS.values() for flag, keywords in form.flags.items()
    }.items():
        users = ", ".join(form.name for form in FORMATS.values() if flag in form.flags)
        own.add_argument(flag, **{**settings, "help": f"{users}: {settings['help']}"})
    return parser.parse_args(argv)


def _add_truth_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--observer", help="who drew the masks, where a data set has several (see --list)")
    group.add_argument("--threshold", type=float, help="share of experts (0 to 1) from which on a soft mask counts")


def _add_pixel_flags(group: argparse._ArgumentGroup) -> None:
    add_bool(group, "--fov_crop", default=False, help="cut photographs to the circular field of view")
    group.add_argument("--max_side", type=int, default=0, help="longer side in pixels; 0: as it is")
    add_bool(group, "--instances", default=False, help="each connected component becomes a mask of its own")
    group.add_argument("--min_area", type=int, default=1, help="leave out masks and components of fewer pixels")
    group.add_argument("--tile", type=int, default=0, help="cut into windows of this side, in pixels; 0: whole")
    group.add_argument("--overlap", type=int, default=0, help="pixels that neighbouring windows share")
    add_bool(group, "--keep_empty", default=False, help="keep windows without any mask")
    add_bool(group, "--link", default=False, help="link to photographs that need no change instead of copying them")


def _add_split_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--split", help=f"shares train/val/test; default: the official split, else {DEFAULT_SPLIT}")
    group.add_argument("--val", type=float, default=0, help="percentage of the official training part to validate on")
    group.add_argument("--by", choices=("patient", "image"), default="patient", help="what is never divided")
    group.add_argument("--seed", type=int, default=0, help="of the draw")


# --- what is asked for ----------------------------------------------------------------------------------------


def check_args(args: argparse.Namespace) -> None:
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


# --- the samples ----------------------------------------------------------------------------------------------


def prepare(args: argparse.Namespace) -> int:
    if args.list:
        print(describe_sources())
        return 0
    check_args(args)
    data_set = find_data_set(args.name)
    choice = choice_of(args, data_set)
    refuse_output(args.out, args.source, overwrite=args.overwrite)
    unfinished = DatasetInProgress(args.out)
    try:
        tree = unpacked(args.source, unfinished.scratch)
        if args.link and any(folder.is_relative_to(unfinished.scratch) for folder in tree.folders):
            raise UsageError("--link: photographs in archives cannot be linked to; unpack them first, or leave it out")
        offer = find_samples(data_set, tree, choice, leave_out=args.leave_out)
        placed, how = split_samples(offer.samples, args)
        options = Options(**{name: getattr(args, name) for name in Options.__dataclass_fields__})
        if data_set.has_instances:
            options = replace(options, instances=False)
        about = describe(data_set, choice, how, args.seed)
        workers = cpu_workers(args.num_workers)
        with naming(unfinished.folder):
            built = build(
                offer.samples,
                placed,
                options,
                unfinished,
                about=about,
                workers=max(1, workers),
                leave_out=args.leave_out,
            )
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on. What is done lies in {unfinished.folder}", file=sys.stderr)
        return 130
    except (DataError, UsageError):
        unfinished.drop_if_nothing_is_done()
        raise
    print(summary(data_set, built, how, offer, args.out))
    return 0


# --- what is printed ------------------------------------------------------------------------------------------


def _end_like_ctrl_c(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, _end_like_ctrl_c)
    return run_main(prepare, args)


if __name__ == "__main__":
    sys.exit(main())
