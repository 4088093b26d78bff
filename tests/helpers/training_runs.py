"""Short runs of train.py on tiny models, and single training steps."""

import argparse
import csv
import importlib.util
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

import train
from sam_med2d.training import trainer
from sam_med2d.training.recipes import apply_recipe
from sam_med2d.training.step import StepPolicy, round_losses
from segment_anything.modeling import Sam
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import tiny_vit_t

Discs = tuple[Tensor, Tensor, Tensor, Tensor]


def load_test_script() -> ModuleType:
    """The project's test.py; plain `import test` may find the standard library's package of that name."""
    if "test_script" not in sys.modules:
        spec = importlib.util.spec_from_file_location("test_script", ROOT / "test.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["test_script"] = module
        spec.loader.exec_module(module)
    return sys.modules["test_script"]


def train_words(work_dir: Path, *more: str) -> list[str]:
    """A command line of a short run on the demo photographs; the run is called "tiny", and later words win."""
    flags = "--data_path data_demo --sam_checkpoint none --model_type vit_t --train_encoder full --image_size 64"
    flags += " --encoder_adapter False --epochs 2 --batch_size 4 --iter_point 3 --num_workers 0"
    flags += f" --work_dir {work_dir} --run_name tiny"
    return [*flags.split(), *more]


def train_args(work_dir: Path, *more: str) -> argparse.Namespace:
    """The flags of such a run, as train.py's own code gets them."""
    args = train.parse_args(train_words(work_dir, *more))
    apply_recipe(args)
    return args


def finished_run(work_dir: Path, *more: str) -> Path:
    """Train with these flags to the end; the work_dir."""
    with tiny_vit_t():
        assert train.main(train_args(work_dir, *more)) == 0
    return work_dir


def logged_losses(folder: Path) -> list[dict[str, str]]:
    """Rows of history.csv of the run below `folder`, without the time that they took."""
    history = csv.DictReader((folder / "models/tiny/history.csv").open())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def stop_and_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch, step: int, *flags: str) -> None:
    """A run that gets SIGTERM in the given step, and goes on to its end."""
    train_step = trainer.Trainer._train_step

    def step_and_signal(self, batches):
        if self.step + 1 == step:
            signal.raise_signal(signal.SIGTERM)
        return train_step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_train_step", step_and_signal)
        assert train.main(train_args(folder, *flags)) == 130
    assert train.main(train_args(folder, *flags, "--resume", str(folder / "models/tiny/last"))) == 0


def assert_same_run(first: Path, second: Path) -> None:
    """Weights, averaged ones and logged losses of two finished runs are equal to the bit."""
    weights = [(folder / "models/tiny/last/model.safetensors").read_bytes() for folder in (first, second)]
    assert weights[0] == weights[1]
    assert logged_losses(first) == logged_losses(second)


def two_discs(size: int = 64) -> Discs:
    """A batch of two pictures with a bright disc each: image, mask, box, image_index."""
    y, x = np.mgrid[:size, :size]
    discs = np.stack([(y - cy) ** 2 + (x - cx) ** 2 < r * r for cy, cx, r in ((24, 22, 12), (40, 38, 15))])
    mask = torch.from_numpy(discs)[:, None]
    image = torch.where(mask, 1.5, -1.0).repeat(1, 3, 1, 1)
    boxes = torch.tensor([[11, 13, 34, 36], [24, 26, 53, 55]], dtype=torch.float32)
    return image, mask, boxes, torch.arange(2)


def streams(seeds: Sequence[int]) -> list[torch.Generator]:
    """A random stream for each mask, as the trainer makes them."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def backward(
    model: Sam,
    batch: Discs,
    policy: StepPolicy,
    *,
    seed: int = 0,
    masks: Sequence[int] | None = None,
    scale: float = 1.0,
    after_round: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Add the gradients of one step's rounds on a batch; the sums of their losses.

    `masks`: the seeds of their streams; `scale` multiplies the gradients; `after_round` is called after each round.
    """
    click_policy = policy.draw(torch.Generator().manual_seed(seed))
    randomness = streams(range(1000 * seed, 1000 * seed + len(batch[1])) if masks is None else masks)
    sums: dict[str, float] = {}
    for loss in round_losses(model, *batch, policy=policy, click_policy=click_policy, randomness=randomness):
        (scale * loss.total).backward()
        sums = {name: sums.get(name, 0.0) + float(value) for name, value in loss.parts.items()}
        after_round()
    return sums


def gradients(model: Sam) -> dict[str, Tensor]:
    """Copies of the present gradients, by parameter."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
