"""Half precision and full disks: what must not change, and what must not be lost."""

import errno
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.amp import GradScaler

import train
from sam_med2d.runtime import devices
from sam_med2d.runtime.distributed import Processes
from sam_med2d.training import checkpoints as training_state
from sam_med2d.training import trainer
from sam_med2d.training.command import make_model
from sam_med2d.training.step import StepPolicy
from segment_anything.modeling import HEADS
from segment_anything.predictor import SamPredictor
from tests.helpers.tiny_models import structured
from tests.helpers.training_runs import (
    assert_same_run,
    backward,
    gradients,
    logged_losses,
    stop_and_go_on,
    train_args,
    two_discs,
)


def make_trainer(folder, *flags):
    """A run that has not begun."""
    args = train_args(folder, *flags)
    device = torch.device("cpu")
    return trainer.Trainer(args, make_model(args, device), device, folder, Processes())


def norm_of(model):
    return torch.cat([gradient.flatten() for gradient in gradients(model).values()]).norm().item()


def test_positions_are_as_exact_under_autocast(tiny_model):
    """In bfloat16 the phase, tens of radians, would move a click by a pixel."""
    coords = torch.tensor([[[3.0, 40.0], [63.0, 0.0]]])
    labels = torch.tensor([[1, 0]])
    expected = tiny_model.prompt_encoder.embed_points(coords, labels)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tiny_model.prompt_encoder.embed_points(coords, labels), expected)
        torch.testing.assert_close(tiny_model.prompt_encoder.get_dense_pe(), tiny_model.prompt_encoder.pe_layer.grid(4))


@pytest.mark.parametrize("detail", [None, *HEADS])
def test_predictor_with_half_precision_weights(tiny_model, detail):
    model = structured(detail=detail) if detail else tiny_model
    predictor = SamPredictor(model.bfloat16())
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    box = np.array([10, 10, 40, 30])
    _, _, low_res = predictor.predict(box=box)
    logits, iou, _ = predictor.predict(box=box, mask_input=low_res[:1], return_logits=True)
    assert logits.dtype == iou.dtype == np.float32 and logits.shape == (3, 50, 70)


def test_a_step_under_autocast_is_close_to_one_without(tiny_model):
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(backward(tiny_model, two_discs(), StepPolicy(0))["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_gradient_that_is_no_number_is_refused():
    """But with a gradient scaler, which leaves out such a step, only a loss is."""
    run = SimpleNamespace(folder=Path("nowhere"), step=7, processes=Processes())
    run.scaler = GradScaler("cpu", enabled=False)
    refuse = trainer.Trainer._refuse_nan
    refuse(run, 1.0, 2.0, [])
    for loss, gradient in ((float("nan"), 1.0), (1.0, float("inf")), (1.0, float("nan"))):
        with pytest.raises(trainer.UsageError, match=r"step 7.*lower --lr"):
            refuse(run, loss, gradient, [])
    run.scaler = GradScaler("cpu")
    refuse(run, 1.0, float("inf"), [])
    with pytest.raises(trainer.UsageError, match=r"step 7.*lower --lr"):
        refuse(run, float("nan"), 1.0, [])


@pytest.mark.parametrize(("use_amp", "fast"), [(True, True), (True, False), (False, False)])
def test_slow_bfloat16_is_left_out_and_that_is_said(monkeypatch, caplog, use_amp, fast):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda: fast)
    args = SimpleNamespace(use_amp=use_amp)
    devices.drop_slow_amp(args, torch.device("cpu"))
    assert args.use_amp is (use_amp and fast)
    assert ("--use_amp: this processor" in caplog.text) is (use_amp and not fast)


@pytest.mark.parametrize(
    ("features", "fast"),
    [({"avx512_f": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({}, False)],
)
def test_avx512_alone_is_slow_in_bfloat16(monkeypatch, features, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"} | features)
    assert devices.has_fast_bfloat16() is fast


@pytest.fixture
def only_float16(monkeypatch):
    """As on a GPU without bfloat16."""
    monkeypatch.setattr(trainer, "autocast_dtype", lambda _: torch.float16)
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda: True)


@pytest.mark.slow
def test_a_float16_run_trains_and_resumes(tmp_path, tiny_type, only_float16, monkeypatch):
    flags = ("--use_amp", "--mask_num", "1", "--iter_point", "2")
    assert train.main(train_args(tmp_path / "whole", *flags)) == 0
    stop_and_go_on(tmp_path / "cut", monkeypatch, 1, *flags)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    rows = logged_losses(tmp_path / "whole")
    assert len(rows) == 2 and all(0 < float(row["loss"]) < 100 for row in rows)
    folder = tmp_path / "whole/models/tiny/last"
    assert all(tensor.isfinite().all() for tensor in load_file(folder / "model.safetensors").values())
    assert training_state.load_state(folder)["scaler"]["scale"] > 0


@pytest.mark.slow
def test_a_float16_overflow_leaves_out_the_step_and_lowers_the_scale(tmp_path, tiny_type, only_float16, monkeypatch):
    """The first scale is too large on purpose."""
    before = {}
    step = trainer.Trainer._train_step

    def watched(self, batches):
        if not before:
            self.scaler = GradScaler("cpu", init_scale=2.0**40)
            before.update({name: p.detach().clone() for name, p in self.model.named_parameters()})
            found = step(self, batches)
            assert self.scaler.get_scale() == 2.0**39
            assert all(torch.equal(p, before[name]) for name, p in self.model.named_parameters())
            return found
        return step(self, batches)

    monkeypatch.setattr(trainer.Trainer, "_train_step", watched)
    flags = ("--use_amp", "--epochs", "1", "--iter_point", "0", "--mask_num", "1")
    assert train.main(train_args(tmp_path, *flags)) == 0
    assert before and len(logged_losses(tmp_path)) == 1


@pytest.mark.slow
def test_after_an_overflow_the_other_rounds_have_gradients_of_the_new_scale(tmp_path, tiny_type, only_float16):
    """Each round is an update of its own, so that the scale may change in the middle of a batch."""
    run = make_trainer(tmp_path, "--use_amp", "--clip_grad", "0", "--mask_num", "1")
    run.scaler = GradScaler("cpu", init_scale=4.0, growth_factor=4.0, growth_interval=2)
    norms = []
    run.optimizer = torch.optim.SGD([{"params": run.model.parameters(), "peak_lr": 0.0}], lr=0.0)
    run.optimizer.register_step_pre_hook(lambda *_: norms.append(norm_of(run.model)))
    run.model.train()
    batch = next(iter(run.loader))
    run._train_step([batch])
    growing = list(norms)
    norms.clear()
    run.scaler, run.step = GradScaler("cpu", init_scale=4.0, growth_interval=10**6), 0
    run._train_step([batch])
    assert growing == pytest.approx(norms, rel=0.05)


@pytest.mark.parametrize("error", [RuntimeError("write failed"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path, monkeypatch, error):
    weights = {"w": torch.ones(3)}
    training_state.save_checkpoint(tmp_path, "step-1", weights, {}, {"flags": {}, "step": 1}, ["last"])

    def full(*_):
        raise error

    monkeypatch.setattr(training_state.torch, "save", full)
    with pytest.raises(OSError):
        training_state.save_checkpoint(tmp_path, "step-2", weights, {}, {"flags": {}, "step": 2}, ["last"])
    monkeypatch.undo()
    assert training_state.load_state(tmp_path / "last")["step"] == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
