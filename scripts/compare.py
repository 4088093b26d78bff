"""Compare two runs of test.py mask by mask: what the second one gained over the first, with 95 % intervals.

    python scripts/compare.py workdir/before workdir/after
    python scripts/compare.py workdir/before workdir/after --metric hd95 --out workdir/comparison

Takes seconds, for a million cases a quarter of a minute. Prints a table of the differences by structure and prompt,
and writes compare.md, compare.json and compare.png to --out, by default workdir/after/compare_before.

A case of one run is paired with that of the other run with the same data set, mask and prompt. The bootstrap
resamples photographs with all their pairs (sam_med2d/evaluation/bootstrap.py), so that what is hard in both runs
cancels out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.choices import METRICS
from sam_med2d.runtime.cli import make_parser, run_main


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN", help="result folders of test.py: before, after")
    parser.add_argument("--metric", default="dice", help=f"one that both runs have, of {', '.join(METRICS)}")
    parser.add_argument("--out", type=Path, help="default: a folder compare_<name of the first run> in the second")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from sam_med2d.evaluation.comparison_report import write_comparison  # takes seconds to import

    write_comparison(tuple(args.runs), args.metric, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
