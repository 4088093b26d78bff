"""A folder of one's own: photographs, and black and white masks of any number of structures."""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.folder_layout import PictureFile
from sam_med2d.dataset_conversion.formats.pairing import FLAGS, find_pairs, samples_of_pairs, structure_name
from sam_med2d.dataset_conversion.mask_readers import White
from sam_med2d.dataset_conversion.samples import Choice, MaskSource
from sam_med2d.errors import DataError


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Several masks of one structure and photograph (numbered files) stay several masks."""
    pairs = find_pairs(tree, choice, by_structure=True)
    nameless = [mask for masks in pairs.masks_of.values() for mask in masks if not mask.structure]
    if nameless:
        raise DataError(
            f"{nameless[0].path}: neither its folder nor its name says which structure it shows; say it with --mask "
            "STRUCTURE=PATTERN, or use binary --structure"
        )

    def sources(mask: PictureFile) -> list[MaskSource]:
        return [MaskSource(structure_name(mask.structure), mask.path, White(choice.threshold, noted=True))]

    return samples_of_pairs(pairs, choice, sources)


FOLDER = DataSet(
    name="folder",
    title="a folder of photographs and black and white masks",
    layout="""images/eye_1.jpg
masks/eye_1_optic_disc.png
masks/eye_1_haemorrhage_000.png
masks/eye_1_haemorrhage_001.png
or
photos/eye_1.jpg
optic_disc/eye_1.png
or as --images and --mask say; folders named train, val and test are the split""",
    find=find,
    may_be_soft=True,
    flags=FLAGS,
)
