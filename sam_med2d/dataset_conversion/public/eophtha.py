"""e-ophtha: exudates (EX) and microaneurysms (MA), drawn in two parts that share some photographs.

A photograph of a part's folder `healthy` has none of that part's lesion. Which part it is, is the name of the folder
above; the data set's own spelling of it is "optha". Photographs of one examination lie in one folder; copies without
these folders are read too.
"""

from collections import defaultdict

from sam_med2d.data.file_tree import Found, Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, natural
from sam_med2d.dataset_conversion.mask_readers import BLACK_AND_WHITE
from sam_med2d.dataset_conversion.samples import Choice, MaskSource, Sample

KEYS = ("patient", "id")
PHOTOGRAPHS = r"(?P<folder>EX|MA|healthy)/((?P<patient>[^/]+)/)?(?P<id>[^/]+)\.(jpe?g|png)"
MASKS = r"Annotation_{part}/((?P<patient>[^/]+)/)?(?P<id>[^/]+?)(_{part})?\.png"
PARTS = {"EX": "hard_exudate", "MA": "microaneurysm"}


def find(tree: Tree, choice: Choice) -> FoundSamples:
    masks = {part: tree.unique(MASKS.replace("{part}", part), *KEYS) for part in PARTS}
    photographs: defaultdict[tuple[str, ...], dict[str, Found]] = defaultdict(dict)
    for found in tree.match(PHOTOGRAPHS):
        photographs[tuple(found.groups.get(key, "").lower() for key in KEYS)][_part(found)] = found
    offer = FoundSamples([])
    for key, parts in sorted(photographs.items(), key=lambda item: natural(item[0])):
        _add(offer, parts, {part: masks[part][key] for part in PARTS if key in masks[part]})
    for found in (hit for hits in masks.values() for key, hit in hits.items() if key not in photographs):
        offer.problems.append(f"{found.path} has no photograph")
    return offer


def _part(found: Found) -> str:
    """EX or MA; for a healthy photograph the end of the folder's name above, "" if that is neither."""
    name = found.groups["folder"].upper()
    if name not in PARTS:
        name = found.path.absolute().parents[2 if "patient" in found.groups else 1].name.upper()[-2:]
    return name if name in PARTS else ""


def _add(offer: FoundSamples, parts: dict[str, Found], masks: dict[str, Found]) -> None:
    """The sample of one photograph, from the parts in which it lies and those in which it has a mask."""
    first = parts[min(parts)]
    sources = tuple(MaskSource(PARTS[part], found.path, BLACK_AND_WHITE) for part, found in masks.items())
    absent = []
    for part, found in sorted(parts.items()):
        if not part:
            offer.problems.append(f"{found.path} is in neither part: name the folder above e_optha_EX or e_optha_MA")
        elif part not in masks and found.groups["folder"].upper() == part:
            offer.problems.append(f"{found.path} has no {PARTS[part]} mask")
        elif part not in masks:
            absent.append(PARTS[part])
    patient = first.groups.get("patient", "")
    name = "_".join(filter(None, ("eophtha", patient, first.id)))
    offer.samples.append(Sample(name, first.path, sources, patient=patient, absent=tuple(absent)))


EOPHTHA = DataSet(
    name="eophtha",
    title="e-ophtha EX and MA",
    citation="E. Decenciere et al., TeleOphta: Machine learning and image processing methods for teleophthalmology, "
    "IRBM 34(2), 2013",
    terms="for research, after a request to ADCIS; redistribution terms are not stated",
    where="https://www.adcis.net/en/third-party/e-ophtha/ (either part can be used alone)",
    structures=tuple(PARTS.values()),
    layout="""e_optha_EX/EX/E0019457/C0001273.jpg
e_optha_EX/Annotation_EX/E0019457/C0001273_EX.png
e_optha_EX/healthy/E0000404/C0000400.jpg
e_optha_MA/MA/E0000043/DS000HXJ.JPG
e_optha_MA/Annotation_MA/E0000043/DS000HXJ.png
e_optha_MA/healthy/E0000404/C0000400.jpg""",
    counts={"": 434},  # 47 + 35 in EX and 148 + 233 in MA, 29 of them in both
    find=find,
)
