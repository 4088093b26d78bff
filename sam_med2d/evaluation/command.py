"""What test.py does: from checked flags to a report."""

import argparse
import errno
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from sam_med2d.data.record_checks import check_data_sets
from sam_med2d.data.records import Record, complete, load_folders, promptable, structures_in
from sam_med2d.errors import DataError, UsageError
from sam_med2d.evaluation.batch_prediction import POINTS, STRUCTURE, Mode, parse_mode
from sam_med2d.evaluation.evaluator import Evaluator
from sam_med2d.runtime.cli import setup_logging
from sam_med2d.runtime.devices import compile_encoder, drop_slow_amp
from sam_med2d.runtime.distributed import Processes, joined_processes
from sam_med2d.runtime.model_loading import load_model
from sam_med2d.runtime.reproducibility import seed_everything
from sam_med2d.runtime.run_folder import make_folder, refuse_run_name, resume_command
from sam_med2d.runtime.signals import sigterm_as_ctrl_c
from segment_anything.modeling import Sam
from segment_anything.refinement.refine import Refinement
from segment_anything.refinement.tiling import Tiles

logger = logging.getLogger("test")
DEFAULT_PROMPTS = ("box", "1", "3", "5")


def evaluate(args: argparse.Namespace, *, script: Path, defaults: argparse.Namespace) -> int:
    """Evaluate as the flags say, in as many processes as torchrun has started.

    Args:
        args: the flags of test.py, checked.
        script: the file of the command, for the message on how to go on.
        defaults: the flags' values when none is given.

    Returns:
        The exit code: 0, 1 where files could not be read, or 130 for a run that was interrupted and can go on.

    Raises:
        UsageError, DataError, CheckpointError: for what a user can mend.
    """
    with joined_processes(args.device) as (processes, device), sigterm_as_ctrl_c():
        setup_logging(level=logging.INFO if processes.first else logging.ERROR)
        evaluator = _make_evaluator(args, processes, device)
        return _run(args, evaluator, processes, script=script, defaults=defaults)


def _make_evaluator(args: argparse.Namespace, processes: Processes, device: torch.device) -> Evaluator:
    """The evaluation that the flags ask for."""
    modes = select_modes(args)
    by_structure = any(mode.opening == STRUCTURE for mode in modes)
    for name in ("mirror", "tiles"):
        if getattr(args, name) and not by_structure:
            raise UsageError(f"--{name} answers the column structure: add it to --prompts, or leave --{name} out.")
    drop_slow_amp(args, device)
    seed_everything(args.seed)
    refuse_run_name(args.run_name)
    out = make_folder(Path(args.work_dir) / args.run_name, "--work_dir")
    model = load_tested(args, device)
    folders = args.data_path if isinstance(args.data_path, list) else [args.data_path]
    structures = model.prompt_encoder.structures if by_structure else ()
    tiles = _read_tiles(args, model.image_size, structures)
    records = find_records(args, folders, structures)
    if by_structure:
        _refuse_unknown(records, structures)
    refinement = Refinement(mirror=args.mirror, zoom=args.zoom, tiles=tiles, multimask=args.multimask)
    return Evaluator(args, model, records, modes=modes, out=out, processes=processes, refinement=refinement)


def _run(
    args: argparse.Namespace, evaluator: Evaluator, processes: Processes, *, script: Path, defaults: argparse.Namespace
) -> int:
    """Exit code of the evaluation; 130 when it was interrupted, with the command that goes on."""
    out = evaluator.out
    try:
        code = evaluator.run()
    except KeyboardInterrupt:
        command = resume_command(str(script), args, defaults, processes, "True")
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


def load_tested(args: argparse.Namespace, device: torch.device) -> Sam:
    """The model to test, on its device, in evaluation mode; `args.multimask` becomes what holds for it."""
    loaded = load_model(args, device)
    args.multimask = loaded.multimask
    if loaded.trained_size not in (None, loaded.model.image_size):
        sizes = f"trained at {loaded.trained_size} px and is tested at {loaded.model.image_size} px"
        logger.info(f"the checkpoint was {sizes}")
    if args.compile:
        compile_encoder(loaded.model, device)
    return loaded.model


def select_modes(args: argparse.Namespace) -> list[Mode]:
    """The columns to compute: those of --prompts, the single one of SAM-Med2D's flags, or all four."""
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


def _read_tiles(args: argparse.Namespace, image_size: int, structures: Sequence[str]) -> Tiles | None:
    """What the flags say of tiles; None without --tiles. Raises UsageError for values that cannot work."""
    if not args.tiles:
        if without := sorted({"tile_share", "tile_side", "tile_overlap", "tile_whole"} & args.given):
            raise UsageError(f"--{', --'.join(without)}: add --tiles True, or leave it out.")
        return None
    if {"tile_share", "tile_side"} <= args.given:
        raise UsageError(f"--tile_share {args.tile_share} and --tile_side {args.tile_side}: give one of them.")
    values: dict[str, float] = {}
    for word in args.tile_whole:
        name, _, share = word.rpartition("=")
        try:
            values[name] = float(share)
        except ValueError as error:
            raise UsageError(f"--tile_whole {word}: give a weight from 0 to 1, or NAME=weight.") from error
    whole = values.pop("", 0.5)
    if "tile_whole" in args.given and (unknown := values.keys() - structures):
        known = ", ".join(structures) or "none"
        raise UsageError(f"--tile_whole {min(unknown)}: no structure of these weights ({known}).")
    try:
        tiles = Tiles(args.tile_share, args.tile_side, args.tile_overlap, whole, values)
        tiles.check_side(image_size)
    except ValueError as error:
        raise UsageError(f"--tile_share, --tile_side, --tile_overlap, --tile_whole: {error}") from error
    return tiles


def find_records(args: argparse.Namespace, folders: Sequence[str], structures: Sequence[str]) -> list[Record]:
    """The photographs to test on.

    Args:
        args: the flags of test.py.
        folders: the data sets.
        structures: those of the structure prompts, () without such a column.

    Returns:
        The photographs with a mask, or known not to have one of `structures`.

    Raises:
        DataError: where there is none, or --complete names a data set that is not there.
    """
    records = load_folders(folders, "test")
    check_data_sets(args.complete, records)
    records = promptable(complete(records, args.complete), structures)
    if not records:
        raise DataError(f"--data_path {', '.join(folders)}: the test map has no photograph with a mask.")
    return records


def _refuse_unknown(records: Sequence[Record], structures: Sequence[str]) -> None:
    """Raise UsageError where no photograph has, or is known not to have, one of the structures."""
    there = structures_in(records)
    if there.isdisjoint(structures):
        known = f"know {', '.join(structures)}" if structures else "know no structure by name"
        raise UsageError(f"--prompts structure: these weights {known}, the data have {', '.join(sorted(there))}.")
