"""Which values of test.py's flags cannot work."""

import argparse
import math

from sam_med2d.choices import METRICS
from sam_med2d.errors import UsageError


def check_args(args: argparse.Namespace) -> None:
    """Refuse values of test.py's flags that cannot work (UsageError); a metric that is given twice counts once."""
    unknown = [name for name in args.metrics if name not in METRICS]
    if unknown:
        raise UsageError(f"--metrics {' '.join(unknown)}: choose from {', '.join(METRICS)}.")
    args.metrics = list(dict.fromkeys(args.metrics))
    if not (math.isfinite(args.nsd_tolerance) and args.nsd_tolerance >= 0):
        raise UsageError(f"--nsd_tolerance {args.nsd_tolerance}: give 0 or more pixels.")
    for name in ("batch_size", "point_num", "iter_point"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: give 1 or more.")
    if not args.sam_checkpoint:
        raise UsageError("--sam_checkpoint is needed: random weights have nothing to test (python train.py makes one).")
