"""Codes of structures in DICOM segmentations: SNOMED CT where DICOM itself lists one, else codes of a scheme of ours.

The SNOMED CT codes are those of DICOM PS3.16's context groups, which `pydicom.sr.codedict` has, too: CID 7150 and 7159
(what a segment is), 7151 (blood vessel, artery, vein), 4209 (parts of the eye), 244 (sides). For the optic cup,
exudates, cotton-wool spots and microaneurysms there is none: they have codes of OWN_SCHEME, and where they lie as
SNOMED CT.
"""

from dataclasses import dataclass

OWN_SCHEME = "99SAMMED2D"  # DICOM PS3.16 section 8: private schemes begin with 99
SNOMED = "SCT"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class StructureCodes:
    """How a segment of a structure is coded.

    Attributes:
        category: kind of what is shown (Segmented Property Category).
        kind: what is shown (Segmented Property Type).
        region: where it lies (Anatomic Region).
    """

    category: Code
    kind: Code
    region: Code


ANATOMY = Code("91723000", SNOMED, "Anatomical Structure")
MORPHOLOGY = Code("49755003", SNOMED, "Morphologically Abnormal Structure")
OTHER = Code("structure", OWN_SCHEME, "Structure")
SIDES = {"L": Code("7771000", SNOMED, "Left"), "R": Code("24028007", SNOMED, "Right")}
SIDES |= {"B": Code("51440002", SNOMED, "Bilateral")}
EYE = Code("81745001", SNOMED, "Eye")
RETINA = Code("5665001", SNOMED, "Retina")
DISC = Code("81016008", SNOMED, "Optic nerve head")

CODES = {
    "optic_disc": StructureCodes(ANATOMY, DISC, EYE),
    "optic_cup": StructureCodes(ANATOMY, Code("optic_cup", OWN_SCHEME, "Optic cup"), DISC),
    "fovea": StructureCodes(ANATOMY, Code("67046006", SNOMED, "Fovea centralis"), RETINA),
    "vessel": StructureCodes(ANATOMY, Code("59820001", SNOMED, "Blood Vessel"), RETINA),
    "artery": StructureCodes(ANATOMY, Code("51114001", SNOMED, "Artery"), RETINA),
    "vein": StructureCodes(ANATOMY, Code("29092000", SNOMED, "Vein"), RETINA),
    "haemorrhage": StructureCodes(MORPHOLOGY, Code("50960005", SNOMED, "Hemorrhage"), RETINA),
    "hard_exudate": StructureCodes(MORPHOLOGY, Code("hard_exudate", OWN_SCHEME, "Hard exudate"), RETINA),
    "soft_exudate": StructureCodes(MORPHOLOGY, Code("soft_exudate", OWN_SCHEME, "Cotton-wool spot"), RETINA),
    "microaneurysm": StructureCodes(MORPHOLOGY, Code("microaneurysm", OWN_SCHEME, "Retinal microaneurysm"), RETINA),
}
CODES |= {
    other: CODES[name]
    for other, name in {
        "disc": "optic_disc",
        "cup": "optic_cup",
        "vessels": "vessel",
        "hemorrhage": "haemorrhage",
        "cotton_wool_spot": "soft_exudate",
    }.items()
}


def codes_of(structure: str) -> StructureCodes:
    """The codes of a structure by its name in file names; one that is not in CODES gets its name as code."""
    meaning = structure.replace("_", " ").capitalize()
    return CODES.get(structure) or StructureCodes(OTHER, Code(structure, OWN_SCHEME, meaning), EYE)
