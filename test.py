"""Test a checkpoint: Dice and IoU for a box and for 1, 3 and 5 clicks, from one encoding of each image.

    python test.py --data_path data_demo --sam_checkpoint workdir/models/demo/best

On two CPU cores about 13 images a second with vit_t at 256 px. Writes report.md, summary.json, cases.csv and pictures
to <work_dir>/<run_name>/, and the prompts that were used to <work_dir>/<S>_prompt.json.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from sam_med2d.choices import METRICS, REGIONS
from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import add_bool, add_complete, add_device, make_parser, parse_and_note_given, run_main
from sam_med2d.runtime.model_flags import add_encoder_adapter, add_mask_rule, add_model_flags, add_multimask
from segment_anything.choices import LARGE, TILE_SHARE


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_path", nargs="+", default="data_demo", help="folder of label2image_test.json; several give a table"
    )
    data.add_argument("--work_dir", default="workdir", help="folder for the results")
    data.add_argument("--run_name", default="sammed", help="folder of this run inside work_dir; also its table name")
    data.add_argument("--num_workers", type=int, help="processes that read photographs; default: cores - 1, 8 at most")
    model = add_model_flags(parser, model_type="vit_b", image_size=256)
    add_encoder_adapter(model, default=True)
    add_multimask(model, default=True)
    add_mask_rule(model)
    add_complete(data)
    _add_refinement_flags(parser)
    prompts = parser.add_argument_group("prompts (default: box, 1, 3 and 5 points in one run)")
    prompts.add_argument("--prompts", nargs="+", metavar="P", help="columns: box, structure, numbers of points")
    add_bool(prompts, "--boxes_prompt", default=True, help="one column, as SAM-Med2D: the box, or the points")
    prompts.add_argument("--point_num", type=int, default=1, help="points of the first round")
    prompts.add_argument("--iter_point", type=int, default=1, help="rounds of points")
    prompts.add_argument("--prompt_path", type=Path, help="take the boxes and first points of this file")
    run = parser.add_argument_group("run")
    run.add_argument("--metrics", nargs="+", default=["iou", "dice"], help=f"of: {', '.join(METRICS)}")
    text = "pixels that count for all metrics; default: field_of_view for auc and aupr, photograph for the others"
    run.add_argument("--region", choices=REGIONS, help=text)
    add_bool(run, "--ceiling", default=True, help="also the best Dice that the model's grid of logits can hold")
    run.add_argument("--nsd_tolerance", type=float, default=2.0, help="pixels, for nsd and nsd_length")
    run.add_argument("--batch_size", type=int, default=1, help="photographs in a batch")
    add_device(run)
    run.add_argument("--seed", type=int, default=0, help="of the clicks")
    add_bool(run, "--use_amp", default=False, help="bfloat16 autocast, float16 where a GPU has no bfloat16")
    add_bool(run, "--compile", default=False, help="compile the image encoder first; pays on many photographs")
    add_bool(run, "--save_pred", default=False, help="write 0/255 masks at original size")
    add_bool(run, "--save_prob", default=False, help="write probabilities as 16-bit PNG, 65535 for 1")
    add_bool(run, "--resume", default=False, help="go on with an unfinished run of this name, if there is one")
    return parse_and_note_given(parser, argv)


def _add_refinement_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of predictions from several views of a photograph."""
    windows = parser.add_argument_group("test-time refinement")
    add_bool(windows, "--mirror", default=False, help="refine the column structure: mean over three mirror images, too")
    add_bool(windows, "--zoom", default=False, help="refine each column: repeat the prompt in a window around it")
    text = "refine the column structure: blend with windows all over the photograph"
    add_bool(windows, "--tiles", default=False, help=text)
    text = "side of a window in shares of the field of view's longer side"
    windows.add_argument("--tile_share", type=float, default=TILE_SHARE, help=text)
    windows.add_argument("--tile_side", type=int, help="the same in pixels of the photograph, instead of --tile_share")
    windows.add_argument("--tile_overlap", type=float, default=0.25, help="least share of a side that neighbours share")
    shares = " ".join(f"{name}={share:g}" for name, share in LARGE.items())
    windows.add_argument(
        "--tile_whole",
        nargs="+",
        default=["0.5", *shares.split()],
        metavar="[NAME=]W",
        help="weight of the whole photograph's prediction beside the windows', 0 to 1, of all or of one structure; "
        "1: no windows",
    )


def check_args(args: argparse.Namespace) -> None:
    """Refuse values of test.py's flags that cannot work (UsageError); a metric that is given twice counts once."""
    unknown = [name for name in args.metrics if name not in METRICS]
    if unknown:
        raise UsageError(f"--metrics {' '.join(unknown)}: choose from {', '.join(METRICS)}.")
    args.metrics = list(dict.fromkeys(args.metrics))
    if not (math.isfinite(args.nsd_tolerance) and args.nsd_tolerance >= 0):
        raise UsageError(f"--nsd_tolerance {args.nsd_tolerance}: give 0 or more pixels.")
    for name in ("batch_size", "point_num", "iter_point"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: give 1 or more.")
    if not args.sam_checkpoint:
        raise UsageError("--sam_checkpoint is needed: random weights have nothing to test (python train.py makes one).")


def main(args: argparse.Namespace) -> int:
    """Exit code 0, 1 where files could not be read, or 130 for a run that was interrupted and can go on."""
    check_args(args)
    from sam_med2d.evaluation.command import evaluate  # PyTorch takes seconds to import

    return evaluate(args, script=Path(__file__), defaults=parse_args([]))


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
