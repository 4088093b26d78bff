"""CVAT for images 1.1: one file of all photographs, in which each mask is run lengths along the rows, exactly."""

import json
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import cv2

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.dataset_conversion.formats.coco_ids import shortest_endings
from segment_anything.utils.rle import mask_to_rle

SUBSETS = {"train": "Train", "val": "Validation", "test": "Test"}


def write(export: Export, target: Path) -> Written:
    """Images are called by their file's name, as CVAT has them; predictions have the source `auto`."""
    photographs = export.source.photographs
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    splits = dict.fromkeys(SUBSETS[photograph.split] for photograph in photographs if photograph.split)
    about = SubElement(SubElement(root, "meta"), "project" if splits else "task")  # a task has no subsets
    labels = SubElement(about, "labels")
    for structure in export.source.structures:
        SubElement(SubElement(labels, "label"), "name").text = structure
    if splits:
        subsets = SubElement(about, "subsets")
        for split in splits:
            SubElement(subsets, "subset").text = split
    names = shortest_endings([photograph.path for photograph in photographs])
    for i, (name, photograph, shapes) in enumerate(zip(names, photographs, export.each(_shapes), strict=True)):
        height, width = photograph.size()
        subset = {"subset": SUBSETS[photograph.split]} if photograph.split else {}
        image = SubElement(root, "image", id=str(i), name=name, **subset, width=str(width), height=str(height))
        image.extend(shapes)
    indent(root)
    ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)
    kinds = json.dumps([{"name": name, "attributes": []} for name in export.source.structures])
    note = f"the task needs these labels before you upload annotations (Raw, in its constructor): {kinds}"
    return Written({"images": len(photographs), "masks": len(root.findall("image/mask"))}, notes=[note])


def _shapes(photograph: AnnotatedPhotograph) -> list[Element]:
    """The masks of a photograph."""
    found = []
    for mask, pixels in photograph.drawn():
        x, y, width, height = cv2.boundingRect(pixels)
        runs = mask_to_rle(pixels[y : y + height, x : x + width].T, compressed=False)["counts"]  # along the rows
        about = {"label": mask.structure, "source": "manual" if mask.score is None else "auto", "occluded": "0"}
        about["rle"] = ", ".join(map(str, runs))
        about |= {"left": str(x), "top": str(y), "width": str(width), "height": str(height), "z_order": "0"}
        found.append(Element("mask", about))
    return found


CVAT = ExportFormat(
    name="cvat",
    title="a file of CVAT for images 1.1 (masks as run lengths), exact",
    write=write,
    suffix=".xml",
)
