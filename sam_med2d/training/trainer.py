"""A training run: model, optimizer, data, and where it stands, so that it can stop and go on at any step."""

import argparse
import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from sam_med2d.data.dataset import Batch, make_loader
from sam_med2d.data.record_checks import check_records, data_digest
from sam_med2d.data.records import Record
from sam_med2d.data.samplers import EpochBatches, nested_share, step_stream, structure_weights
from sam_med2d.errors import DataError, UsageError
from sam_med2d.evaluation.presence import presence_thresholds
from sam_med2d.evaluation.summary import mean, summarise
from sam_med2d.prompts.click_loop import ClickPolicy
from sam_med2d.runtime.devices import autocast_dtype, cpu_workers
from sam_med2d.runtime.distributed import Processes
from sam_med2d.runtime.json_files import write_json
from sam_med2d.runtime.run_folder import refuse_other_run
from sam_med2d.runtime.signals import StopSignals
from sam_med2d.training.checkpoints import load_state, save_checkpoint
from sam_med2d.training.data_splits import load_splits, training_dataset
from sam_med2d.training.optimizer import (
    Gradients,
    WeightAverage,
    factor_adapters,
    learning_rate_factor,
    make_optimizer,
)
from sam_med2d.training.run_log import RunLog
from sam_med2d.training.step import NextRound, RoundLoss, StepPolicy, pyramid_losses, round_losses
from sam_med2d.training.validation import Validation, dice_columns, fallen, merge_shares, structure_dice
from segment_anything.checkpoint import CheckpointError, model_metadata, read_checkpoint
from segment_anything.checkpoint_pickles import DAMAGE
from segment_anything.modeling import Sam
from segment_anything.modeling.detail_head import PyramidDetailHead

logger = logging.getLogger("train")
# flags that may differ between a run and its continuation: they do not change what is computed
FREE_ON_RESUME = {"resume", "work_dir", "run_name", "device", "num_workers", "save_every", "keep", "patience"}
FREE_ON_RESUME |= {"save_pth", "tensorboard", "grad_checkpointing", "data_path", "given"}  # a digest knows the data
# where a run stands: attributes of the trainer that a checkpoint keeps
POSITION = ("epoch", "epoch_step", "step", "since_best", "seconds", "best", "loss_sums", "history", "start")


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(f"stopped; the state is in {checkpoint}")
        self.checkpoint = checkpoint


class Trainer:
    """A run and where it stands: a model with its frozen parts set, on its device, and the flags of train.py, checked.

    Attributes:
        epoch: Epochs that are done.
        epoch_step: Steps done in the present epoch.
        step: Steps in all.
        since_best: Validations since the best one.
        seconds: Time spent in steps.
        best: Best mean validation Dice, -1 without one.
        loss_sums: Sums of the losses over the present epoch's steps.
        history: An entry of each epoch.
        start: With --keep_start the Dice of each structure that the run began with.

    Raises:
        UsageError, DataError: For flags that do not go together and for data that cannot be trained with.
    """

    def __init__(
        self, args: argparse.Namespace, model: Sam, device: torch.device, folder: Path, processes: Processes
    ) -> None:
        self.args, self.model, self.device, self.folder, self.processes = args, model, device, folder, processes
        self.optimizer = make_optimizer(model, lr=args.lr, weight_decay=args.weight_decay, encoder_lr=args.encoder_lr)
        self.average = WeightAverage(model, args.ema)
        self.policy = StepPolicy(args.iter_point, tuple(args.point_list), args.multimask, args.loss)
        self.dtype = autocast_dtype(device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.use_amp and self.dtype == torch.float16)
        self.next_round = NextRound(model)
        if processes.count > 1:  # no round reaches all parameters
            self.next_round = DistributedDataParallel(self.next_round, find_unused_parameters=True)
        if processes.count == 1 and not self.scaler.is_enabled():
            factor_adapters(model)
        train, val = load_splits(args, model.prompt_encoder.structures)
        train = [train[i] for i in nested_share(len(train), args.train_share, args.seed)]
        self.data = ""
        if processes.first:
            check_records(train, val)
            self.data = data_digest([*train, *val])
        processes.wait()
        self._make_loader(train)
        self.validation = self._make_validation(val) if val else None
        self.epoch_steps = math.ceil(len(self.batches) / args.accumulate)
        self.total_steps = args.epochs * self.epoch_steps
        self.epoch = self.epoch_step = self.step = self.since_best = 0
        self.seconds = 0.0
        self.best = -1.0
        self.loss_sums: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.start: dict[str, float] = {}
        self.log: RunLog | None = None
        self.stop = StopSignals()

    def _make_loader(self, records: list[Record]) -> None:
        args = self.args
        dataset = training_dataset(args, records, self.model)
        structures = [[mask.structure for mask in record.masks] for record in records]
        weights = structure_weights(structures) if args.balance == "structure" else None
        place = {"rank": self.processes.rank, "processes": self.processes.count}
        try:
            self.batches = EpochBatches(
                len(records), args.batch_size, seed=args.seed, weights=weights, draws=args.epoch_photographs, **place
            )
        except ValueError as error:
            raise UsageError(f"--data_path {args.data_path}: {error}") from error
        self.workers = cpu_workers(args.num_workers, here=self.processes.here)
        self.loader = make_loader(dataset, num_workers=self.workers, batches=self.batches)
        logger.info(f"{len(records)} training images")

    def _make_validation(self, records: list[Record]) -> Validation:
        logger.info(f"{len(records)} validation images")
        return Validation(
            records,
            self.model.preprocessing,
            batch_size=self.args.batch_size,
            num_workers=self.workers,
            seed=self.args.seed,
            metrics=self.args.metrics,
            device=self.device,
            multimask=self.args.multimask,
            structures=self.model.prompt_encoder.structures,
            rank=self.processes.rank,
            processes=self.processes.count,
        )

    # --- training -----------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the last epoch, or until validation stops improving.

        Raises:
            Interrupted: After SIGINT or SIGTERM; the state is saved.
            UsageError: The loss or the gradient is no number.
            DataError: A file became unreadable; the state is saved.
        """
        if self.processes.first:
            self.log = RunLog(self.folder, tensorboard=self.args.tensorboard, resumed_at=self.step or None)
        with self.stop:
            try:
                if self.args.keep_start and self.validation and not self.step:
                    self._validate_start()
                while self.epoch < self.args.epochs and not self._out_of_patience():
                    self._train_epoch()
                    self._finish_epoch()
            except DataError:  # a file that became unreadable: what was learnt until here is kept
                if self.processes.count == 1:  # the others are waiting for this process's gradients, not for a save
                    logger.info(f"saved {self.save(['last'])}")
                raise
            finally:
                if self.log:
                    self.log.close()

    def _out_of_patience(self) -> bool:
        if self.args.patience and self.since_best >= self.args.patience:
            logger.info(f"no better validation for {self.since_best} validations: stopping early (--patience)")
            return True
        return False

    def _train_epoch(self) -> None:
        self.model.train()
        self.batches.set_position(self.epoch, skip=self.epoch_step * self.args.accumulate)
        batches = iter(self.loader)
        title = f"epoch {self.epoch + 1}/{self.args.epochs}"
        hidden = not self.processes.first
        with tqdm(desc=title, unit="step", total=self.epoch_steps, initial=self.epoch_step, disable=hidden) as bar:
            started = time.perf_counter()
            while self.epoch_step < self.epoch_steps:
                loss, stop = self._train_step(list(islice(batches, self.args.accumulate)))
                self.seconds += time.perf_counter() - started
                bar.update()
                left = self.seconds / self.step * (self.total_steps - self.step)  # of all epochs, without validation
                bar.set_postfix(loss=f"{loss:.3f}", run_left=tqdm.format_interval(left))
                self._save_where_due(stop)
                started = time.perf_counter()

    def _train_step(self, micro_batches: list[Batch]) -> tuple[float, bool]:
        """A step (see training/step.py), an update for each round: its mean loss, and whether a process shall stop."""
        factor = learning_rate_factor(
            self.step, self.total_steps, warmup=self.args.warmup_steps, schedule=self.args.lr_scheduler
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        click_policy = self.policy.draw(step_stream(self.args.seed, self.step))
        moved = [batch.to(self.device) for batch in micro_batches]
        steps = [self._round_losses(batch, click_policy) for batch in moved]
        losses = []
        rounds_here = 1 if self._without_prompts else self.policy.rounds
        for _ in range(rounds_here):
            parts = [self._backward(rounds, communicate=rounds is steps[-1]) for rounds in steps]
            means, stop = self._update(parts, moved)
            losses.append(means["loss"])
            for name, value in means.items():
                self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value / rounds_here
        self.step += 1
        self.epoch_step += 1
        self.average.update(self.step)
        return mean(losses), stop

    @property
    def _without_prompts(self) -> bool:
        """Whether the epoch is one of --pyramid_epochs."""
        return self.epoch < self.args.pyramid_epochs

    def _round_losses(self, batch: Batch, click_policy: ClickPolicy) -> Iterator[RoundLoss]:
        if self._without_prompts:
            return pyramid_losses(self.model, batch.image, batch.mask, batch.image_index, batch.whole_structure)
        return round_losses(
            self.model,
            batch.image,
            batch.mask,
            batch.box,
            batch.image_index,
            policy=self.policy,
            click_policy=click_policy,
            randomness=[torch.Generator().manual_seed(seed) for seed in batch.seeds],
            structure_label=batch.structure_label if self.model.prompt_encoder.structures else None,
            whole_structure=batch.whole_structure if self._learns_densely() else None,
        )

    def _learns_densely(self) -> bool:
        """Whether the model has a pyramid, whose features learn the structures directly, too."""
        detail = self.model.mask_decoder.detail
        return isinstance(detail, PyramidDetailHead) and detail.named is not None

    def _backward(self, rounds: Iterator[RoundLoss], *, communicate: bool) -> dict[str, Tensor]:
        """Add the gradient of the next round's loss; with `communicate`, average over processes what was added."""
        together = self.processes.count == 1 or communicate
        with nullcontext() if together else self.next_round.no_sync():
            with torch.autocast(self.device.type, self.dtype, enabled=self.args.use_amp):
                loss = self.next_round(rounds)
            self.scaler.scale(loss.total).backward()
        return loss.parts

    def _update(self, parts: list[dict[str, Tensor]], batches: list[Batch]) -> tuple[dict[str, float], bool]:
        """Update the weights with the mean gradient over the masks of all processes; the mean losses, and a stop."""
        count = sum(len(batch.refs) for batch in batches)
        sums = [sum(part[name] for part in parts) for name in parts[0]]
        place = self.device if self.processes.count > 1 else "cpu"
        mine = torch.tensor([*sums, count, self.stop.requested], dtype=torch.float64, device=place)
        *losses, masks, stop = self.processes.total(mine).tolist()
        means = {name: value / masks for name, value in zip(parts[0], losses, strict=True)}
        self.scaler.unscale_(self.optimizer)
        gradients = Gradients(self.average.parameters.values())
        gradients.scale(self.processes.count / masks)
        norm = gradients.clip(self.args.clip_grad or math.inf)
        self._refuse_nan(means["loss"], float(norm), batches)
        gradients.update(lambda: self.scaler.step(self.optimizer))
        self.scaler.update()
        return means, stop > 0

    def _refuse_nan(self, loss: float, gradient: float, batches: list[Batch]) -> None:
        """Raise UsageError, before the weights are touched, when the loss or the gradient's norm is no number."""
        if math.isfinite(loss) and (math.isfinite(gradient) or self.scaler.is_enabled()):
            return  # the scaler leaves out steps whose float16 gradients overflow, and lowers its scale
        own = [str(record.image) for batch in batches for record in batch.records]
        names = ", ".join(name for names in self.processes.gather(own) for name in names)
        last = self.folder / "last"
        source = f" from {last} (--sam_checkpoint {last})" if last.exists() else ""
        raise UsageError(
            f"at step {self.step} the loss is {loss} and the gradient's norm {gradient} ({names}): "
            f"start again{source} with another --run_name and a lower --lr."
        )

    def _save_where_due(self, stop: bool) -> None:
        """Save every --save_every steps, and when a signal asks to stop (raises Interrupted then)."""
        if stop:
            raise Interrupted(self.save(["last"]))
        if self.args.save_every and self.step % self.args.save_every == 0:
            self.save(["last"])

    # --- validation ---------------------------------------------------------------------------------------

    def _finish_epoch(self) -> None:
        """Validate where it is due, write history and checkpoint."""
        losses = {name: value / self.epoch_step for name, value in self.loss_sums.items()}
        epoch = self.epoch + 1
        rate = self.optimizer.param_groups[-1]["lr"]
        entry = {"epoch": epoch, "step": self.step, "seconds": round(self.seconds, 1), "lr": rate} | losses
        links = ["last"]
        if self.validation is None:
            links.append("best")
        elif epoch % self.args.val_every == 0 or epoch == self.args.epochs:
            found = self.validate(epoch)
            entry |= dice_columns(found)
            self.since_best += 1
            if entry["val_dice"] > self.best and not fallen(self.start, structure_dice(found)):
                self.best, self.since_best = entry["val_dice"], 0
                links.append("best")
        self.epoch, self.epoch_step, self.loss_sums = epoch, 0, {}
        self.history.append(entry)
        logger.info("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()))
        if self.log:
            self.log.add(self.history)
        self.save(links)

    def _validate_start(self) -> None:
        """Validate the weights that the run starts from, and save them as the best so far."""
        found = self.validate(0)
        columns = dice_columns(found)
        self.start, self.best = structure_dice(found), columns["val_dice"]
        logger.info("start  " + "  ".join(f"{name} {value:.4g}" for name, value in columns.items()))
        self.save(["last", "best"])

    def validate(self, epoch: int) -> dict[str, Any]:
        """Mean scores of the averaged weights (`summarise`), from which the presence thresholds are chosen.

        A structure without a validation photograph keeps its threshold.
        """
        self.model.eval()
        with self.average.applied():
            rows, tiles = merge_shares(self.processes.gather(self.validation.run(self.model)))
        self.model.prompt_encoder.presence_thresholds |= presence_thresholds(rows)
        summary = summarise(rows, self.args.metrics, data_path=self.args.data_path)
        if self.log:
            self.log.add_pictures(epoch, tiles, step=self.step)
            write_json(self.folder / "validation.json", summary)
        return summary

    # --- state --------------------------------------------------------------------------------------------

    def save(self, links: list[str]) -> Path:
        """Write a checkpoint, with links ("last", "best") to it: its folder. The first process writes, the others wait.

        The weights file holds the averaged weights, the state file the trained ones.
        """
        if self.processes.first:
            state = {name: getattr(self, name) for name in POSITION} | {
                "trained": {name: p.detach().cpu().clone() for name, p in self.average.parameters.items()},
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "flags": self._binding_flags(),
                "data": self.data,
            }
            weights = self.model.state_dict() | self.average.values
            metadata = model_metadata(self.model, self.args.model_type, multimask=self.args.multimask)
            keep, pth = self.args.keep, self.args.save_pth
            save_checkpoint(self.folder, f"step-{self.step:07d}", weights, metadata, state, links, keep=keep, pth=pth)
        self.processes.wait()
        return self.folder / "last"

    def _binding_flags(self) -> dict[str, Any]:
        flags = {f"--{k}": v for k, v in vars(self.args).items() if k not in FREE_ON_RESUME}
        structures = list(self.model.prompt_encoder.structures)
        return flags | {"--structures": structures, "number of processes": self.processes.count}

    def resume(self, folder: Path) -> None:
        """Continue from a checkpoint of this run.

        Raises:
            UsageError: It is of another run; names the flags that differ.
            CheckpointError: It is damaged.
        """
        state = load_state(folder)
        refuse_other_run(folder, self.folder, state["flags"], self._binding_flags())
        if self.processes.first and state["data"] != self.data:
            logger.warning(f"the data in {self.args.data_path} changed since {folder} was written")
        saved = read_checkpoint(folder, flag="--resume")
        known = self.model.prompt_encoder
        try:
            self.model.load_state_dict(saved.state | state["trained"])
            for name, value in self.average.values.items():
                value.copy_(saved.state[name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            vars(self).update({name: state[name] for name in POSITION})
        except DAMAGE as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CheckpointError(f"--resume {folder} is damaged ({reason}): resume from another one.") from error
        known.presence_thresholds |= saved.presence_thresholds(known.structures)
        logger.info(f"resumed from {folder}: epoch {self.epoch + 1}, step {self.step}")
