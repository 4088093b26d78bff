"""What a training run writes down as it goes: history.csv, curves.png, pictures and, if wanted, TensorBoard events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.errors import UsageError
from sam_med2d.visualization.overlays import contact_sheet, write_picture
from sam_med2d.visualization.tables import write_csv
from sam_med2d.visualization.training_curves import plot_history

SHEET_COLUMNS = 4


class RunLog:
    """The records of a run in its folder. One process writes them."""

    def __init__(self, folder: Path, *, tensorboard: bool = False, resumed_at: int | None = None) -> None:
        """Begin, or go on.

        Args:
            folder: of the run.
            tensorboard: scalars and pictures also go to `folder`/tensorboard, by optimizer step (UsageError: missing).
            resumed_at: step that a resumed run continues from: what an earlier attempt logged after it is taken back.
        """
        self.folder = folder
        self.writer = _summary_writer(folder / "tensorboard", resumed_at) if tensorboard else None

    def add(self, history: Sequence[dict[str, Any]]) -> None:
        """Write history.csv and curves.png anew; entries of epochs have `epoch`, `step`, numbers; the last is new."""
        names = list(dict.fromkeys(name for entry in history for name in entry))
        write_csv(self.folder / "history.csv", names, history)
        plot_history(self.folder / "curves.png", history)
        if self.writer:
            for name, value in history[-1].items():
                self.writer.add_scalar(_tag(name), value, history[-1]["step"])
            self.writer.flush()

    def add_pictures(self, epoch: int, tiles: Sequence[np.ndarray], *, step: int) -> None:
        """Write validation/epoch-<epoch>.png, a contact sheet.

        Args:
            epoch: that was validated.
            tiles: RGB uint8, of one size, at least one.
            step: of the optimizer.
        """
        sheet = contact_sheet(tiles, columns=min(SHEET_COLUMNS, len(tiles)))
        write_picture(self.folder / "validation" / f"epoch-{epoch:04d}.png", sheet)
        if self.writer:
            self.writer.add_image("validation", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Finish the event file."""
        if self.writer:
            self.writer.close()


def _summary_writer(folder: Path, resumed_at: int | None) -> Any:
    """TensorBoard's writer; entries of later steps than `resumed_at` are hidden, its own stays."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard: install it with pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=None if resumed_at is None else resumed_at + 1)


def _tag(name: str) -> str:
    """TensorBoard groups charts by what stands before the slash."""
    return f"validation/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}"
