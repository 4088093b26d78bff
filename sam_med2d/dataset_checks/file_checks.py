"""One photograph and its masks -> what is wrong with the files, how large the structures are, what it looks like."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.picture_signs import sign_in
from sam_med2d.data.record_checks import check_size
from sam_med2d.dataset_checks.alignment import VESSELS
from sam_med2d.dataset_checks.duplicate_images import thumbnails
from sam_med2d.dataset_checks.evidence import to_side
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.map_checks import ListedPhotograph
from sam_med2d.dataset_checks.mask_placement import check_placement
from sam_med2d.dataset_checks.pixel_shift import Shift, vessel_shift
from sam_med2d.errors import (
    DataError,
    EmptyMaskError,
    MissingError,
    SizeError,
    UnclearError,
    UnreadableError,
    ValuesError,
)
from sam_med2d.notes import REMARKS
from segment_anything.preprocessing import Frame, Preprocessing
from segment_anything.utils.digest import digest
from segment_anything.utils.field_of_view import FieldOfView

KINDS = {
    MissingError: "missing_file",
    UnreadableError: "unreadable",
    UnclearError: "unclear",
    SizeError: "wrong_size",
    ValuesError: "not_binary",
    EmptyMaskError: "empty_mask",
}
# A surround of this grey level is bright: that of public sets reaches 56. Of what lies this far (of the side) from the
# field of view, burnt-in letters fill up to 0.06 % of the picture.
BRIGHT, BRIGHT_SHARE, FAR = 80, 0.01, 0.02
SURROUND_SIDE = 256  # longer side at which the surround is looked at
FEW_PIXELS = 4  # of the model frame: what is smaller is hardly seen
# of a structure's parts, in pixels of the model frame: from 2 ** -8 in steps of half an octave
SIZE_EDGES = 2.0 ** np.arange(-8, 20.25, 0.5)


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """Sizes of one mask. Its parts are its 8-connected components.

    Attributes:
        pixels, share: area in the photograph, in pixels and as a share of it.
        left: pixels in the model frame.
        scale: pixels of the model frame in a pixel of the photograph.
        small_parts, small_share: number of parts below FEW_PIXELS of the model frame, and their share of the mask.
        sizes: histogram of the parts over SIZE_EDGES, uint32.
        shift: of vessels, see `pixel_shift.vessel_shift`.
    """

    path: Path
    structure: str
    pixels: int
    share: float
    left: int
    scale: float
    parts: int
    small_parts: int
    small_share: float
    sizes: np.ndarray
    shift: Shift | None = None


@dataclass(frozen=True, slots=True)
class PhotographFacts:
    """What one photograph's files say. digest: of the photograph's bytes, None where they cannot be read."""

    digest: str | None = None
    thumbnails: np.ndarray | None = None
    masks: tuple[MaskFacts, ...] = ()
    findings: list[Finding] = field(default_factory=list)


def check_photograph(photograph: ListedPhotograph, image_size: int) -> PhotographFacts:
    """Read a photograph and its masks, and measure them in a model frame of image_size pixels a side."""
    findings: list[Finding] = []
    REMARKS.take()  # those of files that were read before
    try:
        image = _regular(photograph.image, read_image)
        size = image.shape[:2]
    except DataError as error:
        findings.append(_fault(photograph.image, error))
        image = size = None
    masks = _read_masks(photograph, size, findings)
    findings += _as_read()
    if image is None:
        return PhotographFacts(findings=findings)
    if sign := sign_in(image):
        seen = "is black and white" if sign == "black and white" else f"has {sign}"
        message = f"{photograph.image} {seen}: a mask that is listed as a photograph? Correct the map"
        return PhotographFacts(findings=[*findings, Finding("mask_as_photograph", (str(photograph.image),), message)])
    preprocessing = Preprocessing(image_size)
    frame = preprocessing.frame(image)
    facts = tuple(_measure(image, path, *mask, preprocessing, frame) for path, mask in masks.items())
    findings += [finding for mask in facts if (finding := _vanishing(mask, image_size))]
    findings += _equal_masks(masks)
    findings += _bright_surround(photograph.image, image, frame.view)
    findings += check_placement(image, {str(path): mask for path, mask in masks.items()}, frame.view)
    own = digest(photograph.image.read_bytes())
    return PhotographFacts(own, thumbnails(image, frame.view), facts, findings)


def _read_masks(
    photograph: ListedPhotograph, size: tuple[int, int] | None, findings: list[Finding]
) -> dict[Path, tuple[str, np.ndarray]]:
    """Structure and uint8 {0, 1} [H, W] of each sound mask; the faults of the others are added to `findings`.

    size: of the photograph, None where it is not known.
    """
    masks = {}
    for path, structure in photograph.masks:
        try:
            mask = _regular(path, read_mask)
            check_size(path, mask.shape, photograph.image, size)
            masks[path] = structure, mask
        except DataError as error:
            findings.append(_fault(path, error))
    return masks


def _regular(path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Read a file; anything else that has the path, such as a pipe, is refused and not waited for."""
    if path.exists() and not path.is_file():
        raise MissingError(f"{path} is not a file: check the path in the map")
    return read(path)


def _fault(path: Path, error: DataError) -> Finding:
    return Finding(KINDS[type(error)], (str(path),), str(error))


def _as_read() -> list[Finding]:
    """Warnings of files that were read by a guess, or otherwise than they look."""
    return [
        Finding("as_read", (file,), f"{file}: {kind} ({seen})", warning=True)
        for kind, files in REMARKS.take().items()
        for file, seen in files.items()
    ]


def _bright_surround(path: Path, image: np.ndarray, view: FieldOfView) -> Iterator[Finding]:
    """A warning for a photograph RGB uint8 [H, W, 3] with a white or grey surround or margin."""
    small = to_side(image, SURROUND_SIDE)
    inside = view.resized(small.shape[:2]).mask().astype(np.uint8)
    far = cv2.dilate(inside, np.ones(2 * (2 * int(FAR * SURROUND_SIDE) + 1,), np.uint8)) == 0
    share = np.count_nonzero(small[far].mean(axis=1) > BRIGHT) / far.size
    if share > BRIGHT_SHARE:
        message = (
            f"{path} has a white or grey surround or margin ({share:.0%} of the picture), which is taken for outside "
            "of the field of view: save all photographs of a set alike"
        )
        yield Finding("surround", (str(path),), message, warning=True)


def _equal_masks(masks: dict[Path, tuple[str, np.ndarray]]) -> Iterator[Finding]:
    """A finding where masks of two structures are the same, as those of a map of classes that was cut at 0."""
    for (first, (one, mask)), (second, (other, twin)) in itertools.combinations(masks.items(), 2):
        if one != other and np.array_equal(mask, twin):
            message = f"{first} and {second} are equal: {one} and {other} are not the same, draw either again"
            yield Finding("equal_masks", (str(first), str(second)), message)


def _vanishing(mask: MaskFacts, image_size: int) -> Finding | None:
    """A finding for a mask of which the model sees nothing, or less than a pixel."""
    if not mask.left:
        message = (
            f"{mask.path} has no pixel left at --image_size {image_size}: it lies outside the photograph's field of "
            "view; leave it out of the map, or draw it again"
        )
        return Finding("vanishes", (str(mask.path),), message)
    if (area := mask.pixels * mask.scale) >= 1:
        return None
    message = (
        f"{mask.path} covers {area:.2g} of a pixel at --image_size {image_size}: take a larger --image_size or tiles, "
        "or leave it out of the map"
    )
    return Finding("too_small", (str(mask.path),), message)


def _measure(
    image: np.ndarray, path: Path, structure: str, mask: np.ndarray, preprocessing: Preprocessing, frame: Frame
) -> MaskFacts:
    areas = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    scale = math.prod(frame.inner[2:]) / math.prod(frame.crop_size)
    small = areas * scale < FEW_PIXELS
    # the first and the last bin also hold what lies outside the edges
    sizes = np.histogram(np.clip(areas * scale, SIZE_EDGES[0], SIZE_EDGES[-1]), SIZE_EDGES)[0].astype(np.uint32)
    pixels = int(areas.sum())
    return MaskFacts(
        path=path,
        structure=structure,
        pixels=pixels,
        share=pixels / mask.size,
        left=int(preprocessing.mask(mask, frame).sum()),
        scale=scale,
        parts=len(areas),
        small_parts=int(small.sum()),
        small_share=float(areas[small].sum() / pixels),
        sizes=sizes,
        shift=vessel_shift(image, mask) if structure in VESSELS else None,
    )
