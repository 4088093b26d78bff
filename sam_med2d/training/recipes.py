"""What the flags of train.py are that are not written out; without PyTorch, so that a command line is parsed at once.

"sam_med2d" are the published values, which the command line has as its defaults: adapters of a ViT-B learn. "adapt"
goes on from trained weights with few photographs of one camera; it is taken where no weights are named.
"""

import argparse
from typing import Any

from sam_med2d.errors import UsageError
from sam_med2d.runtime.model_flags import SHIPPED_WEIGHTS

SCRATCH = "none"  # value of --sam_checkpoint: from random weights
ADAPT: dict[str, Any] = {
    "sam_checkpoint": str(SHIPPED_WEIGHTS),
    "model_type": None,  # None: as the checkpoint says
    "image_size": None,
    "encoder_adapter": None,
    "train_encoder": "none",
    "augment": "strong",
    "keep_start": True,
    "balance": "structure",
    "loss": "area",
    "epoch_photographs": 64,
    "epochs": 10,
    "val_every": 2,
    "batch_size": 4,
    "iter_point": 2,
    "point_list": [1, 3],
    "encoder_lr": 3e-4,
}


def apply_recipe(args: argparse.Namespace) -> None:
    """Fill in the flags that were not written out.

    Args:
        args: the flags of train.py, with `given`, the names of those that were written out; changed in place.

    Raises:
        UsageError: for a model type that the shipped weights do not have.
    """
    given = getattr(args, "given", vars(args))
    named = "sam_checkpoint" in given
    args.recipe = args.recipe or ("sam_med2d" if named else "adapt")
    if args.sam_checkpoint == SCRATCH:
        args.sam_checkpoint = None
    if args.recipe != "adapt":
        return
    if named and not args.sam_checkpoint:
        raise UsageError("--recipe adapt goes on from weights: give them as --sam_checkpoint, or leave it out.")
    if not named and args.model_type != "vit_t" and "model_type" in given:
        raise UsageError(
            f"--model_type {args.model_type}: the shipped weights are a vit_t: name others as --sam_checkpoint FILE, "
            f"or train from random weights with --sam_checkpoint {SCRATCH}."
        )
    vars(args).update({name: value for name, value in ADAPT.items() if name not in given})
