"""The curves of a run."""

import math
import sys

import cv2
import matplotlib
import numpy as np
import pytest

from sam_med2d.visualization import training_curves
from tests.helpers.histories import entry, history

SLOW = pytest.mark.slow


def lines(panel) -> dict[str, tuple[list, list]]:
    """The labelled lines of a panel: {label: (x, y)}."""
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}
    return {label: data for label, data in drawn.items() if not label.startswith("_")}


@pytest.mark.parametrize(
    ("epochs", "every"), [pytest.param(1, 1, marks=SLOW), pytest.param(12, 1, marks=SLOW), (12, 5)]
)
def test_curves_show_every_number(tmp_path, saved_figures, epochs, every):
    made = history(epochs, every)
    training_curves.plot_history(tmp_path / "curves.png", made)
    losses, validation = saved_figures[0].axes
    epoch = [e["epoch"] for e in made]
    labels = zip(("total", "focal", "Dice", "predicted IoU"), ("loss", "focal", "dice", "iou"), strict=True)
    assert lines(losses) == {label: (epoch, [e[name] for e in made]) for label, name in labels}
    validated = [e for e in made if "val_dice" in e]
    epoch, mean = [e["epoch"] for e in validated], [e["val_dice"] for e in validated]
    assert lines(validation) == dict.fromkeys(("mean", "Bbox", "1 pt", "3 pts", "5 pts"), (epoch, mean))
    assert validation.get_xlabel() == losses.get_xlabel() == "epoch"
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape[1] > 2 * picture.shape[0] and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_without_validation_there_is_one_panel(tmp_path, saved_figures):
    training_curves.plot_history(tmp_path / "curves.png", history(3, every=10))
    assert len(saved_figures[0].axes) == 1 and (tmp_path / "curves.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("scores", "best"), [([0.2, 0.9, 0.5], 2), ([0.5, 0.5, 0.1], 1), ([math.nan, 0.3, math.nan], 2), ([0.0], 1)]
)
def test_the_first_best_epoch_is_marked(tmp_path, quick_figures, scores, best):
    training_curves.plot_history(
        tmp_path / "curves.png", [entry(i, dice=score) for i, score in enumerate(scores, start=1)]
    )
    panel = quick_figures[0].axes[1]
    assert panel.get_title() == f"validation: best mean {scores[best - 1]:.3f} at epoch {best}"
    star = next(line for line in panel.get_lines() if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (best, scores[best - 1])


def test_a_dice_that_is_no_number_can_be_drawn(tmp_path):
    training_curves.plot_history(tmp_path / "curves.png", [entry(1, dice=math.nan)])
    assert cv2.imread(str(tmp_path / "curves.png")) is not None


def test_drawing_leaves_the_callers_matplotlib_alone(tmp_path):
    backend = matplotlib.rcParams._get_backend_or_none()
    training_curves.plot_history(tmp_path / "curves.png", history(2))
    assert matplotlib.rcParams._get_backend_or_none() == backend
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()
