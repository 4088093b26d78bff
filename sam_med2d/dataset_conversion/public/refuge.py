"""REFUGE: 1200 photographs in three official parts, optic disc and cup.

In the masks 0 is the cup, 128 the rest of the disc and 255 the background. One name is used once: g and n (glaucoma or
not) train, V validates, T tests. The re-upload with folders train, val and test keeps these files in Images and gts.
Patients are not named.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns
from sam_med2d.dataset_conversion.mask_readers import Values

NAME = r"(?P<id>[gnVT]\d{4})"
PARTS = r"(?:REFUGE-)?(?:Training400/(?:Non-)?Glaucoma|Validation400|Test400)"
COPIED = r"(?:train|val|test)"
PHOTOGRAPHS = rf"(?:{PARTS}|{COPIED}/Images)/{NAME}\.jpg"
MASKS = rf"(?:Disc_Cup_Masks/(?:(?:Non-)?Glaucoma/|[GN]/)?|{COPIED}/gts/){NAME}\.bmp"
SPLITS = {"g": "train", "n": "train", "v": "val", "t": "test"}
CUP, RIM, BACKGROUND = CLASSES = (0, 128, 255)

REFUGE = DataSet(
    name="refuge",
    title="REFUGE",
    citation="J. I. Orlando et al., REFUGE Challenge: a unified framework for evaluating automated methods for "
    "glaucoma assessment from fundus photographs, Medical Image Analysis 59, 2020",
    terms="for research, after registration; redistribution terms are not stated",
    where="https://refuge.grand-challenge.org/REFUGE2Download: archives Training400, Annotation-Training400, "
    "REFUGE-Validation400, REFUGE-Validation400-GT, REFUGE-Test400, REFUGE-Test-GT",
    structures=("optic_disc", "optic_cup"),
    layout="""Training400/Glaucoma/g0001.jpg
Training400/Non-Glaucoma/n0001.jpg
Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp
Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n0001.bmp
REFUGE-Validation400/V0001.jpg
REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp
Test400/T0001.jpg
REFUGE-Test-GT/Disc_Cup_Masks/G/T0001.bmp
REFUGE-Test-GT/Disc_Cup_Masks/N/T0002.bmp""",
    counts={"train": 400, "val": 400, "test": 400},
    find=by_patterns(
        "refuge_{id}",
        PHOTOGRAPHS,
        [Masks("optic_disc", MASKS, Values((CUP, RIM), CLASSES)), Masks("optic_cup", MASKS, Values((CUP,), CLASSES))],
        split=lambda found: SPLITS[found.id[0].lower()],
    ),
)
