"""Pre-train an image encoder on photographs without masks, to start a training from: a masked autoencoder.

    python scripts/pretrain_mae.py photographs/ --model_type vit_t --epochs 10 --use_amp --run_name mae
    python train.py --sam_checkpoint workdir/models/mae/last --model_type vit_t --train_encoder full \\
        --encoder_adapter False --data_path data_demo

Three patches of four are hidden from the encoder, and a small decoder restores them (He et al. 2022). Writes to
<work_dir>/models/<run_name>/: last/model.safetensors, a whole model whose encoder is the pre-trained one and whose
other weights are random; history.csv and curves.png; restored.png, photographs as they are, as the encoder sees them,
and restored. Ctrl-C saves first and prints the command that goes on. vit_t at 256 px takes 30 to 60 ms for a
photograph on two cores.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pretraining import Pretraining
from segment_anything.build_sam import MODEL_SPECS
from segment_anything.utils.atomic import write_text
from utils import (
    Processes,
    UsageError,
    add_bool,
    make_run_folder,
    prepare_training,
    record,
    resolve_device,
    resume_command,
    run_main,
    setup_logging,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="+", metavar="INPUT", help="photographs: files, folders or patterns")
    parser.add_argument("--share", type=float, default=1.0, help="share of the photographs to use")
    parser.add_argument("--num_workers", type=int, help="loader processes; default: cores - 1")
    parser.add_argument("--model_type", choices=MODEL_SPECS, default="vit_b", help="size of the image encoder")
    parser.add_argument("--image_size", type=int, default=256, help="input side, a multiple of 32 pixels")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the photographs")
    parser.add_argument("--batch_size", type=int, default=32, help="photographs in a step")
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate (AdamW, warm-up and cosine)")
    add_bool(parser, "--use_amp", default=False, help="bfloat16 autocast")
    parser.add_argument("--device", help="default: the best one present")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, windows and hidden patches")
    parser.add_argument("--work_dir", default="workdir", help="where results go")
    parser.add_argument("--run_name", default="mae", help="folder of this run inside work_dir/models")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from <run>/last, with the same flags")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raise UsageError for values that cannot work."""
    for name in ("epochs", "batch_size"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: give 1 or more.")
    if not 0 < args.share <= 1:
        raise UsageError(f"--share {args.share}: give a number above 0, up to 1.")
    if not 0 < args.lr < 1:
        raise UsageError(f"--lr {args.lr}: give a number above 0 and below 1.")


def continuation(args: argparse.Namespace, folder: Path) -> str:
    """The command line that goes on with a run."""
    flags = argparse.Namespace(**{name: value for name, value in vars(args).items() if name != "input"})
    command = resume_command(str(Path(__file__)), flags, parse_args(args.input), Processes(), f"{folder}/last")
    return f"{command} -- {shlex.join(args.input)}"


def main(args: argparse.Namespace) -> int:
    check_args(args)
    device = resolve_device(args.device)
    folder = make_run_folder(args)
    setup_logging(folder / "train.log")
    prepare_training(args, device)
    run = Pretraining(args, folder, device)
    if args.resume:
        run.resume(args.resume)
    write_text(folder / "config.json", json.dumps(record(args), indent=1) + "\n")
    if not run.fit():
        print(f"stopped; the state is in {folder}/last. Go on with: {continuation(args, folder)}")
        return 130
    print(f"weights: {folder}/last; restored photographs: {folder}/restored.png")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
