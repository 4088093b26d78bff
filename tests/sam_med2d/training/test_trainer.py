"""Whole runs of train.py: one that was stopped ends as one that was not, and what a run keeps."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import train
from sam_med2d.errors import DataError
from sam_med2d.runtime.cli import run_main
from sam_med2d.training import trainer
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling.factored_gradients import Factors
from tests.helpers.training_runs import assert_same_run, finished_run, logged_losses, stop_and_go_on, train_args

pytestmark = pytest.mark.usefixtures("tiny_type", "quick_figures")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The work_dir of a finished run, to compare with and to read from."""
    return finished_run(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize(
    "interrupted_at", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_resumed_run_equals_the_uninterrupted_one(trained, tmp_path, monkeypatch, capsys, interrupted_at):
    """Stopped in the middle of an epoch, at its end, and in a later one."""
    stop_and_go_on(tmp_path, monkeypatch, interrupted_at)
    assert "--resume" in capsys.readouterr().out
    assert_same_run(trained, tmp_path)


@pytest.mark.slow
def test_adapters_train_with_their_gradients_as_factors(tmp_path, monkeypatch):
    """The same losses as with whole gradients, and resumed to the bit."""
    taken, take = [], Factors.take

    def spy(self, left, right):
        taken.append(take(self, left, right))
        return taken[-1]

    monkeypatch.setattr(Factors, "take", spy)
    flags = ["--encoder_adapter", "True", "--batch_size", "2"]
    assert train.main(train_args(tmp_path / "whole", *flags)) == 0
    assert taken and all(taken)
    stop_and_go_on(tmp_path / "cut", monkeypatch, 2, *flags)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    taken.clear()
    monkeypatch.setattr(trainer, "factor_adapters", lambda _: None)
    assert train.main(train_args(tmp_path / "dense", *flags)) == 0
    assert not taken
    for factored, dense in zip(*(logged_losses(tmp_path / name) for name in ("whole", "dense")), strict=True):
        assert float(factored["loss"]) == pytest.approx(float(dense["loss"]), rel=1e-3)


@pytest.mark.slow
def test_a_resumed_run_keeps_the_presence_thresholds(tmp_path, monkeypatch):
    """Those of the last validation, until the next; a structure that no validation photograph tells of has its own."""
    monkeypatch.setattr(trainer, "presence_thresholds", lambda rows: {"optic_cup": 0.375})
    flags = ["--structures", "optic_cup", "vessel", "--batch_size", "2", "--save_every", "1", "--keep", "99"]
    assert train.main(train_args(tmp_path / "whole", *flags)) == 0
    stop_and_go_on(tmp_path / "cut", monkeypatch, 5, *flags)
    files = [tmp_path / name / "models/tiny/step-0000006/model.safetensors" for name in ("whole", "cut")]
    assert read_checkpoint(files[0]).metadata["presence_thresholds"] == {"optic_cup": 0.375, "vessel": 0.5}
    assert files[0].read_bytes() == files[1].read_bytes()


def test_validation_that_fails_leaves_the_presence_thresholds(tmp_path, monkeypatch):
    """What was learnt until then is saved, with thresholds that still withhold."""

    def lost(*_):
        raise DataError("eye.png cannot be opened")

    monkeypatch.setattr(trainer.Validation, "run", lost)
    flags = ["--structures", "optic_cup", "vessel", "--epochs", "1"]
    assert run_main(train.main, train_args(tmp_path, *flags)) == 2
    saved = read_checkpoint(tmp_path / "models/tiny/last").metadata
    assert saved["presence_thresholds"] == {"optic_cup": 0.5, "vessel": 0.5}


def test_a_structure_without_validation_cases_keeps_its_threshold(tmp_path, monkeypatch):
    run = trainer.Validation.run

    def without_vessels(self, model):
        rows, tiles = run(self, model)
        return [row for row in rows if row.structure != "vessel"], tiles

    monkeypatch.setattr(trainer.Validation, "run", without_vessels)
    assert train.main(train_args(tmp_path, "--structures", "optic_cup", "vessel", "--epochs", "1")) == 0
    saved = read_checkpoint(tmp_path / "models/tiny/last").metadata
    assert saved["presence_thresholds"] == {"optic_cup": 0.0, "vessel": 0.5}  # the cup is in every photograph


@pytest.mark.slow
@pytest.mark.parametrize(("share", "images"), [(1.0, 7), (0.3, 2)])
def test_a_share_of_the_photographs_trains(tmp_path, capsys, share, images):
    flags = ["--train_share", str(share), "--epochs", "1", "--batch_size", "2"]
    assert train.main(train_args(tmp_path, *flags)) == 0
    assert f"{images} training images" in capsys.readouterr().out


@pytest.mark.slow
def test_a_photograph_lost_in_validation_keeps_what_was_learnt(trained, tmp_path, monkeypatch):
    """Validation has put the averaged weights into the model: they must not be taken for the trained ones."""

    def lost(*_):
        raise DataError("eye.png cannot be opened")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Validation, "run", lost)
        assert run_main(train.main, train_args(tmp_path)) == 2
    assert train.main(train_args(tmp_path, "--resume", str(tmp_path / "models/tiny/last"))) == 0
    assert_same_run(trained, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_process_group_saves_and_names_the_command(tmp_path, number):
    """As Ctrl-C does in a terminal: loader processes get the signal too."""
    flags = "--data_path data_demo --sam_checkpoint none --model_type vit_t --train_encoder full --image_size 64"
    flags += (
        f" --encoder_adapter False --epochs 500 --iter_point 1 --num_workers 1 --work_dir {tmp_path} --run_name tiny"
    )
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


def test_resume_with_other_flags_names_them(trained):
    last = str(trained / "models/tiny/last")
    with pytest.raises(trainer.UsageError, match=r"--lr 0\.5 \(was 0\.0001\)"):
        train.main(train_args(trained, "--lr", "0.5", "--resume", last))


def test_resume_in_another_run_folder_is_refused(trained):
    last = str(trained / "models/tiny/last")
    with pytest.raises(trainer.UsageError, match="is not in .*other"):
        train.main(train_args(trained, "--run_name", "other", "--resume", last))


@pytest.mark.slow
def test_same_seed_same_weights(trained, tmp_path):
    train.main(train_args(tmp_path / "same"))
    train.main(train_args(tmp_path / "other", "--seed", "1"))
    a, b, c = (
        (folder / "models/tiny/last/model.safetensors").read_bytes()
        for folder in (trained, tmp_path / "same", tmp_path / "other")
    )
    assert a == b and a != c


@pytest.mark.slow
def test_the_start_stays_best_where_training_makes_a_structure_worse(tmp_path, capsys, monkeypatch):
    start = finished_run(tmp_path / "start", "--structures", "--epochs", "1") / "models/tiny/best"
    vessels = iter((0.7, 0.6, 0.8))  # at the start and after each epoch, while the mean over prompts rises

    def found(self, epoch):
        means = {"structure": {"dice": next(vessels)}, "box": {"dice": 0.5}}
        return {"overall": {"box": {"dice": 0.5 + epoch / 10}}, "structures": {"vessel": means}}

    monkeypatch.setattr(trainer.Trainer, "validate", found)
    for epochs, best_step in (("1", 0), ("2", 4)):
        vessels = iter((0.7, 0.6, 0.8))
        folder = tmp_path / epochs
        flags = ["--sam_checkpoint", str(start), "--keep_start", "--epochs", epochs]
        assert train.main(train_args(folder, *flags)) == 0
        assert (folder / "models/tiny/best").resolve().name == f"step-{best_step:07d}"
        assert "not best: worse than the start (vessel 0.700 -> 0.600)" in capsys.readouterr().out
    best = read_checkpoint(tmp_path / "1/models/tiny/best").state
    assert all(torch.equal(value, best[name]) for name, value in read_checkpoint(start).state.items())


@pytest.mark.slow
def test_an_adaptation_learns_new_structures_of_its_data(tmp_path, capsys):
    start = finished_run(tmp_path / "start", "--structures", "optic_disc", "--epochs", "1") / "models/tiny/best"
    words = f"--recipe adapt --sam_checkpoint {start} --data_path data_demo --epochs 1 --epoch_photographs 4"
    args = train.parse_args([*words.split(), "--num_workers", "0", "--work_dir", str(tmp_path), "--run_name", "tiny"])
    assert train.main(args) == 0
    output = capsys.readouterr().out
    new = "haemorrhage", "hard_exudate", "microaneurysm", "optic_cup", "vessel"
    assert f"new structure prompts, which the weights do not know yet: {', '.join(new)}" in output
    assert args.model_type == "vit_t" and args.image_size == 64
    assert read_checkpoint(tmp_path / "models/tiny/best").structures == ("optic_disc", *new)


@pytest.mark.slow
def test_a_run_stopped_between_epochs_without_and_with_prompts_goes_on(tmp_path, monkeypatch):
    flags = ["--structures", "--detail", "pyramid", "--pyramid_weights", "none", "--pyramid_epochs", "1"]
    whole = finished_run(tmp_path / "whole", *flags)
    for step in (1, 2, 3):
        stop_and_go_on(tmp_path / str(step), monkeypatch, step, *flags)
        assert_same_run(whole, tmp_path / str(step))
