"""Annotate photographs in the browser: structure prompts, boxes, clicks and a brush, saved as a data set.

    python app/server.py photographs/ --out my_data
    python app/server.py my_data/images --out my_data --split test --structures fovea

Then open the address that it prints; no other browser is answered. The weights answer in a tenth of a second on
two CPU cores (the shipped ones, a photograph of 512 pixels); what is saved lies in --out as masks/*.png and a map, and
is what train.py and test.py read. An --out that holds a data set already is continued. Ctrl-C ends the server; nothing
that was saved is lost.

Only this machine can reach it. From another one: ssh -L 8000:localhost:8000 MACHINE, and open the address.
Needs `pip install -r requirements-app.txt`.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.data.photographs import add_max_pixels, check_max_pixels
from sam_med2d.data.records import SPLITS
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import add_device, make_parser, run_main
from sam_med2d.runtime.model_flags import add_model_flags, add_multimask

TOKEN = r"none|[A-Za-z0-9_-]{16,}"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="photographs, folders, or patterns in quotes")
    parser.add_argument("--out", type=Path, default=Path("workdir/annotations"), help="folder of the data set")
    parser.add_argument("--split", choices=SPLITS, default="train", help="whose map lists the masks")
    parser.add_argument(
        "--structures", nargs="+", default=[], metavar="NAME", help="to annotate, besides those the weights know"
    )
    add_multimask(add_model_flags(parser))
    run = parser.add_argument_group("run")
    run.add_argument("--port", type=int, default=8000, help="of this machine; 0: a free one")
    run.add_argument(
        "--token",
        help="what a browser must know to be answered, 16 letters or digits or more, in the address that is printed; "
        "none: nothing; default: a new random one at each start",
    )
    add_device(run)
    add_max_pixels(run)
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raise UsageError for values that cannot work."""
    check_max_pixels(args.max_pixels)
    if not 0 <= args.port < 2**16:
        raise UsageError(f"--port {args.port}: give 1 to 65535, or 0 for a free one.")
    if args.token is not None and not re.fullmatch(TOKEN, args.token):
        raise UsageError(
            f"--token {args.token}: give 16 or more of A-Z, a-z, 0-9, _ and -, or leave it out for a new one."
        )


def main(args: argparse.Namespace) -> int:
    """Exit code 0 when the server was ended."""
    check_args(args)
    from app.command import annotate  # PyTorch takes seconds to import

    return annotate(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
