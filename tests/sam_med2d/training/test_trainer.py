"""Whole runs: both scripts end to end, and a run that was stopped ends as one that was not."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import train
from sam_med2d.errors import DataError
from sam_med2d.runtime.cli import run_main
from sam_med2d.training import trainer
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling import adapter, common
from segment_anything.modeling.factored_gradients import Factors
from tests.helpers.training_runs import assert_same_run, load_test_script, logged_losses, stop_and_go_on, train_args


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "interrupted_at", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, tiny_type, monkeypatch, capsys, interrupted_at):
    """Stopped in the middle of an epoch, at its end, and in a later one."""
    assert train.main(train_args(tmp_path / "whole")) == 0
    stop_and_go_on(tmp_path / "cut", monkeypatch, interrupted_at)
    assert "--resume" in capsys.readouterr().out
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_adapters_train_with_their_gradients_as_factors(tmp_path, tiny_type, monkeypatch):
    """Tiny adapters on the route of large ones: the same losses as with whole gradients, and resumed to the bit."""
    taken, take = [], Factors.take

    def spy(self, left, right):
        taken.append(take(self, left, right))
        return taken[-1]

    for module in (common, adapter):
        monkeypatch.setattr(module, "prefers_convolution", lambda _: True)
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
def test_a_resumed_run_keeps_the_presence_thresholds(tmp_path, tiny_type, monkeypatch):
    """Those of the last validation, until the next; a structure that no validation photograph tells of has its own."""
    monkeypatch.setattr(trainer, "presence_thresholds", lambda rows: {"optic_cup": 0.375})
    flags = ["--structures", "optic_cup", "vessel", "--batch_size", "2", "--save_every", "1", "--keep", "99"]
    assert train.main(train_args(tmp_path / "whole", *flags)) == 0
    stop_and_go_on(tmp_path / "cut", monkeypatch, 5, *flags)
    files = [tmp_path / name / "models/tiny/step-0000006/model.safetensors" for name in ("whole", "cut")]
    assert read_checkpoint(files[0]).metadata["presence_thresholds"] == {"optic_cup": 0.375, "vessel": 0.5}
    assert files[0].read_bytes() == files[1].read_bytes()


def test_validation_that_fails_leaves_the_presence_thresholds(tmp_path, tiny_type, monkeypatch):
    """What was learnt until then is saved, with thresholds that still withhold."""

    def lost(*_):
        raise DataError("eye.png cannot be opened")

    monkeypatch.setattr(trainer.Validation, "run", lost)
    flags = ["--structures", "optic_cup", "vessel", "--epochs", "1"]
    assert run_main(train.main, train_args(tmp_path, *flags)) == 2
    saved = read_checkpoint(tmp_path / "models/tiny/last").metadata
    assert saved["presence_thresholds"] == {"optic_cup": 0.5, "vessel": 0.5}


def test_a_structure_without_validation_cases_keeps_its_threshold(tmp_path, tiny_type, monkeypatch):
    run = trainer.Validation.run

    def without_vessels(self, model):
        rows, tiles = run(self, model)
        return [row for row in rows if row.structure != "vessel"], tiles

    monkeypatch.setattr(trainer.Validation, "run", without_vessels)
    assert train.main(train_args(tmp_path, "--structures", "optic_cup", "vessel", "--epochs", "1")) == 0
    saved = read_checkpoint(tmp_path / "models/tiny/last").metadata
    assert saved["presence_thresholds"] == {"optic_cup": 0.0, "vessel": 0.5}  # the cup is in every photograph


def healthy_demo(folder: Path) -> Path:
    """The demo's photographs, of which one in each map has no mask, and no soft exudate either."""
    shutil.copytree("data_demo", folder)
    rows = ["image,dataset,absent"]
    for split, healthy in {"train": "images/synthetic_02.jpg", "val": "images/synthetic_08.jpg"}.items():
        path = folder / f"image2label_{split}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {healthy: []}))
        rows.append(f"{healthy},clinic,soft_exudate")
    (folder / "label2image_test.json").unlink()
    shutil.copy(folder / "image2label_val.json", folder / "image2label_test.json")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["none", "structure"])
def test_healthy_photographs_train_and_are_tested(tmp_path, tiny_type, capsys, balance):
    data = str(healthy_demo(tmp_path / "data"))
    names = ["--structures", "optic_disc", "soft_exudate"]
    flags = ["--data_path", data, "--epochs", "1", "--batch_size", "1", "--balance", balance]
    assert train.main(train_args(tmp_path, *flags, *names)) == 0
    assert "7 training images" in capsys.readouterr().out
    assert train.main(train_args(tmp_path, *flags, "--run_name", "clicks")) == 0
    out = capsys.readouterr().out
    assert "6 training images" in out and "2 photographs without a mask are left out" in out
    script = load_test_script()
    words = f"--data_path {data} --work_dir {tmp_path} --run_name out --num_workers 0 --prompts structure box --mirror"
    argv = [*words.split(), "--sam_checkpoint", str(tmp_path / "models/tiny/last")]
    assert script.main(script.parse_args(argv)) == 0
    cases = list(csv.DictReader((tmp_path / "out/cases.csv").open()))
    assert [row["prompt"] for row in cases if row["mask"] == "no soft_exudate"] == ["structure"]
    assert "| soft_exudate | 1 |" in (tmp_path / "out/report.md").read_text()
    (tmp_path / "data/image2label_test.json").write_text(json.dumps({"images/synthetic_08.jpg": []}))
    assert script.main(script.parse_args([*argv, "--run_name", "healthy"])) == 0
    report = (tmp_path / "healthy/report.md").read_text()
    assert "| soft_exudate | 1 |" in report and "Dice" not in report


@pytest.mark.slow
@pytest.mark.parametrize(("share", "images"), [(1.0, 7), (0.3, 2)])
def test_a_share_of_the_photographs_trains(tmp_path, tiny_type, capsys, share, images):
    flags = ["--train_share", str(share), "--epochs", "1", "--batch_size", "2"]
    assert train.main(train_args(tmp_path, *flags)) == 0
    assert f"{images} training images" in capsys.readouterr().out


@pytest.mark.slow
def test_a_photograph_lost_in_validation_keeps_what_was_learnt(tmp_path, tiny_type, monkeypatch):
    """Validation has put the averaged weights into the model: they must not be taken for the trained ones."""
    assert train.main(train_args(tmp_path / "whole")) == 0

    def lost(*_):
        raise DataError("eye.png cannot be opened")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Validation, "run", lost)
        assert run_main(train.main, train_args(tmp_path / "cut")) == 2
    assert train.main(train_args(tmp_path / "cut", "--resume", str(tmp_path / "cut/models/tiny/last"))) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
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


def test_resume_with_other_flags_names_them(tmp_path, tiny_type):
    train.main(train_args(tmp_path, "--epochs", "1"))
    with pytest.raises(trainer.UsageError, match=r"--lr 0\.5 \(was 0\.0001\)"):
        train.main(train_args(tmp_path, "--epochs", "1", "--lr", "0.5", "--resume", str(tmp_path / "models/tiny/last")))


def test_resume_in_another_run_folder_is_refused(tmp_path, tiny_type):
    train.main(train_args(tmp_path, "--epochs", "1"))
    last = str(tmp_path / "models/tiny/last")
    with pytest.raises(trainer.UsageError, match="is not in .*other"):
        train.main(train_args(tmp_path, "--epochs", "1", "--run_name", "other", "--resume", last))


@pytest.mark.slow
def test_same_seed_same_weights(tmp_path, tiny_type):
    for name in ("a", "b"):
        train.main(train_args(tmp_path / name, "--epochs", "1"))
    train.main(train_args(tmp_path / "c", "--epochs", "1", "--seed", "1"))
    a, b, c = ((tmp_path / n / "models/tiny/last/model.safetensors").read_bytes() for n in "abc")
    assert a == b and a != c
