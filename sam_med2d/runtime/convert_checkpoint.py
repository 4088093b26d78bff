"""What scripts/convert_checkpoint.py does: a checkpoint of any layout becomes safe weights, or another layout."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from segment_anything.checkpoint import (
    BASE,
    WEIGHTS_NAME,
    Checkpoint,
    CheckpointError,
    listing,
    read_tensors,
    save_raw,
    save_weights,
)
from segment_anything.checkpoint_conversion import (
    EXTRA_NAME,
    PROCESSOR_NAME,
    merge,
    read_any,
    save_hub,
    split,
    under_own_names,
)
from segment_anything.checkpoint_losses import losses, sam_state


def convert(args: argparse.Namespace) -> str:
    """Read IN, and write OUT, as the flags say: what was done, in lines. Raises CheckpointError for what cannot be."""
    if args.to == "sam" and args.target.suffix != ".pth":
        raise CheckpointError(f"OUT {args.target}: --to sam writes a state dict, the name must end in .pth.")
    if args.to not in ("huggingface", "sam") and args.target.suffix != ".safetensors":
        pth = " (--to sam writes a .pth for other programs)" * (args.target.suffix in (".pth", ".pt"))
        raise CheckpointError(f"OUT {args.target} must end in .safetensors{pth}.")
    for flag in ("half", "mask_rule", "multimask", "pixel_scale"):
        if getattr(args, flag) is not None and args.to != "safetensors":
            raise CheckpointError(f"--{flag} goes with --to safetensors, not with --to {args.to}.")
    if args.to == "huggingface" and (args.target.suffix == ".safetensors" or args.target.is_file()):
        raise CheckpointError(f"OUT {args.target}: --to huggingface writes a folder.")
    checkpoint = _read(args)
    _refuse_input(args.target, checkpoint.path, args.base)
    try:
        return _write(args, checkpoint)
    except OSError as error:
        raise CheckpointError(f"OUT {args.target}: cannot write there ({error.strerror}).") from error


def _read(args: argparse.Namespace) -> Checkpoint:
    """IN, merged with --base where it is what was trained on it."""
    found = read_tensors(args.source, trust=args.trust, flag="IN", entry=args.entry)
    if BASE in found.metadata:
        if not args.base:
            raise CheckpointError(f"{found.path} was trained on a base and lacks it: give it with --base.")
        return merge(found, read_any(args.base, flag="--base"))
    if args.base and args.to != "adapters":
        raise CheckpointError(f"--base {args.base}: {found.path} is whole; --base goes with --to adapters.")
    return under_own_names(found)


def _write(args: argparse.Namespace, checkpoint: Checkpoint) -> str:
    """Write the checkpoint as --to says; what was done."""
    if args.to == "huggingface":
        return _write_hub(args.target, checkpoint)
    if args.to == "sam":
        return _write_sam(args.target, checkpoint)
    state, metadata = checkpoint.state, checkpoint.metadata
    if args.to == "adapters":
        if not args.base:
            raise CheckpointError("--to adapters: give the weights that IN was trained from with --base.")
        state, metadata = split(checkpoint, read_any(args.base, flag="--base"))
    chosen = {name: getattr(args, name) for name in ("mask_rule", "multimask")}
    metadata = metadata | {name: value for name, value in chosen.items() if value is not None}
    if args.pixel_scale:
        rule = checkpoint.preprocessing(checkpoint.image_size)[0].overridden(pixel_scale=args.pixel_scale)
        metadata = metadata | {"preprocessing": rule.as_dict()}
    save_weights(args.target, _in_half(state) if args.half else state, metadata)
    adapters = "with adapters" if checkpoint.has_adapters else "without adapters"
    whole = f" of {len(checkpoint.state)}; the rest is in {args.base}" if args.to == "adapters" else ""
    taken = f" ({checkpoint.note})" if checkpoint.note else ""
    return f"{args.target}: {len(state)} tensors{whole}{taken}, {adapters}, {_megabytes(args.target)}"


def _write_hub(folder: Path, checkpoint: Checkpoint) -> str:
    """Write the folder of --to huggingface; what was done."""
    lines = [f"note: SamModel cannot hold {what}" for what in save_hub(folder, checkpoint)]
    lines += [f"note: kept in {folder / EXTRA_NAME}, which SamModel does not read"] * bool(lines)
    if not (folder / PROCESSOR_NAME).exists():
        lines.append(f"note: no {PROCESSOR_NAME}: SamProcessor cannot give the colours that these weights expect")
    _warn(checkpoint, "SamModel")
    return "\n".join([*lines, f"{folder}: for transformers' SamModel.from_pretrained"])


def _write_sam(target: Path, checkpoint: Checkpoint) -> str:
    """Write the file of --to sam; what was done."""
    state, lines = sam_state(checkpoint)
    save_raw(target, state)
    _warn(checkpoint, "another program", adapters=True)
    return "\n".join([*lines, f"{target}: {len(state)} tensors, {_megabytes(target)}"])


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _warn(checkpoint: Checkpoint, program: str, **places: bool) -> None:
    """Print why a program's masks are not those of the weights here."""
    for reason in losses(checkpoint, program, **places):
        print(f"WARNING: {reason}", file=sys.stderr, flush=True)


def _in_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with float32 as float16; CheckpointError for a number that float16 cannot hold."""
    found = {key: value.half() if value.dtype == torch.float32 else value for key, value in state.items()}
    large = [key for key, value in found.items() if not value.isfinite().all()]
    if large:
        raise CheckpointError(f"--half: {listing(large)} has numbers that 16 bits cannot hold: leave --half out.")
    return found


def _refuse_input(target: Path, *sources: Path | None) -> None:
    """Raise CheckpointError where the target is one of the files that are read."""
    for source in filter(None, sources):
        places = [target, target / WEIGHTS_NAME] if target.is_dir() else [target]
        if any(place.exists() and place.samefile(source) for place in places):
            raise CheckpointError(f"OUT {target} is the input itself: give another name.")
