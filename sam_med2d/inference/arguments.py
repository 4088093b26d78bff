"""Which values of scripts/predict.py's flags cannot work."""

import argparse
import math

from sam_med2d.data.photographs import check_max_pixels
from sam_med2d.errors import UsageError


def has_clicks(args: argparse.Namespace) -> bool:
    """Whether boxes or points are given on the command line."""
    return bool(args.box or args.point or args.background)


def check_args(args: argparse.Namespace) -> None:
    """Refuse values of predict.py's flags that cannot work, before anything is read; the UsageError names them."""
    kinds = {
        "--structures": args.structures,
        "--box, --point": has_clicks(args),
        "--boxes_csv": args.boxes_csv,
        "--prompt_path": args.prompt_path,
    }
    given = [name for name, value in kinds.items() if value]
    if not given:
        raise UsageError(f"no prompt: say what to segment with one of {'; '.join(kinds)}.")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: give one kind of prompts in a run.")
    if args.tiles and not args.structures:
        raise UsageError(f"--tiles answers --structures, not {given[0]}: leave it out, or use --zoom.")
    if args.mirror and not args.structures:
        raise UsageError(f"--mirror answers --structures, not {given[0]}: leave it out.")
    check_max_pixels(args.max_pixels)
    if not 0 < args.cache_gb < math.inf:
        raise UsageError(f"--cache_gb {args.cache_gb}: give more than 0, and no more than the disk holds.")
