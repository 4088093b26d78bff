"""Masks of everything in photographs, without prompts: Segment Anything's command, with its flags and files.

    python scripts/amg.py --input data_demo/images --output workdir/amg --checkpoint workdir/models/demo/best \\
        --model-type vit_t --points-per-side 16 --pred-iou-thresh 0.7 --stability-score-thresh 0.8

Takes seconds for a photograph of 512 pixels with a small model on a CPU. Writes for each photograph a folder
<output>/<name>/ with 0.png, 1.png, ... (0 and 255), the highest predicted IoU first, and metadata.csv with a line for
each; or with --convert-to-rle the file <output>/<name>.json, whose RLEs pycocotools reads.

The thresholds' defaults are those for Segment Anything's largest model; smaller ones predict lower scores. Lower both
thresholds where nothing is found.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.data.photographs import add_max_pixels, add_page, check_max_pixels
from sam_med2d.runtime.cli import add_device, both_spellings, make_parser, parse_and_note_given, run_main
from sam_med2d.runtime.model_flags import add_model_flags

SETTINGS = {  # of SamAutomaticMaskGenerator, whose defaults are in parentheses
    "points_per_side": (int, "clicks along each side of the photograph (32)"),
    "points_per_batch": (int, "clicks that are decoded together (64)"),
    "pred_iou_thresh": (float, "a mask has a higher predicted IoU than this; 0 keeps all (0.88)"),
    "stability_score_thresh": (float, "a mask has at least this stability score; 0 keeps all (0.95)"),
    "stability_score_offset": (float, "by how much the logits' threshold is moved for the stability score (1.0)"),
    "box_nms_thresh": (float, "IoU of two masks' boxes above which the worse one is dropped (0.7)"),
    "crop_n_layers": (int, "also encode 2 x 2, 4 x 4, ... crops, this many times (0)"),
    "crop_nms_thresh": (float, "as --box-nms-thresh, between crops (0.7)"),
    "crop_overlap_ratio": (float, "overlap of the crops of the first layer, in shares of the shorter side (0.341)"),
    "crop_n_points_downscale_factor": (int, "each layer of crops has this many times fewer clicks a side (1)"),
    "min_mask_region_area": (int, "smaller holes are filled, smaller islands dropped; in pixels (0)"),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="a photograph, or a folder of them")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    text = "one JSON file of COCO's run lengths for each photograph, no PNGs"
    parser.add_argument(*both_spellings("--convert_to_rle"), action="store_true", help=text)
    add_max_pixels(parser)
    add_page(parser)
    model = add_model_flags(parser, weights_required=True, model_type="vit_b")
    add_device(model)
    settings = parser.add_argument_group("masks (default)")
    for name, (kind, what) in SETTINGS.items():
        settings.add_argument(*both_spellings(f"--{name}"), type=kind, help=what)
    return parse_and_note_given(parser, argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0, or 1 where photographs could not be read."""
    check_max_pixels(args.max_pixels)
    from sam_med2d.inference.automatic_masks import write_automatic_masks  # PyTorch takes seconds to import

    return write_automatic_masks(args, {name: value for name in SETTINGS if (value := getattr(args, name)) is not None})


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
