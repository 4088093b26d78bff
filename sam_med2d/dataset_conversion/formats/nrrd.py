"""NRRD files of one slice: segmentations of 3D Slicer (.seg.nrrd), whose header names segments, and maps of labels."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.class_list import CLASSES, LabelNames
from sam_med2d.dataset_conversion.formats.folder_layout import PictureFile
from sam_med2d.dataset_conversion.formats.pairing import FLAGS, find_pairs, samples_of_pairs, single
from sam_med2d.dataset_conversion.formats.slice_files import slices_of
from sam_med2d.dataset_conversion.samples import Choice, MaskSource
from sam_med2d.dataset_conversion.slices import AXES, NRRD, check_slice, nrrd_header, nrrd_values, two_axes
from sam_med2d.errors import DataError

SEGMENT = re.compile(r"Segment(\d+)_Name")
OFFSET = "Segmentation_ReferenceImageExtentOffset"  # of what Slicer cut off, in pixels


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Segments by their names, or as --classes calls them, those of one structure united; of other files as `nifti`.

    Raises DataError where only some of the files have segments.
    """
    headers = {path: nrrd_header(path) for name, path in tree.files.items() if NRRD.search(name)}
    segmented = {path: header for path, header in headers.items() if any(map(SEGMENT.fullmatch, header))}
    if not segmented:
        return slices_of(tree, choice, lambda name: bool(NRRD.search(name)))
    if plain := headers.keys() - segmented.keys():
        raise DataError(f"{min(plain)} has no segments, and {min(segmented)} has: convert them one kind at a time")
    names = LabelNames(choice.options.get("classes"))
    axes = str(choice.options.get("axes") or "xy")

    def sources(mask: PictureFile) -> Sequence[MaskSource]:
        parts: defaultdict[str, list[Segment]] = defaultdict(list)
        segments = _segments(mask.path, segmented[mask.path], axes)
        _refuse_nameless(mask.path, [segment for _, segment in segments])
        for label, segment in segments:
            for name in names.structures(label):
                parts[name].append(segment)
        return [MaskSource(name, mask.path, Segments(tuple(found))) for name, found in parts.items()]

    pairs = single(find_pairs(tree, choice, by_structure=False, is_mask=lambda name: bool(NRRD.search(name))))
    made = samples_of_pairs(pairs, choice, sources)
    names.check()
    made.notes += names.notes()
    return made


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a .seg.nrrd, as a `Decoder`.

    Attributes:
        layer, value: its place on the first axis (None: there is none), and its value there.
        offset: (x, y) of the first pixel in the photograph.
        backwards: whether x, and y, run from right to left and from bottom to top.
        axes: as AXES says.
    """

    layer: int | None
    value: int
    offset: tuple[int, int] = (0, 0)
    backwards: tuple[bool, bool] = (False, False)
    axes: str = "xy"

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        values = nrrd_values(path)
        values = values if self.layer is None else values[self.layer]
        inside = values.reshape(two_axes(path, values.shape)) == self.value
        inside = inside[:: -1 if self.backwards[0] else 1, :: -1 if self.backwards[1] else 1]
        inside = inside.T if self.axes == "xy" else inside
        left, top = self.offset
        if (left, top) == (0, 0):
            check_slice(path, inside.shape, size, self.axes)
        mask = np.zeros(size, bool)
        part = mask[max(0, top) : top + inside.shape[0], max(0, left) : left + inside.shape[1]]
        if min(left, top) < 0 or part.shape != inside.shape:
            raise DataError(
                f"{path} has {inside.shape[1]} x {inside.shape[0]} pixels from ({left}, {top}) on, which leave the "
                f"photograph of {size[1]} x {size[0]}"
            )
        part[:] = inside
        return mask


@dataclass(frozen=True, slots=True)
class Segments:
    """The union of segments of one file, as a `Decoder`."""

    parts: tuple[Segment, ...]

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return np.logical_or.reduce([part(path, size) for part in self.parts])


def _segments(path: Path, header: Mapping[str, Any], axes: str) -> list[tuple[str, Segment]]:
    """Name and place of each segment. Raises DataError for a header that is not Slicer's."""
    layered = len(header["sizes"]) == 4
    two_axes(path, header["sizes"][layered:])
    offset, backwards = _place(path, header, layered)
    found = []
    for number in sorted(int(hit[1]) for hit in map(SEGMENT.fullmatch, header) if hit):
        name, prefix = str(header[f"Segment{number}_Name"]), f"Segment{number}_"
        try:
            value, layer = int(header[f"{prefix}LabelValue"]), int(header.get(f"{prefix}Layer", 0))
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{path}: segment {name!r} has no {prefix}LabelValue, or no number: save it again"
            ) from error
        if layer >= (header["sizes"][0] if layered else 1):
            raise DataError(f"{path}: segment {name!r} is on layer {layer}, which the file has not: save it again")
        one = Segment(layer if layered else None, value, offset, backwards, axes)
        if twin := next((other for other, segment in found if segment == one), None):
            raise DataError(
                f"{path}: the segments {twin!r} and {name!r} have the same label value {value}: save it again"
            )
        found.append((name, one))
    return found


def _refuse_nameless(path: Path, segments: Sequence[Segment]) -> None:
    """Raise DataError for a value besides 0 that no segment has: what it means is not in the file."""
    values = nrrd_values(path)
    layers = {None: values} if segments[0].layer is None else dict(enumerate(values))
    for layer, own in layers.items():
        named = [0, *(segment.value for segment in segments if segment.layer == layer)]
        if nameless := np.setdiff1d(own, named).tolist():
            raise DataError(
                f"{path}: no segment has the label value {nameless[0]}, which some pixels have: name it in the program "
                "that wrote the file, or set these pixels to 0"
            )


def _place(path: Path, header: Mapping[str, Any], layered: bool) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Where the first pixel lies in the photograph, and which axes run backwards, by what the header says of space.

    The photograph lies with its first pixel at the origin, x to the left and y to the back of the patient, as programs
    load pictures. An axis runs backwards where its first pixel would then be the last of as many.
    """
    directions = np.array(header.get("space directions", np.eye(3)), float)[layered:][:2, :2]
    steps = np.abs(np.diag(directions))
    if (
        not np.isfinite(directions).all()
        or (steps == 0).any()
        or np.abs(directions - np.diag(np.diag(directions))).any()
    ):
        raise DataError(f"{path}: its axes are turned in space: save it with the axes of the photograph")
    sign = -1 if str(header.get("space", "")).lower().startswith("right-anterior") else 1
    first = sign * np.array(header.get("space origin", np.zeros(3)), float)[:2] / steps
    negative = sign * np.diag(directions) < 0
    counts = np.array(header["sizes"][layered:][:2])
    backwards = negative & (np.abs(first - (counts - 1)) < 0.5)
    if OFFSET in header:
        words = str(header[OFFSET]).split()
        if len(words) < 2 or not all(re.fullmatch(r"-?\d+", word) for word in words[:2]):
            raise DataError(f"{path}: {OFFSET} is {header[OFFSET]!r}: save it again")
        return (int(words[0]), int(words[1])), (bool(backwards[0]), bool(backwards[1]))
    return (0, 0), (bool(backwards[0]), bool(backwards[1]))


NRRD_SLICES = DataSet(
    name="nrrd",
    title="NRRD files of one slice: segmentations of 3D Slicer, maps of labels, or one for each structure",
    layout="""images/eye_1.jpg
masks/eye_1.seg.nrrd (structures by the names of the segments)
or masks/eye_1.nrrd, a map of labels (--classes 1=optic_disc), or masks/eye_1_optic_disc.nrrd""",
    find=find,
    may_be_soft=True,
    flags={"--classes": CLASSES, "--axes": AXES, **FLAGS},
)
