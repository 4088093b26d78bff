"""Annotate a folder of photographs in the browser: by name, box and clicks, corrected by brush, saved as a data set.

    python app/server.py photographs/ --out my_data
    python app/server.py my_data/images --out my_data --split test --structures fovea

Then open the address that it prints. The weights answer in a tenth of a second on two CPU cores (the shipped ones, a
photograph of 512 pixels); what is saved lies in --out as masks/*.png and a map, and is what train.py and test.py read.
An --out that holds a data set already is continued. Ctrl-C ends the server; nothing that was saved is lost.

Only this machine can reach it. From another one: ssh -L 8000:localhost:8000 MACHINE, and open http://localhost:8000.
Needs `pip install -r requirements-app.txt`.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from filelock import FileLock, Timeout

from app.annotations import Annotations
from app.annotator import Annotator
from sam_med2d.data.photographs import add_max_pixels, check_max_pixels, find_photographs
from sam_med2d.data.records import SPLITS
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import run_main, setup_logging
from sam_med2d.runtime.devices import resolve_device
from sam_med2d.runtime.model_loading import add_model_flags, load_model
from sam_med2d.runtime.run_folder import make_folder

logger = logging.getLogger("app")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="photographs, folders, or patterns in quotes")
    parser.add_argument("--out", type=Path, default=Path("workdir/annotations"), help="folder of the data set")
    parser.add_argument("--split", choices=SPLITS, default="train", help="whose map lists the masks (default: train)")
    parser.add_argument(
        "--structures", nargs="+", default=[], metavar="NAME", help="to annotate, besides those the weights know"
    )
    add_model_flags(parser)
    run = parser.add_argument_group("run")
    run.add_argument("--port", type=int, default=8000, help="on this machine (default: 8000); 0: a free one")
    run.add_argument("--device", help="default: the best one present")
    add_max_pixels(run)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    setup_logging()
    try:
        from app.web import build, serve
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed: pip install -r requirements-app.txt") from error
    check_max_pixels(args.max_pixels)
    if not 0 <= args.port < 2**16:
        raise UsageError(f"--port {args.port}: give 1 to 65535, or 0 for a free one.")
    photographs = find_photographs(args.inputs, [args.out / "masks"])  # those of an earlier start are none
    lock = FileLock(make_folder(args.out, "--out") / ".annotating.lock")
    try:
        with lock.acquire(timeout=0):
            model, multimask = load_model(args, resolve_device(args.device))
            structures = (*model.prompt_encoder.structures, *args.structures)
            annotations = Annotations(args.out, args.split, photographs, structures)
            if args.multimask is None and model.prompt_encoder.structures:
                multimask = False  # trained here: the single mask has learnt from every prompt, and is better by clicks
            annotator = Annotator(model, photographs, multimask=multimask, max_pixels=args.max_pixels)
            return serve(build(annotator, annotations), args.port)
    except Timeout as error:
        raise UsageError(f"--out {args.out}: another server annotates there: end it, or give another.") from error


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
