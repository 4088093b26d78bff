"""What train.py does: from checked flags to a finished run."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from sam_med2d.data.records import complete, load_folders, structures_in
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import setup_logging
from sam_med2d.runtime.devices import compile_encoder
from sam_med2d.runtime.distributed import Processes, joined_processes
from sam_med2d.runtime.model_loading import build_model, errors_as_usage
from sam_med2d.runtime.reproducibility import prepare_training, record
from sam_med2d.runtime.run_folder import make_run_folder, resume_command
from sam_med2d.training.data_splits import data_folders
from sam_med2d.training.pyramid_weights import start_pyramid
from sam_med2d.training.step import select_trainable
from sam_med2d.training.trainer import Interrupted, Trainer
from segment_anything.checkpoint import Checkpoint, read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.modeling.detail_head import PyramidDetailHead
from segment_anything.utils.atomic import write_text

logger = logging.getLogger("train")


def train(args: argparse.Namespace, *, script: Path, defaults: argparse.Namespace) -> int:
    """Train as the flags say, in as many processes as torchrun has started.

    Args:
        args: the flags of train.py, checked.
        script: the file of the command, for the message on how to go on.
        defaults: the flags' values when none is given.

    Returns:
        The exit code: 0, or 130 for a run that was interrupted and can go on.

    Raises:
        UsageError, DataError, CheckpointError: for what a user can mend.
    """
    with joined_processes(args.device) as (processes, device):
        folder = _open_run(args, processes)
        prepare_training(args, device)
        model = make_model(args, device)
        trainer = Trainer(args, model, device, folder, processes)
        if args.resume:
            trainer.resume(args.resume)
        config = record(args) | {"processes": processes.count, "data": trainer.data}
        config |= {"preprocessing": model.preprocessing.as_dict()}
        if processes.first:
            write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
        try:
            trainer.fit()
        except Interrupted as stop:
            command = resume_command(str(script), args, defaults, processes, f"{folder}/last")
            logger.info(f"{stop}. Go on with: {command}")
            return 130
        validated = f"best validation Dice {trainer.best:.4f}; " if trainer.validation else ""
        logger.info(f"{validated}weights: {folder}/best, {folder}/last")
        return 0


def _open_run(args: argparse.Namespace, processes: Processes) -> Path:
    """The run's folder, new or to be resumed, with the log open; only the first process logs."""
    folder = make_run_folder(args)
    processes.wait()
    if processes.first:
        setup_logging(folder / "train.log")
    else:
        setup_logging(level=logging.ERROR)
    return folder


def make_model(args: argparse.Namespace, device: torch.device) -> Sam:
    """The model to train on its device, with its frozen part set and the preprocessing that it will be trained with.

    Raises:
        CheckpointError: for weights that cannot be used, or do not fit the flags.
        UsageError: for other flags that cannot work.
    """
    source = read_checkpoint(args.sam_checkpoint) if args.sam_checkpoint else None
    _fill_from_checkpoint(args, source)
    if args.recipe == "adapt":
        logger.info(f"adapting {args.sam_checkpoint} (--sam_checkpoint none: train from random weights)")
    # a file that says nothing of its preprocessing keeps the channel order of its kind, and is trained on as fundus
    stated = source is not None and "preprocessing" in source.metadata
    model = build_model(
        source,
        args.model_type,
        image_size=args.image_size,
        encoder_adapter=args.encoder_adapter,
        structures=_structures_of(args, source.structures if source else ()),
        detail=args.detail,
        preprocess=args.preprocess or (None if stated else "fundus"),
        channel_order=args.channel_order,
        pixel_scale=args.pixel_scale,
        mask_rule=args.mask_rule,
    )
    with errors_as_usage():
        select_trainable(model, args.train_encoder)
    model.preprocessing = model.preprocessing.overridden(mask_prompt="probability")
    pyramid = isinstance(model.mask_decoder.detail, PyramidDetailHead)
    if args.pyramid_epochs and not (pyramid and model.prompt_encoder.structures):
        lacks = "structures: add --structures" if pyramid else "pyramid: add --detail pyramid"
        raise UsageError(f"--pyramid_epochs {args.pyramid_epochs}: the model has no {lacks}.")
    if args.detail == "pyramid" and (source is None or source.detail != "pyramid"):
        start_pyramid(model, args.pyramid_weights)
        if source and source.detail:  # its logits were half of a sum
            model.mask_decoder.silence()
    logger.info(f"preprocessing of this training: {model.preprocessing.as_dict()}")
    model.image_encoder.grad_checkpointing = args.grad_checkpointing
    if args.compile:
        compile_encoder(model, device)
    return model.to(device)


def _fill_from_checkpoint(args: argparse.Namespace, source: Checkpoint | None) -> None:
    """Give the flags that describe the model, where they are None, the values of the checkpoint."""
    if args.model_type is None:
        args.model_type = source.metadata.get("model_type")
    if args.model_type is None:
        raise UsageError(f"{source.path} does not say its model type: give --model_type.")
    if args.image_size is None:
        args.image_size = source.metadata.get("preprocessing", {}).get("image_size", 256)


def _structures_of(args: argparse.Namespace, known: Sequence[str]) -> list[str] | None:
    """The structures that --structures asks for; None leaves them to the checkpoint, which knows some.

    An adaptation learns what its data have, too, unless the flag says otherwise.

    Raises:
        UsageError: for a name that neither the checkpoint nor the data have: nothing could train it.
    """
    adapts = args.structures is None and args.recipe == "adapt"
    if args.structures is None and not adapts:
        return None
    records = load_folders(data_folders(args), "train")
    drawn = {mask.structure for record in records for mask in record.masks}
    if adapts:
        if new := sorted(drawn.difference(known)):
            logger.info(f"new structure prompts, which the weights do not know yet: {', '.join(new)}")
        return [*known, *new] if new else None
    possible = structures_in(complete(records, args.complete)).union(known)
    if unknown := [name for name in args.structures if name not in possible]:
        there = ", ".join(sorted(drawn))
        raise UsageError(f"--structures {unknown[0]!r}: neither the data nor the checkpoint have it (data: {there}).")
    return args.structures or sorted(drawn)
