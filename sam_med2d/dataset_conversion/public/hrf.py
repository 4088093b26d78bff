"""HRF: 15 photographs each of healthy eyes (h), glaucoma (g) and diabetic retinopathy (dr), with vessels.

There is no official split. The customary one is used (J. I. Orlando et al., IEEE TBME 64(1), 2017): the first five of
each group train, the others test. Neighbouring numbers of the healthy alternate between right and left eyes; whether
two are of one person is not stated, so patients are unknown.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns

NAME = r"(?P<id>(?P<number>\d\d)_(dr|g|h))"
TRAIN_OF_EACH = 5

HRF = DataSet(
    name="hrf",
    title="HRF",
    citation="A. Budai et al., Robust vessel segmentation in fundus images, International Journal of Biomedical "
    "Imaging, 2013",
    terms="CC BY 4.0",
    where="https://www5.cs.fau.de/research/data/fundus-images/, file all.zip",
    structures=("vessel",),
    layout="""images/01_dr.JPG
images/01_g.jpg
images/01_h.jpg
manual1/01_dr.tif
mask/01_dr_mask.tif""",
    counts={"train": 15, "test": 30},
    find=by_patterns(  # folders do not matter: it comes as one archive with three folders, or as nine flat ones
        "hrf_{id}",
        rf"{NAME}\.jpe?g",
        [Masks("vessel", rf"{NAME}\.tif")],
        field_of_view=rf"{NAME}_mask\.tif",
        split=lambda found: "train" if int(found.groups["number"]) <= TRAIN_OF_EACH else "test",
    ),
)
