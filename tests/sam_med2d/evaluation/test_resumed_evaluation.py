"""Runs of test.py that are interrupted, taken up again or shared by processes end as one that nothing disturbed."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from sam_med2d.evaluation import evaluator
from tests.helpers.evaluation_runs import cases, large_logits_weights, make_data, run, summary, words
from tests.helpers.tiny_models import tiny_vit_t
from tests.helpers.tiny_scripts import fork, fork_together

pytestmark = pytest.mark.usefixtures("tiny_type")
QUICK = pytest.mark.usefixtures("quick_figures")  # of tests that do not compare pictures


class Shared:
    """Weights and photographs, and the folder of a run on them that nothing disturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole = folder, folder / "whole"
        self.weights, self.data = large_logits_weights(folder), make_data(folder / "data")
        with tiny_vit_t():
            assert self.run("whole") == 0

    def run(self, name: str, *more: str) -> int:
        return run(self.weights, self.data, name, *more)

    def words(self, name: str, *more: str) -> list[str]:
        return words(self.weights, self.data, name, *more)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Shared(tmp_path_factory.mktemp("shared"))


def same_run(first: Path, second: Path) -> None:
    assert cases(first) == cases(second) and summary(first) == summary(second)
    for name in ("boxes.png", "clicks.png", "calibration.png", "overlay.png"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@QUICK
def test_an_interrupted_run_goes_on_and_computes_nothing_twice(shared, monkeypatch, capsys):
    done, predict = [], evaluator.predict_batch

    def interrupted(model, batch, *args, **options):
        if len(done) == 3 and "go on" not in done:
            done.append("go on")
            signal.raise_signal(signal.SIGTERM)
        done.append(batch.records[0].image.name)
        return predict(model, batch, *args, **options)

    monkeypatch.setattr(evaluator, "predict_batch", interrupted)
    monkeypatch.setattr(evaluator.Evaluator, "_contact_sheet", lambda self, _: np.zeros((4, 4, 3), np.uint8))
    assert shared.run("cut") == 130
    assert "--resume True" in capsys.readouterr().out and not (shared.folder / "cut/cases.csv").exists()
    assert shared.run("cut") == 2  # it would be lost
    assert shared.run("cut", "--resume") == 0
    assert sorted(set(done) - {"go on"}) == sorted(path.name for path in (shared.data / "images").iterdir())
    assert len(done) == 7 + 1
    assert cases(shared.folder / "cut") == cases(shared.whole)
    assert not (shared.folder / "cut/unfinished").exists()
    assert shared.run("cut", "--resume") == 0 and len(done) == 8  # there is nothing left to do


@QUICK
def test_what_a_killed_run_was_writing_is_tidied(checkpoint, data, tmp_path, monkeypatch):
    def interrupted(self, cases):
        raise KeyboardInterrupt

    flags = ("--prompts", "box", "--save_pred")
    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Evaluator, "_contact_sheet", interrupted)
        assert run(checkpoint, data, "out", *flags) == 130
    masks = sorted((tmp_path / "out/boxes_prompt").iterdir())
    (tmp_path / "out/boxes_prompt/.data_0_vessel_000.x1y2.png").write_bytes(b"half a picture")
    assert run(checkpoint, data, "out", *flags, "--resume") == 0
    assert sorted((tmp_path / "out/boxes_prompt").iterdir()) == masks != []


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "whole", "--metrics", "dice", "iou", "hd95", "vcdr") == 0
    argv = words(checkpoint, data, "cut", "--metrics", "dice", "iou", "hd95", "vcdr", "--resume")
    rng, kills = random.Random(0), 0
    while True:
        process = fork(argv, tmp_path / "log", script="test")
        process.join(rng.uniform(0.05, 0.5 + 0.2 * kills))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if (tmp_path / "cut/report.md").exists() and not (tmp_path / "cut/unfinished").exists():
            break
        assert kills < 60, (tmp_path / "log").read_text()
    assert kills >= 2
    same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flag", [("--seed", "9"), ("--metrics", "dice"), ("--mask_rule", "dice"), ("--prompts", "box")]
)
@QUICK
def test_a_run_does_not_go_on_with_other_flags(checkpoint, data, tmp_path, monkeypatch, capsys, flag):
    def interrupted(self, cases):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Evaluator, "_contact_sheet", interrupted)
        assert run(checkpoint, data, "out") == 130
    capsys.readouterr()
    assert run(checkpoint, data, "out", "--resume", *flag) == 2
    message = capsys.readouterr().err
    assert flag[0] in message and "--run_name" in message
    assert run(checkpoint, data, "out", "--resume") == 0


@QUICK
def test_a_run_does_not_go_on_with_a_changed_prompt_file(checkpoint, data, tmp_path, capsys):
    assert run(checkpoint, data, "first", "--prompts", "box") == 0
    own = (tmp_path / "64_prompt.json").rename(tmp_path / "own.json")
    assert run(checkpoint, data, "second", "--prompts", "box", "--prompt_path", str(own)) == 0
    own.write_text(own.read_text() + " ")
    assert run(checkpoint, data, "second", "--prompts", "box", "--prompt_path", str(own), "--resume") == 2
    assert "--prompt_path" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_the_work(shared, tmp_path, count):
    processes = fork_together(count, shared.words(f"by_{count}"), tmp_path / "log", script="test")
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * count, (tmp_path / "log").read_text()
    same_run(shared.whole, shared.folder / f"by_{count}")


@pytest.mark.slow
def test_another_number_of_processes_may_go_on(shared, tmp_path):
    argv = shared.words("all", "--resume")
    processes = fork_together(2, argv, tmp_path / "log", script="test")
    lines = shared.folder / "all/unfinished/cases"
    while sum(path.read_bytes().count(b"\n") for path in lines.glob("*.jsonl")) < 2:
        time.sleep(0.01)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert shared.run("all", "--resume") == 0
    same_run(shared.whole, shared.folder / "all")


@QUICK
def test_a_new_run_that_was_interrupted_early_is_not_taken_for_the_old_one(checkpoint, data, tmp_path, monkeypatch):
    assert run(checkpoint, data, "out", "--prompts", "box") == 0

    def interrupted(self, index):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.OpeningPrompts, "__getitem__", interrupted)
        assert run(checkpoint, data, "out", "--prompts", "box") == 130
    seen, predict = [], evaluator.predict_batch
    monkeypatch.setattr(evaluator, "predict_batch", lambda *a, **k: (seen.append(0), predict(*a, **k))[1])
    assert run(checkpoint, data, "out", "--prompts", "box", "--resume") == 0 and len(seen) >= 7


@QUICK
def test_results_that_are_there_twice_or_not_at_all_are_never_merged(checkpoint, data, tmp_path, monkeypatch, capsys):
    def interrupted(self, cases):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Evaluator, "_contact_sheet", interrupted)
        assert run(checkpoint, data, "out") == 130
    folder = tmp_path / "out/unfinished/cases"
    (path,) = folder.glob("*.jsonl")
    (folder / "other.jsonl").write_bytes(path.read_bytes().splitlines(keepends=True)[2])
    assert run(checkpoint, data, "out", "--resume") == 2
    message = capsys.readouterr().err
    assert "1 photographs" in message and "data_2.jpg" in message and "another run" in message
    (folder / "other.jsonl").unlink()
    assert run(checkpoint, data, "out", "--resume") == 0


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_run_goes_on_later(shared, monkeypatch, capsys):
    written, write = [], os.write

    def fill_up(descriptor, content):
        if content.startswith(b"[") and b'"dice"' in content:
            written.append(content)
            if len(written) > 3:
                write(descriptor, content[:10])
                raise OSError(28, "No space left on device")
        return write(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill_up)
        assert shared.run("full") == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message and str(shared.folder / "full") in message and "--resume" in message
    assert shared.run("full", "--resume") == 0
    same_run(shared.whole, shared.folder / "full")
