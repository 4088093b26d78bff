"""What both export scripts do: from their flags to the model, and from it to checked files."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from sam_med2d.errors import UsageError
from sam_med2d.export import accuracy_report
from sam_med2d.export.arguments import DECODER_OPTIONS, HALF_LOSS, INT8_LOSS, check_flags
from sam_med2d.export.onnx_files import (
    ExportError,
    differences,
    file_metadata,
    make_checked,
    place,
    session,
    temporary_folder,
)
from sam_med2d.export.onnx_parts import OnnxPart, decoder_part, encoded_inputs, encoder_part
from sam_med2d.export.onnx_sam import with_file
from sam_med2d.export.quantization import quantize, to_float16
from sam_med2d.runtime.devices import resolve_device
from sam_med2d.runtime.model_loading import load_model
from segment_anything.modeling import Sam

logger = logging.getLogger("export")


def _load(args: argparse.Namespace) -> tuple[Sam, str, bool]:
    """The model, its type, and whether its candidates were trained."""
    loaded = load_model(args, resolve_device(args.device))
    if args.gelu_approximate:
        for layer in loaded.model.modules():
            if isinstance(layer, torch.nn.GELU):
                layer.approximate = "tanh"
    return loaded.model, loaded.model_type, loaded.multimask


def export_encoder(args: argparse.Namespace) -> int:
    """Export the image encoder, by the flags of scripts/export_onnx_encoder_model.py: the exit code, 0.

    Raises:
        UsageError, CheckpointError: for what a user can mend; no file is left then.
    """
    batch = None if args.dynamic_batch else args.batch_size or 1
    options = {"use_preprocess": args.use_preprocess, "plain": args.plain}
    return _export(args, lambda model, _: encoder_part(model, batch=batch, **options))


def export_decoder(args: argparse.Namespace) -> int:
    """Export the prompt encoder and the mask decoder, as `export_encoder` does."""
    options = {name: getattr(args, name) for name in DECODER_OPTIONS}
    return _export(args, lambda model, multimask: decoder_part(model, multimask=multimask, plain=args.plain, **options))


def _warn(model: Sam, part: OnnxPart, *, plain: bool) -> None:
    """Log what a program that runs the file can do wrong with it."""
    rule, candidates = model.preprocessing, part.about.get("masks") == "candidates" and part.module.multimask
    warnings = {
        "these weights expect BGR: give the encoder each photograph with its channels reversed, image[..., ::-1], or "
        "export with --plain, which takes RGB": rule.channel_order == "bgr" and not plain,
        "three masks a prompt: X-AnyLabeling shows the first, whatever their predicted IoU; add --return-single-mask "
        "for the best one": plain and bool(candidates),
        "these weights were trained on photographs that are cropped to the field of view (fundus preprocessing); other "
        "programs stretch them whole: crop them before": rule.mode == "fundus" and plain,
    }
    for text, applies in warnings.items():
        if applies:
            logger.warning(f"WARNING: {part.name}: {text}")


def _export(args: argparse.Namespace, make_part: Callable[[Sam, bool], OnnxPart]) -> int:
    """Export, check, make smaller, measure, put in place. Raises UsageError, and leaves no file then."""
    check_flags(args)
    model, model_type, multimask = _load(args)
    part = make_part(model, multimask)
    _warn(model, part, plain=args.plain)
    metadata = file_metadata(model, model_type, part, opset=args.opset, multimask=multimask, precision="fp32")
    part = part.with_expected_outputs()
    if not (args.half or args.quantize_out):
        model = None  # its weights are in the part, some in another order: the largest would be in memory twice
    int8 = args.quantize_out or args.output
    # each file is made on the disk that it goes to
    with temporary_folder(args.output, "--output") as folder, temporary_folder(int8, "--quantize_out") as int8_folder:
        fp32, found = make_checked(part, folder, args.output.name, args.opset, metadata)
        worst = ", ".join(f"{name} {value.absolute:.1e}" for name, value in found.items())
        logger.info(f"{part.name}: largest differences to PyTorch on fresh inputs: {worst}")
        smaller: dict[str, tuple[Path, Path]] = {}
        if args.half:
            (folder / "fp16").mkdir()
            smaller["fp16"] = folder / "fp16" / args.output.name, args.output
            to_float16(fp32, smaller["fp16"][0], metadata)
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


def _calibration(args: argparse.Namespace, part: OnnxPart, model: Sam):
    """Inputs of the part made from the photographs."""
    if part.name == "encoder" and part.about["use_preprocess"]:
        raise UsageError("--calibration goes with normalised input: leave --use-preprocess out.")
    for image in accuracy_report.calibration_images(args.calibration, model, args.calibration_count):
        if part.name == "encoder":
            yield {"input_image": image.expand(part.example["input_image"].shape[0], -1, -1, -1)}
        else:
            yield part.example | encoded_inputs(model, image)


def _measure(args: argparse.Namespace, part: OnnxPart, model: Sam, made: dict[str, Path], multimask: bool) -> None:
    """Print the report. Raises ExportError where a smaller file loses too much Dice."""
    files = {name: session(path) for name, path in made.items()}
    checks = list(part.checks())
    worst = {name: max(value.absolute for value in differences(file, checks).values()) for name, file in files.items()}
    ms = accuracy_report.latencies(part, model, files)
    dice, cases = {}, 0
    if args.photographs:
        _require_dice(part)
        records = accuracy_report.photographs(args.photographs, "--photographs", args.photograph_count)
        models = {"torch": model} | {name: with_file(model, part, file) for name, file in files.items()}
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


def _require_dice(part: OnnxPart) -> None:
    """Dice needs the decoder's candidates by predicted IoU, and the encoder's input in the model frame."""
    if part.name == "decoder" and (part.module.return_single_mask or part.module.use_stability_score):
        raise UsageError("--photographs needs the candidates and their predicted IoU: export them to measure Dice.")
    if (
        part.name == "encoder"
        and (part.about["use_preprocess"] or part.example["input_image"].shape[0] != 1)
        and (not part.dynamic or part.about["use_preprocess"])
    ):
        raise UsageError("--photographs goes with normalised input, one image at a time or any number.")
