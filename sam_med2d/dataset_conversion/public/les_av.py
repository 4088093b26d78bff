"""LES-AV: 22 photographs with vessels, arteries and veins.

In the map of arteries and veins red is artery, blue vein, green a crossing, which belongs to both, and white a vessel
of unknown kind, which belongs to neither. There is no official split, and patients are not named.
"""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect
from sam_med2d.dataset_conversion.mask_readers import Colours
from sam_med2d.dataset_conversion.samples import Choice

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
NAME = r"(?P<id>\d+)"
COLOURED = rf"arteries-and-veins/{NAME}\.png"


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Copies without the coloured map have a black and white one for each kind, crossings in both."""
    if tree.match(COLOURED):
        kinds = [Masks("artery", COLOURED, Colours((RED, GREEN))), Masks("vein", COLOURED, Colours((BLUE, GREEN)))]
    else:
        kinds = [Masks("artery", rf"arteries/{NAME}\.png"), Masks("vein", rf"veins/{NAME}\.png")]
    return collect(
        tree,
        "les_av_{id}",
        rf"images/{NAME}\.png",
        [Masks("vessel", rf"vessel-segmentations/{NAME}\.png"), *kinds],
        field_of_view=rf"masks/{NAME}_mask\.gif",
    )


LES_AV = DataSet(
    name="les_av",
    title="LES-AV",
    citation="J. I. Orlando et al., Towards a glaucoma risk index based on simulated hemodynamics from fundus images, "
    "MICCAI 2018",
    terms="for scientific purposes only; commercial use is forbidden",
    where="https://doi.org/10.6084/m9.figshare.11857698",
    structures=("vessel", "artery", "vein"),
    layout="""LES-AV/images/275.png
LES-AV/vessel-segmentations/275.png
LES-AV/arteries-and-veins/275.png
LES-AV/masks/275_mask.gif""",
    counts={"": 22},
    find=find,
)
