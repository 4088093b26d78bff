"""Say whether a data set in our JSON layout is sound: its maps, files, masks and splits.

    python scripts/check_dataset.py data_demo
    python scripts/check_dataset.py my_data other_data --image_size 512 --out workdir/check/both

Takes about 30 ms for a photograph of 512 pixels and a core. Looks at all maps of the folders together
(image2label_*.json and label2image_*.json of every split) and finds
- files that are missing, unreadable, cut off, of the wrong size or not binary, empty masks, wrong entries of maps,
  masks listed as photographs, several pages, brightness of a guessed depth, bright surrounds and margins, one mask for
  two structures;
- a photograph in two splits, also when it was resized, recompressed or brightened, and a patient in two splits
  (by index.csv with the columns image and patient or patient_or_image_id, else by the photographs' names);
- rows of index.csv without a photograph, headings and absent structures whose names are a slip, DICOM files that no
  map lists;
- masks that are inverted, flipped, turned, shifted (vessels by a pixel, too), outside the field of view, or where the
  photograph shows nothing of the kind (where this is uncertain, a warning; a fault where more than 2 % of the masks
  are concerned); optic cups outside their disc;
- structures that are lost or hardly seen at --image_size, and masks of less than a pixel there;
- how many masks of each structure a split has, and structures that are tested and not trained.

Prints a table, and writes to --out: check.json (everything), overlays.png (photographs with their masks, faulty ones
first) and sizes.png (how large the masks are in the model frame). The folders themselves are never written to.

Exit code: 0 sound (there may be warnings), 1 something is wrong, 2 the flags cannot work.
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
    parser.add_argument("folders", nargs="+", metavar="DIR", help="data set with JSON maps, as --data_path")
    parser.add_argument("--image_size", type=int, default=256, help="side of the model frame in pixels")
    parser.add_argument("--out", type=Path, help="folder for the results (default: workdir/check/<name of DIR>)")
    parser.add_argument("--num_workers", type=int, help="processes that read (default: one a core)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the sound photographs that are drawn")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0 for a sound data set, 1 for a faulty one."""
    from sam_med2d.dataset_checks.command import check_dataset  # takes seconds to import

    return check_dataset(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
