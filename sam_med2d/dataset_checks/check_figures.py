"""Pictures of a check: photographs with their masks, and the sizes of the structures."""

import random
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.dataset_checks.class_balance import ClassBalance
from sam_med2d.dataset_checks.file_checks import SIZE_EDGES
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.map_checks import ListedPhotograph
from sam_med2d.errors import DataError
from sam_med2d.visualization.plot_style import BLACK, COLOURS, new_figure, save_figure, tidy
from segment_anything.utils.masks import resize_mask

TILE = 560
COLUMNS = 5
FAULTY, SOUND = 20, 5  # photographs on the contact sheet
OF_ONE = 4  # of one finding
# the rest of Okabe and Ito's palette is legible on a photograph
PALETTE = (*(COLOURS[i] for i in (5, 4, 0, 3, 2, 1)), "#F0E442", "#FFFFFF")


def draw_overlays(
    path: Path, photographs: Sequence[ListedPhotograph], findings: Sequence[Finding], *, seed: int = 0
) -> bool:
    """Draw photographs with their masks outlined: up to FAULTY faulty ones, whose kinds take turns, then sound ones.

    Args:
        path: the picture to write.
        photographs: of the data set.
        findings: what is wrong with them.
        seed: chooses the sound photographs.

    Returns:
        False where there is none to draw.
    """
    chosen = _choose(photographs, findings, random.Random(seed))
    if not chosen:
        return False
    structures = sorted({structure for photograph in photographs for _, structure in photograph.masks})
    colours = {structure: PALETTE[i % len(PALETTE)] for i, structure in enumerate(structures)}
    rows = -(-len(chosen) // COLUMNS)
    figure = new_figure(2.8 * COLUMNS, 3.3 * rows + 0.5)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    for panel, (photograph, finding) in zip(panels, chosen, strict=False):
        panel.imshow(_tile(photograph, colours))
        panel.set_title(_title(photograph, finding), fontsize=7, color=COLOURS[1] if finding else "black")
    drawn = sorted({structure for photograph, _ in chosen for _, structure in photograph.masks})
    handles = [panels[0].plot([], [], color=colours[name], linewidth=3, label=name)[0] for name in drawn]
    figure.legend(handles=handles, loc="outside lower center", ncols=8, fontsize=8, facecolor="0.6")
    save_figure(figure, path)
    return True


def _choose(
    photographs: Sequence[ListedPhotograph], findings: Sequence[Finding], generator: random.Random
) -> list[tuple[ListedPhotograph, Finding | None]]:
    """Photographs to draw with their finding: faults before warnings, the kinds in turn; then sound ones."""
    owner = {str(photograph.image): photograph for photograph in photographs}
    owner |= {str(mask): photograph for photograph in photographs for mask, _ in photograph.masks}
    wrong: set[ListedPhotograph] = set()
    by_kind: dict[tuple[bool, str], list[tuple[ListedPhotograph, Finding]]] = {}
    for finding in findings:
        theirs = dict.fromkeys(owner[file] for file in finding.files if file in owner)
        wrong.update(theirs)
        entries = by_kind.setdefault((finding.warning, finding.kind), [])
        entries += [(photograph, finding) for photograph in [*theirs][:OF_ONE]]
    shown: list[tuple[ListedPhotograph, Finding | None]] = []
    for warning in (False, True):
        # a pair stays together
        turns = zip_longest(*(_pairs(entries) for (mild, _), entries in by_kind.items() if mild == warning))
        shown += [entry for turn in turns for pair in turn if pair for entry in pair]
    shown = sorted(shown[:FAULTY], key=lambda entry: (entry[1].warning, entry[1].kind))
    images = {photograph.image for photograph in wrong}
    sound = [photograph for photograph in photographs if photograph.image not in images]
    return shown + [(photograph, None) for photograph in generator.sample(sound, min(SOUND, len(sound)))]


def _pairs(entries: list[tuple[ListedPhotograph, Finding]]) -> list[list[tuple[ListedPhotograph, Finding]]]:
    return [entries[i : i + 2] for i in range(0, len(entries), 2)]


def _title(photograph: ListedPhotograph, finding: Finding | None) -> str:
    """The fault, the photograph and, where it is about one, the mask."""
    lines = [finding.kind.replace("_", " ").upper() if finding else "no fault found"]
    lines.append(f"{photograph.image.name} ({photograph.split})")
    masks = {str(mask) for mask, _ in photograph.masks}
    lines += [Path(file).name for file in finding.files if file in masks][:1] if finding else []
    return "\n".join(textwrap.shorten(line, 60) for line in lines)


def _tile(photograph: ListedPhotograph, colours: dict[str, str]) -> np.ndarray:
    """The photograph with its masks outlined, RGB uint8, the longer side TILE; grey where it cannot be read."""
    try:
        image = read_image(photograph.image)
    except DataError:
        return np.full((TILE, TILE, 3), 128, np.uint8)  # the title says what it is
    scale = TILE / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    tile = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for path, structure in photograph.masks:
        try:
            mask = resize_mask(read_mask(path), (height, width))
        except DataError:
            continue  # a mask that cannot be read cannot be drawn either
        outline, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        colour = [int(colours[structure][i : i + 2], 16) for i in (1, 3, 5)]
        cv2.drawContours(tile, outline, -1, colour, 2)
    return tile


def draw_sizes(path: Path, balance: ClassBalance, image_size: int) -> bool:
    """Histograms of the sizes of masks and of their parts, a panel for each structure; False without a mask.

    The unit is the pixel of the model frame, before masks are resampled to it.
    """
    if not balance.sizes:
        return False
    figure = new_figure(8, 1.3 * len(balance.sizes) + 0.9)
    panels = figure.subplots(len(balance.sizes), 1, sharex=True, squeeze=False).ravel()
    for panel, (structure, sizes) in zip(panels, sorted(balance.sizes.items()), strict=True):
        masks, parts = (100 * counts / counts.sum() for counts in (sizes.of_masks, sizes.of_parts))
        panel.stairs(masks, SIZE_EDGES, fill=True, color=COLOURS[5], label="masks")
        panel.stairs(parts, SIZE_EDGES, color=COLOURS[1], linewidth=1.4, label="their connected parts")
        panel.axvline(1, color=BLACK, linestyle="--", linewidth=1, label=f"one pixel at --image_size {image_size}")
        title = f"{structure}: {sizes.masks} masks, {sizes.parts} parts"
        panel.set_title(title, fontsize=8, loc="left", pad=2)
        panel.set_xscale("log", base=2)
        panel.set_ylabel("%", fontsize=8)
        panel.tick_params(labelsize=8)
        tidy(panel)
    used = np.flatnonzero(sum(sizes.of_masks + sizes.of_parts for sizes in balance.sizes.values()))
    panels[-1].set_xlim(min(0.5, SIZE_EDGES[used[0]]), max(2, SIZE_EDGES[used[-1] + 1]))
    panels[-1].set_xlabel(f"area in pixels of the {image_size} x {image_size} model frame", fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    save_figure(figure, path)
    return True
