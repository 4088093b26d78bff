"""Train SAM-Med2D on fundus photographs with boxes and simulated clicks.

    python train.py --data_path data_demo --model_type vit_t --train_encoder full --encoder_adapter False \\
        --epochs 30 --iter_point 3 --lr 5e-4

takes about two minutes on two CPU cores. Weights go to <work_dir>/models/<run_name>/{last,best}, beside
config.json, history.csv and train.log.
"""

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from DataLoader import BOXES, Batch, EpochSampler, FundusDataset, load_index, make_loader
from evaluation import make_prompts, parse_mode, predict_batch, score_batch
from metrics import SCORES
from report import mean, summarise
from segment_anything.build_sam import MODEL_SPECS, build_sam
from segment_anything.checkpoint import load_into, model_metadata, read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.training.augmentation import Augmentation
from segment_anything.training.state import load_state, save_checkpoint
from segment_anything.training.step import ENCODER_MODES, StepPolicy, forward_backward, select_trainable
from segment_anything.utils.atomic import write_text
from segment_anything.utils.transforms import CHANNEL_ORDERS, MODES, Preprocessing
from utils import (
    UsageError,
    add_bool,
    cpu_workers,
    make_folder,
    resolve_device,
    run_main,
    seed_everything,
    setup_logging,
    versions,
)

logger = logging.getLogger("train")
VALIDATION_PROMPTS = ("box", "1", "3", "5")
SCHEDULERS = ("cosine", "multistep", "none")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--data_path", default="data_demo", help="folder with image2label_train.json and _val.json")
    data.add_argument("--mask_num", type=int, default=5, help="masks of an image in one step, at most")
    data.add_argument("--box", choices=BOXES, default="component", help="boxes cover the largest component or all")
    data.add_argument("--preprocess", choices=MODES, help="default: the checkpoint's own if it says, else fundus")
    data.add_argument("--channel_order", choices=CHANNEL_ORDERS, help="default: the checkpoint's own, else rgb")
    add_bool(data, "--augment", default=True, help="random flips, rotation, scale, light and blur")
    data.add_argument("--num_workers", type=int, help="loader processes; default: cores - 1")
    model = parser.add_argument_group("model")
    model.add_argument("--model_type", choices=MODEL_SPECS, default="vit_b", help="size of the image encoder")
    model.add_argument("--sam_checkpoint", help="weights to start from (SAM, SAM-Med2D or ours)")
    model.add_argument("--image_size", type=int, default=256, help="input side in pixels, a multiple of 32")
    add_bool(model, "--encoder_adapter", default=True, help="an adapter in every encoder block")
    add_bool(model, "--multimask", default=True, help="train the three candidate masks beside the single one")
    model.add_argument("--train_encoder", choices=ENCODER_MODES, default="adapter", help="what trains in the encoder")
    prompts = parser.add_argument_group("prompts")
    prompts.add_argument("--iter_point", type=int, default=8, help="corrective rounds after the opening prompt")
    prompts.add_argument(
        "--point_list", type=int, nargs="+", default=[1, 3, 5, 9], help="corrective clicks a round may give"
    )
    optim = parser.add_argument_group("optimisation")
    optim.add_argument("--epochs", type=int, default=15, help="passes over the training images")
    optim.add_argument("--batch_size", type=int, default=2, help="images in a step")
    optim.add_argument("--lr", type=float, default=1e-4, help="highest learning rate (AdamW)")
    optim.add_argument("--weight_decay", type=float, default=0.01, help="of AdamW, on matrices only")
    optim.add_argument("--lr_scheduler", choices=SCHEDULERS, default="cosine", help="after --warmup_steps")
    optim.add_argument("--warmup_steps", type=int, default=100, help="steps of linear warm-up, a tenth at most")
    optim.add_argument("--clip_grad", type=float, default=1.0, help="largest gradient norm; 0 turns clipping off")
    add_bool(optim, "--use_amp", default=False, help="bfloat16 autocast")
    run = parser.add_argument_group("run")
    run.add_argument("--work_dir", default="workdir", help="where results go")
    run.add_argument("--run_name", default="sam-med2d", help="folder of this run inside work_dir/models")
    run.add_argument("--metrics", nargs="+", default=["iou", "dice"], help=", ".join(SCORES))
    run.add_argument("--val_every", type=int, default=1, help="epochs between validations")
    run.add_argument("--resume", type=Path, help="continue from a checkpoint folder, e.g. models/<run>/last")
    run.add_argument("--device", help="default: the best one present")
    run.add_argument("--seed", type=int, default=0, help="of weights, order, augmentation and clicks")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read. Raises UsageError."""
    lowest = {"mask_num": 1, "iter_point": 0, "epochs": 1, "batch_size": 1, "val_every": 1, "warmup_steps": 0}
    for name, least in lowest.items():
        if getattr(args, name) < least:
            raise UsageError(f"--{name} {getattr(args, name)}: give {least} or more.")
    if min(args.point_list) < 1 or not args.lr > 0:
        raise UsageError(f"--point_list {args.point_list} and --lr {args.lr}: give positive numbers.")
    unknown = [name for name in args.metrics if name not in SCORES]
    if unknown or "dice" not in args.metrics:
        raise UsageError(f"--metrics {' '.join(args.metrics)}: choose from {', '.join(SCORES)}, dice among them.")
    if args.train_encoder != "full" and not args.sam_checkpoint:
        raise UsageError(
            f"--train_encoder {args.train_encoder} would keep a random image encoder frozen: give --sam_checkpoint, "
            "or train all of it with --train_encoder full."
        )


def make_model(args: argparse.Namespace, device: torch.device) -> Sam:
    """The model to train, with its frozen part set and the preprocessing it will be trained with."""
    try:
        model = build_sam(
            args.model_type,
            checkpoint=args.sam_checkpoint,
            image_size=args.image_size,
            encoder_adapter=args.encoder_adapter,
        )
        select_trainable(model, args.train_encoder)
    except ValueError as error:
        raise UsageError(str(error)) from error
    stored = read_checkpoint(args.sam_checkpoint).metadata if args.sam_checkpoint else {}
    start = model.preprocessing if "preprocessing" in stored else Preprocessing(args.image_size)
    chosen = {"mode": args.preprocess, "channel_order": args.channel_order}
    model.preprocessing = replace(start, mask_prompt="probability", **{k: v for k, v in chosen.items() if v})
    logger.info(f"preprocessing of this training: {model.preprocessing.as_dict()}")
    return model.to(device)


def make_optimizer(model: Sam, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; norms, biases and embeddings of one row do not decay."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    decays = [p for p in trainable if p.ndim > 1 and p.shape[0] > 1]
    kept = {id(p) for p in decays}
    plain = [p for p in trainable if id(p) not in kept]
    groups = [{"params": decays}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr, weight_decay=args.weight_decay)


def learning_rate_factor(step: int, total: int, args: argparse.Namespace) -> float:
    """Share of --lr at a step: linear warm-up, then cosine to 1 %, steps at 2/3 and 5/6, or constant."""
    warmup = min(args.warmup_steps, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if args.lr_scheduler == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if args.lr_scheduler == "multistep":
        return 0.5 ** ((progress >= 2 / 3) + (progress >= 5 / 6))
    return 1.0


class Trainer:
    """A run: model, optimizer, data, and where it stands (epoch, batch, step)."""

    def __init__(self, args: argparse.Namespace, model: Sam, device: torch.device, folder: Path) -> None:
        self.args, self.model, self.device, self.folder = args, model, device, folder
        self.optimizer = make_optimizer(model, args)
        self.policy = StepPolicy(args.iter_point, tuple(args.point_list), args.multimask)
        self.generator = torch.Generator().manual_seed(args.seed)
        self._make_loaders()
        self.total_steps = args.epochs * len(self.loader)
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.best = -1.0
        self.history: list[dict[str, Any]] = []

    def _make_loaders(self) -> None:
        args = self.args
        records = load_index(args.data_path, "train")
        preprocessing = self.model.preprocessing
        augmentation = Augmentation() if args.augment else None
        train_set = FundusDataset(
            records, preprocessing, mask_num=args.mask_num, augmentation=augmentation, box_of=args.box, seed=args.seed
        )
        val_set = FundusDataset(load_index(args.data_path, "val"), preprocessing, keep_truth=True)
        workers = cpu_workers(args.num_workers)
        self.sampler = EpochSampler(len(records), args.seed)
        self.loader = make_loader(train_set, batch_size=args.batch_size, num_workers=workers, sampler=self.sampler)
        self.val_loader = make_loader(val_set, batch_size=4, num_workers=workers)
        self.val_prompts = make_prompts(self.val_loader, point_num=1, seed=args.seed)
        logger.info(f"{len(records)} training images, {len(val_set)} validation images")

    def fit(self) -> None:
        """Train from where the run stands to the last epoch."""
        while self.epoch < self.args.epochs:
            started = time.perf_counter()
            losses = self._train_epoch()
            self.seconds += time.perf_counter() - started
            self.epoch += 1
            self._finish_epoch(losses)

    def _train_epoch(self) -> dict[str, float]:
        self.model.train()
        self.sampler.epoch = self.epoch
        sums: dict[str, float] = {}
        bar = tqdm(self.loader, desc=f"epoch {self.epoch + 1}/{self.args.epochs}", unit="step")
        for batch in bar:
            losses = self._train_step(batch.to(self.device))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            bar.set_postfix(loss=f"{losses['loss']:.3f}")
        return {name: value / len(self.loader) for name, value in sums.items()}

    def _train_step(self, batch: Batch) -> dict[str, float]:
        lr = self.args.lr * learning_rate_factor(self.step, self.total_steps, self.args)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.use_amp):
            losses = forward_backward(
                self.model, batch.image, batch.mask, batch.box, batch.image_index, self.policy, self.generator
            )
        if not math.isfinite(losses["loss"]):
            names = ", ".join(str(record.image) for record in batch.records)
            raise UsageError(f"the loss is {losses['loss']} at step {self.step} ({names}): lower --lr; nothing was saved.")
        if self.args.clip_grad:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip_grad)
        self.optimizer.step()
        self.step += 1
        return losses

    def _finish_epoch(self, losses: dict[str, float]) -> None:
        """Validate where it is due, write history and checkpoint."""
        entry = {"epoch": self.epoch, "step": self.step, "seconds": round(self.seconds, 1)} | losses
        due = self.epoch % self.args.val_every == 0 or self.epoch == self.args.epochs
        links = ["last"]
        if due:
            summary = self.validate()
            prompts = summary["overall"]
            entry |= {f"val_dice_{prompt}": means["dice"] for prompt, means in prompts.items()}
            entry["val_dice"] = mean([means["dice"] for means in prompts.values()])
            if entry["val_dice"] > self.best:
                self.best = entry["val_dice"]
                links.append("best")
        self.history.append(entry)
        logger.info("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()))
        self._write_history()
        self.save(links)

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Means over the validation masks, by structure and prompt, from fixed prompts."""
        self.model.eval()
        modes = [parse_mode(name) for name in VALIDATION_PROMPTS]
        rows = []
        for batch in self.val_loader:
            batch = batch.to(self.device)
            predictions = predict_batch(
                self.model, batch, self.val_prompts, modes, seed=self.args.seed, multimask=self.args.multimask
            )
            rows += [row for row, _ in score_batch(batch, predictions, self.args.metrics)]
        summary = summarise(rows, self.args.metrics)
        write_text(self.folder / "validation.json", json.dumps(summary, indent=1))
        return summary

    def _write_history(self) -> None:
        names = list(dict.fromkeys(name for entry in self.history for name in entry))
        lines = [",".join(names)] + [",".join(str(entry.get(name, "")) for name in names) for entry in self.history]
        write_text(self.folder / "history.csv", "\n".join(lines) + "\n")

    def save(self, links: list[str]) -> None:
        """Write a checkpoint of the present state and point `links` at it."""
        state = {
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "history": self.history,
            "generator": self.generator.get_state(),
            "model_type": self.args.model_type,
        }
        metadata = model_metadata(self.model, self.args.model_type)
        save_checkpoint(self.folder, f"step-{self.step:07d}", self.model.state_dict(), metadata, state, links)

    def resume(self, folder: Path) -> None:
        """Continue from a checkpoint folder. Raises UsageError when it is another model's or another training's."""
        state = load_state(folder)
        if state["model_type"] != self.args.model_type:
            raise UsageError(f"--resume {folder} is a {state['model_type']} run, --model_type {self.args.model_type}.")
        report = load_into(self.model, read_checkpoint(folder))
        if report.resized or report.initialised or report.dropped:
            raise UsageError(f"--resume needs the run's own --image_size and --encoder_adapter ({report.summary()}).")
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise UsageError(f"--resume {folder} trained other parameters: give its own --train_encoder.") from error
        self.generator.set_state(state["generator"])
        for name in ("epoch", "step", "seconds", "best", "history"):
            setattr(self, name, state[name])
        logger.info(f"resumed from {folder} after epoch {self.epoch}")


def main(args: argparse.Namespace) -> int:
    check_args(args)
    device = resolve_device(args.device)
    folder = make_folder(Path(args.work_dir) / "models" / args.run_name, "--work_dir")
    setup_logging(folder / "train.log")
    seed_everything(args.seed)
    model = make_model(args, device)
    trainer = Trainer(args, model, device, folder)
    if args.resume:
        trainer.resume(args.resume)
    config = {"flags": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}, "versions": versions()}
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    trainer.fit()
    logger.info(f"best validation Dice {trainer.best:.4f}; weights: {folder}/best, {folder}/last")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
