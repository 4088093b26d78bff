"""Masks of a folder of photographs, for structures by name, boxes or clicks; each photograph is encoded once.

    python scripts/predict.py photographs/ --structures all --out workdir/predictions
    python scripts/predict.py eye.jpg --box 210 180 330 300 --sam_checkpoint workdir/models/demo/best
    python scripts/predict.py "clinic/*.png" --boxes_csv detections.csv --embedding_cache ~/.cache/sam --cache_gb 20
    torchrun --nproc_per_node 2 scripts/predict.py photographs/ --structures optic_disc optic_cup

About 4.5 photographs of 512 pixels a second on two CPU cores with vit_t at 256 px. Writes to --out: masks/ (PNG, 0 and
255, of the photograph's size), overlays/, coco.json and predictions.csv, which has a line for each mask and each
photograph without one. Started again, the same command does what is missing.

Exit code: 0 all done, 1 some photographs could not be predicted (they are named), 2 the flags cannot work, 130
interrupted.
"""

import argparse
import hashlib
import logging
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.data.photographs import Photograph, add_max_pixels, check_max_pixels, find_photographs
from sam_med2d.errors import UsageError
from sam_med2d.inference.batch_run import Run
from sam_med2d.inference.prompt_sources import (
    FRAMES,
    Prompts,
    check_places,
    clicks_for,
    read_boxes,
    read_file,
    structures_for,
)
from sam_med2d.inference.result_files import MASKS, OVERLAYS, check_names
from sam_med2d.runtime.cli import add_bool, run_main, setup_logging
from sam_med2d.runtime.devices import cpu_workers, warn_of_emulation
from sam_med2d.runtime.distributed import join_processes, leave_processes
from sam_med2d.runtime.model_loading import add_model_flags, load_model
from sam_med2d.runtime.run_folder import make_folder
from segment_anything.modeling import Sam

logger = logging.getLogger("predict")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="photographs, folders, or patterns in quotes")
    parser.add_argument("--out", type=Path, default=Path("workdir/predictions"), help="folder for the results")
    prompts = parser.add_argument_group("prompts (one kind; positions are pixels of the photograph, x before y)")
    prompts.add_argument("--structures", nargs="+", metavar="NAME", help="by name, or all that the weights know")
    prompts.add_argument(
        "--box", nargs=4, type=float, action="append", metavar=("X0", "Y0", "X1", "Y1"), help="half-open; repeatable"
    )
    prompts.add_argument("--point", nargs=2, type=float, action="append", metavar=("X", "Y"), help="on it; repeatable")
    prompts.add_argument(
        "--background", nargs=2, type=float, action="append", metavar=("X", "Y"), help="beside it; repeatable"
    )
    prompts.add_argument("--label", default="object", help="what --box or --point is called (default: object)")
    prompts.add_argument(
        "--boxes_csv", type=Path, metavar="CSV", help="of a detector; columns image, x0, y0, x1, y1 [, label, score]"
    )
    prompts.add_argument("--prompt_path", type=Path, metavar="JSON", help="prompt file, as test.py writes it")
    prompts.add_argument("--prompt_frame", choices=FRAMES, default=FRAMES[0], help="pixels that --prompt_path is in")
    add_bool(prompts, "--zoom", default=False, help="answer once more from a window around each mask or box")
    add_bool(prompts, "--tiles", default=False, help="answer --structures from windows all over the photograph")
    add_bool(prompts, "--mirror", default=False, help="answer --structures from three mirror images, too")
    add_model_flags(parser)
    run = parser.add_argument_group("run")
    run.add_argument("--device", help="default: the best one present")
    add_bool(run, "--use_amp", default=False, help="bfloat16 autocast, float16 where a GPU has no bfloat16")
    run.add_argument("--num_workers", type=int, help="threads that read, and that write (default: cores - 1, 1 to 8)")
    add_max_pixels(run)
    add_bool(run, "--overlays", default=True, help="draw the outlines on the photographs")
    run.add_argument("--embedding_cache", type=Path, metavar="DIR", help="keep the encoder's results there")
    run.add_argument("--cache_gb", type=float, default=10.0, help="size of the cache at most (default: 10 GB)")
    args = parser.parse_args(argv)
    args.clicks = bool(args.box or args.point or args.background)
    return args


def check_args(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read. Raises UsageError."""
    kinds = {
        "--structures": args.structures,
        "--box, --point": args.clicks,
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


def load_prompts(args: argparse.Namespace, photographs: Sequence[Photograph], model: Sam) -> tuple[Prompts, list[str]]:
    """What is asked for on each photograph, checked, and notes for the user."""
    notes: list[str] = []
    if args.structures:
        prompts = structures_for(photographs, args.structures, model.prompt_encoder.structures)
    elif args.clicks:
        prompts = clicks_for(photographs, args.box or [], args.point or [], args.background or [], args.label)
    elif args.boxes_csv:
        prompts, notes = read_boxes(args.boxes_csv, photographs)
    else:
        prompts, notes = read_file(args.prompt_path, photographs, args.prompt_frame)
    check_names(photographs, prompts)
    check_places(photographs, prompts, model.image_size)
    return prompts, notes


def main(args: argparse.Namespace) -> int:
    processes, device = join_processes(args.device)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is one like Ctrl-C
    try:
        setup_logging(level=logging.INFO if processes.first else logging.ERROR)
        check_args(args)
        warn_of_emulation(args.use_amp, device)
        photographs = find_photographs(args.inputs, [args.out / folder for folder in (MASKS, OVERLAYS)])
        workers = max(1, cpu_workers(args.num_workers, here=processes.here))
        make_folder(args.out, "--out")
        if args.embedding_cache:
            make_folder(args.embedding_cache, "--embedding_cache")
        model, multimask = load_model(args, device)
        prompts, notes = load_prompts(args, photographs, model)
        for note in notes:
            logger.info(f"note: {note}")
        file = args.boxes_csv or args.prompt_path
        content = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest() if file else ""
        run = Run(
            args,
            model,
            photographs,
            prompts,
            processes,
            prompt_digest=content,
            workers=workers,
            multimask=multimask,
        )
        return run.run()
    except KeyboardInterrupt:
        logger.info("interrupted; what is done is kept: the same command goes on")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        leave_processes()


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
