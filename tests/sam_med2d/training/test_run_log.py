"""What a run writes down: history.csv, curves.png, pictures and TensorBoard events."""

import csv
import math
import sys

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from sam_med2d.errors import UsageError
from sam_med2d.evaluation.summary import mean
from sam_med2d.training.run_log import RunLog
from tests.helpers.histories import history, tiles


@pytest.mark.usefixtures("quick_figures")
def test_history_returns_from_its_file(tmp_path):
    made = history(5, every=2)
    records = RunLog(tmp_path)
    for count in range(1, 6):
        records.add(made[:count])
        lines = list(csv.DictReader((tmp_path / "history.csv").open()))
        found = [{name: float(value) for name, value in line.items() if value} for line in lines]
        assert found == made[:count]
    records.close()
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "curves.png"}


def test_a_failed_drawing_leaves_the_earlier_curves(tmp_path, monkeypatch):
    records = RunLog(tmp_path)
    records.add(history(1))
    before = (tmp_path / "curves.png").read_bytes()

    def fail(self, path, **_):
        path.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        records.add(history(2))
    assert (tmp_path / "curves.png").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "curves.png"}


def test_a_mean_does_not_depend_on_the_order():
    values = [0.1, 1e16, 0.3, -1e16, 0.7, math.nan]
    assert mean(values) == mean(values[::-1]) == pytest.approx(1.1 / 5)
    assert math.isnan(mean([])) and math.isnan(mean([math.nan]))


# --- pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (4, 1), (6, 2), (16, 4)])
def test_a_picture_holds_its_tiles(tmp_path, count, rows):
    made = tiles(count)
    RunLog(tmp_path).add_pictures(12, made, step=120)
    sheet = cv2.imread(str(tmp_path / "validation" / "epoch-0012.png"))
    assert sheet.shape[0] == 40 * rows + 26
    for i, tile in enumerate(made):
        top, left = i // 4 * 40, i % 4 * 30
        assert np.array_equal(sheet[top : top + 40, left : left + 30], tile)


# --- TensorBoard ----------------------------------------------------------------------------------------------


def events(folder):
    """What TensorBoard shows: scalars {tag: [(step, value)]} and pictures' steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {tag: [(e.step, pytest.approx(e.value)) for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    return scalars, {tag: [e.step for e in accumulator.Images(tag)] for tag in tags["images"]}


def write(folder, epochs, *, every=1, resumed_at=None):
    """Records of some epochs of a run, as a trainer writes them."""
    records = RunLog(folder, tensorboard=True, resumed_at=resumed_at)
    made = history(max(epochs), every)
    for epoch in epochs:
        if epoch % every == 0:
            records.add_pictures(epoch, tiles(2), step=10 * epoch)
        records.add(made[:epoch])
    records.close()
    return made


def test_tensorboard_gets_every_number_by_step(tmp_path):
    pytest.importorskip("tensorboard")
    made = write(tmp_path, range(1, 5), every=2)
    scalars, pictures = events(tmp_path)
    for name, tag in (("loss", "train/loss"), ("lr", "train/lr"), ("val_dice_3", "validation/dice_3")):
        assert scalars[tag] == [(e["step"], e[name]) for e in made if name in e]
    assert len(scalars) == len(made[1]) and pictures == {"validation": [20, 40]}


@pytest.mark.slow
def test_a_resumed_run_takes_the_place_of_what_it_repeats(tmp_path):
    """The first attempt got to epoch 4; its checkpoint is of epoch 2, whose entry stays."""
    pytest.importorskip("tensorboard")
    write(tmp_path, range(1, 5))
    first, _ = events(tmp_path)
    write(tmp_path, range(3, 6), resumed_at=20)
    scalars, pictures = events(tmp_path)
    assert [step for step, _ in first["train/loss"]] == [10, 20, 30, 40]
    assert [step for step, _ in scalars["train/loss"]] == [10, 20, 30, 40, 50]
    assert pictures == {"validation": [10, 20, 30, 40, 50]}


def test_without_the_package_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="--tensorboard: install it with pip install tensorboard"):
        RunLog(tmp_path, tensorboard=True)
    RunLog(tmp_path).add(history(1))
    assert not (tmp_path / "tensorboard").exists()
