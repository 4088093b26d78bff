"""A training step against the published one."""

import argparse
from collections.abc import Callable

import torch

from benchmarks.models import add_model_flags, seeded_model, synthetic_batch
from benchmarks.reference_training import published_step
from benchmarks.sides import OURS, Worker, baseline, peak_memory, same_command, serve
from sam_med2d.data.dataset import Batch
from sam_med2d.runtime.memory import keep_freed_memory
from sam_med2d.runtime.timing import interleaved
from sam_med2d.training.optimizer import Gradients, factor_adapters, make_optimizer
from sam_med2d.training.step import StepPolicy, round_losses, select_trainable
from segment_anything.modeling import Sam


def fast_step(
    model: Sam, optimizer: torch.optim.Optimizer, batch: Batch, rounds: int, generator: torch.Generator
) -> None:
    """A step of this project, as trainer.py makes it: an update for each of the corrective rounds."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    policy = StepPolicy(corrective_rounds=rounds)
    inputs = (batch.image, batch.mask, batch.box, batch.image_index)
    click_policy = policy.draw(generator)
    for loss in round_losses(model, *inputs, policy=policy, click_policy=click_policy, randomness=generator):
        loss.total.backward()
        gradients = Gradients(parameters)
        gradients.clip(1.0)
        gradients.update(optimizer.step)


def training_step(args: argparse.Namespace) -> Callable[[], object]:
    """One side's step on the same batch again and again; clicks differ from step to step."""
    batch, generator = synthetic_batch(args.images, args.masks, args.image_size), torch.Generator().manual_seed(0)
    model = seeded_model(args.only, args)
    if args.only == OURS:
        keep_freed_memory()  # as train.py does
        select_trainable(model, "adapter")
        factor_adapters(model)
        model.image_encoder.grad_checkpointing = args.grad_checkpointing
        optimizer = make_optimizer(model.train(), lr=1e-4, weight_decay=0.01)
        return lambda: fast_step(model, optimizer, batch, args.rounds, generator)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("image_encoder.") or ".Adapter." in name)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    inputs = (batch.image, batch.mask, batch.box)
    return lambda: published_step(model, optimizer, *inputs, rounds=args.rounds, generator=generator)


def train(args: argparse.Namespace) -> dict[str, float]:
    """Compare a training step with the published one: time and peak memory.

    Returns:
        {"seconds_per_image", "baseline_seconds_per_image", "ratio", "peak_gb"} of medians; a side's own process
        {"peak_gb"}.
    """
    if args.only:
        step = training_step(args)
        serve(lambda _: step())
        return {"peak_gb": peak_memory()}
    workers = {name: Worker(side) for name, side in same_command(args).items()}
    ms = interleaved({name: worker.ask for name, worker in workers.items()}, args.repeats)
    peak = {name: worker.finish()["peak_gb"] for name, worker in workers.items()}
    seconds = {name: value / 1e3 / args.images for name, value in ms.items()}
    for name, value in seconds.items():
        print(f"training step {name:>7}  {value:6.2f} s per image  peak {peak[name]:.2f} GB")
    return {
        "seconds_per_image": round(seconds[OURS], 3),
        "baseline_seconds_per_image": round(seconds[baseline(args)], 3),
        "ratio": round(seconds[baseline(args)] / seconds[OURS], 3),
        "peak_gb": round(peak[OURS], 3),
    }


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "train"."""
    parser.add_argument("--repeats", type=int, default=9, help="measured steps of each kind, after one to warm up")
    parser.add_argument("--images", type=int, default=2, help="images of a step")
    parser.add_argument("--masks", type=int, default=5, help="masks of each image")
    parser.add_argument("--rounds", type=int, default=8, help="corrective rounds of a step")
    parser.add_argument("--grad-checkpointing", action="store_true", help="our encoder computes its blocks twice")
    add_model_flags(parser)
