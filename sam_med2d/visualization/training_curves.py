"""history.csv of a training run as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sam_med2d.visualization.labels import prompt_heading
from sam_med2d.visualization.plot_style import BLACK, line_style, new_figure, save_figure, tidy

LOSS_LABELS = {"loss": "total", "focal": "focal", "dice": "Dice", "iou": "predicted IoU"}
LOSS_LABELS |= {"bce": "cross entropy", "area": "cross entropy by area", "presence": "presence"}


def plot_history(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Curves of a training run: the losses and, as soon as an epoch was validated, Dice of each prompt.

    Args:
        path: of the picture.
        history: of each epoch `epoch`, the LOSS_LABELS and, where validated, `val_dice` and `val_dice_<prompt>`.
    """
    validated = [entry for entry in history if "val_dice" in entry]
    panels = 2 if validated else 1
    figure = new_figure(6 * panels, 4.2)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _plot_losses(axes[0], history)
    if validated:
        _plot_validation(axes[1], validated)
    for panel in axes:
        panel.set(xlabel="epoch", xlim=(0, 1.02 * history[-1]["epoch"]))
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        tidy(panel)
    save_figure(figure, path)


def _plot_losses(panel: Any, history: Sequence[dict[str, Any]]) -> None:
    """The losses that the history has, on a logarithmic scale."""
    for i, (name, label) in enumerate((name, label) for name, label in LOSS_LABELS.items() if name in history[0]):
        _plot_epochs(panel, history, name, label, line_style(i) if i else {"color": BLACK, "marker": "o"})
    panel.set(title="training losses", ylabel="mean over the epoch (log scale)", yscale="log")
    panel.legend(frameon=False)


def _plot_validation(panel: Any, validated: Sequence[dict[str, Any]]) -> None:
    """Dice of each prompt and their mean; the best epoch is the first one of the highest mean, as for `best`."""
    prompts = [name.removeprefix("val_dice_") for name in validated[0] if name.startswith("val_dice_")]
    _plot_epochs(panel, validated, "val_dice", "mean", {"color": BLACK, "marker": "o", "linewidth": 2.5})
    for i, prompt in enumerate(prompts):
        _plot_epochs(panel, validated, f"val_dice_{prompt}", prompt_heading(prompt), line_style(i))
    best = max(validated, key=lambda entry: -1.0 if math.isnan(entry["val_dice"]) else entry["val_dice"])
    panel.axvline(best["epoch"], color="grey", linestyle="--", linewidth=1, zorder=0)
    panel.plot(best["epoch"], best["val_dice"], "*", color=BLACK, markersize=13)
    panel.set(title=f"validation: best mean {best['val_dice']:.3f} at epoch {best['epoch']}")
    panel.set(ylabel="Dice, mean over masks", ylim=(0, 1))
    panel.legend(frameon=False, ncols=2)


def _plot_epochs(panel: Any, entries: Sequence[dict[str, Any]], name: str, label: str, style: dict[str, Any]) -> None:
    """A line through a value of some epochs."""
    points = [(entry["epoch"], entry[name]) for entry in entries]
    every = math.ceil(len(points) / 12)  # markers of a long run would cover the line
    panel.plot(*zip(*points, strict=True), label=label, **{"markersize": 4.5, "markevery": every} | style)
