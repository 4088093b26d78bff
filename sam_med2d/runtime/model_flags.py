"""The flags that choose a model, for every command; without PyTorch, so that a command line is parsed at once.

One convention: a flag that is not written out means "as the checkpoint says", and its default, if it has one, holds
where the checkpoint does not say. `model_loading.load_model` reads them.

`train.py` alone departs from it: `--model_type`, `--image_size`, `--encoder_adapter` and `--multimask` describe the
model that is to be trained, as in SAM-Med2D, so their defaults hold whatever the checkpoint says.
"""

import argparse
from pathlib import Path

from sam_med2d.runtime.cli import add_bool, both_spellings
from segment_anything.build_sam import MODEL_SPECS
from segment_anything.choices import CHANNEL_ORDERS, MASK_RULES, MODES, PIXEL_SCALES

SHIPPED_WEIGHTS = Path(__file__).resolve().parents[2] / "pretrain_model" / "fundus_vit_t.safetensors"


def add_model_flags(
    parser: argparse.ArgumentParser,
    *,
    weights_required: bool = False,
    model_type: str | None = None,
    image_size: int | None = None,
) -> argparse._ArgumentGroup:
    """Add the group of the flags that every command has which loads a model to use it, and return it for further ones.

    Args:
        parser: what they are added to.
        weights_required: the command has no default weights; else they are the shipped ones.
        model_type: what a checkpoint without metadata is taken for; None where it then has to be said.
        image_size: input side in pixels for a checkpoint without metadata; None for that of its position table.
    """
    group = parser.add_argument_group("model")
    add_checkpoint(group, default=None if weights_required else str(SHIPPED_WEIGHTS), required=weights_required)
    group.add_argument(
        *both_spellings("--model_type"),
        choices=MODEL_SPECS,
        default=model_type,
        help=f"size of the image encoder; {_as_checkpoint(model_type)}",
    )
    group.add_argument(
        *both_spellings("--image_size"),
        type=int,
        default=image_size,
        help=f"input side in pixels, a multiple of 16, with adapters of 32; {_as_checkpoint(image_size)}",
    )
    add_preprocessing(group)
    return group


def add_checkpoint(group: argparse._ActionsContainer, *, default: str | None, required: bool = False) -> None:
    """Add --sam_checkpoint, under SAM's name for it, too."""
    shipped = " (default: the shipped ones)" if default == str(SHIPPED_WEIGHTS) else ""
    group.add_argument(
        *both_spellings("--sam_checkpoint", "--checkpoint"),
        default=default,
        required=required,
        metavar="WEIGHTS",
        help=f"weights of SAM, SAM-Med2D or ours: a file, or a folder with model.safetensors{shipped}",
    )


def add_preprocessing(group: argparse._ActionsContainer, *, otherwise: str | None = None) -> None:
    """Add --preprocess, --channel_order and --pixel_scale; `otherwise`: the mode of weights that do not say theirs."""
    text = f"how a photograph becomes the input; {_as_checkpoint(otherwise)}"
    group.add_argument("--preprocess", choices=MODES, help=text)
    text = f"of the pixels that the encoder is given; {_as_checkpoint()}"
    group.add_argument(*both_spellings("--channel_order"), choices=CHANNEL_ORDERS, help=text)
    text = f"of the pixels: SAM's mean and deviation, or 0..1 of each picture (MedSAM); {_as_checkpoint('sam')}"
    group.add_argument(*both_spellings("--pixel_scale"), choices=PIXEL_SCALES, help=text)


def add_encoder_adapter(group: argparse._ActionsContainer, *, default: bool | None = None) -> None:
    """Add --encoder_adapter of commands that use a model."""
    text = f"False drops the encoder's adapters; {_as_checkpoint()}"
    add_bool(group, *both_spellings("--encoder_adapter"), default=default, help=text)


def add_multimask(group: argparse._ActionsContainer, *, default: bool | None = None) -> None:
    """Add --multimask of commands that use a model."""
    text = f"choose among three candidates by predicted IoU; False: the single mask; {_as_checkpoint()}"
    add_bool(group, "--multimask", default=default, help=text)


def add_mask_rule(group: argparse._ActionsContainer) -> None:
    """Add --mask_rule."""
    text = f"a mask begins at a probability of 1/2, or of half its expected Dice; {_as_checkpoint()}"
    group.add_argument("--mask_rule", choices=MASK_RULES, help=text)


def _as_checkpoint(otherwise: object = None) -> str:
    """The convention in words; `otherwise`: what holds for a checkpoint that does not say."""
    return "default: as the checkpoint says" + (f", else {otherwise}" if otherwise is not None else "")
