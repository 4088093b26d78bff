"""CHASE_DB1: both eyes of 14 children, vessels by two observers.

There is no official split. The customary one is used: the first 20 photographs train, the last 8 test, which are the
children 01-10 and 11-14.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns

EYE = r"Image_(?P<id>(?P<child>\d\d)[LR])"
OBSERVERS = {"first": "1stHO", "second": "2ndHO"}
TRAIN_CHILDREN = 10

CHASE = DataSet(
    name="chase",
    title="CHASE_DB1",
    citation="M. M. Fraz et al., An ensemble classification-based approach applied to retinal blood vessel "
    "segmentation, IEEE TBME 59(9), 2012",
    terms="CC BY 4.0",
    where="https://researchdata.kingston.ac.uk/96/, file CHASEDB1.zip",
    structures=("vessel",),
    layout="""Image_01L.jpg
Image_01L_1stHO.png
Image_01L_2ndHO.png
Image_01R.jpg""",
    counts={"train": 20, "test": 8},
    find=by_patterns(
        "chase_{id}",
        rf"{EYE}\.jpg",
        lambda choice: [Masks("vessel", rf"{EYE}_{OBSERVERS[choice.observer]}\.png")],
        patient=lambda found: found.groups["child"],
        split=lambda found: "train" if int(found.groups["child"]) <= TRAIN_CHILDREN else "test",
    ),
    observers=tuple(OBSERVERS),
)
