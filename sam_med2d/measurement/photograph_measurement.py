"""What a clinic reads off the masks of one fundus photograph: ratios, diameters, fractions, counts and areas.

A structure that has no mask is not measured: its values are missing, not 0. A mask without foreground says that the
structure was looked for and not found. Areas are in pixels of the photograph, or in areas of its optic disc.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_med2d.choices import CUP, DISC
from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.record_checks import check_size
from sam_med2d.data.records import Record
from sam_med2d.errors import DataError
from sam_med2d.evaluation.mask_pair import is_vessel
from sam_med2d.evaluation.metrics import vertical_cup_to_disc_ratio
from sam_med2d.measurement.retina_measurement import CIRCLE, RETINA_COLUMNS, RIMS, TREES
from sam_med2d.measurement.zones import ZONES, DiscCircle
from sam_med2d.visualization import overlays
from sam_med2d.visualization.tables import write_csv
from segment_anything.utils.masks import bounding_box, largest_component

VESSEL = "vessel"
FIRST = ("image", "vertical_cdr", "area_cdr", "disc_vertical_px", "disc_horizontal_px")
IN_MM = ("disc_vertical_mm", "disc_horizontal_mm")
SECOND = ("disc_area_px", "cup_area_px", "fov_area_px", "vessel_fraction")
OF_LESIONS = ("count", "area_px", "area_discs", "area_mm2", "fovea_px", "fovea_mm")  # the first three always
NOTES = "notes"
# Okabe and Ito's palette; the cup's lies on the bright disc, the others' on the red of the retina
STRUCTURE_COLOURS = {DISC: "#56B4E9", CUP: "#0072B2", VESSEL: "#F0E442", "haemorrhage": "#CC79A7"}
STRUCTURE_COLOURS |= {"microaneurysm": "#FFFFFF", "hard_exudate": "#009E73", "soft_exudate": "#E69F00"}
OTHER_COLOUR = "#D55E00"

Masks = Mapping[str, np.ndarray]  # of each structure, bool [H, W]
Measurements = dict[str, Any]


def load(record: Record, *, may_be_empty: bool = False) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read a photograph and its masks; several of one structure are joined.

    Args:
        record: where they lie.
        may_be_empty: whether a mask without a pixel is fine.

    Returns:
        The photograph, RGB uint8 [H, W, 3], and {structure: mask}, bool [H, W].

    Raises:
        DataError: lists every problem with its file.
    """
    image, masks, problems = read_image(record.image), {}, []
    for ref in record.masks:
        try:
            mask = read_mask(ref.path, may_be_empty=may_be_empty).astype(bool)
            check_size(ref.path, mask.shape, record.image, image.shape[:2])
        except DataError as error:
            problems.append(str(error))
        else:
            masks[ref.structure] = masks[ref.structure] | mask if ref.structure in masks else mask
    if problems:
        raise DataError("\n  ".join(problems))
    return image, masks


# --- numbers --------------------------------------------------------------------------------------------------


def measure(
    masks: Masks, inside: np.ndarray, *, absent: Collection[str] = (), mm_per_pixel: float | None = None
) -> Measurements:
    """The values of one photograph, {column: value}; those that cannot be told are left out.

    Args:
        masks: {structure: bool [H, W]}.
        inside: bool [H, W], the photograph's field of view.
        absent: structures that are known not to be there, as if their masks were empty.
        mm_per_pixel: size of a pixel on the retina; None leaves out diameters in millimetres.
    """
    nothing = np.zeros_like(inside)
    masks = {**dict.fromkeys(absent, nothing), **masks}
    vessels = {name: mask for name, mask in masks.items() if is_vessel(name)}
    row = _disc_and_cup(masks, mm_per_pixel) | {"fov_area_px": int(inside.sum())}
    if vessels:
        vessels = vessels | {VESSEL: np.logical_or.reduce(list(vessels.values()))}
        row |= {f"{name}_fraction": float(mask[inside].mean()) for name, mask in vessels.items() if inside.any()}
    disc_area = row.get("disc_area_px", 0)
    for name, mask in masks.items():
        if name not in (DISC, CUP) and not is_vessel(name):
            row |= {f"{name}_count": count_parts(mask), f"{name}_area_px": int(mask.sum())}
            row |= {f"{name}_area_discs": row[f"{name}_area_px"] / disc_area} if disc_area else {}
    return row | {NOTES: "; ".join(_doubts(masks))}


def _disc_and_cup(masks: Masks, mm_per_pixel: float | None) -> Measurements:
    """Areas, diameters of the disc and ratios, as far as the masks tell."""
    disc, cup = masks.get(DISC), masks.get(CUP)
    row: Measurements = {} if cup is None else {"cup_area_px": int(cup.sum())}
    if disc is None:
        return row
    row["disc_area_px"] = int(disc.sum())
    if not disc.any():
        return row
    left, top, right, bottom = bounding_box(disc)
    for name, pixels in (("vertical", bottom - top), ("horizontal", right - left)):
        row[f"disc_{name}_px"] = pixels
        row |= {f"disc_{name}_mm": pixels * mm_per_pixel} if mm_per_pixel else {}
    if cup is not None:
        row["vertical_cdr"] = vertical_cup_to_disc_ratio(cup, disc)
        row["area_cdr"] = row["cup_area_px"] / row["disc_area_px"]
    return row


def _doubts(masks: Masks) -> list[str]:
    """What a reader should look at before believing the numbers."""
    doubts = []
    for name in (DISC, CUP):
        if name in masks and (parts := count_parts(masks[name])) != 1:
            doubts.append(f"{name} in {parts} parts" if parts else f"{name} not found")
    if DISC in masks and CUP in masks:
        beyond, whole = int((masks[CUP] & ~masks[DISC]).sum()), int(masks[CUP].sum())
        if beyond and masks[DISC].any():
            doubts.append(f"{beyond / whole:.1%} of the cup outside the disc")
    return doubts


def count_parts(mask: np.ndarray) -> int:
    """Number of 8-connected components of a mask, bool [H, W]."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest 8-connected component of a mask, bool [H, W]; the mask itself where it is empty."""
    return largest_component(mask.astype(np.uint8)).astype(bool)


# --- a table --------------------------------------------------------------------------------------------------


def columns(rows: Sequence[Measurements]) -> list[str]:
    """Columns of a table: always those of disc, cup and vessels, then what else a row has, by name, notes last."""
    present = dict.fromkeys(name for row in rows for name in row)
    fixed = [*FIRST, *(name for name in IN_MM if name in present), *SECOND]
    rest = [name for name in present if name not in (*fixed, NOTES)]
    fractions = sorted(name for name in rest if name.endswith("_fraction"))
    retina = [name for name in RETINA_COLUMNS if name in present]
    structures = sorted({name.removesuffix("_count") for name in rest if name.endswith("_count")})
    always = [f"{name}_{kind}" for name in structures for kind in OF_LESIONS]
    counted = [name for name in always if name in present or name.endswith(OF_LESIONS[:3])]
    return list(dict.fromkeys([*fixed, *fractions, *retina, *counted, NOTES]))  # a structure "cup" has the cup's column


def write_table(path: Path, rows: Sequence[Measurements]) -> None:
    """Write a table as CSV, atomically; what is missing or undefined is an empty cell.

    Args:
        path: of the file.
        rows: values of each photograph.
    """
    write_csv(path, columns(rows), ({name: cell_text(value) for name, value in row.items()} for row in rows))


def cell_text(value: Any) -> str:
    """A value as a cell of the table: six digits of a number, nothing for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)


# --- a picture ------------------------------------------------------------------------------------------------


def draw(image: np.ndarray, masks: Masks, row: Measurements) -> np.ndarray:
    """A photograph with outlines, the diameters that were measured, and the values.

    Args:
        image: RGB uint8 [H, W, 3].
        masks: {structure: bool [H, W]}.
        row: what `measure` returns of them.

    Returns:
        RGB uint8.
    """
    # large structures first, so that small ones are drawn over them
    names = sorted(masks, key=lambda name: -int(masks[name].sum()))
    rulers = []
    for name in (DISC, CUP):
        if name in masks and masks[name].any():
            left, top, right, bottom = bounding_box(masks[name])
            x, y = (left + right) / 2, (top + bottom) / 2
            rulers += [((x, top), (x, bottom), STRUCTURE_COLOURS[name])]
            rulers += [((left, y), (right, y), STRUCTURE_COLOURS[name])] if name == DISC else []
    outlines = [(masks[name], STRUCTURE_COLOURS.get(name, OTHER_COLOUR)) for name in names]
    entries = [(text, STRUCTURE_COLOURS.get(name, OTHER_COLOUR) if name else "#FFFFFF") for name, text in _lines(row)]
    return overlays.draw_measurements(image, outlines, rulers, entries, _zone_circles(row))


def _zone_circles(row: Measurements) -> list[tuple[float, float, float]]:
    """The borders of zones B and C, where vessels were measured in them."""
    disc = DiscCircle(*(row.get(column, math.nan) for column in CIRCLE))
    if math.isnan(row.get("zone_b_visible", math.nan)):
        return []
    radii = dict.fromkeys(radius for zone in ZONES for radius in disc.radii(zone))
    return [(disc.x + 0.5, disc.y + 0.5, radius) for radius in radii]


def _retina_lines(row: Measurements) -> list[tuple[str, str]]:
    """The values of vessels and rims in words, each with the structure that it is of."""
    lines = [("", f"eye {row['laterality']} ({row['laterality_source']})")] if row.get("laterality") else []
    for tree in TREES:
        if f"{tree}_tortuosity" in row:
            width, course = row[f"{tree}_width_mean_px"], row[f"{tree}_tortuosity"]
            text = f"{tree}: mean width {width:.1f} px, tortuosity {course:.3f}"
            lines.append((tree, f"{text}, dimension {row[f'{tree}_fractal_dimension']:.2f}"))
    equivalents = [f"{name.upper()} {row[f'{name}_px']:.1f} px" for name in ("crae", "crve") if f"{name}_px" in row]
    if equivalents:
        lines.append(("", ", ".join(equivalents + [f"AVR {row['avr']:.2f}"] * ("avr" in row))))
    rims = [f"{name[0].upper()} {row[f'rim_to_disc_{name}']:.2f}" for name in RIMS[:4] if f"rim_to_disc_{name}" in row]
    return lines + ([(DISC, f"rim-to-disc ratio: {', '.join(rims)}")] if rims else [])


def _lines(row: Measurements) -> list[tuple[str, str]]:
    """The values in words, each with the structure that it is of; "" for none."""
    lines = []
    if "vertical_cdr" in row:
        lines.append(("", f"vertical CDR {row['vertical_cdr']:.2f}, area CDR {row['area_cdr']:.2f}"))
    if "disc_vertical_px" in row:
        sizes = [f"{row['disc_vertical_px']} x {row['disc_horizontal_px']} px"]
        sizes += [f"{row[IN_MM[0]]:.2f} x {row[IN_MM[1]]:.2f} mm"] if IN_MM[0] in row else []
        lines.append((DISC, f"{DISC}: {', '.join(sizes)}"))
    lines += [(CUP, f"{CUP}: {row['cup_area_px']} px")] if "cup_area_px" in row else []
    for column, value in row.items():
        name, _, kind = column.rpartition("_")
        if kind == "fraction":
            lines.append((name, f"{name}: {value:.1%} of the field of view"))
        elif kind == "count":
            discs = row.get(f"{name}_area_discs")
            share = f", {discs:.3f} discs" if discs is not None else ""
            lines.append((name, f"{name}: {value}, {row[f'{name}_area_px']} px{share}"))
    return lines + _retina_lines(row) + [("", note) for note in row[NOTES].split("; ") if note]
