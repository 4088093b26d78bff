"""What other networks reach by structure on the same photographs, the same frames and the same steps."""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.structure_scores import structure_scores
from benchmarks.unet import UNetSam
from sam_med2d.data.augmentation import Augmentation
from sam_med2d.data.dataset import Batch, FundusDataset, make_loader
from sam_med2d.data.records import Record, complete, load_folders, structures_in
from sam_med2d.data.samplers import EpochBatches, structure_weights
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import add_bool, add_complete
from sam_med2d.runtime.devices import drop_slow_amp
from sam_med2d.training.losses import segmentation_losses
from sam_med2d.training.optimizer import WeightAverage, learning_rate_factor
from sam_med2d.training.pyramid_weights import read_pyramid_weights
from segment_anything.checkpoint import save_raw
from segment_anything.checkpoint_pickles import unpickle_tensors

BATCH, WARMUP, DECAY, CLIP = 8, 50, 0.99, 1.0
SHOWN = 20  # steps between two lines


def add_peers_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "peers"."""
    parser.add_argument("--data_path", nargs="+", required=True, help="folders with maps of train, val and test")
    add_complete(parser)
    parser.add_argument("--steps", type=int, default=697, help="of eight photographs")
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate (AdamW, cosine)")
    parser.add_argument("--image_size", type=int, default=256, help="input side in pixels")
    add_bool(parser, "--use_amp", default=True, help="as of train.py")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="photographs to score")
    parser.add_argument("--pyramid_weights", metavar="FILE", help="as of train.py")
    parser.add_argument("--weights", type=Path, help="file for the trained weights; one that exists is used as it is")


def peers(args: argparse.Namespace) -> dict[str, float]:
    """Train a U-Net on EfficientNet-Lite0 and score it by structure.

    Returns:
        {structure: mean Dice}, "all" of all masks, and "seconds" of its training.
    """
    drop_slow_amp(args, torch.device("cpu"))
    train, scored = (_records(args, split) for split in ("train", args.split))
    structures = sorted(structures_in(train))
    torch.manual_seed(0)
    model = UNetSam(structures, args.image_size)
    seconds = 0.0
    if args.weights and args.weights.exists():
        model.unet.load_state_dict(unpickle_tensors(args.weights))
    else:
        model.unet.encoder.load_state_dict(read_pyramid_weights(args.pyramid_weights))
        seconds = _train(args, model, [record for record in train if record.masks])
        if args.weights:
            save_raw(args.weights, model.unet.state_dict())
    return structure_scores(model.eval(), scored, args.threads) | {"seconds": seconds}


def _records(args: argparse.Namespace, split: str) -> list[Record]:
    records = complete(load_folders(args.data_path, split), args.complete)
    if not records:
        raise UsageError(f"--data_path {' '.join(args.data_path)}: no photographs of {split}.")
    return records


def _train(args: argparse.Namespace, model: UNetSam, records: list[Record]) -> float:
    """Train the U-Net in place, and leave it with its averaged weights: the seconds that it took."""
    names = model.prompt_encoder.structures
    options = {"structures": names, "every_absent": True, "drop_vanished": True}
    dataset = FundusDataset(records, model.preprocessing, augmentation=Augmentation(model.preprocessing), **options)
    weights = structure_weights([[mask.structure for mask in record.masks] for record in records])
    batches = EpochBatches(len(records), BATCH, seed=0, weights=weights)
    loader = make_loader(dataset, num_workers=1, batches=batches)
    optimizer = torch.optim.AdamW(model.unet.parameters(), lr=args.lr)
    average = WeightAverage(model.unet, DECAY)
    model.train()
    began, step, epoch = time.perf_counter(), 0, 0
    while step < args.steps:
        batches.set_position(epoch, skip=0)
        for batch in loader:
            rate = args.lr * learning_rate_factor(step, args.steps, warmup=WARMUP, schedule="cosine")
            loss = _step(model, batch, optimizer, rate, use_amp=args.use_amp)
            step += 1
            average.update(step)
            if step % SHOWN == 0:
                print(f"step {step}: loss {loss:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
            if step == args.steps:
                break
        epoch += 1
    model.unet.load_state_dict(model.unet.state_dict() | average.values)
    return time.perf_counter() - began


def _step(model: UNetSam, batch: Batch, optimizer: torch.optim.Optimizer, rate: float, *, use_amp: bool) -> float:
    """An update at a learning rate, by cross entropy and Dice of each mask: the loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    names = model.prompt_encoder.structures
    structure = torch.tensor([names.index(ref.structure) for ref in batch.refs])
    with torch.autocast("cpu", torch.bfloat16, enabled=use_amp):
        logits = model.unet(batch.image)
    own: Tensor = logits.float()[batch.image_index, structure][:, None]
    pixel, dice = segmentation_losses(own, batch.mask.float(), kind="bce")
    loss = (pixel + dice).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.unet.parameters(), CLIP)
    optimizer.step()
    return loss.item()
