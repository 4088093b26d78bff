"""The flags of both export scripts, and which of their values cannot work."""

import argparse
import math
from pathlib import Path

from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import both_spellings
from sam_med2d.runtime.model_flags import add_encoder_adapter, add_model_flags

OPSETS = range(17, 21)
INT8_LOSS, HALF_LOSS = 0.5, 0.1  # Dice points
DECODER_OPTIONS = {
    "return_single_mask": "one mask a prompt: the candidate of the highest predicted IoU",
    "use_stability_score": "iou_predictions hold the masks' stability instead",
    "return_extra_metrics": "more outputs: stability_scores and areas",
    "resize_longest_img_size": "masks return by SAM's geometry (longer side S, padded right and bottom)",
}


def add_switch(group: argparse._ActionsContainer, flag: str, help: str) -> None:
    """Add a flag without a value, in both spellings."""
    group.add_argument(*both_spellings(flag), action="store_true", help=help)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that both scripts have."""
    model = add_model_flags(parser, weights_required=True, model_type="vit_b", image_size=256)
    add_encoder_adapter(model)
    model.add_argument("--device", default="cpu", help="where PyTorch computes")
    file = parser.add_argument_group("file")
    file.add_argument("--output", type=Path, required=True, help="the ONNX file to write")
    file.add_argument("--opset", type=int, default=17, help=f"{OPSETS[0]} to {OPSETS[-1]}")
    add_switch(file, "--plain", "SAM's own form, for other programs: RGB, stretched, no detail input, three outputs")
    add_switch(file, "--gelu_approximate", "GELU by tanh instead of erf, for runtimes where that is faster")
    add_switch(file, "--half", "write --output in float16 (inputs and outputs stay float32)")
    file.add_argument(
        *both_spellings("--quantize_out"), type=Path, metavar="FILE", help="also write int8 weights, and a report"
    )
    file.add_argument(
        "--calibration", type=Path, metavar="DIR", help="photographs that fix the int8 scales (default: dynamic scales)"
    )
    text = "photographs of --calibration to use"
    file.add_argument(*both_spellings("--calibration_count"), type=int, default=32, help=text)
    measure = parser.add_argument_group("report on --half and --quantize-out")
    measure.add_argument("--photographs", type=Path, metavar="DIR", help="folder with maps, to measure Dice on")
    measure.add_argument(*both_spellings("--photograph_count"), type=int, default=24, help="photographs to use of it")
    measure.add_argument(
        *both_spellings("--max_dice_loss"),
        type=float,
        help=f"points of Dice; a file that loses more is not written (default: int8 {INT8_LOSS}, half {HALF_LOSS})",
    )


def check_flags(args: argparse.Namespace) -> None:
    """Refuse values of `add_flags` that cannot work, before anything is read; the UsageError names flag and value."""
    if args.opset not in OPSETS:
        raise UsageError(f"--opset {args.opset}: give {OPSETS[0]} to {OPSETS[-1]}.")
    against = ("use_preprocess", "return_extra_metrics", "resize_longest_img_size", "photographs", "calibration")
    if args.plain and (names := [f"--{name}" for name in against if getattr(args, name, None)]):
        raise UsageError(f"--plain is SAM's own form, which goes without {' and '.join(names)}: leave one of them out.")
    if args.calibration and not args.quantize_out:
        raise UsageError("--calibration is for int8: add --quantize-out FILE.")
    if not (args.half or args.quantize_out) and (args.photographs or args.max_dice_loss is not None):
        raise UsageError("--photographs and --max_dice_loss are for smaller files: add --half or --quantize-out FILE.")
    if args.max_dice_loss is not None and math.isnan(args.max_dice_loss):
        raise UsageError("--max_dice_loss nan would let every file through: give points of Dice.")
    for name in ("calibration", "photographs"):
        folder = getattr(args, name)
        if folder and not folder.is_dir():
            raise UsageError(f"--{name} {folder} is not a folder.")
    for name in ("calibration_count", "photograph_count"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: give 1 or more.")
    for name in ("output", "quantize_out"):
        path = getattr(args, name)
        if path and (path.suffix != ".onnx" or path.is_dir()):
            raise UsageError(f"--{name} {path}: give the name of a file that ends in .onnx.")
    if args.quantize_out and args.quantize_out.resolve() == args.output.resolve():
        raise UsageError(f"--quantize_out {args.quantize_out} is --output itself: give another name.")
