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
from functools import partial
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.export.command import add_flags, add_switch, run
from sam_med2d.export.onnx_parts import Part, decoder_part
from sam_med2d.runtime.cli import run_main, setup_logging
from segment_anything.modeling import Sam

OPTIONS = {
    "return_single_mask": "one mask a prompt: the candidate of the highest predicted IoU",
    "use_stability_score": "iou_predictions hold the masks' stability instead",
    "return_extra_metrics": "more outputs: stability_scores and areas",
    "resize_longest_img_size": "masks return by SAM's geometry (longer side S, padded right and bottom)",
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    decoder = parser.add_argument_group("decoder")
    for name, help in OPTIONS.items():
        add_switch(decoder, "--" + name.replace("_", "-"), help)
    return parser.parse_args(argv)


def make_part(model: Sam, multimask: bool, args: argparse.Namespace) -> Part:
    return decoder_part(model, multimask=multimask, **{name: getattr(args, name) for name in OPTIONS})


def main(args: argparse.Namespace) -> int:
    setup_logging()
    return run(args, partial(make_part, args=args))


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
