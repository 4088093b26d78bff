"""Measure fundus photographs by their masks: disc, cup and rim, vessels and their zones, lesions.

    python scripts/measure.py data_demo
    python scripts/measure.py data_demo --masks workdir/demo/structure_prompt   # of test.py --save_pred
    python scripts/measure.py my_photographs --masks my_masks --scale_csv scales.csv
    python scripts/measure.py my_photographs --predict

Takes about 0.3 s for a photograph of 512 pixels, 0.7 s with arteries and veins. DATA is a data set with JSON maps, or
a folder of photographs. The masks are those of the maps; with --masks those of a folder, by name: as `predict.py` and
`test.py --save_pred` write them, `<image>_<structure>_<nnn>.png`, or `<structure>/<image>.png`; with --predict those
that weights predict. Writes to --out: measurements.csv, a line for each photograph, and pictures/, where each
photograph shows what was measured.

A structure without a mask has empty cells; an empty mask counts as looked for and not found.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.choices import CUP, DISC
from sam_med2d.data.records import SPLITS
from sam_med2d.runtime.cli import add_bool, make_parser, run_main
from scripts import predict


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="data set with JSON maps, or a folder of photographs")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="folder of masks; default: those of the maps")
    text = "predict the masks, of all structures of these weights; without a file those of the shipped ones"
    parser.add_argument("--predict", nargs="?", const="", metavar="WEIGHTS", help=text)
    parser.add_argument("--split", choices=SPLITS, help="of the maps; default: all that DATA has")
    parser.add_argument("--out", type=Path, help="folder for the results (default: workdir/measure/<name of DATA>)")
    scale = parser.add_argument_group("scale (adds millimetres; without it that of DICOM files in index.csv)")
    text = "table with the columns image and mm_per_pixel or um_per_pixel, perhaps axial_length in mm"
    scale.add_argument("--scale_csv", type=Path, metavar="CSV", help=text)
    scale.add_argument("--mm_per_pixel", type=float, help="size of a pixel on the retina, of all photographs")
    text = "axial length of the eye for which scales are told; corrects them by axial_length of --scale_csv"
    scale.add_argument("--scale_axial_length", type=float, metavar="MM", help=text)
    parser.add_argument("--disc", default=DISC, metavar="NAME", help="the disc's name in the data")
    parser.add_argument("--cup", default=CUP, metavar="NAME", help="the cup's name in the data")
    add_bool(parser, "--largest", default=False, help="of disc and cup only the largest connected part counts")
    add_bool(parser, "--pictures", default=True, help="draw each photograph with its measurements")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0, or that of predict.py where --predict did not predict all."""
    from sam_med2d.measurement.command import measure_photographs, words_of_prediction  # takes a second to import

    if args.predict is not None and (code := predict.main(predict.parse_args(words_of_prediction(args)))):
        return code
    measure_photographs(args)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
