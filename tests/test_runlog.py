"""What a run writes down: history.csv, curves.png, pictures and TensorBoard events."""

import csv
import math
import sys

import cv2
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import report
from runlog import RunLog
from utils import UsageError

PROMPTS = ("box", "1", "3", "5")


def entry(epoch: int, *, validated: bool = True, dice: float | None = None) -> dict:
    """A history entry as the trainer makes it, ten steps an epoch."""
    dice = 1 - 1 / (epoch + 1) if dice is None else dice
    losses = {"lr": 1e-4, "loss": 3.0 / epoch, "focal": 0.1 / epoch, "dice": 0.9 / epoch, "iou": 0.01 / epoch}
    scores = {f"val_dice_{prompt}": dice for prompt in PROMPTS} | {"val_dice": dice}
    return {"epoch": epoch, "step": 10 * epoch, "seconds": 1.5 * epoch} | losses | (scores if validated else {})


def history(epochs: int, every: int = 1) -> list[dict]:
    return [entry(epoch, validated=epoch % every == 0) for epoch in range(1, epochs + 1)]


def tiles(count: int) -> list[np.ndarray]:
    return [np.full((40, 30, 3), 10 * i + 5, np.uint8) for i in range(count)]


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


# --- curves ---------------------------------------------------------------------------------------------------


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved, original = [], Figure.savefig

    def spy(self, *args, **options):
        saved.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def lines(panel) -> dict[str, tuple[list, list]]:
    """The labelled lines of a panel: {label: (x, y)}."""
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}
    return {label: data for label, data in drawn.items() if not label.startswith("_")}


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (12, 1), (12, 5)])
def test_curves_show_every_number(tmp_path, figures, epochs, every):
    made = history(epochs, every)
    report.plot_history(tmp_path / "curves.png", made)
    losses, validation = figures[0].axes
    epoch = [e["epoch"] for e in made]
    labels = zip(("total", "focal", "Dice", "predicted IoU"), ("loss", "focal", "dice", "iou"), strict=True)
    assert lines(losses) == {label: (epoch, [e[name] for e in made]) for label, name in labels}
    validated = [e for e in made if "val_dice" in e]
    epoch, mean = [e["epoch"] for e in validated], [e["val_dice"] for e in validated]
    assert lines(validation) == dict.fromkeys(("mean", "Bbox", "1 pt", "3 pts", "5 pts"), (epoch, mean))
    assert validation.get_xlabel() == losses.get_xlabel() == "epoch"
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape[1] > 2 * picture.shape[0] and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_without_validation_there_is_one_panel(tmp_path, figures):
    report.plot_history(tmp_path / "curves.png", history(3, every=10))
    assert len(figures[0].axes) == 1 and (tmp_path / "curves.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("scores", "best"), [([0.2, 0.9, 0.5], 2), ([0.5, 0.5, 0.1], 1), ([math.nan, 0.3, math.nan], 2), ([0.0], 1)]
)
def test_the_first_best_epoch_is_marked(tmp_path, figures, scores, best):
    report.plot_history(tmp_path / "curves.png", [entry(i, dice=score) for i, score in enumerate(scores, start=1)])
    panel = figures[0].axes[1]
    assert panel.get_title() == f"validation: best mean {scores[best - 1]:.3f} at epoch {best}"
    star = next(line for line in panel.get_lines() if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (best, scores[best - 1])


def test_a_dice_that_is_no_number_can_be_drawn(tmp_path):
    report.plot_history(tmp_path / "curves.png", [entry(1, dice=math.nan)])
    assert cv2.imread(str(tmp_path / "curves.png")) is not None


def test_drawing_leaves_the_callers_matplotlib_alone(tmp_path):
    backend = matplotlib.rcParams._get_backend_or_none()
    report.plot_history(tmp_path / "curves.png", history(2))
    assert matplotlib.rcParams._get_backend_or_none() == backend
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


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
    assert report.mean(values) == report.mean(values[::-1]) == pytest.approx(1.1 / 5)
    assert math.isnan(report.mean([])) and math.isnan(report.mean([math.nan]))


# --- pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (4, 1), (6, 2), (16, 4)])
def test_a_picture_holds_its_tiles(tmp_path, count, rows):
    made = tiles(count)
    RunLog(tmp_path).picture(12, made, step=120)
    sheet = cv2.imread(str(tmp_path / "validation" / "epoch-0012.png"))
    assert sheet.shape[0] == 40 * rows + 26
    for i, tile in enumerate(made):
        top, left = i // 4 * 40, i % 4 * 30
        assert np.array_equal(sheet[top : top + 40, left : left + 30], tile)


@pytest.mark.parametrize("columns", [1, 4, 40])
def test_the_legend_fits_below_any_number_of_columns(columns):
    """Its last entry is written out to the same width whatever the tiles leave."""
    wide = report.contact_sheet(tiles(1), columns=60)[40:]
    sheet = report.contact_sheet(tiles(1), columns=columns)[40:]
    used = np.flatnonzero(wide.any((0, 2))).max() + 1
    assert np.array_equal(sheet[:, :used], wide[:, :used]) and sheet.shape[1] >= 30 * columns


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
            records.picture(epoch, tiles(2), step=10 * epoch)
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
