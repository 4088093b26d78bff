"""What both export scripts share: their flags, the model, and the way from it to checked files."""

import argparse
import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch

from sam_med2d.errors import UsageError
from sam_med2d.export import accuracy_report
from sam_med2d.export.onnx_files import OPSETS, ExportError, describe, differences, make, place, session, workshop
from sam_med2d.export.onnx_parts import Part, encoded_inputs
from sam_med2d.export.quantization import half, quantize
from sam_med2d.runtime.cli import add_bool
from sam_med2d.runtime.devices import resolve_device
from segment_anything.build_sam import MODEL_SPECS, build_sam
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.preprocessing import CHANNEL_ORDERS, MODES

logger = logging.getLogger("export")
INT8_LOSS, HALF_LOSS = 0.5, 0.1  # Dice points


def both(flag: str) -> list[str]:
    """A flag in both spellings, with hyphens and with underscores; its value is called as with underscores."""
    return list(dict.fromkeys([flag, flag.replace("_", "-"), "--" + flag[2:].replace("-", "_")]))


def add_switch(group: argparse._ArgumentGroup, flag: str, help: str) -> None:
    group.add_argument(*both(flag), action="store_true", help=help)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of both scripts."""
    model = parser.add_argument_group("model")
    model.add_argument("--sam_checkpoint", "--sam-checkpoint", "--checkpoint", required=True, help="file, or folder")
    model.add_argument(*both("--model-type"), choices=MODEL_SPECS, help="default: as the checkpoint says, else vit_b")
    model.add_argument(*both("--image_size"), type=int, help="input side; default: as the checkpoint says, else 256")
    add_bool(model, "--encoder_adapter", default=None, help="False drops adapters; default: as in the checkpoint")
    model.add_argument("--preprocess", choices=MODES, help="override the checkpoint's preprocessing")
    model.add_argument(*both("--channel_order"), choices=CHANNEL_ORDERS, help="override the checkpoint's channel order")
    model.add_argument("--device", default="cpu", help="where PyTorch computes")
    file = parser.add_argument_group("file")
    file.add_argument("--output", type=Path, required=True, help="the ONNX file to write")
    file.add_argument("--opset", type=int, default=17, help=f"{OPSETS[0]} to {OPSETS[-1]}")
    add_switch(file, "--gelu-approximate", "GELU by tanh instead of erf, for runtimes where that is faster")
    add_switch(file, "--half", "write --output in float16 (inputs and outputs stay float32)")
    file.add_argument(*both("--quantize-out"), type=Path, metavar="FILE", help="also write an int8 file, and a report")
    file.add_argument(
        "--calibration", type=Path, metavar="DIR", help="photographs that fix the int8 scales (default: dynamic scales)"
    )
    file.add_argument(*both("--calibration-count"), type=int, default=32, help="photographs of --calibration to use")
    measure = parser.add_argument_group("report on --half and --quantize-out")
    measure.add_argument("--photographs", type=Path, metavar="DIR", help="folder with maps, to measure Dice on")
    measure.add_argument(*both("--photograph-count"), type=int, default=24, help="photographs to use of it")
    measure.add_argument(
        *both("--max-dice-loss"),
        type=float,
        help=f"points of Dice; a file that loses more is not written (default: int8 {INT8_LOSS}, half {HALF_LOSS})",
    )


def check_flags(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read. Raises UsageError."""
    if args.opset not in OPSETS:
        raise UsageError(f"--opset {args.opset}: give {OPSETS[0]} to {OPSETS[-1]}.")
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


def load_model(args: argparse.Namespace) -> tuple[Sam, str, bool]:
    """The checkpoint's model, its type, and whether its candidates were trained. Raises UsageError."""
    source = read_checkpoint(args.sam_checkpoint)
    stored = source.metadata.get("preprocessing", {})
    model_type = args.model_type or source.metadata.get("model_type", "vit_b")
    size = args.image_size or stored.get("image_size", 256)
    try:
        model = build_sam(model_type, checkpoint=source, image_size=size, encoder_adapter=args.encoder_adapter)
    except ValueError as error:
        raise UsageError(str(error)) from error
    model.preprocessing = model.preprocessing.overridden(mode=args.preprocess, channel_order=args.channel_order)
    if args.gelu_approximate:
        for layer in model.modules():
            if isinstance(layer, torch.nn.GELU):
                layer.approximate = "tanh"
    return model.to(resolve_device(args.device)).eval(), model_type, bool(source.metadata.get("multimask", True))


def run(args: argparse.Namespace, make_part: Callable[[Sam, bool], Part]) -> int:
    """Export, check, make smaller, measure, put in place. Raises UsageError, and leaves no file then."""
    check_flags(args)
    model, model_type, multimask = load_model(args)
    part = make_part(model, multimask)
    metadata = describe(model, model_type, part, opset=args.opset, multimask=multimask, precision="fp32")
    part = part.answered()
    if not (args.half or args.quantize_out):
        model = None  # its weights are in the part, some in another order: the largest would be in memory twice
    int8 = args.quantize_out or args.output
    # each file is made on the disk that it goes to
    with workshop(args.output, "--output") as folder, workshop(int8, "--quantize_out") as int8_folder:
        fp32, found = make(part, folder, args.output.name, args.opset, metadata)
        worst = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        logger.info(f"{part.name}: largest differences to PyTorch on fresh inputs: {worst}")
        smaller: dict[str, tuple[Path, Path]] = {}
        if args.half:
            (folder / "fp16").mkdir()
            smaller["fp16"] = folder / "fp16" / args.output.name, args.output
            half(fp32, smaller["fp16"][0], metadata)
        if args.quantize_out:
            smaller["int8"] = int8_folder / int8.name, int8
            inputs = _calibration(args, part, model) if args.calibration else None
            quantize(fp32, smaller["int8"][0], metadata, inputs)
        if smaller:
            _measure(args, part, model, {"fp32": fp32} | {name: made for name, (made, _) in smaller.items()}, multimask)
        finished = [*smaller.values()] if args.half else [(fp32, args.output), *smaller.values()]
        for made, target in finished:
            logger.info(f"{target}: {place(made, target) / 1e6:.2f} MB")
    return 0


def _calibration(args: argparse.Namespace, part: Part, model: Sam):
    """Inputs of the part made from the photographs."""
    if part.name == "encoder" and part.about["use_preprocess"]:
        raise UsageError("--calibration goes with normalised input: leave --use-preprocess out.")
    for image in accuracy_report.calibration_images(args.calibration, model, args.calibration_count):
        if part.name == "encoder":
            yield {"input_image": image.expand(part.example["input_image"].shape[0], -1, -1, -1)}
        else:
            yield part.example | encoded_inputs(model, image)


def _measure(args: argparse.Namespace, part: Part, model: Sam, made: dict[str, Path], multimask: bool) -> None:
    """Print the report. Raises ExportError where a smaller file loses too much Dice."""
    files = {name: session(path) for name, path in made.items()}
    checks = list(part.checks())
    worst = {name: max(differences(file, checks).values()) for name, file in files.items()}
    ms = accuracy_report.latencies(part, model, files)
    dice, cases = {}, 0
    if args.photographs:
        _require_dice(part)
        records = accuracy_report.photographs(args.photographs, "--photographs", args.photograph_count)
        models = {"torch": model} | {name: accuracy_report.with_file(model, part, file) for name, file in files.items()}
        dice, cases = accuracy_report.dice_of(models, records, multimask=multimask)
    sizes = {name: sum(p.stat().st_size for p in path.parent.glob(f"{path.stem}.*")) for name, path in made.items()}
    rows = [accuracy_report.Measured("torch", None, None, dice.get("torch"), ms["torch"])]
    rows += [accuracy_report.Measured(name, sizes[name], worst[name], dice.get(name), ms[name]) for name in files]
    logger.info("\n" + accuracy_report.table(rows, cases))
    for name, limit in (("int8", INT8_LOSS), ("fp16", HALF_LOSS)):
        loss = 100 * (dice["torch"] - dice[name]) if name in dice else 0.0
        limit = limit if args.max_dice_loss is None else args.max_dice_loss
        if loss > limit:
            raise ExportError(f"{name} loses {loss:.2f} Dice points (--max_dice_loss {limit:g}): nothing is written.")


def _require_dice(part: Part) -> None:
    """Dice needs the decoder's candidates by predicted IoU, and the encoder's input in the model frame."""
    if part.name == "decoder" and (part.module.return_single_mask or part.module.use_stability_score):
        raise UsageError("--photographs needs the candidates and their predicted IoU: export them to measure Dice.")
    if (
        part.name == "encoder"
        and (part.about["use_preprocess"] or part.example["input_image"].shape[0] != 1)
        and (not part.dynamic or part.about["use_preprocess"])
    ):
        raise UsageError("--photographs goes with normalised input, one image at a time or any number.")
