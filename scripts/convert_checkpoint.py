"""Turn a checkpoint of any layout into safe weights: a .safetensors file with tensors and metadata, nothing else.

    python scripts/convert_checkpoint.py sam_vit_b_01ec64.pth sam_vit_b.safetensors
    python scripts/convert_checkpoint.py --trust sam-med2d_b.pth sam-med2d_b.safetensors
    python scripts/convert_checkpoint.py sam_vit_b.safetensors sam_vit_b_hf --to huggingface
    python scripts/convert_checkpoint.py sam_vit_b_hf sam_vit_b.safetensors
    python scripts/convert_checkpoint.py workdir/models/mine/best mine_vit_b.pth --to sam
    python scripts/convert_checkpoint.py best small.safetensors --to adapters --base sam_vit_b_01ec64.pth
    python scripts/convert_checkpoint.py small.safetensors whole.safetensors --base sam_vit_b_01ec64.pth
    python scripts/convert_checkpoint.py workdir/models/mine/best mine.safetensors --half
    python scripts/convert_checkpoint.py medsam_vit_b.pth medsam.safetensors --pixel_scale unit

Takes seconds. The published SAM-Med2D file also holds a pickled optimizer, which every loader here refuses:
unpickling can run any code that the file's author, or whoever changed it on the way, put in. `--trust` does it
once, keeps the weights alone, and the result is safe to pass on. Metadata is kept where the file has some.

--to huggingface writes a folder for from_pretrained of transformers' SamModel and SamProcessor; what SamModel has no
place for (adapters, structures, detail head, metadata) is named and kept in a second file there. Such folders and files
are read as IN. --to sam writes a raw state dict for micro-sam, SAM's code, and with adapters SAM-Med2D's and ISAT.
--to adapters writes what is not in --base to the bit (adapters, decoder, prompt encoder); IN of that kind with its
--base gives the whole checkpoint again, to the bit.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.runtime.cli import add_bool, make_parser, run_main
from segment_anything.choices import MASK_RULES, PIXEL_SCALES

TARGETS = ("safetensors", "huggingface", "sam", "adapters")
WARNING = """\
WARNING: --trust unpickles {path}.
         Unpickling can run ANY code hidden in the file, with your rights, on this computer.
         Go on only if you trust where the file comes from; a container without network is safer."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("source", type=Path, metavar="IN", help="checkpoint: .pth, .pt, .safetensors or a folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="file (.safetensors, with --to sam .pth) or folder")
    parser.add_argument("--trust", action="store_true", help="unpickle objects too: runs any code in IN")
    parser.add_argument(
        "--entry", metavar="NAME", help="the weights that are meant, where IN has those of several models"
    )
    parser.add_argument("--to", choices=TARGETS, default="safetensors", help="what to write")
    parser.add_argument("--base", type=Path, metavar="FILE", help="weights that IN was trained from, such as SAM's")
    parser.add_argument(
        "--half", action="store_true", default=None, help="store numbers in 16 bits: half the size, for passing on"
    )
    parser.add_argument("--mask_rule", choices=MASK_RULES, help="where masks begin from now on, see train.py --help")
    text = "what answers by default from now on: the best of the three candidate masks, or with False the single mask"
    add_bool(parser, "--multimask", default=None, help=text)
    text = "what the weights expect from now on: unit for MedSAM's, whose pixels are 0..1 of each picture"
    parser.add_argument("--pixel_scale", choices=PIXEL_SCALES, help=text)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Exit code 0."""
    if args.trust:
        print(WARNING.format(path=args.source), file=sys.stderr, flush=True)
    from sam_med2d.runtime.convert_checkpoint import convert  # PyTorch takes seconds to import

    print(convert(args))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
