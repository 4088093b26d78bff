"""Several processes train as one does: weights and validation, what is written, stopping and going on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import train
from sam_med2d.errors import UsageError
from sam_med2d.training.checkpoints import load_state
from tests.helpers.paths import ROOT
from tests.helpers.tiny_scripts import fork_together
from tests.helpers.training_runs import logged_losses, train_args, train_words

TORCHRUN = "-m torch.distributed.run --standalone --nproc_per_node 2 -m tests.helpers.tiny_scripts train"
HALF = ("--batch_size", "2")  # for each of two processes; one alone has 4


def torchrun(work_dir: Path, *more: str) -> subprocess.Popen:
    """Start a training in two processes."""
    words = [sys.executable, *TORCHRUN.split(), *train_words(work_dir, *HALF, *more)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def assert_close_runs(one: Path, two: Path) -> None:
    """Weights, losses and validation agree to 1e-4."""
    a, b = (load_file(folder / "models/tiny/last/model.safetensors") for folder in (one, two))
    assert a.keys() == b.keys()
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 1e-4
    for expected, found in zip(logged_losses(one), logged_losses(two), strict=True):
        assert expected.keys() == found.keys()
        assert [float(v) for v in found.values()] == pytest.approx([float(v) for v in expected.values()], abs=1e-4)


def train_alone(folder: Path, *flags: str) -> None:
    """The run of one process, that two are compared with."""
    assert train.main(train_args(folder, *flags)) == 0


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A whole run of two processes, and what it printed."""
    folder = tmp_path_factory.mktemp("two")
    process = torchrun(folder)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return folder, output


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(two, tmp_path, tiny_type):
    """Seven photographs with five and with three masks: the last batch gives one process two, the other one."""
    train_alone(tmp_path)
    assert_close_runs(tmp_path, two[0])


@pytest.mark.slow
def test_only_the_first_process_writes(two):
    folder, output = two
    run = folder / "models/tiny"
    log = (run / "train.log").read_text()
    for line in ("7 training images", "epoch 1  step 2 ", "epoch 2  step 4 ", "best validation Dice"):
        assert log.count(line) == output.count(line) == 1, line
    assert sum(path.name.startswith("step-") for path in run.iterdir()) == len(
        {(run / link).resolve() for link in ("last", "best")}
    )
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    assert json.loads((run / "config.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["--accumulate 2", "--multimask False --iter_point 0"])
def test_two_processes_train_as_one(tmp_path, tiny_type, flags):
    processes = fork_together(2, train_words(tmp_path / "two", *HALF, *flags.split()), tmp_path / "log")
    train_alone(tmp_path / "one", *flags.split())
    for process in processes:
        process.join(120)
        assert process.exitcode == 0, (tmp_path / "log").read_text()
    assert_close_runs(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_stopped_processes_save_and_go_on(two, tmp_path):
    """SIGTERM reaches torchrun, which hands it on."""
    process = torchrun(tmp_path, "--save_every", "1")
    last = tmp_path / "models/tiny/last"
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and output.count("stopped; the state is in") == 1, output
    assert "torchrun --nnodes 1 --nproc_per_node 2" in output
    assert load_state(last)["step"] < 4
    process = torchrun(tmp_path, "--save_every", "1", "--resume", str(last))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert logged_losses(tmp_path) == logged_losses(two[0])
    weights = [(folder / "models/tiny/last/model.safetensors").read_bytes() for folder in (tmp_path, two[0])]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_another_number_of_processes_does_not_resume(two, tiny_type):
    with pytest.raises(UsageError, match=r"other flags: number of processes 1 \(was 2\)\."):
        train.main(train_args(two[0], *HALF, "--resume", str(two[0] / "models/tiny/last")))


def demo_data(folder: Path, train_count: int, val_count: int) -> Path:
    """The demo data with maps of its first photographs alone."""
    folder.mkdir()
    for split, count in (("train", train_count), ("val", val_count)):
        entries = json.loads((ROOT / f"data_demo/image2label_{split}.json").read_text())
        first = list(entries.items())[:count]
        absolute = {str(ROOT / "data_demo" / i): [str(ROOT / "data_demo" / m) for m in masks] for i, masks in first}
        (folder / f"image2label_{split}.json").write_text(json.dumps(absolute))
    return folder


@pytest.mark.slow
def test_a_process_without_a_validation_photograph(tmp_path, tiny_type):
    data = str(demo_data(tmp_path / "data", 4, 1))
    words = train_words(tmp_path / "two", *HALF, "--data_path", data, "--epochs", "1")
    processes = fork_together(2, words, tmp_path / "log")
    train_alone(tmp_path / "one", "--data_path", data, "--epochs", "1")
    for process in processes:
        process.join(60)
        assert process.exitcode == 0, (tmp_path / "log").read_text()
    assert_close_runs(tmp_path / "one", tmp_path / "two")


def test_more_processes_than_photographs_are_refused(tmp_path):
    words = train_words(tmp_path, "--data_path", str(demo_data(tmp_path / "data", 1, 1)))
    processes = fork_together(2, words, tmp_path / "log")
    for process in processes:
        process.join(60)
        assert process.exitcode == 2, (tmp_path / "log").read_text()
    assert "1 photographs cannot be divided among 2 processes: start fewer" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_an_unreadable_file_ends_all_processes(tmp_path):
    """One process alone finds it; the others must not wait for it."""
    data = tmp_path / "data"
    shutil.copytree(ROOT / "data_demo", data)
    flags = ("--data_path", str(data), "--epochs", "40", "--save_every", "1")
    processes = fork_together(2, train_words(tmp_path, *HALF, *flags), tmp_path / "log")
    last = tmp_path / "models/tiny/last"
    while not last.exists() and all(process.is_alive() for process in processes):
        time.sleep(0.02)
    (data / "images/synthetic_01.jpg").unlink()
    for process in processes:
        process.join(30)
        process.kill()
    assert sorted(process.exitcode for process in processes) == [1, 2], (tmp_path / "log").read_text()
    assert "synthetic_01.jpg cannot be opened" in (tmp_path / "log").read_text()
    assert load_state(last)["step"] > 0
