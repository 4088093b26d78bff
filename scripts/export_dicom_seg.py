"""Write masks of DICOM photographs, of a data set or of predictions, as DICOM segmentations.

    python scripts/export_dicom_seg.py workdir/predictions workdir/seg
    python scripts/export_dicom_seg.py data/ours workdir/seg --dicom clinic --salt_file salt.txt --algorithm_type MANUAL

One file a photograph, with a segment for each structure, and with the patient's identity. A photograph is a DICOM
file, or has the name of one below --dicom, or the name that `scripts/prepare_dataset.py dicom` made with --salt_file.
OUT appears when it is complete. See docs/how-to/exchange.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.annotation_export.arguments import add_source
from sam_med2d.choices import ALGORITHM_TYPES
from sam_med2d.runtime.cli import make_parser, run_main


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_source(parser, out="folder to make")
    text = "folder of the DICOM files that the photographs were made from; default: they are DICOM files"
    parser.add_argument("--dicom", type=Path, metavar="DIR", help=text)
    parser.add_argument("--salt_file", metavar="FILE", help="as prepare_dataset.py dicom was given it")
    made = parser.add_argument_group("how the masks were made (default: as predict.py did)")
    text = "by a program, by one with a person's clicks or boxes, or by a person"
    made.add_argument("--algorithm_type", choices=ALGORITHM_TYPES, help=text)
    made.add_argument("--algorithm_name", metavar="TEXT", help="of the program, or of its weights")
    made.add_argument("--algorithm_version", metavar="TEXT", help="of it; default: a digest of the weights")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from sam_med2d.annotation_export.dicom_seg import export_dicom_seg  # takes a second to import

    return export_dicom_seg(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
