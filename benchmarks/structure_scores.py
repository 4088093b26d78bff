"""What a model reaches by structure prompts."""

from collections.abc import Sequence

import torch

from sam_med2d.data.dataset import FundusDataset, make_loader
from sam_med2d.data.records import Record, promptable
from sam_med2d.evaluation.batch_prediction import parse_mode, predict_batch
from sam_med2d.evaluation.scoring import score_batch
from sam_med2d.evaluation.summary import summarise
from segment_anything.modeling import Sam

BATCH = 8


@torch.no_grad()
def structure_scores(model: Sam, records: Sequence[Record], workers: int) -> dict[str, float]:
    """Score structure prompts at the photographs' own size, as test.py does.

    Args:
        model: in evaluation mode.
        records: photographs with masks.
        workers: processes, this one included.

    Returns:
        {structure: mean Dice}, and "all" of all masks.
    """
    names = model.prompt_encoder.structures
    dataset = FundusDataset(
        promptable(records, names), model.preprocessing, every_absent=True, structures=names, keep_truth=True
    )
    rows = []
    for batch in make_loader(dataset, batch_size=BATCH, num_workers=workers - 1):
        found = predict_batch(model, batch, {}, [parse_mode("structure")], seed=0)
        rows += [row for own in score_batch(batch, found, ["dice"]) for row in own]
    summary = summarise(rows, ["dice"])
    scores = {name: modes["structure"]["dice"] for name, modes in summary["structures"].items()}
    return scores | {"all": summary["overall"]["structure"]["dice"]}
