"""A raw data set of nnU-Net: photographs as PNG, and maps of labels. Structures that overlap become regions."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.annotation_export.photograph_copies import write_png
from sam_med2d.errors import DataError

NAME = re.compile(r"Dataset\d{3}_.+")
MOST = 255  # labels in a picture of 8 bits
PART_OF = {"train": "Tr", "val": "Tr", "test": "Ts", "": "Tr"}


def write(export: Export, target: Path) -> Written:
    """A label for each set of structures that share pixels; a structure is a label, or a region of several."""
    structures = export.source.structures
    areas: Counter[int] = Counter()
    for found in export.each(lambda photograph: _areas(_bits(photograph, structures))):
        areas.update(found)
    labels = _numbered(areas, len(structures))
    if len(labels) > MOST:
        raise DataError(
            f"the structures overlap in {len(labels)} ways: a PNG of labels holds {MOST}; export fewer structures"
        )
    for kind in ("images", "labels"):
        for part in {PART_OF[photograph.split] for photograph in export.source.photographs} | {"Tr"}:
            (target / f"{kind}{part}").mkdir()
    lookup = np.zeros(max(labels, default=0) + 1, np.uint8)
    lookup[list(labels)] = list(labels.values())

    def one(photograph: AnnotatedPhotograph) -> str:
        part = PART_OF[photograph.split]
        write_png(photograph, target / f"images{part}" / f"{photograph.name}_0000.png")
        _, content = cv2.imencode(".png", lookup[_bits(photograph, structures)])
        (target / f"labels{part}" / f"{photograph.name}.png").write_bytes(content.tobytes())
        return part

    parts = Counter(export.each(one))
    about = _dataset(structures, labels, areas) | {"numTraining": parts["Tr"]}
    (target / "dataset.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    written = Written({"training cases": parts["Tr"], "test cases": parts["Ts"], "labels": len(labels)})
    written.notes += _notes(export, about)
    if validated := [one.name for one in export.source.photographs if one.split == "val"]:
        trained = [one.name for one in export.source.photographs if one.split in ("train", "")]
        text = json.dumps([{"train": trained, "val": validated}], indent=1) + "\n"
        (target / "splits_final.json").write_text(text, encoding="utf-8")
        written.notes.append("copy splits_final.json to the folder of nnUNet_preprocessed, and train fold 0")
    return written


def _bits(photograph: AnnotatedPhotograph, structures: list[str]) -> np.ndarray:
    """The structures of each pixel, int64 [H, W]: bit i is that of structure i."""
    bits = np.zeros(photograph.size(), np.int64)
    for structure, mask in photograph.united().items():
        bits[mask] |= 1 << structures.index(structure)
    return bits


def _areas(bits: np.ndarray) -> dict[int, int]:
    """Pixels of each set of structures."""
    found, counts = np.unique(bits, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _numbered(areas: Iterable[int], count: int) -> dict[int, int]:
    """A label from 1 on for each set of structures: every structure alone, then what overlaps."""
    sets = sorted({*areas, *(1 << i for i in range(count))} - {0}, key=lambda bits: (bits.bit_count(), bits))
    used = [bits for bits in sets if bits in set(areas)]
    return {bits: number for number, bits in enumerate(used, start=1)}


def _dataset(structures: list[str], labels: Mapping[int, int], areas: Mapping[int, int]) -> dict[str, Any]:
    """The content of dataset.json but for the number of cases."""
    regions = {name: [n for bits, n in labels.items() if bits >> i & 1] for i, name in enumerate(structures)}
    sizes = {name: sum(areas[bits] for bits in labels if bits >> i & 1) for i, name in enumerate(structures)}
    regions = {name: regions[name] for name in sorted(regions, key=lambda name: -sizes[name]) if regions[name]}
    about: dict[str, Any] = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "file_ending": ".png"}
    if all(len(numbers) == 1 for numbers in regions.values()) and len(regions) == len(labels):
        singles = {name: number for name, (number,) in regions.items()}
        return about | {"labels": {"background": 0} | dict(sorted(singles.items(), key=lambda item: item[1]))}
    about["labels"] = {"background": 0} | regions
    return about | {"regions_class_order": [numbers[0] for numbers in regions.values()]}


def _notes(export: Export, about: Mapping[str, Any]) -> list[str]:
    """What a person should know."""
    notes = []
    if not NAME.fullmatch(export.out.name):
        notes.append(f"nnU-Net wants a folder called like Dataset501_fundus in nnUNet_raw: rename {export.out.name}")
    if "regions_class_order" in about:
        notes.append("structures overlap: their labels are regions, which nnU-Net learns one by one")
    empty = [name for name in export.source.structures if name not in about["labels"]]
    notes += [f"no photograph has a mask of {', '.join(empty)}: not among the labels"] * bool(empty)
    return notes


NNUNET = ExportFormat(
    name="nnunet",
    title="a raw data set of nnU-Net (PNG; structures that overlap are regions), exact",
    write=write,
)
