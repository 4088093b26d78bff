"""Pictures of cases and the curves of a run."""

import math
import sys

import cv2
import matplotlib
import numpy as np
import pytest

from sam_med2d.visualization import overlays, plot_style, training_curves
from tests.helpers.histories import entry, history, tiles

# --- photographs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 4, 40])
def test_the_legend_fits_below_any_number_of_columns(columns):
    """Its last entry is written out to the same width whatever the tiles leave."""
    wide = overlays.contact_sheet(tiles(1), columns=60)[40:]
    sheet = overlays.contact_sheet(tiles(1), columns=columns)[40:]
    used = np.flatnonzero(wide.any((0, 2))).max() + 1
    assert np.array_equal(sheet[:, :used], wide[:, :used]) and sheet.shape[1] >= 30 * columns


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_returns_from_its_file(tmp_path, shape, kind):
    made = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    overlays.write_picture(tmp_path / "new" / "a.png", made)
    read = cv2.imread(str(tmp_path / "new" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == kind and np.array_equal(read if read.ndim == 2 else read[..., ::-1], made)


# --- curves ---------------------------------------------------------------------------------------------------


def lines(panel) -> dict[str, tuple[list, list]]:
    """The labelled lines of a panel: {label: (x, y)}."""
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}
    return {label: data for label, data in drawn.items() if not label.startswith("_")}


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), pytest.param(12, 1, marks=pytest.mark.slow), (12, 5)])
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
def test_the_first_best_epoch_is_marked(tmp_path, saved_figures, scores, best):
    training_curves.plot_history(
        tmp_path / "curves.png", [entry(i, dice=score) for i, score in enumerate(scores, start=1)]
    )
    panel = saved_figures[0].axes[1]
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


def test_parts_differ_in_colour_and_in_marker():
    styles = [plot_style.line_style(i) for i in range(42)]
    assert len({(style["color"], style["marker"]) for style in styles}) == 42
    assert len({style["color"] for style in styles[:6]}) == len({style["marker"] for style in styles[:6]}) == 6
