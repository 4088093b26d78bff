"""Export the prompt encoder and the mask decoder: embeddings and prompts -> masks.

    python scripts/export_onnx_model.py --checkpoint workdir/models/demo/best --output decoder.onnx

Takes ten seconds. Inputs: image_embeddings, point_coords, point_labels, mask_input, has_mask_input, orig_im_size (and
detail_features of the encoder's file for weights with a detail head), for any number of prompts and points. Outputs:
masks, iou_predictions, low_res_masks. The file is compared with PyTorch, with numbers of prompts and points that the
export has not seen, before it is put in place.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.export.arguments import DECODER_OPTIONS, add_flags, add_switch
from sam_med2d.runtime.cli import make_parser, parse_and_note_given, run_main, setup_logging


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_flags(parser)
    decoder = parser.add_argument_group("decoder")
    for name, help in DECODER_OPTIONS.items():
        add_switch(decoder, f"--{name}", help)
    return parse_and_note_given(parser, argv)


def main(args: argparse.Namespace) -> int:
    from sam_med2d.export.command import export_decoder  # PyTorch takes seconds to import

    setup_logging()
    return export_decoder(args)


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
