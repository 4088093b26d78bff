"""Training: what learns and what stays frozen, one batch learnt by heart, both scripts end to end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import train
import trainer
from segment_anything.training.interactive import ClickPolicy, run
from segment_anything.training.losses import soft_iou
from segment_anything.training.prompts import box_points
from segment_anything.training.step import StepPolicy, forward_backward, random_openings, select_trainable
from tests.conftest import TINY_SPEC, make_tiny_model
from tests.helpers import load_test_script

POLICY = StepPolicy(corrective_rounds=4, clicks=(1, 2))


def two_discs(size=64):
    """A batch of two pictures with a bright disc each: image, mask, box, image_index."""
    y, x = np.mgrid[:size, :size]
    discs = np.stack([(y - cy) ** 2 + (x - cx) ** 2 < r * r for cy, cx, r in ((24, 22, 12), (40, 38, 15))])
    mask = torch.from_numpy(discs)[:, None]
    image = torch.where(mask, 1.5, -1.0).repeat(1, 3, 1, 1)
    boxes = torch.tensor([[11, 13, 34, 36], [24, 26, 53, 55]], dtype=torch.float32)
    return image, mask, boxes, torch.arange(2)


def gradients_after_steps(model, steps=12):
    """Names of the parameters that some step gave a non-zero gradient."""
    generator = torch.Generator().manual_seed(0)
    touched = set()
    for _ in range(steps):
        model.zero_grad()
        forward_backward(model, *two_discs(), POLICY, generator)
        touched |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    return touched


@pytest.mark.parametrize("encoder", ["full", "adapter", "none"])
def test_every_trainable_parameter_learns_and_no_frozen_one_does(encoder):
    model = make_tiny_model(encoder_adapter=True).train()
    select_trainable(model, encoder)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert gradients_after_steps(model) == trainable
    assert {"prompt_encoder.not_a_point_embed.weight", "prompt_encoder.no_mask_embed.weight"} <= trainable
    assert {f"prompt_encoder.point_embeddings.{i}.weight" for i in range(4)} <= trainable
    assert any("mask_downscaling" in name for name in trainable)
    assert ("image_encoder.pos_embed" in trainable) == (encoder == "full")
    assert any("Adapter" in name for name in trainable) == (encoder != "none")


def test_frozen_parameters_do_not_move_under_the_optimizer():
    model = make_tiny_model(encoder_adapter=True).train()
    select_trainable(model, "adapter")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = trainer.make_optimizer(model, train.parse_args(["--weight_decay", "0.5", "--lr", "0.01"]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        optimizer.zero_grad()
        forward_backward(model, *two_discs(), POLICY, generator)
        optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_one_batch_is_learnt_by_heart():
    model = make_tiny_model().train()
    batch = two_discs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    policy = StepPolicy(corrective_rounds=2, clicks=(1,))
    for _ in range(150):
        optimizer.zero_grad()
        forward_backward(model, *batch, policy, generator)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    image, mask, box, index = batch
    with torch.no_grad():
        rounds = run(model, model.encode(image), index, mask, box_points(box), ClickPolicy(rounds=1), generator)
        predicted = next(rounds).logits() > 0
    dice = 2 * (predicted & mask).sum() / (predicted.sum() + mask.sum())
    assert dice > 0.9


def test_rounds_meet_in_the_encoder_as_in_one_graph():
    """Backward passes round by round give the gradient of the summed rounds."""
    torch.manual_seed(1)
    model = make_tiny_model().train()
    batch = two_discs()
    policy = StepPolicy(corrective_rounds=2, clicks=(1,))
    forward_backward(model, *batch, policy, torch.Generator().manual_seed(3))
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    summed_loss(model, batch, policy, torch.Generator().manual_seed(3)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-3, msg=name)


def summed_loss(model, batch, policy, generator):
    """The step's loss as one graph, with the step's own order of random draws."""
    from segment_anything.training.interactive import random_mask_only
    from segment_anything.training.losses import candidate_loss

    image, mask, box, index = batch
    rounds = 1 + policy.corrective_rounds
    clicks = tuple(policy.clicks[i] for i in torch.randint(len(policy.clicks), (rounds,), generator=generator).tolist())
    click_policy = ClickPolicy(rounds, clicks, random_mask_only(rounds, generator), None)
    opening = random_openings(mask[:, 0], box, generator)
    results = run(model, model.encode(image), index, mask, opening, click_policy, generator)
    return sum(candidate_loss(r.candidates, mask, r.candidate_iou, generator)[0] for r in results) / rounds


def test_iou_target_has_no_gradient():
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    assert not soft_iou(logits, torch.ones(1, 1, 8, 8)).requires_grad


def train_args(work_dir: Path, *more: str):
    """Flags of a short run of a tiny model on the demo photographs."""
    flags = "--data_path data_demo --model_type vit_t --train_encoder full --encoder_adapter False --image_size 64"
    flags += f" --epochs 2 --batch_size 4 --iter_point 3 --num_workers 0 --work_dir {work_dir} --run_name tiny"
    return train.parse_args([*flags.split(), *more])


@pytest.fixture
def tiny_type(monkeypatch):
    """Make "vit_t" a tiny model, so that whole runs take seconds."""
    monkeypatch.setitem(train.MODEL_SPECS, "vit_t", TINY_SPEC)


def test_both_scripts_end_to_end(tmp_path, tiny_type):
    assert train.main(train_args(tmp_path)) == 0
    run_folder = tmp_path / "models" / "tiny"
    history = list(csv.DictReader((run_folder / "history.csv").open()))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert all(0 <= float(row["val_dice"]) <= 1 for row in history)
    assert json.loads((run_folder / "config.json").read_text())["flags"]["seed"] == 0

    script = load_test_script()
    flags = f"--data_path data_demo --work_dir {tmp_path} --run_name out --num_workers 0 --save_pred"
    assert script.main(script.parse_args([*flags.split(), "--sam_checkpoint", str(run_folder / "best")])) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["overall"]) == ["box", "1", "3", "5"]
    cases = list(csv.DictReader((tmp_path / "out" / "cases.csv").open()))
    masks = json.loads(Path("data_demo/label2image_test.json").read_text())
    assert len(cases) == 4 * len(masks)
    mean = np.mean([float(row["dice"]) for row in cases if row["prompt"] == "3"])
    assert summary["overall"]["3"]["dice"] == pytest.approx(mean)
    assert {path.name for path in (tmp_path / "out" / "iter5_prompt").iterdir()} == {Path(m).name for m in masks}
    assert "| Model | Resolution | Bbox | 1 pt | 3 pts | 5 pts | FPS |" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "overlay.png").stat().st_size > 10_000


def test_saved_predictions_score_what_the_table_says(tmp_path, tiny_type):
    import cv2

    train.main(train_args(tmp_path, "--epochs", "1"))
    script = load_test_script()
    flags = f"--data_path data_demo --work_dir {tmp_path} --run_name out --num_workers 0 --save_pred --prompts box"
    script.main(script.parse_args([*flags.split(), "--sam_checkpoint", str(tmp_path / "models/tiny/last")]))
    for row in csv.DictReader((tmp_path / "out" / "cases.csv").open()):
        saved = cv2.imread(str(tmp_path / "out" / "boxes_prompt" / row["mask"]), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(f"data_demo/masks/{row['mask']}", cv2.IMREAD_UNCHANGED) > 0
        assert set(np.unique(saved)) <= {0, 255} and saved.shape == truth.shape
        overlap = 2 * ((saved > 0) & truth).sum() / max(1, (saved > 0).sum() + truth.sum())
        assert float(row["dice"]) == pytest.approx(overlap, abs=1e-6)


def test_replayed_prompts_give_the_same_numbers(tmp_path, tiny_type):
    train.main(train_args(tmp_path, "--epochs", "1"))
    script = load_test_script()
    common = f"--data_path data_demo --work_dir {tmp_path} --num_workers 0 --sam_checkpoint {tmp_path}/models/tiny/last"
    script.main(script.parse_args([*common.split(), "--run_name", "first"]))
    replay = ["--run_name", "second", "--prompt_path", str(tmp_path / "64_prompt.json"), "--batch_size", "3"]
    script.main(script.parse_args([*common.split(), *replay]))
    first, second = ((tmp_path / name / "cases.csv").read_text() for name in ("first", "second"))
    for a, b in zip(csv.DictReader(first.splitlines()), csv.DictReader(second.splitlines()), strict=True):
        assert a["mask"] == b["mask"] and float(a["dice"]) == pytest.approx(float(b["dice"]), abs=2e-3)


@pytest.mark.parametrize("interrupted_at", [1, 2, 3], ids=["mid-epoch", "at its end", "later"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, tiny_type, monkeypatch, capsys, interrupted_at):
    train.main(train_args(tmp_path / "whole"))
    step = trainer.Trainer._train_step

    def step_and_signal(self, batch):
        losses = step(self, batch)
        if self.step == interrupted_at:
            signal.raise_signal(signal.SIGTERM)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_train_step", step_and_signal)
        assert train.main(train_args(tmp_path / "cut")) == 130
    assert "--resume" in capsys.readouterr().out
    train.main(train_args(tmp_path / "cut", "--resume", str(tmp_path / "cut/models/tiny/last")))
    weights = [(tmp_path / n / "models/tiny/last/model.safetensors").read_bytes() for n in ("whole", "cut")]
    assert weights[0] == weights[1]
    logs = [logged_losses(tmp_path / name) for name in ("whole", "cut")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_process_group_saves_and_names_the_command(tmp_path, number):
    """As Ctrl-C does in a terminal: loader processes get the signal too."""
    flags = "--data_path data_demo --model_type vit_t --train_encoder full --encoder_adapter False --image_size 64"
    flags += f" --epochs 500 --iter_point 1 --num_workers 1 --work_dir {tmp_path} --run_name tiny"
    command = [sys.executable, "train.py", *flags.split()]
    history = tmp_path / "models/tiny/history.csv"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not history.exists() and process.poll() is None:
            time.sleep(0.2)
        os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--resume {tmp_path}/models/tiny/last" in output
    assert (tmp_path / "models/tiny/last/state.pt").is_file()


def logged_losses(folder):
    history = csv.DictReader((folder / "models/tiny/history.csv").open())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def test_resume_with_other_flags_names_them(tmp_path, tiny_type):
    train.main(train_args(tmp_path, "--epochs", "1"))
    with pytest.raises(trainer.UsageError, match=r"--lr 0\.5 \(was 0\.0001\)"):
        train.main(train_args(tmp_path, "--epochs", "1", "--lr", "0.5", "--resume", str(tmp_path / "models/tiny/last")))


def test_resume_in_another_run_folder_is_refused(tmp_path, tiny_type):
    train.main(train_args(tmp_path, "--epochs", "1"))
    last = str(tmp_path / "models/tiny/last")
    with pytest.raises(trainer.UsageError, match="is not in .*other"):
        train.main(train_args(tmp_path, "--epochs", "1", "--run_name", "other", "--resume", last))


def test_same_seed_same_weights(tmp_path, tiny_type):
    for name in ("a", "b"):
        train.main(train_args(tmp_path / name, "--epochs", "1"))
    train.main(train_args(tmp_path / "c", "--epochs", "1", "--seed", "1"))
    a, b, c = ((tmp_path / n / "models/tiny/last/model.safetensors").read_bytes() for n in "abc")
    assert a == b and a != c
