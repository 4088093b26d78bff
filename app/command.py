"""What app/server.py does: from checked flags to a server that answers."""

import argparse
import logging
import secrets

from filelock import FileLock, Timeout

from app.annotations import HISTORY, Annotations
from app.annotator import Annotator
from sam_med2d.data.photographs import find_photographs
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import setup_logging
from sam_med2d.runtime.devices import resolve_device
from sam_med2d.runtime.model_loading import load_model
from sam_med2d.runtime.run_folder import make_folder

NO_TOKEN = "none"  # --token of a server that answers everyone on this machine
logger = logging.getLogger("app")


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
            if left := annotations.remove_leftovers():
                names = ", ".join(map(str, left))
                logger.info(f"removed {len(left)} unfinished file(s) of a server that was killed: {names}")
            if args.multimask is None and known:
                multimask = False  # trained here: the single mask has learnt from every prompt, and is better by clicks
            annotator = Annotator(loaded.model, photographs, multimask=multimask, max_pixels=args.max_pixels)
            token = _token(args.token)
            return serve(build(annotator, annotations, token=token), args.port, token)
    except Timeout as error:
        raise UsageError(f"--out {args.out}: another server annotates there: end it, or give another.") from error


def _token(told: str | None) -> str | None:
    """The token that --token says: a new one by default, None for the word none."""
    if told != NO_TOKEN:
        return told or secrets.token_urlsafe(24)
    logger.warning("--token none: every user and program of this machine can see and change the annotations")
    return None
