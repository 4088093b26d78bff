"""RIM-ONE r3: 159 stereo pairs, optic disc and cup by two experts and their average.

Both photographs of a pair show the same eye side by side; the experts drew on the left one, which is taken. In a name,
N, G and S are healthy, glaucoma and suspect, L and R the eye; a number is used for one eye only, and whether
neighbours are of one person is not stated: patients are unknown. There is no official split.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect
from sam_med2d.dataset_conversion.mask_readers import BLACK_AND_WHITE
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError

LEFT = (0.0, 0.0, 0.5, 1.0)
GROUP = r"(?:Healthy|Glaucoma and suspects)"
NAME = r"(?P<id>[NGS]-\d+-[LR])"
OBSERVERS = {
    "average": rf"{GROUP}/Average_masks/{NAME}-{{}}-Avg\.png",
    "expert1": rf"{GROUP}/Expert1_masks/{NAME}(?:-\d+)?-{{}}-exp1\.png",
    "expert2": rf"{GROUP}/Expert2_masks/{NAME}(?:-\d+)?-{{}}-exp2\.png",
}


@dataclass(frozen=True, slots=True)
class LeftHalf:
    """A mask of the size of the pair -> that of its left photograph. Raises DataError if it lies in the right one."""

    def __call__(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        height, width = size
        pair = size_of(path)
        if pair[0] != height or round(pair[1] * LEFT[2]) != width:
            raise DataError(f"{path} is {pair[1]} x {pair[0]} pixels: not the size of its stereo pair")
        mask = BLACK_AND_WHITE(path, pair)
        if mask.any() and not mask[:, :width].any():
            raise DataError(f"{path} is drawn on the right photograph of its stereo pair; the left one is used")
        return mask[:, :width]


def find(tree: Tree, choice: Choice) -> FoundSamples:
    pattern = OBSERVERS[choice.observer]
    masks = [
        Masks("optic_disc", pattern.format("Disc"), LeftHalf()),
        Masks("optic_cup", pattern.format("Cup"), LeftHalf()),
    ]
    photographs = rf"{GROUP}/Stereo Images/{NAME}\.jpg"
    offer = collect(tree, "rimone_r3_{id}", photographs, masks)
    offer.samples = [replace(sample, part=LEFT) for sample in offer.samples]
    return offer


RIMONE_R3 = DataSet(
    name="rimone_r3",
    title="RIM-ONE r3",
    citation="F. Fumero et al., Interactive tool and database for optic disc and cup segmentation of stereo and "
    "monocular retinal fundus images, WSCG 2015",
    terms="research and education only, free of charge",
    where="http://medimrg.webs.ull.es/research/retinal-imaging/rim-one, release 3",
    structures=("optic_disc", "optic_cup"),
    layout="""Healthy/Stereo Images/N-1-L.jpg
Healthy/Average_masks/N-1-L-Disc-Avg.png
Healthy/Average_masks/N-1-L-Cup-Avg.png
Healthy/Expert1_masks/N-1-L-1-Disc-exp1.png
Healthy/Expert1_masks/N-1-L-1-Cup-exp1.png
Healthy/Expert2_masks/N-1-L-1-Disc-exp2.png
Glaucoma and suspects/Stereo Images/G-1-L.jpg
Glaucoma and suspects/Stereo Images/S-1-L.jpg""",
    counts={"": 159},
    find=find,
    observers=tuple(OBSERVERS),
)
