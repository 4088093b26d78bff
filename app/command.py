"""What app/server.py does: from checked flags to a server that answers."""

import argparse

from filelock import FileLock, Timeout

from app.annotations import HISTORY, Annotations
from app.annotator import Annotator
from sam_med2d.data.photographs import find_photographs
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import setup_logging
from sam_med2d.runtime.devices import resolve_device
from sam_med2d.runtime.model_loading import load_model
from sam_med2d.runtime.run_folder import make_folder


def annotate(args: argparse.Namespace) -> int:
    """Serve the annotation of a folder until Ctrl-C, as the flags of app/server.py say: the exit code.

    Raises:
        UsageError, DataError, CheckpointError: for what a user can mend.
    """
    setup_logging()
    try:
        from app.web import build, serve
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed: pip install -r requirements-app.txt") from error
    masks = [args.out / "masks", args.out / HISTORY]  # of an earlier start
    photographs = find_photographs(args.inputs, masks)
    lock = FileLock(make_folder(args.out, "--out") / ".annotating.lock")
    try:
        with lock.acquire(timeout=0):
            loaded = load_model(args, resolve_device(args.device))
            known, multimask = loaded.model.prompt_encoder.structures, loaded.multimask
            annotations = Annotations(args.out, args.split, photographs, (*known, *args.structures))
            if args.multimask is None and known:
                multimask = False  # trained here: the single mask has learnt from every prompt, and is better by clicks
            annotator = Annotator(loaded.model, photographs, multimask=multimask, max_pixels=args.max_pixels)
            return serve(build(annotator, annotations), args.port)
    except Timeout as error:
        raise UsageError(f"--out {args.out}: another server annotates there: end it, or give another.") from error
