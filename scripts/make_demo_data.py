"""Make the small data set in data_demo/: synthetic fundus photographs with exact masks.

    python scripts/make_demo_data.py

Takes about 5 seconds on a CPU. Result: data_demo/images/*.jpg, data_demo/masks/*.png and the three JSON maps,
about 0.5 MB. A second run writes the same bytes. Files of an earlier run with another --count stay in the
folder; the maps list only this run's pictures, and the real photograph `retina` where it is there.

    python scripts/make_demo_data.py --retina

also makes that real photograph again; this alone needs scikit-image.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.runtime.cli import make_parser, run_main


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("data_demo"), help="folder to write into")
    parser.add_argument("--count", type=int, default=11, help="number of synthetic photographs")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other eyes")
    parser.add_argument("--size", type=int, default=448, help="typical side in pixels")
    parser.add_argument("--retina", action="store_true", help="also make the real photograph (scikit-image)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from sam_med2d.data.demo_dataset import write_dataset  # takes a second to import

    maps = write_dataset(args.out, count=args.count, seed=args.seed, size=args.size, with_retina=args.retina)
    counts = ", ".join(f"{len(photographs)} {split}" for split, photographs in maps.items())
    print(f"{args.out}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
