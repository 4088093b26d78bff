"""The prompts of an earlier run, replayed with --prompt_path: what their columns are called, and whether any lacks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sam_med2d.errors import UsageError
from sam_med2d.evaluation.batch_prediction import BOX, POINTS, STRUCTURE, Mode
from sam_med2d.prompts.prompt_file import PromptEntries


def modes_for_prompts(modes: Sequence[Mode], prompts: PromptEntries) -> list[Mode]:
    """Modes whose names count the points of a prompt file: its openings may have several.

    Args:
        modes: as the flags say.
        prompts: of the file.

    Returns:
        The modes, those of points under the number of points that they end with.

    Raises:
        UsageError: the entries have different numbers of points, so that no name is right.
    """
    counts = {len(entry["point_labels"]) for entry in prompts.values()} - {0}
    if all(mode.opening != POINTS for mode in modes) or not counts:
        return list(modes)
    if len(counts) > 1:
        raise UsageError(
            f"--prompt_path: its entries have {', '.join(map(str, sorted(counts)))} points: give all the same number."
        )
    opening = counts.pop()
    return [replace(mode, name=str(opening + mode.clicks - 1)) if mode.opening == POINTS else mode for mode in modes]


def missing_prompts(path: Path, prompts: PromptEntries, own: PromptEntries, modes: Sequence[Mode]) -> list[str]:
    """Entries of a prompt file that lack what a column needs.

    Args:
        path: of the file.
        prompts: its entries.
        own: prompts of some masks as this run would make them; empty ones of masks that vanish in the model frame.
        modes: the columns.

    Returns:
        A sentence for each mask and kind of prompt that is missing.
    """
    openings = {mode.opening for mode in modes} - {STRUCTURE}
    needed = {"boxes" if opening == BOX else "point_labels" for opening in openings}
    found = [(name, kind) for name in own for kind in needed if own[name][kind] and not prompts[name][kind]]
    return [f"--prompt_path {path}: the entry of {name} has no {kind}" for name, kind in found]
