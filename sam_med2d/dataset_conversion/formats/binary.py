"""Black and white masks of one structure: a folder of photographs and a folder of masks."""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.pairing import FLAGS, find_pairs, samples_of_pairs, single, structure_name
from sam_med2d.dataset_conversion.mask_readers import White
from sam_med2d.dataset_conversion.samples import Choice, MaskSource
from sam_med2d.errors import DataError

STRUCTURE = {"metavar": "NAME", "help": "what the masks show, or all regions of VIA (binary: needed)"}


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """One mask a photograph, or as many as --mask PATTERN finds."""
    if not choice.options.get("structure"):
        raise DataError("binary needs --structure NAME: what the masks show, such as vessel")
    structure = structure_name(choice.options["structure"])
    pairs = find_pairs(tree, choice, by_structure=False)
    pairs = pairs if choice.options.get("mask") else single(pairs)
    return samples_of_pairs(
        pairs, choice, lambda mask: [MaskSource(structure, mask.path, White(choice.threshold, noted=True))]
    )


BINARY = DataSet(
    name="binary",
    title="a folder of photographs and one of black and white masks of one structure",
    layout="""images/eye_1.jpg
masks/eye_1.png (or masks/eye_1_mask.png)
or as --images and --mask say; folders named train, val and test are the split""",
    find=find,
    may_be_soft=True,
    flags={"--structure": STRUCTURE, **FLAGS},
)
