"""Plots of results: statistics against numpy and matplotlib, and what is drawn."""

import itertools
import math

import cv2
import numpy as np
import pytest
from matplotlib.cbook import boxplot_stats
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sam_med2d.visualization import evaluation_plots, histogram_statistics
from sam_med2d.visualization.plot_style import COLOURS
from tests.helpers.cases import check_all

BINS = 1000
PROMPTS = ("box", "1", "3", "5")
STRUCTURES = ("optic_disc", "vessel", "soft_exudate")


def histogram(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    return np.bincount(np.minimum((np.asarray(values) * bins).astype(int), bins - 1), minlength=bins)


def score_samples(seed: int = 0) -> list[np.ndarray]:
    """Scores in [0, 1]: few and many, spread out and all alike, with both ends."""
    rng = np.random.default_rng(seed)
    ends = np.array([0.0, 1.0])
    spread = [rng.beta(a, b, n) for a, b, n in ((1, 1, 1), (2, 1, 2), (1, 3, 7), (5, 1, 50), (0.2, 0.2, 5000))]
    return [*spread, ends, np.ones(3), np.zeros(4), np.r_[np.ones(9), 0.2], rng.choice(ends, 101)]


def distributions(structures=STRUCTURES, prompts=PROMPTS) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return {s: {p: histogram(rng.beta(4, 2, 30 + 10 * i)) for p in prompts} for i, s in enumerate(structures)}


def means(dice: float | None, masks: int = 50) -> dict:
    interval = None if dice is None else [dice - 0.05, dice + 0.04]
    return {"dice": dice, "dice_ci95": interval, "masks": masks, "excluded": {"dice": 0}}


def summary(structures=STRUCTURES, prompts=PROMPTS) -> dict:
    dice = {"box": 0.8, "1": 0.5, "3": 0.7, "5": 0.75}
    parts = {s: {p: means(dice[p] - 0.1 * i, 50 + i) for p in prompts} for i, s in enumerate(structures)}
    return {"overall": {p: means(dice[p], 150) for p in prompts}, "structures": parts}


def differences(structures=STRUCTURES, prompts=PROMPTS) -> dict:
    return {s: {p: (1.5 - i, -1.0 - i, 3.0, 40) for p in prompts} for i, s in enumerate(structures)}


def labelled(panel) -> dict[str, tuple[list[float], list[float]]]:
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}
    return {label: data for label, data in drawn.items() if not label.startswith("_")}


def boxes(figure) -> list:
    return [patch for patch in figure.axes[0].patches if to_hex(patch.get_facecolor()).upper() in COLOURS]


# --- statistics -----------------------------------------------------------------------------------------------


def test_quantiles_are_those_of_the_values_to_half_a_bin():
    def check(values: np.ndarray, bins: int, q: float) -> None:
        found = histogram_statistics.quantile(histogram(values, bins), q)
        assert found == pytest.approx(np.quantile(values, q), abs=0.5001 / bins)

    check_all(check, itertools.product(score_samples(), [1, 10, BINS], [0, 0.025, 0.25, 0.5, 0.75, 0.975, 1]))


def test_a_box_is_matplotlibs_box_of_the_same_values():
    def check(values: np.ndarray) -> None:
        counts = histogram(values)
        rounded = np.repeat((np.arange(BINS) + 0.5) / BINS, counts)
        (expected,) = boxplot_stats(rounded)
        found = histogram_statistics.box_statistics(counts)
        for name in ("q1", "med", "q3", "whislo", "whishi", "mean"):
            assert found[name] == pytest.approx(expected[name], abs=1e-9), name

    check_all(check, [(values,) for values in score_samples()])


def test_there_is_no_quantile_of_nothing():
    assert math.isnan(histogram_statistics.quantile(np.zeros(BINS, np.int64), 0.5))


def test_a_million_million_values_need_no_more_memory():
    counts = np.full(BINS, 10**9)
    assert histogram_statistics.quantile(counts, 0.5) == pytest.approx(0.5, abs=1 / BINS)
    assert histogram_statistics.box_statistics(counts)["q1"] == pytest.approx(0.25, abs=1 / BINS)


def test_the_calibration_error_is_the_mean_distance_of_the_bins():
    rng = np.random.default_rng(0)
    predicted, true = rng.integers(0, 50, (2, 400))
    counts = np.zeros((50, 50), np.int64)
    np.add.at(counts, (predicted, true), 1)
    expected = sum(
        (predicted == i).sum() / 400 * abs(((true[predicted == i] + 0.5) / 50).mean() - (i + 0.5) / 50)
        for i in np.unique(predicted)
    )
    assert histogram_statistics.calibration_error(counts) == pytest.approx(expected)
    assert histogram_statistics.calibration_error(np.diag(np.arange(50))) == pytest.approx(0, abs=1e-12)
    assert math.isnan(histogram_statistics.calibration_error(np.zeros((50, 50), np.int64)))


# --- boxes ----------------------------------------------------------------------------------------------------


def test_there_is_a_box_for_each_structure_and_prompt(tmp_path, saved_figures):
    made = distributions()
    made["vessel"]["3"] = np.zeros(BINS, np.int64)
    del made["soft_exudate"]["box"]
    assert evaluation_plots.plot_boxes(tmp_path / "boxes.png", made)
    (figure,) = saved_figures
    assert len(boxes(figure)) == len(STRUCTURES) * len(PROMPTS) - 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Bbox", "1 pt", "3 pts", "5 pts"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["optic disc\nn = 30", "vessel\nn = 40", "soft exudate\nn = 50"]


def test_a_box_stands_in_its_row_at_its_quartiles(tmp_path, saved_figures):
    counts = histogram(np.linspace(0.2, 0.6, 1001))
    evaluation_plots.plot_boxes(tmp_path / "boxes.png", {"a": {"1": histogram([0.5])}, "b": {"1": counts}})
    corners = boxes(saved_figures[0])[1].get_path().vertices
    assert sorted({round(x, 3) for x in corners[:, 0]}) == pytest.approx([0.3, 0.5], abs=0.001)
    assert np.ptp(corners[:, 1]) < 1 and (abs(corners[:, 1] - 1) < 0.5).all()
    assert saved_figures[0].axes[0].get_ylim()[0] > saved_figures[0].axes[0].get_ylim()[1]  # the first is on top


def test_a_long_list_is_cut_to_the_largest_and_says_so(tmp_path, saved_figures, monkeypatch):
    monkeypatch.setattr(evaluation_plots, "MAX_STRUCTURES", 2)
    names = ("a", "b", "c")
    evaluation_plots.plot_boxes(tmp_path / "boxes.png", distributions(names))
    evaluation_plots.plot_differences(
        tmp_path / "d.png", {n: {"1": (1.0, 0.0, 2.0, 10 + i)} for i, n in enumerate(names)}
    )
    for figure in saved_figures:
        labels = [text.get_text()[0] for text in figure.axes[0].get_yticklabels()]
        assert labels == ["b", "c"] and figure.axes[0].get_title().startswith("the 2 of 3 structures")


def test_more_structures_make_a_higher_picture_within_bounds(tmp_path, saved_figures, monkeypatch):
    monkeypatch.setattr(evaluation_plots, "MAX_HEIGHT", 6)
    for count in (1, 4, 30):
        evaluation_plots.plot_boxes(tmp_path / "boxes.png", distributions([f"s{i}" for i in range(count)], ("1",)))
    heights = [figure.get_size_inches()[1] for figure in saved_figures]
    assert heights[0] < heights[1] < heights[2] == 6


# --- clicks ---------------------------------------------------------------------------------------------------


def test_lines_show_every_score_by_clicks(tmp_path, saved_figures):
    """The summary's order does not count; only the places of structures are moved a little."""
    made = summary()
    made["overall"] = dict(reversed(made["overall"].items()))
    assert evaluation_plots.plot_clicks(tmp_path / "clicks.png", made)
    (panel,) = saved_figures[0].axes
    drawn = labelled(panel)
    assert list(drawn) == [
        "all (n = 150)", "all, box", "optic disc (n = 50)", "vessel (n = 51)", "soft exudate (n = 52)"
    ]  # fmt: skip
    assert drawn["all (n = 150)"] == ([1, 3, 5], [0.5, 0.7, 0.75])
    assert drawn["all, box"][1] == [0.8, 0.8]
    assert drawn["vessel (n = 51)"][1] == pytest.approx([0.4, 0.6, 0.65])
    assert [text.get_text() for text in panel.get_xticklabels()] == ["box", "1", "3", "5"]
    bars = [tuple(line.get_ydata()) for line in panel.get_lines() if len(line.get_ydata()) == 2]
    assert {tuple(np.round(bar, 3)) for bar in bars} >= {(0.45, 0.54), (0.75, 0.84), (0.35, 0.44)}


def test_many_structures_are_spread_over_panels(tmp_path, saved_figures):
    names = [f"s{i}" for i in range(2 * evaluation_plots.LINES_IN_PANEL + 1)]
    parts = {name: {"1": means(0.9 - 0.05 * i)} for i, name in enumerate(names)}
    evaluation_plots.plot_clicks(tmp_path / "clicks.png", summary([]) | {"structures": parts})
    panels = saved_figures[0].axes
    assert len(panels) == 3 and all("all (n = 150)" in labelled(panel) for panel in panels)
    assert [label.split()[0] for panel in panels for label in labelled(panel) if label[0] == "s"] == names
    assert len({panel.get_ylim() for panel in panels}) == 1 and panels[0].get_ylim()[0] < 0.4


@pytest.mark.parametrize("prompts", [("1", "3"), ("1",), ("box", "5")])
def test_any_clicks_can_be_drawn(tmp_path, saved_figures, prompts):
    assert evaluation_plots.plot_clicks(tmp_path / "clicks.png", summary(prompts=prompts))
    labels = [text.get_text() for text in saved_figures[0].axes[0].get_xticklabels()]
    assert labels == list(prompts) and ("all, box" in labelled(saved_figures[0].axes[0])) == ("box" in prompts)


def test_the_only_structure_is_not_drawn_twice(tmp_path, saved_figures):
    evaluation_plots.plot_clicks(tmp_path / "clicks.png", summary(["vessel"]))
    assert list(labelled(saved_figures[0].axes[0])) == ["all (n = 150)", "all, box"]


def test_ticks_of_many_clicks_do_not_overlap(tmp_path, saved_figures):
    made = {"overall": {str(n): means(0.5) for n in (1, 2, 3, 50, 100)}, "structures": {}}
    evaluation_plots.plot_clicks(tmp_path / "clicks.png", made)
    assert list(saved_figures[0].axes[0].get_xticks()) == [1, 50, 100]


def test_the_axis_ends_at_one_but_not_that_of_pixels(tmp_path, saved_figures):
    for metric, value in (("dice", 1.0), ("hd95", 80.0)):
        entry = {metric: value, f"{metric}_ci95": [value, value], "masks": 3}
        evaluation_plots.plot_clicks(tmp_path / "a.png", {"overall": {"1": entry}, "structures": {}}, metric)
    tops = [figure.axes[0].get_ylim()[1] for figure in saved_figures]
    assert tops[0] == 1.01 and tops[1] > 80 and "pixels" in saved_figures[1].axes[0].get_ylabel()


def test_masks_without_a_score_do_not_count(tmp_path, saved_figures):
    made = {"overall": {"1": means(0.5, 10) | {"excluded": {"dice": 3}}}, "structures": {}}
    evaluation_plots.plot_clicks(tmp_path / "clicks.png", made)
    assert list(labelled(saved_figures[0].axes[0])) == ["all (n = 7)"]


# --- calibration ----------------------------------------------------------------------------------------------


def test_the_mean_of_each_predicted_bin_is_drawn(tmp_path, saved_figures):
    counts = np.zeros((50, 50), np.int64)
    counts[10, [5, 15]] = 3, 1
    counts[49, 49] = 2000
    assert evaluation_plots.plot_calibration(tmp_path / "calibration.png", counts)
    panel = saved_figures[0].axes[0]
    x, y = labelled(panel)["mean true IoU"]
    assert x == pytest.approx([0.21, 0.99]) and y == pytest.approx([(3 * 0.11 + 0.31) / 4, 0.99])
    assert labelled(panel)["predicted = true"] == ([0, 1], [0, 1])
    assert "error 0.0 points, n = 2,004" in panel.get_title()
    cells = panel.collections[0].get_array().reshape(50, 50)
    assert cells[5, 10] == 3 and cells[15, 10] == 1 and cells.count() == 3  # rows are the true IoU


# --- differences ----------------------------------------------------------------------------------------------


def test_dots_stand_at_the_differences(tmp_path, saved_figures):
    made = differences()
    made["vessel"]["3"] = (math.nan, math.nan, math.nan, 0)
    made["vessel"]["5"] = (0.5, None, None, 40)
    assert evaluation_plots.plot_differences(tmp_path / "d.png", made, runs=("old_run", "new"))
    (panel,) = saved_figures[0].axes
    drawn = labelled(panel)
    assert list(drawn) == ["Bbox", "1 pt", "3 pts", "5 pts"]
    assert [drawn[label][0] for label in drawn] == [[1.5, 0.5, -0.5], [1.5, 0.5, -0.5], [1.5, -0.5], [1.5, 0.5, -0.5]]
    assert [round(y) for y in drawn["3 pts"][1]] == [0, 2]
    first = [drawn[label][1][0] for label in drawn]
    assert first == sorted(first) and panel.get_ylim()[0] > panel.get_ylim()[1]  # the box is on top
    assert panel.get_xlabel() == "difference in Dice, points, with 95 % interval:\nnew minus old_run"


# --- all plots ------------------------------------------------------------------------------------------------

CALIBRATION = np.arange(2500).reshape(50, 50)
DRAWN = [
    (evaluation_plots.plot_boxes, distributions()),
    (evaluation_plots.plot_clicks, summary()),
    (evaluation_plots.plot_calibration, CALIBRATION),
    (evaluation_plots.plot_differences, differences()),
]
ODD_NAMES = ("$x_{", "_", "a" * 200, "слово " * 30)
UNUSUAL = [
    (evaluation_plots.plot_boxes, distributions(ODD_NAMES)),
    (evaluation_plots.plot_boxes, {"a": {"7": histogram([1.0])}}),
    (evaluation_plots.plot_boxes, distributions(("a",), [str(n) for n in range(1, 16)])),
    (evaluation_plots.plot_clicks, summary(ODD_NAMES)),
    (evaluation_plots.plot_clicks, {"overall": {"1": means(0.5) | {"dice_ci95": [math.nan] * 2}}, "structures": {}}),
    (
        evaluation_plots.plot_clicks,
        {"overall": {"1": means(0.5), "3": means(None), "box": means(None)}, "structures": {}},
    ),
    (
        evaluation_plots.plot_clicks,
        summary() | {"structures": {s: {"1": means(math.nan, 0), "3": means(1.0)} for s in "ab"}},
    ),
    (evaluation_plots.plot_calibration, np.eye(50, dtype=np.int64)),
    (evaluation_plots.plot_differences, differences(ODD_NAMES)),
    (evaluation_plots.plot_differences, {"a": {"1": (5.0, 6.0, 7.0, 3)}, "b": {"1": (0.0, 0.0, 0.0, 1)}}),
]


@pytest.mark.parametrize(("plot", "data"), [*DRAWN, *(pytest.param(*case, marks=pytest.mark.slow) for case in UNUSUAL)])
@pytest.mark.filterwarnings("error", "ignore:Glyph", "ignore:.*deprecated:DeprecationWarning")  # of pyparsing
def test_plots_are_pictures(tmp_path, plot, data):
    assert plot(tmp_path / "new" / "a.png", data)
    picture = cv2.imread(str(tmp_path / "new" / "a.png"))
    assert min(picture.shape[:2]) > 200 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("plot", "data"),
    [
        (evaluation_plots.plot_boxes, {}),
        (evaluation_plots.plot_boxes, {"a": {"1": np.zeros(BINS, np.int64)}, "b": {}}),
        (evaluation_plots.plot_clicks, {"overall": {}, "structures": {}}),
        (evaluation_plots.plot_clicks, summary(prompts=("box",))),
        (
            evaluation_plots.plot_clicks,
            {"overall": {"box": means(0.5), "1": means(None), "3": means(math.nan)}, "structures": {}},
        ),
        (evaluation_plots.plot_clicks, {"overall": {"1": {"iou": 0.5, "masks": 3}}, "structures": {}}),
        (evaluation_plots.plot_calibration, np.zeros((50, 50), np.int64)),
        (evaluation_plots.plot_differences, {}),
        (
            evaluation_plots.plot_differences,
            {"a": {"1": (math.nan, math.nan, math.nan, 0), "3": (None, None, None, 0)}},
        ),
    ],
)
def test_without_a_number_there_is_no_file(tmp_path, plot, data):
    assert not plot(tmp_path / "a.png", data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("plot", "data"), DRAWN)
def test_a_failed_drawing_leaves_the_earlier_file(tmp_path, monkeypatch, plot, data):
    (tmp_path / "a.png").write_bytes(b"earlier")

    def fail(self, path, **_):
        path.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plot(tmp_path / "a.png", data)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_a_prompt_by_name_stands_before_box_and_clicks(tmp_path):
    assert evaluation_plots._prompts({"vessel": dict.fromkeys(["5", "box", "1", "structure"])}) == [
        "structure",
        "box",
        "1",
        "5",
    ]
    counts = np.zeros(20, np.int64)
    counts[5] = 3
    assert evaluation_plots.plot_boxes(
        tmp_path / "boxes.png", {"vessel": {"structure": counts, "box": counts, "1": counts}}
    )
