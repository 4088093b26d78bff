"""Write a data set in our JSON maps as a COCO file, for annotation programs and other projects.

    python scripts/export_coco.py data_demo data_demo/coco.json
    python scripts/export_coco.py data_demo data_demo/test.json --split test --polygons

Takes about 20 ms for a mask of 4 million pixels. Each mask is one annotation, each structure a category. Masks are
run-length encoded, or with --polygons outlined along their pixels' sides; both are exact, and
`scripts/prepare_dataset.py coco OUT.json DIR` reads them back. Splits go into the images' own field "split".
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.data.records import SPLITS
from sam_med2d.runtime.cli import add_bool, make_parser, run_main


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("data", type=Path, metavar="DIR", help="data set: a folder with JSON maps")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write, ending in .json")
    parser.add_argument("--split", choices=SPLITS, help="default: all that DIR has")
    add_bool(parser, "--polygons", default=False, help="outlines instead of run lengths")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from sam_med2d.dataset_conversion.formats.coco_export import write_coco  # takes a second to import

    write_coco(args)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
