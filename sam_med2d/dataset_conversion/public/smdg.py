"""SMDG-19: 19 public glaucoma sets as photographs of 512 x 512 pixels, with the masks that each of them has.

A photograph's name begins with its source set (`FIVES-52`, `DRISHTI-GS1-train-7`), which Sample.data_set keeps: the
collection overlaps the single sets. A photograph without masks is common and no problem. There is no official split.
The table beside the photographs names the patient of a PAPILA eye and the original file of an OIA-ODIR eye, which
begins with the patient's number; patients of other sources are unknown. "Not Visible" in it is an absent structure.
"""

import re
from dataclasses import replace

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect, read_table
from sam_med2d.dataset_conversion.mask_readers import White
from sam_med2d.dataset_conversion.samples import Choice

KINDS = {  # structure -> folder of its masks, column of the table
    "optic_disc": ("optic-disc", "fundus_od_seg"),
    "optic_cup": ("optic-cup", "fundus_oc_seg"),
    "vessel": ("blood-vessel", "bv_seg"),
    "artery": ("artery", "artery_seg"),
    "vein": ("vein", "vein_seg"),
}
TABLES = (r"metadata - standardized\.csv", r"metadata\.csv")
EYE_OF_ODIR = re.compile(r"(\d+)_(left|right)\.", re.IGNORECASE)
RESIZED = White(0.5)  # masks were resized with their photographs: their edges may be grey
NAME = r"(?P<id>[^/]+)\.png"


def find(tree: Tree, choice: Choice) -> FoundSamples:
    masks = [Masks(kind, f"{folder}/{NAME}", RESIZED, missing="unknown") for kind, (folder, _) in KINDS.items()]
    offer = collect(tree, "{id}", f"full-fundus/{NAME}", masks)
    rows = {row.get("names", ""): row for row in read_table(tree, *TABLES)}
    if offer.samples and not rows:
        offer.notes.append("there is no 'metadata - standardized.csv': eyes of one person can come into two splits")
    for i, sample in enumerate(offer.samples):
        row, source = rows.get(sample.name, {}), re.sub(r"-\d+$", "", sample.name)
        drawn = {mask.structure for mask in sample.masks}
        unseen = {kind for kind, (_, column) in KINDS.items() if (row.get(column) or "").lower() == "not visible"}
        absent = tuple(sorted(unseen - drawn))
        offer.samples[i] = replace(sample, data_set=source, patient=_patient(source, row), absent=absent)
    return offer


def _patient(source: str, row: dict[str, str]) -> str:
    if number := (row.get("patient_id") or "").strip():
        return number if number.startswith(source) else f"{source}-{number}"
    eye = EYE_OF_ODIR.match(row.get("original_name") or "")
    return f"OIA-ODIR-{eye[1]}" if eye and source.startswith("OIA-ODIR") else ""


SMDG = DataSet(
    name="smdg",
    title="SMDG-19",
    citation="R. Kiefer et al., A catalog of public glaucoma datasets for machine learning applications, ICISDM 2023",
    terms="each photograph has the terms of its source set",
    where="https://www.kaggle.com/datasets/deathtrooper/multichannel-glaucoma-benchmark-dataset",
    structures=tuple(KINDS),
    layout="""metadata - standardized.csv
full-fundus/full-fundus/PAPILA-463.png
full-fundus/full-fundus/FIVES-52.png
full-fundus/full-fundus/LES-AV-3.png
optic-disc/optic-disc/PAPILA-463.png
optic-cup/optic-cup/PAPILA-463.png
blood-vessel/blood-vessel/FIVES-52.png
artery/artery/LES-AV-3.png
vein/vein/LES-AV-3.png""",
    counts={"": 12449},
    find=find,
)
