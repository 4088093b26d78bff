"""YOLO's labels for segmentation: a folder with data.yaml, photographs and a text file of polygons for each."""

from pathlib import Path

import numpy as np
import yaml

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.annotation_export.photograph_copies import copy_photograph
from sam_med2d.data.records import SPLITS
from sam_med2d.dataset_conversion.polygons import single_contours

DIGITS = 7  # after the point: 1/250 of a pixel in photographs of 40,000


def write(export: Export, target: Path) -> Written:
    """images/ and labels/ of each split, train for predictions; each connected component is an object."""
    classes = {name: number for number, name in enumerate(export.source.structures)}
    used = [split for split in SPLITS if any((one.split or "train") == split for one in export.source.photographs)]
    for split in used:
        for kind in ("images", "labels"):
            (target / kind / split).mkdir(parents=True)

    def one(photograph: AnnotatedPhotograph) -> int:
        split, lines = photograph.split or "train", []
        copy_photograph(photograph, target / "images" / split)
        for mask, pixels in photograph.drawn():
            for contour in single_contours(pixels):
                lines.append(f"{classes[mask.structure]} {_shares(contour, pixels.shape)}\n")
        (target / "labels" / split / f"{photograph.name}.txt").write_text("".join(lines), encoding="utf-8")
        return len(lines)

    counts = list(export.each(one))
    written = Written({"photographs": len(counts), "polygons": sum(counts)})
    about = {split: f"images/{split}" for split in used} | {"names": {number: name for name, number in classes.items()}}
    (target / "data.yaml").write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), encoding="utf-8")
    if missing := [split for split in ("train", "val") if split not in used]:
        written.notes.append(f"ultralytics needs {' and '.join(missing)}, too: there is no photograph of it")
    return written


def _shares(contour: np.ndarray, size: tuple[int, int]) -> str:
    """The middles of a contour's pixels as shares of width and height.

    One of a point or two is drawn a quarter of a pixel to either side: less than three points would be a box.
    """
    points = contour + 0.5
    if len(points) < 3:
        points = np.concatenate([points[[0, -1]] - 0.25, points[[-1, 0]] + 0.25])
    return " ".join(f"{share:.{DIGITS}f}" for share in (points / (size[1], size[0])).ravel())


YOLO = ExportFormat(
    name="yolo",
    title="a folder for YOLO: data.yaml, photographs, and polygons (ultralytics fills them with the same masks), exact",
    write=write,
)
