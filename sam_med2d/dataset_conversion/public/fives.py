"""FIVES: 800 photographs with vessels; A, D, G, N are AMD, diabetic retinopathy, glaucoma and normal.

Numbers start again in the test part: train/10_A and test/10_A are different photographs.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns

PART = "(?P<split>train|test)"
NAME = r"(?P<id>\d+_[ADGN])\.png"
MASKS = "Groun?d[ _]truth"  # "Groud truth" in some copies

FIVES = DataSet(
    name="fives",
    title="FIVES",
    citation="K. Jin et al., FIVES: a fundus image dataset for artificial intelligence based vessel segmentation, "
    "Scientific Data 9:475, 2022",
    terms="CC BY 4.0",
    where="https://doi.org/10.6084/m9.figshare.19688169 (a RAR archive: unpack it first)",
    structures=("vessel",),
    layout="""train/Original/1_A.png
train/Ground truth/1_A.png
test/Original/1_A.png
test/Ground truth/1_A.png""",
    counts={"train": 600, "test": 200},
    find=by_patterns(
        "fives_{split}_{id}",
        f"{PART}/Original/{NAME}",
        [Masks("vessel", f"{PART}/{MASKS}/{NAME}")],
        keys=("split", "id"),
    ),
)
