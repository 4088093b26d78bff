"""The model that predicts: flags that choose it, and its loading."""

import argparse
from pathlib import Path

import torch

from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import add_bool
from segment_anything.build_sam import MODEL_SPECS, build_sam
from segment_anything.checkpoint import CheckpointError, read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.preprocessing import CHANNEL_ORDERS, MODES

SHIPPED_WEIGHTS = Path(__file__).resolve().parents[2] / "pretrain_model" / "fundus_vit_t.safetensors"


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `load_model` reads."""
    model = parser.add_argument_group("model")
    model.add_argument("--sam_checkpoint", default=str(SHIPPED_WEIGHTS), help="weights (default: the shipped ones)")
    model.add_argument("--model_type", choices=MODEL_SPECS, help="unless the checkpoint names its own")
    model.add_argument("--image_size", type=int, help="input side in pixels (default: the checkpoint's)")
    model.add_argument("--preprocess", choices=MODES, help="override the checkpoint's preprocessing")
    model.add_argument("--channel_order", choices=CHANNEL_ORDERS, help="override the checkpoint's channel order")
    add_bool(
        model,
        "--multimask",
        default=None,
        help="choose among three candidates by predicted IoU; False: the single mask; default: as the checkpoint",
    )


def load_model(args: argparse.Namespace, device: torch.device) -> tuple[Sam, bool]:
    """The checkpoint's model in evaluation mode, and whether its candidates answer.

    Raises CheckpointError, or UsageError for flags that do not go with it.
    """
    source = read_checkpoint(args.sam_checkpoint)
    model_type = args.model_type or source.metadata.get("model_type")
    if not model_type:
        raise UsageError(f"{source.path} does not say its model type: give --model_type.")
    try:
        model = build_sam(model_type, checkpoint=source, image_size=args.image_size)
    except CheckpointError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    model.preprocessing = model.preprocessing.overridden(mode=args.preprocess, channel_order=args.channel_order)
    multimask = source.metadata.get("multimask", True) if args.multimask is None else args.multimask
    return model.to(device).eval(), bool(multimask)
