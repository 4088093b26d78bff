"""RIM-ONE DL: 485 photographs cut around the optic disc, disc and cup by one expert.

Its photographs come twice, partitioned randomly and by hospital. The random partition is taken, the other one only
where it is alone. The set is made from RIM-ONE r1, r2 and r3: it overlaps them. Patients are not named.
"""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect
from sam_med2d.dataset_conversion.samples import Choice

PARTITIONS = ("partitioned_randomly", "partitioned_by_hospital")
NAME = r"(?P<id>r[123]_[^/]+?)"
IN_PARTITION = rf"(?P<split>training|test)_set/(?:glaucoma|normal)/{NAME}\.png"


def find(tree: Tree, choice: Choice) -> FoundSamples:
    partition = next((p for p in PARTITIONS if tree.match(f"{p}/{IN_PARTITION}")), PARTITIONS[0])
    return collect(
        tree,
        "rimone_dl_{id}",
        f"{partition}/{IN_PARTITION}",
        [
            Masks("optic_disc", rf"{NAME}-\d+-Disc-[A-Z]+\.png"),
            Masks("optic_cup", rf"{NAME}-\d+-Cup-[A-Z]+\.png"),
        ],
    )


RIMONE_DL = DataSet(
    name="rimone_dl",
    title="RIM-ONE DL",
    citation="F. J. Fumero Batista et al., RIM-ONE DL: a unified retinal image database for assessing glaucoma using "
    "deep learning, Image Analysis & Stereology 39(3), 2020",
    terms="research and education only, free of charge; copying and redistribution are prohibited",
    where="https://github.com/miag-ull/rim-one-dl, images and reference segmentations",
    structures=("optic_disc", "optic_cup"),
    layout="""RIM-ONE_DL_images/partitioned_randomly/training_set/glaucoma/r1_Im001.png
RIM-ONE_DL_images/partitioned_randomly/test_set/normal/r2_Im300.png
RIM-ONE_DL_images/partitioned_by_hospital/training_set/glaucoma/r1_Im001.png
RIM-ONE_DL_reference_segmentations/glaucoma/r1_Im001-1-Disc-T.png
RIM-ONE_DL_reference_segmentations/glaucoma/r1_Im001-1-Cup-T.png""",
    counts={"train": 339, "test": 146},
    find=find,
)
