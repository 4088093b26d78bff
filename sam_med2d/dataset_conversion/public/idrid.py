"""IDRiD, part A (segmentation): 81 photographs, four kinds of lesions and the optic disc.

All four lesions were looked for in every photograph, so a lesion without a file is absent. Numbers have two digits
here and three in the other parts of IDRiD, which are passed over.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns

PART = r"[ab]\. ?(?P<split>Training|Testing) Set"
PHOTOGRAPHS = rf"1\. ?Original Images/{PART}/IDRiD_(?P<id>\d\d)\.jpg"
MASKS = rf"2\. ?All Segmentation Groundtruths/{PART}/[^/]+/IDRiD_(?P<id>\d\d)_KIND\.tif"
LESIONS = {"microaneurysm": "MA", "haemorrhage": "HE", "hard_exudate": "EX", "soft_exudate": "SE"}

IDRID = DataSet(
    name="idrid",
    title="IDRiD, part A (segmentation)",
    citation="P. Porwal et al., Indian Diabetic Retinopathy Image Dataset (IDRiD), Data 3(3):25, 2018",
    terms="CC BY 4.0",
    where="https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid, file A. Segmentation",
    structures=(*LESIONS, "optic_disc"),
    layout="""A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg
A. Segmentation/1. Original Images/b. Testing Set/IDRiD_55.jpg
A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/IDRiD_01_MA.tif
A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/2. Haemorrhages/IDRiD_01_HE.tif
A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/3. Hard Exudates/IDRiD_01_EX.tif
A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/4. Soft Exudates/IDRiD_03_SE.tif
A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/5. Optic Disc/IDRiD_01_OD.tif""",
    counts={"train": 54, "test": 27},
    find=by_patterns(
        "idrid_{id}",
        PHOTOGRAPHS,
        [
            *(Masks(structure, MASKS.replace("KIND", kind), missing="absent") for structure, kind in LESIONS.items()),
            Masks("optic_disc", MASKS.replace("KIND", "OD")),
        ],
    ),
)
