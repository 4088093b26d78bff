"""What decides the numbers of an evaluation: a run goes on with the same settings alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sam_med2d.data.records import Record
from sam_med2d.evaluation.batch_prediction import Mode
from sam_med2d.runtime.run_store import refuse_other_settings
from segment_anything.checkpoint import tensor_digest
from segment_anything.modeling import Sam
from segment_anything.refinement.refine import Refinement
from segment_anything.utils.digest import digest

# flags that decide the numbers, beside model, data, prompts and refinement
BINDING_FLAGS = ("metrics", "point_num", "seed", "use_amp", "nsd_tolerance", "save_pred", "save_prob", "ceiling")


def run_settings(
    args: argparse.Namespace, model: Sam, records: Sequence[Record], modes: Sequence[Mode], refinement: Refinement
) -> dict[str, Any]:
    """Everything that decides the numbers of a run.

    Args:
        args: flags of test.py.
        model: with the weights and the preprocessing of the run.
        records: the photographs; their names count, not their contents.
        modes: columns of the tables.
        refinement: mirror images and windows.

    Returns:
        JSON values by the names that a user knows, such as "--seed"; digests of weights, data and prompt file.
    """
    data = ((item.data_set, item.image.name, [mask.name for mask in item.masks]) for item in records)
    return {
        **{f"--{name}": getattr(args, name) for name in BINDING_FLAGS},
        **{f"--{name}": value for name, value in refinement.as_dict(model.image_size).items()},
        "--prompts": [mode.name for mode in modes],
        "--prompt_path": digest(args.prompt_path.read_bytes()) if args.prompt_path else None,
        "preprocessing": model.preprocessing.as_dict(),
        "weights": tensor_digest(model.state_dict()),
        "presence thresholds": model.prompt_encoder.presence_thresholds,
        "--mask_rule": model.mask_decoder.mask_rule,
        "data": digest(repr(names).encode() for names in data),
    }


def refuse_changed_settings(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to go on with a run of other settings.

    Args:
        out: folder of the run.
        old: its settings.
        new: those of its continuation.

    Raises:
        UsageError: names what differs.
    """
    refuse_other_settings(old, new, what=f"--resume: {out} was computed with", cure="give another --run_name")
