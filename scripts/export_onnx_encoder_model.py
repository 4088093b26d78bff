"""Export the image encoder: `input_image` -> `image_embeddings`.

    python scripts/export_onnx_encoder_model.py --sam_checkpoint workdir/models/demo/best --output encoder.onnx

Ten seconds for vit_t, half a minute for vit_b. The file is compared with PyTorch on fresh pictures before it is put in
place; it carries the preprocessing, the structures and a digest of the weights. --half and --quantize-out print what
they cost and gain; --photographs DIR adds Dice on photographs with masks.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.errors import UsageError
from sam_med2d.export.command import add_flags, add_switch, both, run
from sam_med2d.export.onnx_parts import Part, encoder_part
from sam_med2d.runtime.cli import run_main, setup_logging
from segment_anything.modeling import Sam


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    encoder = parser.add_argument_group("encoder")
    add_switch(encoder, "--use-preprocess", "input is a picture [H, W, 3] in 0..255, in the model's channel order")
    encoder.add_argument(*both("--batch-size"), type=int, help="images at a time (default: 1)")
    add_switch(encoder, "--dynamic-batch", "any number of images at a time")
    return parser.parse_args(argv)


def make_part(model: Sam, _: bool, args: argparse.Namespace) -> Part:
    batch = None if args.dynamic_batch else args.batch_size or 1
    return encoder_part(model, batch=batch, use_preprocess=args.use_preprocess)


def main(args: argparse.Namespace) -> int:
    setup_logging()
    if args.batch_size is not None and args.batch_size < 1:
        raise UsageError(f"--batch_size {args.batch_size}: give 1 or more.")
    if args.dynamic_batch and args.batch_size:
        raise UsageError("--dynamic_batch takes any number of images: leave --batch_size out.")
    if args.use_preprocess and (args.dynamic_batch or args.batch_size not in (None, 1)):
        raise UsageError("--use_preprocess takes one picture of any size: leave --batch_size and --dynamic_batch out.")
    return run(args, partial(make_part, args=args))


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
