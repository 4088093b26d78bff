"""Turn a checkpoint of any layout into safe weights: a .safetensors file with tensors and metadata, nothing else.

    python scripts/convert_checkpoint.py sam_vit_b_01ec64.pth sam_vit_b.safetensors
    python scripts/convert_checkpoint.py --trust sam-med2d_b.pth sam-med2d_b.safetensors

Takes seconds. The published SAM-Med2D file also holds a pickled optimizer, which every loader here refuses:
unpickling can run any code that the file's author, or whoever changed it on the way, put in. `--trust` does it
once, keeps the weights alone, and the result is safe to pass on. Metadata is kept where the file has some.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from segment_anything.checkpoint import CheckpointError, read_checkpoint, save_weights

WARNING = """\
WARNING: --trust unpickles {path}.
         Unpickling can run ANY code hidden in the file, with your rights, on this computer.
         Go on only if you trust where the file comes from; a container without network is safer."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN", help="checkpoint: .pth, .pt, .safetensors or our folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="file to write, ending in .safetensors")
    parser.add_argument("--trust", action="store_true", help="unpickle objects too: runs any code in IN")
    return parser.parse_args(argv)


def convert(source: Path, target: Path, *, trust: bool) -> str:
    """Write the weights and metadata of `source` to `target`; returns what was done. Raises CheckpointError."""
    if target.suffix != ".safetensors":
        raise CheckpointError(f"OUT {target} must end in .safetensors.")
    checkpoint = read_checkpoint(source, trust=trust)
    if target.exists() and target.samefile(checkpoint.path):
        raise CheckpointError(f"OUT {target} is the input itself: give another name.")
    try:
        save_weights(target, checkpoint.state, checkpoint.metadata)
    except OSError as error:
        raise CheckpointError(f"OUT {target}: cannot write there ({error.strerror}).") from error
    adapters = "with adapters" if checkpoint.has_adapters else "without adapters"
    return f"{target}: {len(checkpoint.state)} tensors, {adapters}, {target.stat().st_size / 1e6:.1f} MB"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 after one message about bad input."""
    args = parse_args(argv)
    if args.trust:
        print(WARNING.format(path=args.source), file=sys.stderr, flush=True)
    try:
        print(convert(args.source, args.target, trust=args.trust))
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
