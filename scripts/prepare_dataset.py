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
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.dataset_conversion.formats import FORMATS
from sam_med2d.dataset_conversion.public import PUBLIC_SETS
from sam_med2d.dataset_conversion.splits import DEFAULT_SPLIT
from sam_med2d.runtime.cli import add_bool, make_parser, run_main


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
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
    group.add_argument(
        "--threshold", type=float, help="share of experts, or of white (0 to 1), from which on a soft mask counts"
    )


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
    group.add_argument("--by", choices=("patient", "image"), help="what is never divided; default: patient where known")
    group.add_argument("--seed", type=int, default=0, help="of the draw")


def main(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 for a run that was interrupted and can go on."""
    from sam_med2d.dataset_conversion.command import prepare  # takes seconds to import

    return prepare(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
