"""Masks in files made for volumes, beside photographs that are pictures."""

from collections.abc import Callable, Sequence

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples
from sam_med2d.dataset_conversion.formats.class_list import parse_classes
from sam_med2d.dataset_conversion.formats.folder_layout import PictureFile
from sam_med2d.dataset_conversion.formats.pairing import find_pairs, samples_of_pairs, single, structure_name
from sam_med2d.dataset_conversion.mask_readers import Values, White
from sam_med2d.dataset_conversion.samples import Choice, MaskSource
from sam_med2d.dataset_conversion.slices import SliceMask
from sam_med2d.errors import DataError


def slices_of(tree: Tree, choice: Choice, is_mask: Callable[[str], bool]) -> FoundSamples:
    """Samples of photographs and files of one slice.

    Args:
        tree: the source.
        choice: with the options classes and axes.
        is_mask: whether a file is such a mask, by its name.

    Raises:
        DataError: for files whose structure nothing says, and as `find_pairs`.
    """
    axes, text = choice.options.get("axes"), choice.options.get("classes")
    pairs = find_pairs(tree, choice, by_structure=not text, is_mask=is_mask)
    if text:
        classes = parse_classes(str(text))
        readers = {name: Values(v, classes.known, classes.void) for name, v in classes.structures.items()}

        def labels(mask: PictureFile) -> Sequence[MaskSource]:
            return [MaskSource(name, mask.path, SliceMask(reader, axes)) for name, reader in readers.items()]

        return samples_of_pairs(single(pairs), choice, labels)
    if nameless := [mask for masks in pairs.masks_of.values() for mask in masks if not mask.structure]:
        raise DataError(
            f"{nameless[0].path}: neither its folder nor its name says which structure it shows: say it with --mask "
            "STRUCTURE=PATTERN; of a map of labels say what its values mean with --classes VALUE=STRUCTURE,..."
        )
    decoder = SliceMask(White(choice.threshold), axes)
    return samples_of_pairs(
        pairs, choice, lambda mask: [MaskSource(structure_name(mask.structure), mask.path, decoder)]
    )
