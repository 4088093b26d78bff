"""Write a data set in our JSON maps, or predictions, in the files of another tool.

    python scripts/export_annotations.py data_demo data_demo/coco.json --format coco
    python scripts/export_annotations.py data_demo workdir/qupath --format geojson --split test
    python scripts/export_annotations.py workdir/predictions workdir/qupath --format geojson    # to be corrected there

Takes about 20 ms for a mask of 4 million pixels. OUT appears when it is complete. What a format cannot hold exactly is
told as the Dice of each structure. `scripts/prepare_dataset.py FORMAT OUT DIR` reads most formats back; see
docs/reference/formats.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.annotation_export.arguments import add_source
from sam_med2d.annotation_export.formats import EXPORTS
from sam_med2d.runtime.cli import make_parser, run_main


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_source(parser, out="file or folder to make")
    kinds = "; ".join(f"{form.name}: {form.title}" for form in EXPORTS.values())
    parser.add_argument("--format", required=True, choices=tuple(EXPORTS), help=kinds)
    own = parser.add_argument_group("flags of one format")
    for flag, settings in {flag: words for form in EXPORTS.values() for flag, words in form.flags.items()}.items():
        users = ", ".join(form.name for form in EXPORTS.values() if flag in form.flags)
        own.add_argument(flag, **{**settings, "help": f"{users}: {settings['help']}"})
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from sam_med2d.annotation_export.command import export_annotations  # takes a second to import

    return export_annotations(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
