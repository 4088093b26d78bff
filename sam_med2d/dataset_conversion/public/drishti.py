"""Drishti-GS1: 101 photographs, optic disc and cup by four experts.

A soft map holds the share of the experts who agree, as 0, 64, 128, 191 or 255; by default a pixel counts where three of
the four agree, the least majority. The average boundary is the other choice. In some copies a soft map differs by a
few pixels from its photograph's size; it is then scaled. Patients are not named.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect
from sam_med2d.dataset_conversion.mask_readers import White, read_points, sized
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

PHOTOGRAPHS = r"(?P<split>Training|Test)/Images/(?:(?:GLAUCOMA|NORMAL)/)?drishtiGS_(?P<id>\d{3})\.png"
TRUTH = r"(?P<split>Training|Test)/(?:Test_)?GT/drishtiGS_(?P<id>\d{3})"
OBSERVERS = {
    "softmap": TRUTH + r"/SoftMap/[^/]+_KINDsegSoftmap\.png",
    "average": TRUTH + r"/AvgBoundary/[^/]+_KINDAvgBoundary\.txt",
}
MAJORITY = 0.75
ROUNDING = 2 / 255  # 191 stands for 0.75 and is a little less
OTHER_SIZE = 0.01  # of a soft map, as a share of its photograph's


@dataclass(frozen=True, slots=True)
class SoftMap:
    """Pixels where at least this share of the experts agree."""

    share: float

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return _scaled(path, size, _agreed(path, self.share))


@dataclass(frozen=True, slots=True)
class AverageBoundary:
    """What the average boundary encloses, with the boundary.

    Files differ: some list the boundary's pixels by rows, y before x, others follow it. The order of the columns is
    the one with which the region agrees with the soft map of two or more experts. Raises DataError if neither does.
    """

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        name = path.name.replace("AvgBoundary.txt", "segSoftmap.png").lower()
        maps = [other for other in path.parents[1].glob("SoftMap/*") if other.name.lower() == name]
        if not maps:
            raise DataError(f"{path} has no soft map to compare with: download it again, or take --observer softmap")
        agreed = _agreed(maps[0], 0.5)
        numbers = np.round(read_points(path)).astype(np.int32)
        for points in (numbers[:, ::-1], numbers):
            region = _enclosed(points, agreed.shape, by_rows=bool((np.diff(numbers[:, 0]) >= 0).all()))
            if 2 * (region & agreed).sum() > (region | agreed).sum():
                return _scaled(path, size, region)
        raise DataError(f"{path} does not agree with {maps[0]}: look at both, or take --observer softmap")


def _agreed(path: Path, share: float) -> np.ndarray:
    """Where at least this share of the experts agree, in the soft map's own size."""
    return White(share - ROUNDING)(path, size_of(path))


def _enclosed(points: np.ndarray, shape: tuple[int, ...], *, by_rows: bool) -> np.ndarray:
    """What boundary pixels, int32 x, y [n, 2], enclose, with these: all that the outside does not reach.

    by_rows: points are single pixels; else each is joined to the next one.
    """
    height, width = shape
    if (points < 0).any() or (points >= (width, height)).any():
        return np.zeros(shape, bool)
    canvas = np.zeros((height + 2, width + 2), np.uint8)
    if by_rows:
        canvas[points[:, 1] + 1, points[:, 0] + 1] = 1
    else:
        cv2.polylines(canvas, [points + 1], True, 1)
    cv2.floodFill(canvas, None, (0, 0), 2, flags=4)
    return canvas[1:-1, 1:-1] != 2


def _scaled(path: Path, size: tuple[int, int], mask: np.ndarray) -> np.ndarray:
    """The mask in the photograph's size, if it has that nearly."""
    if any(abs(a - b) > OTHER_SIZE * b for a, b in zip(mask.shape, size, strict=True)):
        sized(path, size, mask)
    return cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


def find(tree: Tree, choice: Choice) -> FoundSamples:
    share = MAJORITY if choice.threshold is None else choice.threshold
    decode = SoftMap(share) if choice.observer == "softmap" else AverageBoundary()
    pattern = OBSERVERS[choice.observer]
    kinds = {"optic_disc": "OD", "optic_cup": "Cup"}
    masks = [Masks(structure, pattern.replace("KIND", kind), decode) for structure, kind in kinds.items()]
    return collect(tree, "drishti_{id}", PHOTOGRAPHS, masks)


DRISHTI = DataSet(
    name="drishti",
    title="Drishti-GS1",
    citation="J. Sivaswamy et al., Drishti-GS: retinal image dataset for optic nerve head (ONH) segmentation, "
    "ISBI 2014",
    terms="for research; redistribution terms are not stated",
    where="https://cvit.iiit.ac.in/projects/mip/drishti-gs/mip-dataset2/Home.php",
    structures=("optic_disc", "optic_cup"),
    layout="""Drishti-GS1_files/Training/Images/drishtiGS_002.png
Drishti-GS1_files/Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_ODsegSoftmap.png
Drishti-GS1_files/Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_cupsegSoftmap.png
Drishti-GS1_files/Training/GT/drishtiGS_002/AvgBoundary/drishtiGS_002_ODAvgBoundary.txt
Drishti-GS1_files/Training/GT/drishtiGS_002/AvgBoundary/drishtiGS_002_CupAvgBoundary.txt
Drishti-GS1_files/Test/Images/drishtiGS_001.png
Drishti-GS1_files/Test/Test_GT/drishtiGS_001/SoftMap/drishtiGS_001_ODsegSoftmap.png""",
    counts={"train": 50, "test": 51},
    find=find,
    observers=tuple(OBSERVERS),
    threshold=MAJORITY,
)
