"""Plots of a test's results as PNG, written atomically: boxes, clicks, calibration, differences of two runs.

Without a number to draw no file is written. Numbers that are None or NaN are left out.
"""

import math
import textwrap
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.visualization.histogram_statistics import box_statistics, calibration_error
from sam_med2d.visualization.labels import IN_PIXELS, metric_title, prompt_heading
from sam_med2d.visualization.plot_style import BLACK, COLOURS, line_style, new_figure, save_figure, tidy

MAX_STRUCTURES = 40  # in one plot
MAX_HEIGHT = 60  # inches
LINES_IN_PANEL = 5
ROW = 0.84  # height that the prompts of a structure share in its row
Columns = dict[str, dict[float, Any]]  # the entries of each prompt, by their place on the axis of rows: row 0 around 0


def plot_boxes(path: Path, distributions: dict[str, dict[str, np.ndarray]], metric: str = "Dice") -> bool:
    """Box plots of a score: a row for each structure, in it a box for each prompt mode; a white marker at the mean.

    Args:
        path: of the picture.
        distributions: {structure: {prompt: int64 [B]}}, masks by score in equal bins of [0, 1], 1.0 in the last one; of
            a long list the largest MAX_STRUCTURES are drawn.

    Returns:
        Whether there was a mask to draw.
    """
    filled = {name: {p: c for p, c in prompts.items() if c.any()} for name, prompts in distributions.items()}
    sizes = {name: [int(counts.sum()) for counts in prompts.values()] for name, prompts in filled.items()}

    def draw(panel: Any, columns: Columns) -> None:
        for i, (prompt, column) in enumerate(columns.items()):
            boxes = [box_statistics(counts) for counts in column.values()]
            panel.bxp(boxes, positions=list(column), **_box_style(i, 0.72 * ROW / len(columns)))
            colour, label = line_style(i)["color"], prompt_heading(prompt)
            panel.plot([], [], label=label, color=colour, linewidth=9, **_mean_marker(i))
        panel.set_xlabel(f"{metric} (box: quartiles; marker: mean; whiskers: up to 1.5 interquartile ranges)")
        panel.set_xlim(-0.01, 1.01)

    return _plot_rows(path, filled, sizes, draw)


def _mean_marker(i: int) -> dict[str, Any]:
    """Options of the marker at the mean of prompt number `i`."""
    edge = {"markerfacecolor": "white", "markeredgecolor": BLACK, "markeredgewidth": 0.8, "markersize": 5}
    return {"marker": line_style(i)["marker"]} | edge


def _box_style(i: int, width: float) -> dict[str, Any]:
    """Options of Axes.bxp for the boxes of prompt number `i`."""
    return {
        "orientation": "horizontal",
        "widths": width,
        "patch_artist": True,
        "showmeans": True,
        "manage_ticks": False,
        "boxprops": {"facecolor": line_style(i)["color"], "edgecolor": BLACK, "linewidth": 0.8},
        "medianprops": {"color": BLACK, "linewidth": 2, "solid_capstyle": "butt"},
        "meanprops": _mean_marker(i),
        "whiskerprops": {"linewidth": 0.9},
        "capprops": {"linewidth": 0.9},
    }


def plot_differences(
    path: Path,
    differences: dict[str, dict[str, tuple[float, float, float, int]]],
    metric: str = "Dice",
    *,
    unit: str = "points",
    runs: tuple[str, str] = ("the first run", "the second run"),
) -> bool:
    """What the second of two runs gained over the first: dots with 95 % intervals, a row for each structure.

    Args:
        path: of the picture.
        differences: {structure: {prompt: (mean difference, low, high, number of masks)}}, second minus first; of a
            long list the largest MAX_STRUCTURES are drawn.
        metric: what the score is called.
        unit: of the differences: points are hundredths of the score.
        runs: what the two runs are called.

    Returns:
        Whether there was a difference to draw.
    """
    known = {
        name: {p: (*map(_number, entry[:3]), entry[3]) for p, entry in prompts.items() if _is_known(entry[0])}
        for name, prompts in differences.items()
    }
    sizes = {name: [entry[3] for entry in prompts.values()] for name, prompts in known.items()}

    def draw(panel: Any, columns: Columns) -> None:
        for i, (prompt, dots) in enumerate(columns.items()):
            style = line_style(i) | {"linestyle": "", "label": prompt_heading(prompt)}
            for place, (_, low, high, _) in dots.items():
                panel.plot([low, high], [place, place], color=style["color"], linewidth=1.8)
            panel.plot([mean for mean, *_ in dots.values()], list(dots), **style)
        panel.axvline(0, color=BLACK, linewidth=1, zorder=1)
        first, second = (_literal(run) for run in runs)
        panel.set_xlabel(f"difference in {metric}, {unit}, with 95 % interval:\n{second} minus {first}")

    return _plot_rows(path, known, sizes, draw)


def _plot_rows(
    path: Path, entries: dict[str, dict[str, Any]], sizes: dict[str, list[int]], draw: Callable[[Any, Columns], None]
) -> bool:
    """A panel with a row for each structure, from the top, in which `draw` draws; False where there is no entry."""
    rows = {name: entries[name] for name in _largest(sizes)}
    if not rows:
        return False
    prompts = _prompts(rows)
    figure = new_figure(8, min(MAX_HEIGHT, 1.2 + len(rows) * max(0.5, 0.2 * len(prompts) + 0.1)))
    panel = figure.subplots()
    panel.set_yticks(range(len(rows)), [f"{_readable(name)}\nn = {_span(sizes[name])}" for name in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    for row in range(0, len(rows), 2):
        panel.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0, linewidth=0)
    panel.set_title(_part(rows, sizes), fontsize="medium")
    offsets = {prompt: ROW * ((i + 0.5) / len(prompts) - 0.5) for i, prompt in enumerate(prompts)}
    draw(panel, {p: {y + offsets[p]: own[p] for y, own in enumerate(rows.values()) if p in own} for p in prompts})
    tidy(panel)
    panel.grid(visible=False, axis="y")
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=min(6, len(prompts)), frameon=False)
    save_figure(figure, path)
    return True


def plot_clicks(path: Path, summary: dict[str, Any], metric: str = "dice") -> bool:
    """A score against the number of clicks with 95 % intervals; a box's score stands at the left, to compare.

    The whole is black and in every panel, with a dashed line at its box; the structures are spread over panels of
    LINES_IN_PANEL. Of a long list the largest MAX_STRUCTURES are drawn.

    Args:
        path: of the picture.
        summary: {"overall": {prompt: {metric: mean, metric + "_ci95": [low, high], "masks": n}}, "structures": {name:
            the same}}; of the masks those in "excluded" {metric: number} have no score.
        metric: name of the score.

    Returns:
        Whether there was a score of clicks to draw.
    """
    whole = _scores(summary["overall"], metric)
    clicks = [prompt for prompt in _prompts({"": whole}) if prompt.isdecimal()]
    if not clicks:
        return False
    places = _click_places(clicks, box="box" in whole)
    structures = summary["structures"] if len(summary["structures"]) > 1 else {}  # one is the same as the whole
    sizes = {name: _sizes(prompts, metric) for name, prompts in structures.items()}
    names = _largest(sizes)
    groups = [names[i : i + LINES_IN_PANEL] for i in range(0, len(names), LINES_IN_PANEL)] or [[]]
    figure, panels = _click_panels(len(groups), places, metric)
    for panel, group in zip(panels, groups, strict=True):
        _plot_whole(panel, places, whole, f"all (n = {_span(_sizes(summary['overall'], metric))})")
        for i, name in enumerate(group):
            label = f"{_readable(name)} (n = {_span(sizes[name])})"
            moved = _moved(places, i - (len(group) - 1) / 2)
            _plot_scores(panel, moved, _scores(structures[name], metric), label=label, **line_style(i))
        panel.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    low, high = panels[0].get_ylim()
    least = -1.01 if metric == "kappa" else -0.01
    panels[0].set_ylim(max(least, low), high if metric in IN_PIXELS else min(1.01, high))
    figure.suptitle(_part(names, sizes), fontsize="medium")
    save_figure(figure, path)
    return True


def _scores(prompts: dict[str, dict[str, Any]], metric: str) -> dict[str, tuple[float, float, float]]:
    """Mean and bounds of its interval for each prompt that has a mean."""
    return {
        prompt: tuple(map(_number, (means[metric], *(means.get(f"{metric}_ci95") or (None, None)))))
        for prompt, means in prompts.items()
        if _is_known(means.get(metric))
    }


def _sizes(prompts: dict[str, dict[str, Any]], metric: str) -> list[int]:
    """Masks with a score, of each prompt."""
    return [means["masks"] - means.get("excluded", {}).get(metric, 0) for means in prompts.values()]


def _click_places(clicks: Sequence[str], *, box: bool) -> dict[str, float]:
    """Where each prompt stands on the axis of clicks; a box stands left of the first click."""
    numbers = [int(prompt) for prompt in clicks]
    left = {"box": numbers[0] - max(1.0, 0.15 * (numbers[-1] - numbers[0]))} if box else {}
    return left | dict(zip(clicks, numbers, strict=True))


def _moved(places: dict[str, float], steps: float) -> dict[str, float]:
    """The places some small steps to the right, so that the intervals of several structures stay apart."""
    shift = 0.014 * steps * (max(places.values()) - min(places.values()))
    return {prompt: place + shift for prompt, place in places.items()}


def _click_panels(count: int, places: dict[str, float], metric: str) -> tuple[Any, list[Any]]:
    """A figure and its panels, in two columns, which share the axis of scores."""
    columns = min(2, count)
    rows = math.ceil(count / columns)
    figure = new_figure(7.4 * columns, 4.3 * rows)
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for panel in panels[count:]:
        panel.remove()
    ticks, title = _ticks(places), metric_title(metric) + " (pixels)" * (metric in IN_PIXELS)
    for panel in panels[:count]:
        panel.set_xticks(list(ticks.values()), list(ticks))
        panel.set(xlabel="clicks", ylabel=f"{title}, mean over masks, with 95 % interval")
        tidy(panel)
    return figure, panels[:count]


def _ticks(places: dict[str, float]) -> dict[str, float]:
    """The places whose labels do not overlap."""
    gap = 0.04 * (max(places.values()) - min(places.values()))
    ticks: dict[str, float] = {}
    for prompt, place in places.items():
        if not ticks or place - max(ticks.values()) >= gap:
            ticks[prompt] = place
    return ticks


def _plot_whole(panel: Any, places: dict[str, float], scores: dict[str, tuple], label: str) -> None:
    """The curve of all masks, with a band for its interval and a dashed line at its box."""
    clicks = [prompt for prompt in places if prompt != "box"]
    bounds = np.array([scores[prompt][1:] for prompt in clicks]).T
    panel.fill_between([places[prompt] for prompt in clicks], *bounds, color=BLACK, alpha=0.12, linewidth=0)
    _plot_scores(panel, places, scores, label=label, color=BLACK, marker="o", linewidth=2.2)
    if "box" in scores:
        panel.axhline(scores["box"][0], color=BLACK, linestyle="--", linewidth=1.2, zorder=1, label="all, box")


def _plot_scores(panel: Any, places: dict[str, float], scores: dict[str, tuple], **style: Any) -> None:
    """A line through the scores of clicks, a marker at that of the box, a bar for each interval."""
    known = [prompt for prompt in places if prompt in scores]
    for prompt in known:
        panel.plot([places[prompt]] * 2, scores[prompt][1:], color=style["color"], linewidth=1.2)
    clicks = [prompt for prompt in known if prompt != "box"]
    panel.plot([places[prompt] for prompt in clicks], [scores[prompt][0] for prompt in clicks], **style)
    if "box" in known:
        panel.plot(places["box"], scores["box"][0], **style | {"label": None})


def plot_calibration(path: Path, counts: np.ndarray) -> bool:
    """Predicted against true IoU: how many predictions lie where, the mean of each predicted bin, the diagonal.

    The title has the expected calibration error in points.

    Args:
        path: of the picture.
        counts: int64 [K, K] over equal bins of [0, 1], first the predicted, then the true IoU.

    Returns:
        Whether there was a prediction to draw.
    """
    if not counts.any():
        return False
    from matplotlib.colors import LogNorm
    from matplotlib.patheffects import withStroke

    edges = np.linspace(0, 1, len(counts) + 1)
    centres, totals = (edges[1:] + edges[:-1]) / 2, counts.sum(axis=1)
    figure = new_figure(6, 5)
    panel = figure.subplots()
    cells = np.ma.masked_equal(counts.T, 0)
    colours = LogNorm(1, max(10, counts.max()))
    mesh = panel.pcolormesh(edges, edges, cells, cmap="cividis_r", norm=colours, rasterized=True)
    figure.colorbar(mesh, ax=panel, label="predictions per cell (log scale)")
    filled = totals > 0
    means = (counts[filled] @ centres) / totals[filled]
    outline = {"path_effects": [withStroke(linewidth=3.2, foreground="white")]}
    panel.plot([0, 1], [0, 1], "--", color=BLACK, linewidth=1.3, label="predicted = true", **outline)
    style = {"color": COLOURS[1], "marker": "o", "markersize": 3, "linewidth": 1.6}
    panel.plot(centres[filled], means, label="mean true IoU", **style, **outline)
    panel.set(xlabel="predicted IoU", ylabel="true IoU", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    error = 100 * calibration_error(counts)
    panel.set_title(f"expected calibration error {error:.1f} points, n = {int(totals.sum()):,}", fontsize="medium")
    panel.legend(loc="upper left", frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
    return True


# --- helpers --------------------------------------------------------------------------------------------------


def _number(value: float | None) -> float:
    """The value as a float; NaN for None."""
    return float("nan") if value is None else float(value)


def _is_known(value: float | None) -> bool:
    """Whether there is a number to draw."""
    return math.isfinite(_number(value))


def _span(sizes: Sequence[int]) -> str:
    """1,200, or 80–1,200 where prompts differ."""
    return "–".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)}))


def _largest(sizes: dict[str, list[int]]) -> list[str]:
    """Names of the structures with masks, in the given order; of too many only those with the most masks."""
    filled = [name for name, counts in sizes.items() if any(counts)]
    kept = set(sorted(filled, key=lambda name: -max(sizes[name]))[:MAX_STRUCTURES])
    return [name for name in filled if name in kept]


def _part(names: Collection[str], sizes: dict[str, list[int]]) -> str:
    """A title that says what was left out; empty when all structures with masks are there."""
    filled = sum(any(counts) for counts in sizes.values())
    return f"the {len(names)} of {filled} structures with the most masks" if len(names) < filled else ""


def _prompts(entries: dict[str, dict[str, Any]]) -> list[str]:
    """All prompts of {structure: {prompt: ...}}, structure prompts first, then the box, then by clicks."""
    found = {prompt for prompts in entries.values() for prompt in prompts}
    return sorted(found, key=lambda prompt: int(prompt) if prompt.isdecimal() else -("box", "structure").index(prompt))


def _readable(name: str) -> str:
    """A name as a label: without underscores, on two lines at most."""
    return _literal(textwrap.fill(name.replace("_", " "), 26, max_lines=2, placeholder="…"))


def _literal(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
