"""Colours, line styles and figures that all plots share."""

from pathlib import Path
from typing import Any

from segment_anything.utils.atomic import atomic_path

# the same palette, without the yellow, which is pale on white; black is for the whole, the colours for its parts
BLACK = "#000000"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours: a pair returns after 42 parts only
DPI = 150


def new_figure(width: float, height: float) -> Any:
    """An empty figure. Unlike pyplot's it belongs to nobody else and needs no display.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        A matplotlib Figure.
    """
    from matplotlib.figure import Figure  # takes half a second to import

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, atomically.

    Args:
        figure: what is written.
        path: of the picture; its suffix says in which format.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def tidy(panel: Any) -> None:
    """Give a panel (Axes) a faint grid behind its data, and no frame at the top and the right."""
    panel.grid(alpha=0.3)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def line_style(i: int) -> dict[str, Any]:
    """Colour and marker of part number `i`, as options of Axes.plot."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "linewidth": 1.4}
