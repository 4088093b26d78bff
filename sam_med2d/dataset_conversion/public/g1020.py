"""G1020: 1020 photographs of 432 patients, optic disc and cup.

Masks hold 0 for background, 1 for the disc's rim and 2 for the cup. In 230 photographs no cup is visible: their masks
have no 2, and the cup is absent. There is no official split. Patients are not named, and neighbouring numbers are often
of one: a random split does not keep them apart.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns
from sam_med2d.dataset_conversion.mask_readers import Values

MASKS = r"Masks/image_(?P<id>\d+)\.png"
BACKGROUND, RIM, CUP = CLASSES = (0, 1, 2)

G1020 = DataSet(
    name="g1020",
    title="G1020",
    citation="M. N. Bajwa et al., G1020: a benchmark retinal fundus image dataset for computer-aided glaucoma "
    "detection, IJCNN 2020",
    terms="for research; the copies state no terms",
    where="https://www.kaggle.com/datasets/arnavjain1/glaucoma-datasets, folder G1020",
    structures=("optic_disc", "optic_cup"),
    layout="""G1020.csv
Images/image_0.jpg
Masks/image_0.png""",
    counts={"": 1020},
    find=by_patterns(
        "g1020_{id}",
        r"Images/image_(?P<id>\d+)\.jpg",
        [Masks("optic_disc", MASKS, Values((RIM, CUP), CLASSES)), Masks("optic_cup", MASKS, Values((CUP,), CLASSES))],
    ),
)
