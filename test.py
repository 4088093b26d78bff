"""Test a checkpoint: Dice and IoU for a box and for 1, 3 and 5 clicks, from one encoding of each image.

    python test.py --data_path data_demo --sam_checkpoint workdir/models/demo/best

On two CPU cores about 13 images a second with vit_t at 256 px. Writes report.md, summary.json, cases.csv and pictures
to <work_dir>/<run_name>/, and the prompts that were used to <work_dir>/<S>_prompt.json.
"""

import argparse
import errno
import logging
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from sam_med2d.data.record_checks import check_data_sets
from sam_med2d.data.records import Record, complete, load_folders, promptable, structures_in
from sam_med2d.errors import DataError, UsageError
from sam_med2d.evaluation.batch_prediction import POINTS, STRUCTURE, Mode, parse_mode
from sam_med2d.evaluation.evaluator import Evaluator
from sam_med2d.evaluation.scoring import METRICS
from sam_med2d.runtime.cli import add_bool, add_complete, parse_with_given, run_main, setup_logging
from sam_med2d.runtime.devices import compile_encoder, warn_of_emulation
from sam_med2d.runtime.distributed import Processes, join_processes, leave_processes
from sam_med2d.runtime.model_loading import SHIPPED_WEIGHTS
from sam_med2d.runtime.reproducibility import seed_everything
from sam_med2d.runtime.run_folder import make_folder, refuse_run_name, resume_command
from segment_anything.build_sam import MODEL_SPECS, build_sam
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import MASK_RULES
from segment_anything.preprocessing import CHANNEL_ORDERS, MODES
from segment_anything.refinement.refine import Refinement
from segment_anything.refinement.tiling import LARGE, Tiles

logger = logging.getLogger("test")
DEFAULT_PROMPTS = ["box", "1", "3", "5"]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_path", nargs="+", default="data_demo", help="folder of label2image_test.json; several give a table"
    )
    data.add_argument("--work_dir", default="workdir", help="where results go")
    data.add_argument("--run_name", default="sammed", help="folder of this run inside work_dir; also its table name")
    data.add_argument("--num_workers", type=int, help="loader processes; default: cores - 1")
    model = parser.add_argument_group("model")
    weights = "weights to test: a file, or a folder with model.safetensors (default: the shipped ones)"
    model.add_argument("--sam_checkpoint", default=str(SHIPPED_WEIGHTS), help=weights)
    model.add_argument("--model_type", choices=MODEL_SPECS, default="vit_b", help="unless the checkpoint names its own")
    model.add_argument("--image_size", type=int, default=256, help="input side, unless the checkpoint names its own")
    add_bool(model, "--encoder_adapter", default=True, help="False drops them; not given: as in the checkpoint")
    add_bool(model, "--multimask", default=True, help="choose among three candidates by predicted IoU")
    model.add_argument("--preprocess", choices=MODES, help="override the checkpoint's preprocessing")
    model.add_argument("--channel_order", choices=CHANNEL_ORDERS, help="override the checkpoint's channel order")
    model.add_argument(
        "--mask_rule",
        choices=MASK_RULES,
        help="a mask begins at a probability of 1/2, or of half its expected Dice; default: as the checkpoint",
    )
    add_complete(data)
    add_windows(parser)
    prompts = parser.add_argument_group("prompts (default: box, 1, 3 and 5 points in one run)")
    prompts.add_argument("--prompts", nargs="+", metavar="P", help="columns: box, structure, numbers of points")
    add_bool(prompts, "--boxes_prompt", default=True, help="one column, as SAM-Med2D: the box, or the points")
    prompts.add_argument("--point_num", type=int, default=1, help="points of the first round")
    prompts.add_argument("--iter_point", type=int, default=1, help="rounds of points")
    prompts.add_argument("--prompt_path", type=Path, help="replay the boxes and first points of this file")
    run = parser.add_argument_group("run")
    run.add_argument("--metrics", nargs="+", default=["iou", "dice"], help=", ".join(METRICS))
    add_bool(run, "--ceiling", default=True, help="also the best Dice that the model's grid of logits can hold")
    run.add_argument("--nsd_tolerance", type=float, default=2.0, help="pixels of the photograph")
    run.add_argument("--batch_size", type=int, default=1, help="images per batch")
    run.add_argument("--device", help="default: the best one present")
    run.add_argument("--seed", type=int, default=0, help="of the clicks")
    add_bool(run, "--use_amp", default=False, help="bfloat16 autocast, float16 where a GPU has no bfloat16")
    add_bool(run, "--compile", default=False, help="compile the image encoder first; pays on many images")
    add_bool(run, "--save_pred", default=False, help="write 0/255 masks at original size")
    add_bool(run, "--save_prob", default=False, help="write probabilities as 16-bit PNG, 65535 for 1")
    add_bool(run, "--resume", default=False, help="go on with an unfinished run of this name, if there is one")
    return parse_with_given(parser, argv)


def add_windows(parser: argparse.ArgumentParser) -> None:
    """Flags for answers from more than one look at the photograph."""
    windows = parser.add_argument_group("mirror images and windows")
    add_bool(windows, "--mirror", default=False, help="answer the column structure from three mirror images, too")
    add_bool(windows, "--zoom", default=False, help="ask each prompt once more in a window around it")
    add_bool(windows, "--tiles", default=False, help="answer the column structure from windows all over the photograph")
    windows.add_argument("--tile_side", type=int, help="pixels of the photograph; default: the image size")
    windows.add_argument("--tile_overlap", type=float, default=0.25, help="least share of a side that neighbours share")
    shares = " ".join(f"{name}={share:g}" for name, share in LARGE.items())
    windows.add_argument(
        "--tile_whole",
        nargs="+",
        default=["0.5", *shares.split()],
        metavar="[NAME=]W",
        help="weight of the whole photograph's answer beside the windows', 0 to 1, of all and of single structures; "
        f"1: no windows. Default: 0.5 {shares}",
    )


def read_tiles(args: argparse.Namespace, image_size: int, names: Sequence[str]) -> Tiles | None:
    """What the flags say of tiles; None without them. names: of the structures. Raises UsageError."""
    if not args.tiles:
        if without := sorted({"tile_side", "tile_overlap", "tile_whole"} & args.given):
            raise UsageError(f"--{', --'.join(without)}: add --tiles True, or leave it out.")
        return None
    values: dict[str, float] = {}
    for word in args.tile_whole:
        name, _, share = word.rpartition("=")
        try:
            values[name] = float(share)
        except ValueError as error:
            raise UsageError(f"--tile_whole {word}: give a weight from 0 to 1, or NAME=weight.") from error
    whole = values.pop("", 0.5)
    if "tile_whole" in args.given and (unknown := values.keys() - names):
        raise UsageError(f"--tile_whole {min(unknown)}: no structure of these weights ({', '.join(names) or 'none'}).")
    try:
        tiles = Tiles(args.tile_side, args.tile_overlap, whole, values)
        tiles.side_for(image_size)
    except ValueError as error:
        raise UsageError(f"--tile_side, --tile_overlap, --tile_whole: {error}") from error
    return tiles


def find_records(args: argparse.Namespace, folders: Sequence[str], names: Sequence[str]) -> list[Record]:
    """The photographs to test on: with a mask, or known not to have one of `names`, which are asked for.

    Raises DataError where there is none, or --complete names a data set that is not there.
    """
    records = load_folders(folders, "test")
    check_data_sets(args.complete, records)
    records = promptable(complete(records, args.complete), names)
    if not records:
        raise DataError(f"--data_path {', '.join(folders)}: the test map has no photograph with a mask.")
    return records


def refuse_unknown(records: Sequence[Record], names: Sequence[str]) -> None:
    """Raise UsageError where no photograph has, or is known not to have, one of the structures `names`."""
    there = structures_in(records)
    if there.isdisjoint(names):
        known = f"know {', '.join(names)}" if names else "know no structure by name"
        raise UsageError(f"--prompts structure: these weights {known}, the data have {', '.join(sorted(there))}.")


def check_args(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read. Raises UsageError."""
    unknown = [name for name in args.metrics if name not in METRICS]
    if unknown:
        raise UsageError(f"--metrics {' '.join(unknown)}: choose from {', '.join(METRICS)}.")
    args.metrics = list(dict.fromkeys(args.metrics))
    if not (math.isfinite(args.nsd_tolerance) and args.nsd_tolerance >= 0):
        raise UsageError(f"--nsd_tolerance {args.nsd_tolerance}: give 0 or more pixels.")
    for name in ("batch_size", "point_num", "iter_point"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: give 1 or more.")


def select_modes(args: argparse.Namespace) -> list[Mode]:
    """Columns to compute: --prompts, or the single mode of SAM-Med2D's flags, or all four."""
    single = {"boxes_prompt", "point_num", "iter_point"} & args.given
    if args.prompts and single:
        raise UsageError(f"--prompts cannot be combined with --{', --'.join(sorted(single))}.")
    if not single:
        try:
            return list(dict.fromkeys(map(parse_mode, args.prompts or DEFAULT_PROMPTS)))
        except ValueError as error:
            raise UsageError(f"--prompts: {error}") from error
    if args.boxes_prompt:
        if "boxes_prompt" not in single:
            logger.info("testing the box (SAM-Med2D's default); add --boxes_prompt False to test points")
        return [parse_mode("box")]
    return [Mode(str(args.point_num + args.iter_point - 1), POINTS, clicks=args.iter_point)]


def load_model(args: argparse.Namespace, device: torch.device) -> Sam:
    """The checkpoint's model in evaluation mode, with the preprocessing to use."""
    if not args.sam_checkpoint:
        raise UsageError("--sam_checkpoint is needed: random weights have nothing to test (python train.py makes one).")
    source = read_checkpoint(args.sam_checkpoint)
    metadata, stored = source.metadata, source.metadata.get("preprocessing", {})
    image_size = args.image_size if "image_size" in args.given else stored.get("image_size", args.image_size)
    model_type = args.model_type if "model_type" in args.given else metadata.get("model_type", args.model_type)
    adapter = args.encoder_adapter if "encoder_adapter" in args.given else None
    if "multimask" not in args.given:
        args.multimask = metadata.get("multimask", args.multimask)
    if stored.get("image_size", image_size) != image_size:
        logger.info(f"the checkpoint was trained at {stored['image_size']} px and is tested at {image_size} px")
    try:
        model = build_sam(model_type, checkpoint=source, image_size=image_size, encoder_adapter=adapter)
    except ValueError as error:
        raise UsageError(str(error)) from error
    model.preprocessing = model.preprocessing.overridden(mode=args.preprocess, channel_order=args.channel_order)
    model.mask_decoder.mask_rule = args.mask_rule or model.mask_decoder.mask_rule
    if args.compile:
        compile_encoder(model, device)
    return model.to(device).eval()


def main(args: argparse.Namespace) -> int:
    processes, device = join_processes(args.device)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is one like Ctrl-C
    try:
        setup_logging(level=logging.INFO if processes.first else logging.ERROR)
        check_args(args)
        modes = select_modes(args)
        by_name = any(mode.opening == STRUCTURE for mode in modes)
        for name in ("mirror", "tiles"):
            if getattr(args, name) and not by_name:
                raise UsageError(f"--{name} answers the column structure: add it to --prompts, or leave --{name} out.")
        warn_of_emulation(args.use_amp, device)
        seed_everything(args.seed)
        refuse_run_name(args.run_name)
        out = make_folder(Path(args.work_dir) / args.run_name, "--work_dir")
        model = load_model(args, device)
        folders = args.data_path if isinstance(args.data_path, list) else [args.data_path]
        names = model.prompt_encoder.structures if by_name else ()
        tiles = read_tiles(args, model.image_size, names)
        records = find_records(args, folders, names)
        if by_name:
            refuse_unknown(records, names)
        refinement = Refinement(mirror=args.mirror, zoom=args.zoom, tiles=tiles, multimask=args.multimask)
        evaluator = Evaluator(args, model, records, modes, out, processes, refinement)
        return run(args, evaluator, out, processes)
    finally:
        signal.signal(signal.SIGTERM, before)
        leave_processes()


def run(args: argparse.Namespace, evaluator: Evaluator, out: Path, processes: Processes) -> int:
    """Exit code of the evaluation; 130 when it was interrupted, with the command that goes on."""
    try:
        code = evaluator.run()
    except KeyboardInterrupt:
        command = resume_command(str(Path(__file__)), args, parse_args([]), processes, "True")
        logger.info(f"interrupted; what is done is kept. Go on with: {command}")
        return 130
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UsageError(f"{error}: what is done is kept; free some space and add --resume.") from error
        raise
    if processes.first:
        logger.info((out / "report.md").read_text(encoding="utf-8"))
        pictures = f"; pictures: {out}/overlay.png" * (out / "overlay.png").is_file()
        logger.info(f"results: {out}/report.md, cases.csv, summary.json{pictures}")
    return code


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
