"""Masks of a folder of photographs, for structure prompts, boxes or clicks; each photograph is encoded once.

    python scripts/predict.py photographs/ --structures all --out workdir/predictions
    python scripts/predict.py eye.jpg --box 210 180 330 300 --sam_checkpoint workdir/models/demo/best
    python scripts/predict.py "clinic/*.png" --boxes_csv detections.csv --embedding_cache ~/.cache/sam --cache_gb 20
    torchrun --nproc_per_node 2 scripts/predict.py photographs/ --structures optic_disc optic_cup

About 4.5 photographs of 512 pixels a second on two CPU cores with vit_t at 256 px. Writes to --out: masks/ (PNG of
one bit, of the photograph's size), overlays/, coco.json and predictions.csv, which has a line for each mask and each
photograph without one; with --dicom_seg also dicom_seg/. Started again, the same command does what is missing.

Exit code: 0 all done, 1 some photographs could not be predicted (they are named), 2 the flags cannot work, 130
interrupted.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.choices import PROMPT_FRAMES
from sam_med2d.data.photographs import add_max_pixels, add_page, check_max_pixels
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import add_bool, add_device, make_parser, run_main
from sam_med2d.runtime.model_flags import add_model_flags, add_multimask


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="photographs, folders, or patterns in quotes")
    parser.add_argument("--out", type=Path, default=Path("workdir/predictions"), help="folder for the results")
    prompts = parser.add_argument_group("prompts (one kind; positions are pixels of the photograph, x before y)")
    prompts.add_argument("--structures", nargs="+", metavar="NAME", help="structure prompts; all: those of the weights")
    edges, place = {"nargs": 4, "metavar": ("X0", "Y0", "X1", "Y1")}, {"nargs": 2, "metavar": ("X", "Y")}
    prompts.add_argument("--box", type=float, action="append", help="edges, half-open; repeatable", **edges)
    prompts.add_argument("--point", type=float, action="append", help="inside the object; repeatable", **place)
    prompts.add_argument("--background", type=float, action="append", help="outside the object; repeatable", **place)
    prompts.add_argument("--label", default="object", help="what --box or --point is called")
    prompts.add_argument(
        "--boxes_csv", type=Path, metavar="CSV", help="of a detector; columns image, x0, y0, x1, y1 [, label, score]"
    )
    prompts.add_argument("--prompt_path", type=Path, metavar="JSON", help="prompt file, as test.py writes it")
    prompts.add_argument(
        "--prompt_frame", choices=PROMPT_FRAMES, default="model", help="pixels that --prompt_path is in"
    )
    add_bool(prompts, "--zoom", default=False, help="repeat each prompt in a window around its box or first mask")
    add_bool(prompts, "--tiles", default=False, help="blend --structures with windows all over the photograph")
    add_bool(prompts, "--mirror", default=False, help="average --structures over three mirror images, too")
    add_multimask(add_model_flags(parser))
    run = parser.add_argument_group("run")
    add_device(run)
    add_bool(run, "--use_amp", default=False, help="bfloat16 autocast, float16 where a GPU has no bfloat16")
    run.add_argument("--num_workers", type=int, help="photographs at a time, less one (default: cores - 1, 1 to 8)")
    add_max_pixels(run)
    add_page(run)
    add_bool(run, "--overlays", default=True, help="also draw the outlines on the photographs")
    text = "photographs are DICOM files: also write a DICOM segmentation of each, with the patient's identity"
    add_bool(run, "--dicom_seg", default=False, help=text)
    text = "COCO file whose ids of images and categories coco.json takes, to be compared with it"
    run.add_argument("--coco_gt", type=Path, metavar="FILE", help=text)
    text = "keep image embeddings there, so that a second run need not encode"
    run.add_argument("--embedding_cache", type=Path, metavar="DIR", help=text)
    run.add_argument("--cache_gb", type=float, default=10.0, help="size of the cache at most, in GB")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Refuse values of predict.py's flags that cannot work, before anything is read; the UsageError names them."""
    kinds = {
        "--structures": args.structures,
        "--box, --point": args.box or args.point or args.background,
        "--boxes_csv": args.boxes_csv,
        "--prompt_path": args.prompt_path,
    }
    given = [name for name, value in kinds.items() if value]
    if not given:
        raise UsageError(f"no prompt: say what to segment with one of {'; '.join(kinds)}.")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: give one kind of prompts in a run.")
    if args.tiles and not args.structures:
        raise UsageError(f"--tiles answers --structures, not {given[0]}: leave it out, or use --zoom.")
    if args.mirror and not args.structures:
        raise UsageError(f"--mirror answers --structures, not {given[0]}: leave it out.")
    check_max_pixels(args.max_pixels)
    if not 0 < args.cache_gb < math.inf:
        raise UsageError(f"--cache_gb {args.cache_gb}: give more than 0, and no more than the disk holds.")


def main(args: argparse.Namespace) -> int:
    """Exit code 0, 1 where photographs could not be predicted, or 130 for a run that was interrupted."""
    check_args(args)
    from sam_med2d.inference.command import predict  # PyTorch takes seconds to import

    return predict(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
