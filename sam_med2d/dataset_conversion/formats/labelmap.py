"""One map of several classes for each photograph: its values, palette indices or colours are the classes."""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.class_list import CLASSES, parse_classes
from sam_med2d.dataset_conversion.formats.folder_layout import PictureFile
from sam_med2d.dataset_conversion.formats.pairing import FLAGS, find_pairs, samples_of_pairs, single
from sam_med2d.dataset_conversion.mask_readers import Values
from sam_med2d.dataset_conversion.samples import Choice, MaskSource


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """A mask for each class that --classes lists; any other value or colour, but 0 and black, is an error."""
    classes = parse_classes(choice.options.get("classes") or "")
    known = classes.known

    def sources(mask: PictureFile) -> list[MaskSource]:
        readers = {n: Values(v, known, classes.void, classes.coloured) for n, v in classes.structures.items()}
        return [MaskSource(name, mask.path, reader) for name, reader in readers.items()]

    return samples_of_pairs(single(find_pairs(tree, choice, by_structure=False)), choice, sources)


LABELMAP = DataSet(
    name="labelmap",
    title="a folder of photographs and one of maps of several classes",
    layout="""images/eye_1.jpg
masks/eye_1.png (values, palette indices or colours: 0 and black are background, the others as --classes says)
or as --images and --mask say; folders named train, val and test are the split""",
    find=find,
    flags={"--classes": CLASSES, **FLAGS},
)
