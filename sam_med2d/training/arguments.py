"""Which values of train.py's flags cannot work."""

import argparse
import math

from sam_med2d.choices import METRICS
from sam_med2d.errors import UsageError

HIGHEST = 10**9  # number that a flag may have
LOWEST = {"mask_num": 1, "iter_point": 0, "epochs": 1, "batch_size": 1, "val_every": 1, "accumulate": 1}
LOWEST |= {
    "pyramid_epochs": 0,
    "epoch_photographs": 0,
    "warmup_steps": 0,
    "patience": 0,
    "save_every": 0,
    "keep": 0,
    "clip_grad": 0,
    "weight_decay": 0,
}
FINITE = ("lr", "weight_decay", "clip_grad", "ema")


def check_args(args: argparse.Namespace) -> None:
    """Refuse values of train.py's flags that cannot work, before anything is read; the UsageError names the flag."""
    _check_ranges(args)
    if min(args.point_list) < 1 or not args.lr > 0:
        raise UsageError(f"--point_list {args.point_list} and --lr {args.lr}: give positive numbers.")
    if not 0 < args.train_share <= 1:
        raise UsageError(f"--train_share {args.train_share}: give a share above 0, at most 1.")
    if not 0 <= args.ema < 1:
        raise UsageError(f"--ema {args.ema}: give a decay from 0 up to 1, without 1 itself.")
    unknown = [name for name in args.metrics if name not in METRICS]
    if unknown or "dice" not in args.metrics:
        raise UsageError(f"--metrics {' '.join(args.metrics)}: choose from {', '.join(METRICS)}, dice among them.")
    if args.train_encoder != "full" and not args.sam_checkpoint:
        raise UsageError(
            f"--train_encoder {args.train_encoder} would keep a random image encoder frozen: give "
            "--sam_checkpoint FILE, or train all of it with --train_encoder full."
        )


def _check_ranges(args: argparse.Namespace) -> None:
    """Raise UsageError for a number that is too small, too large, or none."""
    for name, least in LOWEST.items():
        value = getattr(args, name)
        if value < least or value > HIGHEST:
            limit = f"{least} or more" if value < least else f"{HIGHEST} at most"
            raise UsageError(f"--{name} {value}: give {limit}.")
    for name in FINITE:
        if not math.isfinite(getattr(args, name)):
            raise UsageError(f"--{name} {getattr(args, name)}: give a finite number.")
    if args.encoder_lr is not None and not (math.isfinite(args.encoder_lr) and args.encoder_lr > 0):
        raise UsageError(f"--encoder_lr {args.encoder_lr}: give a positive number, or leave it out.")
