"""The one loader of weights: from a command's flags to its model.

A flag that is not written out means "as the checkpoint says", see `model_flags`.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from sam_med2d.errors import UsageError
from segment_anything.build_sam import build_sam
from segment_anything.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from segment_anything.modeling import Sam


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, and what goes with it."""

    model: Sam  # on its device
    model_type: str  # a key of MODEL_SPECS
    multimask: bool  # whether the best of the three candidates answers, or the single mask
    trained_size: int | None  # input side in pixels that the checkpoint was trained at; None where it does not say


def load_model(args: argparse.Namespace, device: torch.device) -> LoadedModel:
    """Read the weights that the flags name and build their model, on the device and in evaluation mode.

    Args:
        args: the flags of `model_flags.add_model_flags`; those that a command does not have count as not given.
        device: where the model goes.

    Raises:
        CheckpointError: for weights that cannot be used, or do not fit the flags.
        UsageError: for other flags that cannot work.
    """
    source = read_checkpoint(args.sam_checkpoint)
    stored = source.metadata.get("preprocessing", {})
    model_type = _chosen(args, "model_type", source.metadata.get("model_type"))
    if not model_type:
        raise UsageError(f"{source.path} does not say its model type: give --model_type.")
    model = build_model(
        source,
        model_type,
        image_size=_chosen(args, "image_size", stored.get("image_size")),
        encoder_adapter=_given(args, "encoder_adapter"),
        preprocess=args.preprocess,
        channel_order=args.channel_order,
        pixel_scale=_given(args, "pixel_scale"),
        mask_rule=_given(args, "mask_rule"),
    )
    multimask = _chosen(args, "multimask", source.metadata.get("multimask", True))
    return LoadedModel(model.to(device).eval(), model_type, bool(multimask), stored.get("image_size"))


def build_model(
    source: Checkpoint | None,
    model_type: str,
    *,
    preprocess: str | None = None,
    channel_order: str | None = None,
    pixel_scale: str | None = None,
    mask_rule: str | None = None,
    **architecture: Any,
) -> Sam:
    """Build a model of a checkpoint, or of random weights, on the CPU; None means "as the checkpoint says".

    Args:
        source: the checkpoint that was read.
        model_type: a key of MODEL_SPECS.
        preprocess: one of MODES.
        channel_order: one of CHANNEL_ORDERS.
        pixel_scale: one of PIXEL_SCALES.
        mask_rule: one of MASK_RULES.
        architecture: other arguments of `build_sam`, such as the image size.

    Raises:
        CheckpointError: for weights that do not fit.
        UsageError: for another value that cannot work.
    """
    with errors_as_usage():
        model = build_sam(model_type, checkpoint=source, **architecture)
    chosen = {"mode": preprocess, "channel_order": channel_order, "pixel_scale": pixel_scale}
    model.preprocessing = model.preprocessing.overridden(**chosen)
    model.mask_decoder.mask_rule = mask_rule or model.mask_decoder.mask_rule
    return model


@contextmanager
def errors_as_usage() -> Iterator[None]:
    """Turn a ValueError about a model's settings into a UsageError of the same message; a CheckpointError stays one."""
    try:
        yield
    except (CheckpointError, UsageError):
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def _given(args: argparse.Namespace, flag: str) -> Any:
    """The value of a flag that was written out; None for others.

    Without `args.given` (see `cli.parse_and_note_given`) any value counts as written out: the defaults are None then.
    """
    return getattr(args, flag, None) if flag in getattr(args, "given", (flag,)) else None


def _chosen(args: argparse.Namespace, flag: str, stored: Any) -> Any:
    """The value of a flag that was written out, else what the checkpoint says, else the flag's default."""
    given = _given(args, flag)
    if given is None:
        return getattr(args, flag, None) if stored is None else stored
    return given
