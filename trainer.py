"""A training run: model, optimizer, data, and where it stands, so that it can stop and go on at any step."""

import argparse
import logging
import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from DataLoader import (
    Batch,
    DataError,
    EpochSampler,
    FundusDataset,
    Record,
    check_records,
    has_map,
    load_index,
    make_loader,
)
from evaluation import make_prompts, parse_mode, predict_batch, score_batch
from report import mean, summarise, write_summary
from segment_anything.checkpoint import model_metadata, read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.training.augmentation import BLACK, Augmentation
from segment_anything.training.state import load_state, save_checkpoint
from segment_anything.training.step import StepPolicy, forward_backward
from segment_anything.utils.atomic import write_text
from utils import UsageError, cpu_workers

logger = logging.getLogger("train")
VALIDATION_PROMPTS = ("box", "1", "3", "5")
# flags that may differ between a run and its continuation: they do not change what is computed
FREE_ON_RESUME = {"resume", "work_dir", "run_name", "device", "num_workers", "save_every", "keep", "patience"}


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(f"stopped; the state is in {checkpoint}")
        self.checkpoint = checkpoint


def make_optimizer(model: Sam, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; norms, biases and embeddings of one row do not decay."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    decays = [p for p in trainable if p.ndim > 1 and p.shape[0] > 1]
    plain = [p for p in trainable if not (p.ndim > 1 and p.shape[0] > 1)]
    groups = [{"params": decays}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr, weight_decay=args.weight_decay)


def learning_rate_factor(step: int, total: int, args: argparse.Namespace) -> float:
    """Share of --lr at a step: linear warm-up, then cosine to 1 %, halved at 2/3 and 5/6, or constant."""
    warmup = min(args.warmup_steps, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if args.lr_scheduler == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if args.lr_scheduler == "multistep":
        return 0.5 ** ((progress >= 2 / 3) + (progress >= 5 / 6))
    return 1.0


class Average:
    """Exponential moving average of the trainable parameters (Polyak and Juditsky 1992).

    The decay grows with the steps up to `decay`, so that early weights are forgotten quickly. With decay 0
    the average is the parameters themselves.
    """

    def __init__(self, model: Sam, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, step / (step + 10))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's parameters and their average; a second call undoes it."""
        for name, parameter in self.parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)


class Trainer:
    """A run and where it stands: epoch, batch within it, step."""

    def __init__(self, args: argparse.Namespace, model: Sam, device: torch.device, folder: Path) -> None:
        self.args, self.model, self.device, self.folder = args, model, device, folder
        self.optimizer = make_optimizer(model, args)
        self.average = Average(model, args.ema)
        self.policy = StepPolicy(args.iter_point, tuple(args.point_list), args.multimask)
        self.generator = torch.Generator().manual_seed(args.seed)
        self._make_loaders()
        self.total_steps = args.epochs * len(self.loader)
        self.epoch = self.batch = self.step = self.stale = 0
        self.seconds = 0.0
        self.best = -1.0
        self.sums: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.stop_signal: int | None = None

    def _make_loaders(self) -> None:
        args = self.args
        records, val_records = self._records()
        preprocessing = self.model.preprocessing
        surround = BLACK if preprocessing.mode == "fundus" else (0.0, 0.0, 0.0)
        augmentation = Augmentation(surround) if args.augment else None
        train_set = FundusDataset(
            records,
            preprocessing,
            mask_num=args.mask_num,
            augmentation=augmentation,
            box_of=args.box,
            drop_vanished=True,
            seed=args.seed,
        )
        val_set = FundusDataset(val_records, preprocessing, keep_truth=True)
        workers = cpu_workers(args.num_workers)
        self.sampler = EpochSampler(len(records), args.seed)
        self.loader = make_loader(train_set, batch_size=args.batch_size, num_workers=workers, sampler=self.sampler)
        self.val_loader = make_loader(val_set, batch_size=args.batch_size, num_workers=workers)
        self.val_prompts = make_prompts(self.val_loader, point_num=1, seed=args.seed)
        logger.info(f"{len(records)} training images, {len(val_set)} validation images")

    def _records(self) -> tuple[list[Record], list[Record]]:
        """Checked training and validation records; without a validation map there are none of these."""
        train = load_index(self.args.data_path, "train", check=False)
        val: list[Record] = []
        if has_map(self.args.data_path, "val"):
            val = load_index(self.args.data_path, "val", check=False)
        else:
            logger.warning(f"{self.args.data_path} has no validation map: no validation, best is the last checkpoint")
        check_records(train, val)
        return train, val

    # --- training -----------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the last epoch, or until validation stops improving. Raises Interrupted after SIGINT or SIGTERM."""
        previous = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.epoch < self.args.epochs and not self._out_of_patience():
                self._train_epoch()
                self._finish_epoch()
        except DataError:  # a file that became unreadable: what was learnt until here is kept
            self.save(["last"])
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _ask_to_stop(self, number: int, _: FrameType | None) -> None:
        self.stop_signal = number

    def _out_of_patience(self) -> bool:
        if self.args.patience and self.stale >= self.args.patience:
            logger.info(f"no better validation for {self.stale} validations: stopping early (--patience)")
            return True
        return False

    def _train_epoch(self) -> None:
        self.model.train()
        self.sampler.set_position(self.epoch, skip=self.batch * self.args.batch_size)
        total = math.ceil(self.sampler.size / self.args.batch_size)
        title = f"epoch {self.epoch + 1}/{self.args.epochs}"
        with tqdm(self.loader, desc=title, unit="step", total=total, initial=self.batch) as bar:
            started = time.perf_counter()
            for batch in bar:
                losses = self._train_step(batch.to(self.device))
                self.seconds += time.perf_counter() - started
                bar.set_postfix(loss=f"{losses['loss']:.3f}")
                self._save_where_due()
                started = time.perf_counter()

    def _train_step(self, batch: Batch) -> dict[str, float]:
        lr = self.args.lr * learning_rate_factor(self.step, self.total_steps, self.args)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.use_amp):
            losses = forward_backward(
                self.model, batch.image, batch.mask, batch.box, batch.image_index, self.policy, self.generator
            )
        norm = torch.nn.utils.clip_grad_norm_(self.average.parameters.values(), self.args.clip_grad or math.inf)
        self._refuse_nan(losses["loss"], float(norm), batch)
        self.optimizer.step()
        self.step += 1
        self.batch += 1
        self.average.update(self.step)
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        return losses

    def _refuse_nan(self, loss: float, gradient: float, batch: Batch) -> None:
        """Raise UsageError, before the weights are touched, when the loss or the gradient's norm is no number."""
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            names = ", ".join(str(record.image) for record in batch.records)
            last = self.folder / "last"
            again = f"start again from {last} with --sam_checkpoint {last}" if last.exists() else "start again"
            raise UsageError(
                f"at step {self.step} the loss is {loss} and the gradient's norm {gradient} ({names}): "
                f"{again} and a lower --lr."
            )

    def _save_where_due(self) -> None:
        """Save every --save_every steps, and when a signal asks to stop (raises Interrupted then)."""
        if self.stop_signal is not None:
            raise Interrupted(self.save(["last"]))
        if self.args.save_every and self.step % self.args.save_every == 0:
            self.save(["last"])

    # --- validation ---------------------------------------------------------------------------------------

    def _finish_epoch(self) -> None:
        """Validate where it is due, write history and checkpoint."""
        losses = {name: value / self.batch for name, value in self.sums.items()}
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        entry = {"epoch": self.epoch, "step": self.step, "seconds": round(self.seconds, 1)} | losses
        links = ["last"]
        if not len(self.val_loader):
            links.append("best")
        elif self.epoch % self.args.val_every == 0 or self.epoch == self.args.epochs:
            prompts = self.validate()["overall"]
            entry |= {f"val_dice_{prompt}": means["dice"] for prompt, means in prompts.items()}
            entry["val_dice"] = mean([means["dice"] for means in prompts.values()])
            self.stale += 1
            if entry["val_dice"] > self.best:
                self.best, self.stale = entry["val_dice"], 0
                links.append("best")
        self.history.append(entry)
        logger.info("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()))
        self._write_history()
        self.save(links)

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Means of the averaged weights over the validation masks, by structure and prompt, from fixed prompts."""
        self.model.eval()
        self.average.swap()
        modes = [parse_mode(name) for name in VALIDATION_PROMPTS]
        rows = []
        for batch in self.val_loader:
            batch = batch.to(self.device)
            predictions = predict_batch(
                self.model, batch, self.val_prompts, modes, seed=self.args.seed, multimask=self.args.multimask
            )
            rows += [row for row, _ in score_batch(batch, predictions, self.args.metrics)]
        self.average.swap()
        summary = summarise(rows, self.args.metrics)
        write_summary(self.folder / "validation.json", summary)
        return summary

    def _write_history(self) -> None:
        names = list(dict.fromkeys(name for entry in self.history for name in entry))
        lines = [",".join(names)] + [",".join(str(entry.get(name, "")) for name in names) for entry in self.history]
        write_text(self.folder / "history.csv", "\n".join(lines) + "\n")

    # --- state --------------------------------------------------------------------------------------------

    def save(self, links: list[str]) -> Path:
        """Write a checkpoint of the present state and point `links` at it; returns its folder.

        The weights file holds the averaged weights, the state file the trained ones.
        """
        state = {name: getattr(self, name) for name in self._position()} | {
            "trained": {name: p.detach().cpu().clone() for name, p in self.average.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "flags": self._binding_flags(),
        }
        weights = self.model.state_dict() | self.average.values
        metadata = model_metadata(self.model, self.args.model_type, multimask=self.args.multimask)
        name = f"step-{self.step:07d}"
        return save_checkpoint(self.folder, name, weights, metadata, state, links, keep=self.args.keep)

    @staticmethod
    def _position() -> tuple[str, ...]:
        return "epoch", "batch", "step", "stale", "seconds", "best", "sums", "history"

    def _binding_flags(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self.args).items() if k not in FREE_ON_RESUME}

    def resume(self, folder: Path) -> None:
        """Continue from a checkpoint folder of this run. Raises UsageError for another run's, and names its flags."""
        state = load_state(folder)
        if folder.resolve().parent != self.folder.resolve():
            raise UsageError(f"--resume {folder} is not in {self.folder}: give that run's --work_dir and --run_name.")
        own, theirs = self._binding_flags(), state["flags"]
        differing = [f"--{k} {own.get(k)} (was {theirs.get(k)})" for k in own | theirs if own.get(k) != theirs.get(k)]
        if differing:
            raise UsageError(f"--resume {folder} is a run with other flags: {', '.join(differing)}.")
        weights = read_checkpoint(folder).state
        self.model.load_state_dict(weights | state["trained"])
        self.average.values = {name: weights[name].to(self.device) for name in self.average.values}
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        for name in self._position():
            setattr(self, name, state[name])
        logger.info(f"resumed from {folder}: epoch {self.epoch + 1}, step {self.step}")
