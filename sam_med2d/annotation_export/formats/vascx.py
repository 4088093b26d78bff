"""What vascx (package retinalysis-vascx) measures: crops of 1024 x 1024 pixels around the field of view."""

import csv
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written, dice
from sam_med2d.data.image_io import read_image
from sam_med2d.errors import DataError
from segment_anything.utils.field_of_view import FieldOfView, find_field_of_view
from segment_anything.utils.masks import resize_mask

SIDE = 1024
ARTERY, VEIN, VESSEL, DISC, FOVEA = "artery", "vein", "vessel", "optic_disc", "fovea"
FOLDERS = ("preprocessed_rgb", "artery_vein", "vessels", "disc")


class Crop:
    """The square around the circle of the field of view, or around a photograph without one, as vascx has it.

    Attributes:
        left, top, side: in pixels of the photograph; it may reach beyond.
        size: (height, width) of the photograph.
        lines: straight cuts of the field of view, as pairs of points.
    """

    def __init__(self, view: FieldOfView) -> None:
        height, width = self.size = view.size
        x, y = view.centre or (width / 2, height / 2)
        radius = view.radius or math.hypot(width, height) / 2 + max(1.0, max(height, width) / 1000)
        self.side = round(2 * radius)
        self.left, self.top = round(x - self.side / 2), round(y - self.side / 2)
        top, left, bottom, right = map(int, view.box)
        cuts = {
            "top": (top, 1, top > max(0, y - radius + 1)),
            "bottom": (bottom, 1, bottom < min(height, y + radius - 1)),
        }
        cuts |= {
            "left": (left, 0, left > max(0, x - radius + 1)),
            "right": (right, 0, right < min(width, x + radius - 1)),
        }
        ends = ((0, width), (0, height))
        self.lines = {
            name: [[end, at] if across else [at, end] for end in ends[not across]]
            for name, (at, across, cut) in cuts.items()
            if cut and view.radius
        }

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """This part of a picture [H, W] or [H, W, 3]; black beyond it."""
        height, width = self.size
        bottom, right = self.top + self.side, self.left + self.side
        inner = pixels[max(0, self.top) : max(0, bottom), max(0, self.left) : max(0, right)]
        sides = (max(0, -self.top), max(0, bottom - height), max(0, -self.left), max(0, right - width))
        return cv2.copyMakeBorder(np.ascontiguousarray(inner), *sides, cv2.BORDER_CONSTANT, value=0)

    def back(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the crop, bool [SIDE, SIDE], in the photograph, bool [H, W]."""
        large = cv2.resize(mask.astype(np.uint8), (self.side, self.side), interpolation=cv2.INTER_NEAREST_EXACT)
        row, column = np.arange(self.size[0]) - self.top, np.arange(self.size[1]) - self.left
        inside = np.logical_and.outer((row >= 0) & (row < self.side), (column >= 0) & (column < self.side))
        return large[np.ix_(row.clip(0, self.side - 1), column.clip(0, self.side - 1))].astype(bool) & inside

    def bounds(self) -> dict[str, Any]:
        """Of bounds.csv; positions count from the middle of the first pixel, and its crop to SIDE is this one."""
        shift = -0.5 + self.side * (SIDE + 1) / (2 * SIDE)
        centre = (self.left + shift, self.top + shift)
        return {"hw": self.size, "center": centre, "radius": self.side / 2, "lines": self.lines}


def write(export: Export, target: Path) -> Written:
    """Photographs with an artery or a vein mask; a disc and a fovea where they are drawn."""
    chosen = [one for one in export.source.photographs if {mask.structure for mask in one.masks} & {ARTERY, VEIN}]
    if not chosen:
        raise DataError(
            f"vascx measures arteries and veins: SOURCE has {', '.join(export.source.structures)}, and no mask of "
            f"{ARTERY} or {VEIN}"
        )
    for folder in FOLDERS:
        (target / folder).mkdir()
    written = Written({"photographs": len(chosen)})
    fovea, bounds = [], []
    for photograph, (crop, place, scores) in zip(
        chosen, export.each(lambda one: _one(one, target), chosen), strict=True
    ):
        bounds.append((photograph.name, True, repr(crop.bounds())))
        if place is not None:
            fovea.append((photograph.name, *(round(float(side), 2) for side in place)))
        for structure, score in scores.items():
            written.dice[structure].append(score)
    _write_table(target / "bounds.csv", ("id", "success", "bounds"), bounds)
    if fovea:
        _write_table(target / "fovea.csv", ("", "x_fovea", "y_fovea"), fovea)
    written.notes += _notes(export, chosen, {name for name, *_ in fovea})
    return written


def _one(photograph: AnnotatedPhotograph, target: Path) -> tuple[Crop, np.ndarray | None, dict[str, float]]:
    """Write one photograph; its crop, the fovea (x, y) in it, and Dice of what is left of each mask."""
    image, whole = read_image(photograph.path), photograph.united()
    crop = Crop(find_field_of_view(image))
    masks = {
        name: resize_mask(crop.of(mask.astype(np.uint8)), (SIDE, SIDE)).astype(bool) for name, mask in whole.items()
    }
    method = cv2.INTER_AREA if crop.side > SIDE else cv2.INTER_LINEAR
    nothing = np.zeros((SIDE, SIDE), bool)
    artery, vein = masks.get(ARTERY, nothing), masks.get(VEIN, nothing)
    pictures = {
        "preprocessed_rgb": cv2.resize(crop.of(image), (SIDE, SIDE), interpolation=method)[..., ::-1],
        "artery_vein": artery + np.uint8(2) * vein,
        "vessels": masks.get(VESSEL, artery | vein).astype(np.uint8),
    }
    pictures |= {"disc": masks[DISC].astype(np.uint8)} if DISC in masks else {}
    for folder, pixels in pictures.items():
        _, content = cv2.imencode(".png", pixels)
        (target / folder / f"{photograph.name}.png").write_bytes(content.tobytes())
    used = {name: mask for name, mask in whole.items() if name in (ARTERY, VEIN, VESSEL, DISC)}
    scores = {name: dice(mask, crop.back(masks[name])) for name, mask in used.items()}
    place = np.argwhere(masks[FOVEA]).mean(axis=0)[::-1] if masks.get(FOVEA, nothing).any() else None
    return crop, place, scores


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def _notes(export: Export, chosen: list[AnnotatedPhotograph], with_fovea: set[str]) -> list[str]:
    """What a person should know."""
    notes = []
    if lost := len(export.source.photographs) - len(chosen):
        notes.append(f"{lost} photograph(s) without {ARTERY} and {VEIN} are left out")
    for structure in (ARTERY, VEIN, DISC):
        if without := sum(structure not in {mask.structure for mask in one.masks} for one in chosen):
            notes.append(f"{without} photograph(s) have no {structure}: vascx measures nothing of it there")
    if without := sum(one.name not in with_fovea for one in chosen):
        notes.append(
            f"{without} photograph(s) have no {FOVEA}, and calc-biomarkers needs fovea.csv: vascx run-models "
            "--no-preprocess --no-vessels --no-disc makes it"
        )
    unused = [name for name in export.source.structures if name not in (ARTERY, VEIN, VESSEL, DISC, FOVEA)]
    return notes + [f"vascx has no place for {', '.join(unused)}"] * bool(unused)


VASCX = ExportFormat(
    name="vascx",
    title="a folder for vascx calc-biomarkers: crops of 1024 x 1024 pixels, arteries 1, veins 2, both 3",
    write=write,
    has_splits=False,
)
