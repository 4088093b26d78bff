"""What the vessels, disc, cup and fovea of one photograph tell together: calibres, zones, rims, which eye it is.

Lengths are in pixels of the photograph. A value that is not defined is NaN, and its reason a note.
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from sam_med2d.choices import CUP, DISC
from sam_med2d.data.index_table import FILE
from sam_med2d.evaluation.mask_pair import is_vessel
from sam_med2d.measurement.fractal_dimension import fractal_dimension
from sam_med2d.measurement.laterality import Laterality, seen
from sam_med2d.measurement.retinal_equivalents import ARTERY, NEEDED, VEIN, trunk_width, zone_b_widths
from sam_med2d.measurement.rim_sectors import SIDES, rim_ratios
from sam_med2d.measurement.vessel_geometry import CentreLine, centre_lines, summarise
from sam_med2d.measurement.vessel_segments import find_skeleton
from sam_med2d.measurement.zones import ZONES, DiscCircle, find_disc
from segment_anything.utils.field_of_view import FieldOfView

FOVEA = "fovea"  # a structure; the centroid of its mask
TREES = {"vessel": (), "artery": ("artery", "arteries", "arteriole", "arterioles")}  # words in names of structures
TREES |= {"vein": ("vein", "veins", "venule", "venules")}
EQUIVALENTS = {"artery": ("crae_px", "arteries", ARTERY), "vein": ("crve_px", "veins", VEIN)}
RIMS = ("inferior", "superior", "nasal", "temporal", "thinnest")
WHOLE = 0.99  # share of a zone from which on it counts as seen
OF_VESSELS = ("width_mean_px", "width_median_px", "tortuosity", "curvature_per_px", "fractal_dimension")
OF_VESSELS += tuple(f"density_zone_{zone}" for zone in ZONES)

Masks = Mapping[str, np.ndarray]  # of each structure, bool [H, W]
Values = dict[str, float | str]  # by column


def mm_name(column: str) -> str:
    """The column in millimetres for one in pixels; "" for others."""
    for ending, other in (("_area_px", "_area_mm2"), ("_per_px", "_per_mm"), ("_px", "_mm")):
        if column.endswith(ending):
            return column.removesuffix(ending) + other
    return ""


def in_mm(values: Mapping[str, float | str], mm_per_pixel: float) -> dict[str, float]:
    """Lengths, areas and curvatures of a photograph in millimetres.

    Args:
        values: {column: value}, of which those in pixels are taken.
        mm_per_pixel: size of a pixel on the retina.
    """
    powers = {"_mm2": 2, "_per_mm": -1, "_mm": 1}
    named = {name: value for column, value in values.items() if (name := mm_name(column))}
    power = {name: next(powers[ending] for ending in powers if name.endswith(ending)) for name in named}
    return {name: value * mm_per_pixel ** power[name] for name, value in named.items()}


CIRCLE = ("disc_centre_x", "disc_centre_y", "disc_diameter_px")
COLUMNS = [*CIRCLE, *(f"{tree}_{name}" for tree in TREES for name in OF_VESSELS)]
COLUMNS += [*(f"zone_{zone}_visible" for zone in ZONES), "zone_b_arteries", "zone_b_veins", "crae_px", "crve_px", "avr"]
COLUMNS += [*(f"rim_to_disc_{name}" for name in RIMS), "disc_fovea_px"]
# in the order of the table, with those in mm behind those in pixels
RETINA_COLUMNS = ["laterality", "laterality_source", "mm_per_pixel", "scale_source"]
RETINA_COLUMNS += [name for column in COLUMNS for name in (column, mm_name(column)) if name]
RETINA_COLUMNS += ["disc_area_mm2", "cup_area_mm2", "fov_area_mm2"]


def measure_retina(
    masks: Masks, field: FieldOfView, *, eye: str = "", fovea: tuple[float, float] | None = None
) -> tuple[Values, list[str]]:
    """The values of one photograph, and what a reader should know of them.

    Args:
        masks: {structure: bool [H, W]}; an empty one is of a structure that is not there.
        field: of view of the photograph.
        eye: R or L as it is told, "" where it is not.
        fovea: x and y in pixels as they are told, where 0 is the middle of the first one; else the mask's centroid.

    Returns:
        {column: value} of what the masks have, NaN or "" where it is not defined; and notes.
    """
    retina = _Retina(masks, field, eye, fovea or _centroid(masks.get(FOVEA)))
    values = retina.disc_and_eye() | retina.vessels() | retina.rims() | retina.fovea_distances()
    return values, retina.notes


class _Retina:
    """One photograph, and notes on it."""

    def __init__(self, masks: Masks, field: FieldOfView, eye: str, fovea: tuple[float, float] | None) -> None:
        self.masks, self.field, self.told, self.fovea = masks, field, eye, fovea
        self.inside, self.disc, self.trees = field.mask(), masks.get(DISC), _trees(masks)
        self.circle, reason = (None, "") if self.disc is None else find_disc(self.disc, self.inside)
        self.shown = self._seen()
        self.eye = Laterality(eye, FILE) if eye else self.shown
        self.notes = [reason] if reason else []

    def _seen(self) -> Laterality:
        """The eye that the photograph shows."""
        if self.circle is None:
            return Laterality()
        vessels = self.trees.get("vessel")
        return seen(self.circle, None if vessels is None else vessels & self.disc, self.fovea, self.field)

    def disc_and_eye(self) -> Values:
        """The circle of the disc, and which eye it is: where that is told, it counts."""
        if self.disc is None and not self.told:
            return {}
        values: Values = {"laterality": self.eye.eye, "laterality_source": self.eye.source}
        if self.told and self.shown.eye not in ("", self.told):
            self.notes.append(f"laterality {self.told} in {FILE}, but {self.shown.source} says {self.shown.eye}")
        if self.disc is not None:
            circle = self.circle or DiscCircle(math.nan, math.nan, math.nan)
            values |= zip(CIRCLE, (circle.x, circle.y, circle.diameter), strict=True)
        return values

    def vessels(self) -> Values:
        """Calibres and courses of all vessels, arteries and veins outside of the disc, and what zones have of them."""
        region = self.inside if self.disc is None else self.inside & ~self.disc
        values, lines = {}, {}
        for name, mask in self.trees.items():
            skeleton = find_skeleton(mask, region)
            lines[name] = centre_lines(mask, skeleton)
            found = summarise(lines[name]) | {"fractal_dimension": fractal_dimension(skeleton.lines, self.field.box)}
            values |= {f"{name}_{column}": value for column, value in found.items()}
        return values if self.disc is None or not self.trees else values | self._zones() | self._equivalents(lines)

    def _in_view(self, zone: str) -> np.ndarray:
        """The pixels of a zone in the field of view, bool [H, W]."""
        return self.inside & self.circle.zone(zone, self.inside.shape)

    def _zones(self) -> Values:
        """Share of each zone that is in view, and density of the vessels in that."""
        values: Values = {}
        for zone in ZONES:
            part = self._in_view(zone) if self.circle else np.zeros_like(self.inside)
            share = min(1.0, float(part.sum()) / self.circle.area(zone)) if self.circle else math.nan
            values[f"zone_{zone}_visible"] = share
            for name, mask in self.trees.items():
                values[f"{name}_density_zone_{zone}"] = float(mask[part].mean()) if part.any() else math.nan
        return values

    def _equivalents(self, lines: Mapping[str, Sequence[CentreLine]]) -> Values:
        """CRAE, CRVE and their ratio, as far as there are masks."""
        values: Values = {}
        for name, (column, plural, branching) in EQUIVALENTS.items():
            if name in lines:
                widths = zone_b_widths(lines[name], self.circle) if self.circle else []
                values[f"zone_b_{plural}"] = len(widths) if self.circle else math.nan
                values[column] = trunk_width(widths, branching)
                if self.circle and len(widths) < NEEDED:
                    self.notes.append(f"{len(widths)} {plural} in zone B, {NEEDED} needed")
        if values and self.circle and (share := self._in_view("b").sum() / self.circle.area("b")) < WHOLE:
            self.notes.append(f"{share:.0%} of zone B in view")
        if {"crae_px", "crve_px"} <= values.keys():
            values["avr"] = values["crae_px"] / values["crve_px"]
        return values

    def rims(self) -> Values:
        """Rim-to-disc ratios; nasal and temporal ones where the eye is known."""
        if self.disc is None or CUP not in self.masks:
            return {}
        values: Values = dict.fromkeys((f"rim_to_disc_{name}" for name in RIMS), math.nan)
        if self.circle:
            ratios = rim_ratios(self.disc, self.masks[CUP], self.circle)
            ratios |= {name: ratios[side] for name, side in SIDES.get(self.eye.eye, {}).items()}
            values |= {f"rim_to_disc_{name}": ratios[name] for name in RIMS if name in ratios}
        return values

    def fovea_distances(self) -> Values:
        """How far disc and lesions lie from the fovea: the disc's centre, and of lesions the nearest pixel."""
        if self.fovea is None:
            return {}
        x, y = self.fovea
        values: Values = {}
        if self.disc is not None:
            values["disc_fovea_px"] = float(self.circle.distance(x, y)) if self.circle else math.nan
        for name, mask in self.masks.items():
            if name not in (DISC, CUP, FOVEA) and not is_vessel(name):
                rows, columns = np.nonzero(mask)
                values[f"{name}_fovea_px"] = float(np.hypot(columns - x, rows - y).min()) if len(rows) else math.nan
        return values


def _trees(masks: Masks) -> dict[str, np.ndarray]:
    """All vessels, arteries and veins, as far as there are masks of them."""
    found = {}
    for tree, words in TREES.items():
        parts = [m for name, m in masks.items() if is_vessel(name) and (not words or {*words} & _words(name))]
        found |= {tree: np.logical_or.reduce(parts)} if parts else {}
    return found


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _centroid(mask: np.ndarray | None) -> tuple[float, float] | None:
    """x and y; None without a pixel."""
    if mask is None or not mask.any():
        return None
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())
