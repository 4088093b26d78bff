"""A run that is killed again and again, and started again each time, ends as one that nothing disturbed."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sam_med2d.training.checkpoints import load_state
from segment_anything.checkpoint import read_checkpoint
from tests.helpers.tiny_scripts import fork
from tests.helpers.training_runs import logged_losses, train_words

UPDATES = 2  # of a step with two rounds
FLAGS = ("--save_every", "1", "--iter_point", "1", "--val_every", "4")


def start(work_dir: Path, epochs: int, log: Path):
    """Start the run, from its last checkpoint if there is one."""
    last = work_dir / "models/tiny/last"
    resume = ("--resume", str(last)) if last.exists() else ()
    return fork(train_words(work_dir, *FLAGS, "--epochs", str(epochs), *resume), log)


def finish(work_dir: Path, epochs: int, log: Path) -> Path:
    """Let the run go on to its end; the work_dir."""
    process = start(work_dir, epochs, log)
    process.join(120)
    assert process.exitcode == 0, log.read_text()
    return work_dir


@pytest.fixture(scope="module")
def whole(request, tmp_path_factory):
    """The work_dir of a run that nothing disturbed, and its epochs."""
    folder = tmp_path_factory.mktemp("whole")
    return finish(folder, request.param, folder / "log"), request.param


def saved_step(last: Path) -> int:
    """The step of a checkpoint, which must be whole: weights, and the weights and the state that train on."""
    state, weights = load_state(last), read_checkpoint(last).state
    assert last.resolve().name.rstrip("+") == f"step-{state['step']:07d}"
    assert {name: tensor.shape for name, tensor in state["trained"].items()} == {
        name: weights[name].shape for name in state["trained"]
    }
    moments = [int(moment["step"]) for moment in state["optimizer"]["state"].values()]
    updates = UPDATES * state["step"]
    assert len(moments) == len(state["trained"]) and state["step"] <= min(moments) <= max(moments) == updates
    return state["step"]


@pytest.mark.parametrize(("whole", "kills"), [(1, 1), pytest.param(10, 20, marks=pytest.mark.slow)], indirect=["whole"])
def test_a_run_killed_at_any_moment_ends_as_if_undisturbed(whole, tmp_path, kills):
    """Each start is killed soon after the first thing it writes, in the middle of training or of saving."""
    (undisturbed, epochs), chance, step = whole, random.Random(0), 0
    folder, log = tmp_path / "killed", tmp_path / "log"
    run = folder / "models/tiny"
    for _ in range(kills):
        before = entries(run)
        process = start(folder, epochs, log)
        while entries(run) == before and process.is_alive():
            time.sleep(0.002)
        process.join(chance.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
        if process.exitcode == 0:  # a fast machine is at the end before the last kill: once more
            shutil.rmtree(run)
            step = 0
        elif (run / "last").exists():
            before, step = step, saved_step(run / "last")
            assert step >= before
    finish(folder, epochs, log)
    found, expected = (load_file(d / "models/tiny/last/model.safetensors") for d in (folder, undisturbed))
    assert found.keys() == expected.keys() and all(found[name].equal(expected[name]) for name in found)
    assert logged_losses(folder) == logged_losses(undisturbed)
    assert len({path.resolve() for path in run.iterdir() if path.is_dir() and "step-" in path.resolve().name}) <= 2
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


def entries(run: Path) -> set[str]:
    """Names in the run's folder, and the time of each."""
    return {f"{e.name} {e.lstat().st_mtime_ns}" for e in run.glob("*step-*")} if run.exists() else set()
