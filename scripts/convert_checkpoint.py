"""Turn a checkpoint of any layout into safe weights: a .safetensors file with tensors and metadata, nothing else.

    python scripts/convert_checkpoint.py sam_vit_b_01ec64.pth sam_vit_b.safetensors
    python scripts/convert_checkpoint.py --trust sam-med2d_b.pth sam-med2d_b.safetensors
    python scripts/convert_checkpoint.py sam_vit_b.safetensors sam_vit_b_hf --to huggingface
    python scripts/convert_checkpoint.py sam_vit_b_hf sam_vit_b.safetensors
    python scripts/convert_checkpoint.py best small.safetensors --to adapters --base sam_vit_b_01ec64.pth
    python scripts/convert_checkpoint.py small.safetensors whole.safetensors --base sam_vit_b_01ec64.pth
    python scripts/convert_checkpoint.py workdir/models/mine/best mine.safetensors --half

Takes seconds. The published SAM-Med2D file also holds a pickled optimizer, which every loader here refuses:
unpickling can run any code that the file's author, or whoever changed it on the way, put in. `--trust` does it
once, keeps the weights alone, and the result is safe to pass on. Metadata is kept where the file has some.

--to huggingface writes a folder for transformers' SamModel.from_pretrained; what SamModel has no place for (adapters,
structures, detail head, metadata) is named and kept in a second file there. Such folders and files are read as IN.
--to adapters writes what is not in --base to the bit (adapters, decoder, prompt encoder); IN of that kind with its
--base gives the whole checkpoint again, to the bit.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from segment_anything.checkpoint import (
    BASE,
    WEIGHTS_NAME,
    Checkpoint,
    CheckpointError,
    listing,
    read_tensors,
    save_weights,
)
from segment_anything.checkpoint_conversion import EXTRA_NAME, merge, read_any, save_hub, split
from segment_anything.modeling.mask_decoder import MASK_RULES

TARGETS = ("safetensors", "huggingface", "adapters")
WARNING = """\
WARNING: --trust unpickles {path}.
         Unpickling can run ANY code hidden in the file, with your rights, on this computer.
         Go on only if you trust where the file comes from; a container without network is safer."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN", help="checkpoint: .pth, .pt, .safetensors or a folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="file to write, ending in .safetensors; or a folder")
    parser.add_argument("--trust", action="store_true", help="unpickle objects too: runs any code in IN")
    parser.add_argument("--to", choices=TARGETS, default="safetensors", help="what to write (default: safetensors)")
    parser.add_argument("--base", type=Path, metavar="FILE", help="weights that IN was trained from, such as SAM's")
    parser.add_argument("--half", action="store_true", help="store numbers in 16 bits: half the size, for passing on")
    parser.add_argument("--mask_rule", choices=MASK_RULES, help="where masks begin from now on, see train.py --help")
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> str:
    """Write what `args` ask for; returns what was done. Raises CheckpointError."""
    if args.to != "huggingface" and args.target.suffix != ".safetensors":
        raise CheckpointError(f"OUT {args.target} must end in .safetensors.")
    for flag in ("half", "mask_rule"):
        if getattr(args, flag) and args.to != "safetensors":
            raise CheckpointError(f"--{flag} goes with --to safetensors, not with --to {args.to}.")
    if args.to == "huggingface" and (args.target.suffix == ".safetensors" or args.target.is_file()):
        raise CheckpointError(f"OUT {args.target}: --to huggingface writes a folder.")
    checkpoint = read(args)
    _refuse_input(args.target, checkpoint.path, args.base)
    try:
        return write(args, checkpoint)
    except OSError as error:
        raise CheckpointError(f"OUT {args.target}: cannot write there ({error.strerror}).") from error


def read(args: argparse.Namespace) -> Checkpoint:
    """IN, merged with --base where it is what was trained on it."""
    found = read_tensors(args.source, trust=args.trust, flag="IN")
    if BASE in found.metadata:
        if not args.base:
            raise CheckpointError(f"{found.path} was trained on a base and lacks it: give it with --base.")
        return merge(found, read_any(args.base, flag="--base"))
    if args.base and args.to != "adapters":
        raise CheckpointError(f"--base {args.base}: {found.path} is whole; --base goes with --to adapters.")
    return read_any(args.source, trust=args.trust, flag="IN")


def write(args: argparse.Namespace, checkpoint: Checkpoint) -> str:
    if args.to == "huggingface":
        lines = [f"note: SamModel cannot hold {what}" for what in save_hub(args.target, checkpoint)]
        kept = [f"note: kept in {args.target / EXTRA_NAME}, which SamModel does not read"] * bool(lines)
        return "\n".join([*lines, *kept, f"{args.target}: for transformers' SamModel.from_pretrained"])
    state, metadata = checkpoint.state, checkpoint.metadata
    if args.to == "adapters":
        if not args.base:
            raise CheckpointError("--to adapters: give the weights that IN was trained from with --base.")
        state, metadata = split(checkpoint, read_any(args.base, flag="--base"))
    metadata = metadata | ({"mask_rule": args.mask_rule} if args.mask_rule else {})
    save_weights(args.target, in_half(state) if args.half else state, metadata)
    adapters = "with adapters" if checkpoint.has_adapters else "without adapters"
    size = f"{args.target.stat().st_size / 1e6:.1f} MB"
    whole = f" of {len(checkpoint.state)}; the rest is in {args.base}" if args.to == "adapters" else ""
    return f"{args.target}: {len(state)} tensors{whole}, {adapters}, {size}"


def in_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with float32 as float16. Raises CheckpointError for a number that float16 cannot hold."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 after one message about bad input."""
    args = parse_args(argv)
    if args.trust:
        print(WARNING.format(path=args.source), file=sys.stderr, flush=True)
    try:
        print(convert(args))
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
