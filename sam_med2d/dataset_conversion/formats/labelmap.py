"""One map of several classes for each photograph: a grey or palette picture whose values are the classes."""

import re

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.folder_layout import PictureFile
from sam_med2d.dataset_conversion.formats.pairing import FLAGS, find_pairs, samples_of_pairs, single, structure_name
from sam_med2d.dataset_conversion.mask_readers import Values
from sam_med2d.dataset_conversion.samples import Choice, MaskSource
from sam_med2d.errors import DataError


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """A mask for each class that --classes lists; any other value, but 0, is an error."""
    structures = parse_classes(choice.options.get("classes") or "")
    known = tuple(sorted({0}.union(*structures.values())))

    def sources(mask: PictureFile) -> list[MaskSource]:
        return [MaskSource(name, mask.path, Values(values, known)) for name, values in structures.items()]

    return samples_of_pairs(single(find_pairs(tree, choice, by_structure=False)), choice, sources)


def parse_classes(text: str) -> dict[str, tuple[int, ...]]:
    """ "1+2=optic_disc,2=optic_cup" -> {"optic_disc": (1, 2), "optic_cup": (2,)}. Raises DataError for other texts."""
    structures: dict[str, tuple[int, ...]] = {}
    for item in filter(None, text.split(",")):
        values, equals, name = item.partition("=")
        if not equals or not re.fullmatch(r"\s*\d+(\s*\+\s*\d+)*\s*", values):
            raise DataError(f"--classes {text}: {item!r} is no class; write VALUE=STRUCTURE, or VALUE+VALUE=STRUCTURE")
        structure = structure_name(name)
        if structure in structures:
            raise DataError(f"--classes {text}: {structure} occurs twice; write its values as VALUE+VALUE={structure}")
        structures[structure] = tuple(sorted({int(value) for value in values.split("+")}))
    if not structures:
        raise DataError("labelmap needs --classes, such as 1+2=optic_disc,2=optic_cup")
    return structures


LABELMAP = DataSet(
    name="labelmap",
    title="a folder of photographs and one of maps of several classes",
    layout="""images/eye_1.jpg
masks/eye_1.png (grey values or palette indices: 0 is background, the others as --classes says)
or as --images and --mask say; folders named train, val and test are the split""",
    find=find,
    flags={
        "--classes": {
            "metavar": "LIST",
            "help": "VALUE=STRUCTURE,... (needed), such as 1+2=optic_disc,2=optic_cup: the cup is part of the disc",
        },
        **FLAGS,
    },
)
