"""DDR, lesion segmentation: 757 photographs, four kinds of lesions.

Every photograph has four mask files; one without any white pixel says that the lesion is absent.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns

PART = "(?P<split>train|valid|test)"
LABELS = "(segmentation[ _])?labels?"  # "segmentation label" in valid, "label" in the others
LESIONS = {"microaneurysm": "MA", "haemorrhage": "HE", "hard_exudate": "EX", "soft_exudate": "SE"}

DDR = DataSet(
    name="ddr",
    title="DDR, lesion segmentation",
    citation="T. Li et al., Diagnostic assessment of deep learning algorithms for diabetic retinopathy screening, "
    "Information Sciences 501, 2019",
    terms="its repository carries the MIT licence; no other terms are stated",
    where="https://github.com/nkicsl/DDR-dataset (join its parts, DDR-dataset.zip.001 and on, into one file)",
    structures=tuple(LESIONS),
    layout="""DDR-dataset/lesion_segmentation/train/image/007-1774-100.jpg
DDR-dataset/lesion_segmentation/train/label/{EX,HE,MA,SE}/007-1774-100.tif
DDR-dataset/lesion_segmentation/valid/image/007-2846-100.jpg
DDR-dataset/lesion_segmentation/valid/segmentation label/{EX,HE,MA,SE}/007-2846-100.tif
DDR-dataset/lesion_segmentation/test/image/007-3396-200.jpg
DDR-dataset/lesion_segmentation/test/label/{EX,HE,MA,SE}/007-3396-200.tif""",
    counts={"train": 383, "val": 149, "test": 225},
    find=by_patterns(
        "ddr_{id}",
        rf"{PART}/image/(?P<id>[^/]+)\.jpg",
        [Masks(structure, rf"{PART}/{LABELS}/{kind}/(?P<id>[^/]+)\.tif") for structure, kind in LESIONS.items()],
    ),
)
