"""Validation during training: the same masks, prompts and pictured cases each time, shared among processes."""

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

import numpy as np
import torch

from sam_med2d.data.dataset import Batch, FundusDataset, make_loader
from sam_med2d.data.records import Record
from sam_med2d.evaluation.batch_prediction import Prediction, parse_mode, predict_batch
from sam_med2d.evaluation.case_row import CaseRow
from sam_med2d.evaluation.metrics import SOFT
from sam_med2d.evaluation.scoring import draw_predictions, score_batch
from sam_med2d.evaluation.summary import mean
from sam_med2d.prompts.prompt_file import PromptEntries, make_prompts
from segment_anything.modeling import Sam
from segment_anything.preprocessing import Preprocessing
from segment_anything.refinement.refine import Refinement

VALIDATION_PROMPTS = ("box", "1", "3", "5")
PICTURED_PROMPTS = ("box", "3")
PICTURED_CASES = 8
TOLERANCE = 0.005  # of Dice, that a structure may lose against the start with --keep_start

logger = logging.getLogger("train")

Tiles = dict[int, list[np.ndarray]]


def choose_cases(records: Sequence[Record], count: int = PICTURED_CASES) -> list[str]:
    """Keys of `count` masks to picture: one of each structure in turn, from one photograph after another.

    The order is that of the map. Of a photograph only the first mask of each structure is eligible.
    """
    by_structure: dict[str, list[str]] = {}
    for record in records:
        first = {mask.structure: mask.key for mask in reversed(record.masks)}
        for structure in dict.fromkeys(mask.structure for mask in record.masks):
            by_structure.setdefault(structure, []).append(first[structure])
    turns = zip_longest(*by_structure.values())
    return list(islice((key for turn in turns for key in turn if key is not None), count))


class Validation:
    """What one process of `processes` validates: the photographs records[rank::processes].

    The opening prompts are made once, here; corrective clicks are drawn from the same streams in each run.
    """

    def __init__(
        self,
        records: Sequence[Record],
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        num_workers: int,
        seed: int,
        metrics: list[str],
        device: torch.device,
        multimask: bool,
        structures: Sequence[str] = (),
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Make the opening prompts; reads all files.

        Args are as their names say, of all processes but for `rank`, this one's; `structures` are those of the model's
        structure prompts, which are validated, too; without `multimask` the single mask counts, not the best candidate.
        """
        self.seed, self.metrics, self.device, self.multimask = seed, metrics, device, multimask
        self.modes = [parse_mode(name) for name in (*VALIDATION_PROMPTS, *(["structure"] if structures else []))]
        self.cases = {key: number for number, key in enumerate(choose_cases(records))}
        options = {"keep_truth": True, "keep_fov": any(name in SOFT for name in metrics), "structures": structures}
        dataset = FundusDataset(records[rank::processes], preprocessing, every_absent=True, **options)
        self.loader = make_loader(dataset, batch_size=batch_size, num_workers=num_workers)
        self.prompts: PromptEntries = {}
        for batch in self.loader:
            self.prompts |= make_prompts(batch, point_num=1, seed=seed)

    @torch.no_grad()
    def run(self, model: Sam) -> tuple[list[CaseRow], Tiles]:
        """Predict and score this process's photographs.

        No structure is withheld, whatever the presence thresholds: they are chosen from these rows.

        Args:
            model: Taken as it is, and left so: the caller has put it in evaluation mode and chosen its weights.

        Returns:
            A row for each mask and prompt, and the tiles of the pictured cases by the case's number: one for each of
            PICTURED_PROMPTS, RGB uint8.
        """
        rows: list[CaseRow] = []
        tiles: Tiles = {}
        for batch in self.loader:
            batch = batch.to(self.device)
            predictions = predict_batch(
                model,
                batch,
                self.prompts,
                self.modes,
                seed=self.seed,
                refinement=Refinement(multimask=self.multimask),
                withhold_absent=False,
            )
            rows += [row for own in score_batch(batch, predictions, self.metrics) for row in own]
            tiles |= self._draw(batch, predictions)
        return rows, tiles

    def _draw(self, batch: Batch, predictions: Sequence[Sequence[Prediction]]) -> Tiles:
        """Tiles of the pictured cases that are in this batch."""
        pictured = [i for i, ref in enumerate(batch.refs) if ref.key in self.cases]
        chosen = {i: [p for p in predictions[i] if p.mode.name in PICTURED_PROMPTS] for i in pictured}
        return {self.cases[batch.refs[i].key]: draw_predictions(batch, i, chosen[i]) for i in pictured}


def merge_shares(shares: Sequence[tuple[list[CaseRow], Tiles]]) -> tuple[list[CaseRow], list[np.ndarray]]:
    """All rows of what `Validation.run` returned in each process, and all tiles in the order of their cases."""
    rows = [row for own, _ in shares for row in own]
    tiles = {number: pair for _, own in shares for number, pair in own.items()}
    return rows, [tile for number in sorted(tiles) for tile in tiles[number]]


def dice_columns(found: Mapping[str, Any]) -> dict[str, float]:
    """Mean Dice of each prompt, as val_dice_<prompt>, and val_dice, their mean, of a summary (`summarise`)."""
    prompts = {name: means["dice"] for name, means in found["overall"].items()}
    return {f"val_dice_{name}": value for name, value in prompts.items()} | {"val_dice": mean(list(prompts.values()))}


def structure_dice(found: Mapping[str, Any]) -> dict[str, float]:
    """Dice of each structure by its structure prompt, else by a box, of a summary (`summarise`); none without masks."""
    means = {name: prompts.get("structure", prompts["box"])["dice"] for name, prompts in found["structures"].items()}
    return {name: value for name, value in means.items() if not math.isnan(value)}


def fallen(start: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """The structures whose Dice is lower than at the start by more than TOLERANCE; they are logged."""
    names = [name for name, dice in start.items() if now[name] < dice - TOLERANCE]
    if names:
        changes = ", ".join(f"{name} {start[name]:.3f} -> {now[name]:.3f}" for name in names)
        logger.info(f"not best: worse than the start ({changes})")
    return names
