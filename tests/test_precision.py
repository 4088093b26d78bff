"""Half precision and full disks: what must not change, and what must not be lost."""

import errno

import numpy as np
import pytest
import torch

import trainer
from segment_anything.predictor import SamPredictor
from segment_anything.training import state as training_state
from segment_anything.training.step import StepPolicy, forward_backward
from tests.test_training import two_discs


def test_positions_are_as_exact_under_autocast(tiny_model):
    """In bfloat16 the phase, tens of radians, would move a click by a pixel."""
    coords = torch.tensor([[[3.0, 40.0], [63.0, 0.0]]])
    labels = torch.tensor([[1, 0]])
    expected = tiny_model.prompt_encoder.embed_points(coords, labels)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tiny_model.prompt_encoder.embed_points(coords, labels), expected)
        torch.testing.assert_close(tiny_model.prompt_encoder.get_dense_pe(), tiny_model.prompt_encoder.pe_layer.grid(4))


def test_predictor_with_half_precision_weights(tiny_model):
    predictor = SamPredictor(tiny_model.bfloat16())
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    box = np.array([10, 10, 40, 30])
    _, _, low_res = predictor.predict(box=box)
    logits, iou, _ = predictor.predict(box=box, mask_input=low_res[:1], return_logits=True)
    assert logits.dtype == iou.dtype == np.float32 and logits.shape == (3, 50, 70)


def test_a_step_under_autocast_is_close_to_one_without(tiny_model):
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            generator = torch.Generator().manual_seed(0)
            losses.append(forward_backward(tiny_model, *two_discs(), StepPolicy(0), generator)["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_gradient_that_is_no_number_is_refused():
    trainer_like = type("Run", (), {"folder": trainer.Path("nowhere"), "step": 7})()
    batch = type("Batch", (), {"records": []})()
    refuse = trainer.Trainer._refuse_nan
    refuse(trainer_like, 1.0, 2.0, batch)
    for loss, gradient in ((float("nan"), 1.0), (1.0, float("inf")), (1.0, float("nan"))):
        with pytest.raises(trainer.UsageError, match=r"step 7.*lower --lr"):
            refuse(trainer_like, loss, gradient, batch)


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
