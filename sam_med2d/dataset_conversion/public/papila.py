"""PAPILA: both eyes of 244 patients, optic disc and cup as contours by two experts.

A contour is a text file with x and y of a vertex, in pixels, on each line. The number in a name is the patient, OD and
OS the right and the left eye. There is no official split.
"""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect
from sam_med2d.dataset_conversion.mask_readers import Outline
from sam_med2d.dataset_conversion.samples import Choice

NAME = r"(?P<id>RET(?P<patient>\d{3})O[DS])"
OBSERVERS = {"expert1": "exp1", "expert2": "exp2"}


def find(tree: Tree, choice: Choice) -> FoundSamples:
    expert = OBSERVERS[choice.observer]
    return collect(
        tree,
        rf"FundusImages/{NAME}\.jpg",
        [
            Masks("optic_disc", rf"Contours/{NAME}_disc_{expert}\.txt", Outline()),
            Masks("optic_cup", rf"Contours/{NAME}_cup_{expert}\.txt", Outline()),
        ],
        name=lambda found: f"papila_{found.id}",
        patient=lambda found: f"papila_{found.groups['patient']}",
    )


PAPILA = DataSet(
    name="papila",
    title="PAPILA",
    citation="O. Kovalyk et al., PAPILA: dataset with fundus images and clinical data of both eyes of the same patient "
    "for glaucoma assessment, Scientific Data 9:291, 2022",
    terms="CC BY 4.0",
    where="https://doi.org/10.6084/m9.figshare.14798004",
    structures=("optic_disc", "optic_cup"),
    layout="""FundusImages/RET002OD.jpg
ExpertsSegmentations/Contours/RET002OD_disc_exp1.txt
ExpertsSegmentations/Contours/RET002OD_disc_exp2.txt
ExpertsSegmentations/Contours/RET002OD_cup_exp1.txt
ExpertsSegmentations/Contours/RET002OD_cup_exp2.txt""",
    counts={"": 488},
    find=find,
    observers=tuple(OBSERVERS),
)
