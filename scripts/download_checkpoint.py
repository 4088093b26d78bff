"""Download a public checkpoint; resumed where it was interrupted, under its name only when its hash is right.

    python scripts/download_checkpoint.py --list
    python scripts/download_checkpoint.py sam_vit_b --out pretrain_model
    python scripts/download_checkpoint.py sam-med2d_b --hub
    python scripts/download_checkpoint.py https://example.org/weights.safetensors --sha256 <64 digits>

Takes as long as the network needs for 0.4 GB (vit_b) to 2.6 GB (vit_h). Where no hash is known, the file's own is
printed: write it down, and give it with --sha256 the next time. Exit code 2 where the file cannot be had.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.runtime.cli import make_parser, run_main
from sam_med2d.runtime.download import download, from_hub
from sam_med2d.runtime.public_checkpoints import SOURCES, find_source, sources_table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("name", nargs="?", help=f"{', '.join(SOURCES)}, or an address (https://...)")
    parser.add_argument("--out", type=Path, default=Path("pretrain_model"), help="folder to download to")
    parser.add_argument("--sha256", help="hash that the file must have, where the table has none")
    parser.add_argument("--hub", action="store_true", help="use the package huggingface_hub")
    parser.add_argument("--list", action="store_true", help="print the known files and end")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 for a download that was interrupted and can go on."""
    if args.list:
        print(sources_table())
        return 0
    try:
        source = find_source(args.name, args.sha256)
        path, found = (from_hub if args.hub else download)(source, args.out)
    except KeyboardInterrupt:
        print("interrupted; what came so far is kept: the same command goes on", file=sys.stderr)
        return 130
    state = "as expected" if source.sha256 else "not known before: write it down and give it with --sha256 next time"
    print(f"{path}: {path.stat().st_size} bytes\nsha256 {found} ({state})")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
