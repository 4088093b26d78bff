"""PAPILA: both eyes of 244 patients, optic disc and cup as contours by two experts.

A contour is a text file with x and y of a vertex, in pixels, on each line. The number in a name is the patient, OD and
OS the right and the left eye. There is no official split.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns
from sam_med2d.dataset_conversion.mask_readers import Outline

NAME = r"(?P<id>RET(?P<patient>\d{3})O[DS])"
OBSERVERS = {"expert1": "exp1", "expert2": "exp2"}

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
    find=by_patterns(
        "papila_{id}",
        rf"FundusImages/{NAME}\.jpg",
        lambda choice: [
            Masks(f"optic_{kind}", rf"Contours/{NAME}_{kind}_{OBSERVERS[choice.observer]}\.txt", Outline())
            for kind in ("disc", "cup")
        ],
        patient=lambda found: f"papila_{found.groups['patient']}",
    ),
    observers=tuple(OBSERVERS),
)
