"""Train SAM-Med2D on fundus photographs with boxes and simulated clicks.

    python train.py --data_path data_demo --model_type vit_t --train_encoder full --encoder_adapter False \\
        --epochs 30 --iter_point 3

takes about two minutes on two CPU cores. Weights go to <work_dir>/models/<run_name>/{last,best}, beside
config.json, history.csv and train.log.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sam_med2d.data.dataset import BOXES
from sam_med2d.data.records import complete, load_folders, structures_in
from sam_med2d.errors import UsageError
from sam_med2d.evaluation.scoring import METRICS
from sam_med2d.runtime.cli import add_bool, add_complete, run_main, setup_logging
from sam_med2d.runtime.devices import compile_encoder
from sam_med2d.runtime.distributed import Processes, join_processes, leave_processes
from sam_med2d.runtime.reproducibility import prepare_training, record
from sam_med2d.runtime.run_folder import make_run_folder, resume_command
from sam_med2d.training.data_splits import folders_of
from sam_med2d.training.losses import LOSSES
from sam_med2d.training.optimizer import SCHEDULES
from sam_med2d.training.step import ENCODER_MODES, select_trainable
from sam_med2d.training.trainer import Interrupted, Trainer
from segment_anything.build_sam import MODEL_SPECS, build_sam
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import MASK_RULES
from segment_anything.preprocessing import CHANNEL_ORDERS, MODES
from segment_anything.utils.atomic import write_text

logger = logging.getLogger("train")
BALANCES = ("none", "structure")
HIGHEST = 10**9  # number that a flag may have


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_data_flags(parser.add_argument_group("data"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_prompt_flags(parser.add_argument_group("prompts"))
    _add_optimisation_flags(parser.add_argument_group("optimisation"))
    _add_run_flags(parser.add_argument_group("run"))
    return parser.parse_args(argv)


def _add_data_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data_path", nargs="+", default="data_demo", help="folders with image2label_train.json and _val.json"
    )
    group.add_argument(
        "--train_share", type=float, default=1.0, help="share of the training photographs to use, for learning curves"
    )
    group.add_argument("--mask_num", type=int, default=5, help="masks of an image in one step, at most")
    group.add_argument("--box", choices=BOXES, default="mask", help="boxes cover the mask or its largest component")
    group.add_argument("--preprocess", choices=MODES, help="default: the checkpoint's own if it says, else fundus")
    group.add_argument("--channel_order", choices=CHANNEL_ORDERS, help="default: the checkpoint's own, else rgb")
    add_bool(group, "--augment", default=True, help="random flips, rotation, scale, light, focus")
    group.add_argument("--balance", choices=BALANCES, default="none", help="structure: draw rare ones more often")
    add_complete(group)
    group.add_argument("--num_workers", type=int, help="loader processes; default: cores - 1")


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model_type", choices=MODEL_SPECS, default="vit_b", help="size of the image encoder")
    group.add_argument("--sam_checkpoint", help="weights to start from (SAM, SAM-Med2D or ours)")
    group.add_argument("--image_size", type=int, default=256, help="input side, a multiple of 32 pixels")
    add_bool(group, "--encoder_adapter", default=True, help="an adapter in every encoder block")
    group.add_argument(
        "--structures", nargs="*", help="names that can be asked for without a click; without a name: all in the data"
    )
    add_bool(group, "--detail", default=None, help="logits at S x S, not S/4; default: as the checkpoint")
    add_bool(group, "--multimask", default=True, help="train the three candidate masks beside the single one")
    group.add_argument(
        "--mask_rule",
        choices=MASK_RULES,
        help="a mask begins at a probability of 1/2, or of half its expected Dice; default: as the checkpoint",
    )
    group.add_argument("--train_encoder", choices=ENCODER_MODES, default="adapter", help="what trains in the encoder")


def _add_prompt_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--iter_point", type=int, default=8, help="rounds after the first; the last has no click")
    group.add_argument(
        "--point_list", type=int, nargs="+", default=[1, 3, 5, 9], help="corrective clicks a round may give"
    )


def _add_optimisation_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, default=15, help="passes over the training images")
    group.add_argument("--batch_size", type=int, default=2, help="images in a step")
    group.add_argument("--accumulate", type=int, default=1, help="batches whose gradients are summed for one step")
    group.add_argument(
        "--loss",
        choices=LOSSES,
        default="focal",
        help="pixel loss beside Dice: 20 x focal as SAM, cross entropy, or cross entropy by a mask's area",
    )
    group.add_argument("--lr", type=float, default=1e-4, help="highest learning rate (AdamW)")
    group.add_argument("--encoder_lr", type=float, help="of the image encoder and the detail head; default: --lr")
    group.add_argument("--weight_decay", type=float, default=0.01, help="of AdamW, on matrices only")
    group.add_argument("--lr_scheduler", choices=SCHEDULES, default="cosine", help="after --warmup_steps")
    group.add_argument("--warmup_steps", type=int, default=100, help="steps of linear warm-up, a tenth at most")
    group.add_argument("--clip_grad", type=float, default=1.0, help="largest gradient norm; 0 turns clipping off")
    group.add_argument("--ema", type=float, default=0.99, help="decay of the weights' average, which is what is saved")
    add_bool(group, "--use_amp", default=False, help="bfloat16 autocast (float16 on GPUs without bfloat16)")
    add_bool(group, "--grad_checkpointing", default=False, help="less memory: compute encoder blocks twice")
    add_bool(group, "--compile", default=False, help="compile the image encoder with torch.compile")


def _add_run_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--work_dir", default="workdir", help="where results go")
    group.add_argument("--run_name", default="sam-med2d", help="folder of this run inside work_dir/models")
    group.add_argument("--metrics", nargs="+", default=["iou", "dice"], help=", ".join(METRICS))
    group.add_argument("--val_every", type=int, default=1, help="epochs between validations")
    group.add_argument(
        "--patience", type=int, default=0, help="validations without a better one before stopping; 0: all"
    )
    group.add_argument("--save_every", type=int, default=0, help="steps between saves within an epoch; 0: none")
    group.add_argument("--keep", type=int, default=0, help="earlier checkpoints to keep beside last and best")
    add_bool(group, "--save_pth", default=False, help="also write model.pth in SAM-Med2D's layout")
    add_bool(group, "--tensorboard", default=False, help="also write TensorBoard logs")
    group.add_argument("--resume", type=Path, help="continue from a checkpoint folder, e.g. models/<run>/last")
    group.add_argument("--device", help="default: the best one present")
    group.add_argument("--seed", type=int, default=0, help="of weights, order, augmentation and clicks")


def check_args(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read. Raises UsageError."""
    lowest = {"mask_num": 1, "iter_point": 0, "epochs": 1, "batch_size": 1, "val_every": 1, "accumulate": 1}
    lowest |= {"warmup_steps": 0, "patience": 0, "save_every": 0, "keep": 0, "clip_grad": 0, "weight_decay": 0}
    for name, least in lowest.items():
        value = getattr(args, name)
        if value < least or value > HIGHEST:
            limit = f"{least} or more" if value < least else f"{HIGHEST} at most"
            raise UsageError(f"--{name} {value}: give {limit}.")
    odd = [name for name in ("lr", "weight_decay", "clip_grad", "ema") if not math.isfinite(getattr(args, name))]
    if odd:
        raise UsageError(f"--{odd[0]} {getattr(args, odd[0])}: give a finite number.")
    if args.encoder_lr is not None and not (math.isfinite(args.encoder_lr) and args.encoder_lr > 0):
        raise UsageError(f"--encoder_lr {args.encoder_lr}: give a positive number, or leave it out.")
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
            f"--train_encoder {args.train_encoder} would keep a random image encoder frozen: give --sam_checkpoint, "
            "or train all of it with --train_encoder full."
        )


def structures_of(args: argparse.Namespace, known: Sequence[str]) -> list[str] | None:
    """The structures that --structures asks for; None leaves them to the checkpoint, which has `known` ones.

    Raises UsageError for a name that neither the checkpoint nor the data have: nothing could train it.
    """
    if args.structures is None:
        return None
    records = load_folders(folders_of(args), "train")
    drawn = {mask.structure for record in records for mask in record.masks}
    possible = structures_in(complete(records, args.complete)).union(known)
    if unknown := [name for name in args.structures if name not in possible]:
        there = ", ".join(sorted(drawn))
        raise UsageError(f"--structures {unknown[0]!r}: neither the data nor the checkpoint have it (data: {there}).")
    return args.structures or sorted(drawn)


def make_model(args: argparse.Namespace, device: torch.device) -> Sam:
    """The model to train, with its frozen part set and the preprocessing it will be trained with."""
    source = read_checkpoint(args.sam_checkpoint) if args.sam_checkpoint else None
    stated = source is not None and "preprocessing" in source.metadata
    try:
        model = build_sam(
            args.model_type,
            checkpoint=source,
            image_size=args.image_size,
            encoder_adapter=args.encoder_adapter,
            structures=structures_of(args, source.structures if source else ()),
            detail=args.detail,
        )
        select_trainable(model, args.train_encoder)
    except ValueError as error:
        raise UsageError(str(error)) from error
    # a file that says nothing of its preprocessing keeps the channel order of its kind, and is trained on as fundus
    start = model.preprocessing if stated else replace(model.preprocessing, mode="fundus")
    chosen = {"mode": args.preprocess, "channel_order": args.channel_order, "mask_prompt": "probability"}
    model.preprocessing = start.overridden(**chosen)
    logger.info(f"preprocessing of this training: {model.preprocessing.as_dict()}")
    model.mask_decoder.mask_rule = args.mask_rule or model.mask_decoder.mask_rule
    model.image_encoder.grad_checkpointing = args.grad_checkpointing
    if args.compile:
        compile_encoder(model, device)
    return model.to(device)


def main(args: argparse.Namespace) -> int:
    check_args(args)
    processes, device = join_processes(args.device)
    try:
        return train(args, processes, device)
    finally:
        leave_processes()


def open_run(args: argparse.Namespace, processes: Processes) -> Path:
    """The run's folder, new or to be resumed, with the log open; only the first process logs."""
    folder = make_run_folder(args)
    processes.wait()
    if processes.first:
        setup_logging(folder / "train.log")
    else:
        setup_logging(level=logging.ERROR)
    return folder


def train(args: argparse.Namespace, processes: Processes, device: torch.device) -> int:
    """Train as the flags say; the exit code."""
    folder = open_run(args, processes)
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
        command = resume_command(str(Path(__file__)), args, parse_args([]), processes, f"{folder}/last")
        logger.info(f"{stop}. Go on with: {command}")
        return 130
    validated = f"best validation Dice {trainer.best:.4f}; " if trainer.validation else ""
    logger.info(f"{validated}weights: {folder}/best, {folder}/last")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
