"""Per-case rows -> summary.json, cases.csv, report.md and a picture of cases; a run's history -> curves.png."""

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segment_anything.utils.atomic import atomic_path, write_text

# Okabe and Ito's palette, legible to the colour-blind
TRUTH_COLOUR = (0, 158, 115)
PREDICTION_COLOUR = (230, 159, 0)
FOREGROUND_COLOUR = (86, 180, 233)
BACKGROUND_COLOUR = (204, 121, 167)
TILE = 256
LEGEND = (
    ("truth", TRUTH_COLOUR),
    ("prediction", PREDICTION_COLOUR),
    ("box, foreground click", FOREGROUND_COLOUR),
    ("background click", BACKGROUND_COLOUR),
)
LOSSES = {"loss": "total", "focal": "focal", "dice": "Dice", "iou": "predicted IoU"}
# the same palette; black is for the whole, the colours for its parts
LINE_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

Row = dict[str, Any]


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN, whatever their order; NaN when there is none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else float("nan")


def heading(prompt: str) -> str:
    """A prompt mode's name in tables and pictures: "Bbox", "1 pt", "3 pts"."""
    return {"box": "Bbox", "1": "1 pt"}.get(prompt, f"{prompt} pts")


def summarise(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Any]:
    """Means over masks: {"overall": {prompt: {metric: mean}}, "structures": {name: the same}}, with counts."""
    structures = sorted({row["structure"] for row in rows})
    return {
        "overall": _by_prompt(rows, metrics),
        "structures": {s: _by_prompt([row for row in rows if row["structure"] == s], metrics) for s in structures},
    }


def _by_prompt(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    prompts = dict.fromkeys(row["prompt"] for row in rows)
    return {prompt: _means([row for row in rows if row["prompt"] == prompt], metrics) for prompt in prompts}


def _means(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, float]:
    means = {metric: mean([row[metric] for row in rows]) for metric in metrics}
    return means | {"masks": len(rows), "vanished": sum(row["vanished"] for row in rows)}


def write_cases(path: Path, rows: Sequence[Row]) -> None:
    """One CSV line per mask and prompt mode."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """The summary as JSON; NaN becomes null."""
    write_text(path, json.dumps(_without_nan(summary), indent=1) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def system_table(name: str, resolution: int, summary: dict[str, Any], metric: str = "dice") -> str:
    """SAM-Med2D's table of one system: score in percent for each prompt, and images per second."""
    prompts = summary["overall"]
    headings = ["Model", "Resolution", *[heading(prompt) for prompt in prompts], "FPS"]
    scores = [_percent(means[metric]) for means in prompts.values()]
    return table(headings, [[name, f"{resolution}x{resolution}", *scores, f"{summary['fps']:.1f}"]])


def structure_table(summary: dict[str, Any], metrics: Sequence[str]) -> str:
    """Each structure's mean scores in percent, a column per prompt and metric."""
    prompts = list(summary["overall"])
    headings = ["Structure", "Masks", *[f"{heading(p)} {m}" for p in prompts for m in metrics]]
    entries = [*summary["structures"].items(), ("all", summary["overall"])]
    lines = [
        [name, str(means[prompts[0]]["masks"]), *[_percent(means[p][m]) for p in prompts for m in metrics]]
        for name, means in entries
    ]
    return table(headings, lines)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


# --- pictures -------------------------------------------------------------------------------------------------


def draw_case(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, points: np.ndarray, labels: np.ndarray, caption: str
) -> np.ndarray:
    """A TILE x TILE RGB picture: the photograph, outlines of truth and prediction, the prompts.

    image: RGB uint8 [H, W, 3]; truth, predicted: bool [H, W]; points: [P, 2] x, y in pixels of the
    photograph; labels: [P] (1, 0, 2 and 3 for box corners, -1 is skipped).
    """
    scale = TILE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(image, size, interpolation=method)
    for mask, colour in ((truth, TRUTH_COLOUR), (predicted, PREDICTION_COLOUR)):
        small = cv2.resize(mask.astype(np.float32), size, interpolation=method)
        outline, _ = cv2.findContours((small >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outline, -1, colour, 1, cv2.LINE_AA)
    _draw_prompts(canvas, points * scale, labels)
    tile = np.zeros((TILE + 22, TILE, 3), np.uint8)
    tile[22 : 22 + canvas.shape[0], : canvas.shape[1]] = canvas
    _write(tile, caption, (4, 15))
    return tile


def _write(canvas: np.ndarray, text: str, origin: tuple[int, int]) -> None:
    """White text with its lower left corner at `origin` (x, y)."""
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)


def _draw_prompts(canvas: np.ndarray, points: np.ndarray, labels: np.ndarray) -> None:
    corners = {int(label): point for point, label in zip(points, labels, strict=True) if label in (2, 3)}
    if len(corners) == 2:
        first, second = (tuple(int(v) for v in corners[label].round()) for label in (2, 3))
        cv2.rectangle(canvas, first, second, FOREGROUND_COLOUR, 1)
    for point, label in zip(points, labels, strict=True):
        if label in (0, 1):
            centre = tuple(int(v) for v in point.round())
            cv2.circle(canvas, centre, 4, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, 3, FOREGROUND_COLOUR if label else BACKGROUND_COLOUR, -1, cv2.LINE_AA)


def contact_sheet(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles of one size, RGB uint8, in rows of `columns`, with a line that explains the colours."""
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    legend_width = sum(_entry_width(text) for text, _ in LEGEND)
    sheet = np.zeros((rows * height + 26, max(columns * width, legend_width), 3), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = tile
    x = 6
    for text, colour in LEGEND:
        cv2.rectangle(sheet, (x, rows * height + 8), (x + 12, rows * height + 18), colour, -1)
        _write(sheet, text, (x + 18, rows * height + 18))
        x += _entry_width(text)
    return sheet


def _entry_width(text: str) -> int:
    """Pixels that a legend's entry takes: its square, its text and a gap."""
    return 40 + 8 * len(text)


def plot_history(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Curves of a training run as PNG, atomically: the losses and, of validated epochs, Dice of each prompt.

    history: an entry per epoch with `epoch`, the LOSSES and, on validated epochs, `val_dice` and
    `val_dice_<prompt>`. The validation panel is left out as long as there is none.
    """
    from matplotlib.figure import Figure  # takes half a second to import; only training draws curves

    validated = [entry for entry in history if "val_dice" in entry]
    panels = 2 if validated else 1
    figure = Figure(figsize=(6 * panels, 4.2), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _plot_losses(axes[0], history)
    if validated:
        _plot_validation(axes[1], validated)
    for panel in axes:
        panel.set(xlabel="epoch", xlim=(0, 1.02 * history[-1]["epoch"]))
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _plot_losses(panel: Any, history: Sequence[dict[str, Any]]) -> None:
    for (name, label), colour in zip(LOSSES.items(), LINE_COLOURS, strict=False):
        _plot_line(panel, history, name, label, colour)
    panel.set(title="training losses", ylabel="mean over the epoch (log scale)", yscale="log")
    panel.legend(frameon=False)


def _plot_validation(panel: Any, validated: Sequence[dict[str, Any]]) -> None:
    """Dice of each prompt and their mean; the best epoch is the first one of the highest mean, as for `best`."""
    prompts = [name.removeprefix("val_dice_") for name in validated[0] if name.startswith("val_dice_")]
    _plot_line(panel, validated, "val_dice", "mean", LINE_COLOURS[0], linewidth=2.5)
    for prompt, colour in zip(prompts, itertools.cycle(LINE_COLOURS[1:])):
        _plot_line(panel, validated, f"val_dice_{prompt}", heading(prompt), colour)
    best = max(validated, key=lambda entry: -1.0 if math.isnan(entry["val_dice"]) else entry["val_dice"])
    panel.axvline(best["epoch"], color="grey", linestyle="--", linewidth=1, zorder=0)
    panel.plot(best["epoch"], best["val_dice"], "*", color=LINE_COLOURS[0], markersize=13)
    panel.set(title=f"validation: best mean {best['val_dice']:.3f} at epoch {best['epoch']}")
    panel.set(ylabel="Dice, mean over masks", ylim=(0, 1))
    panel.legend(frameon=False, ncols=2)


def _plot_line(
    panel: Any, entries: Sequence[dict[str, Any]], name: str, label: str, colour: str, *, linewidth: float = 1.3
) -> None:
    points = [(entry["epoch"], entry[name]) for entry in entries]
    panel.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=linewidth, marker="o", markersize=2.5)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """An RGB or grey uint8 picture as PNG, atomically."""
    pixels = rgb if rgb.ndim == 2 else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
