"""Export the image encoder: `input_image` -> `image_embeddings`.

    python scripts/export_onnx_encoder_model.py --sam_checkpoint workdir/models/demo/best --output encoder.onnx

Ten seconds for vit_t, half a minute for vit_b. The file is compared with PyTorch on fresh pictures before it is put in
place; it carries the preprocessing, the structures and a digest of the weights. --half and --quantize-out print what
they cost and gain; --photographs DIR adds Dice on photographs with masks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.errors import UsageError
from sam_med2d.export.arguments import add_flags, add_switch
from sam_med2d.runtime.cli import both_spellings, make_parser, parse_and_note_given, run_main, setup_logging


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_flags(parser)
    encoder = parser.add_argument_group("encoder")
    add_switch(encoder, "--use_preprocess", "input is a picture [H, W, 3] in 0..255, in the model's channel order")
    encoder.add_argument(*both_spellings("--batch_size"), type=int, help="images at a time (default: 1)")
    add_switch(encoder, "--dynamic_batch", "any number of images at a time")
    return parse_and_note_given(parser, argv)


def check_args(args: argparse.Namespace) -> None:
    """Raise UsageError for flags that do not go together."""
    if args.batch_size is not None and args.batch_size < 1:
        raise UsageError(f"--batch_size {args.batch_size}: give 1 or more.")
    if args.dynamic_batch and args.batch_size:
        raise UsageError("--dynamic_batch takes any number of images: leave --batch_size out.")
    if args.use_preprocess and (args.dynamic_batch or args.batch_size not in (None, 1)):
        raise UsageError("--use_preprocess takes one picture of any size: leave --batch_size and --dynamic_batch out.")


def main(args: argparse.Namespace) -> int:
    check_args(args)
    from sam_med2d.export.command import export_encoder  # PyTorch takes seconds to import

    setup_logging()
    return export_encoder(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
