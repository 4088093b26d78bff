"""NIfTI files of one slice: maps of labels, or a file for each structure, of photographs that are pictures."""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.class_list import CLASSES
from sam_med2d.dataset_conversion.formats.pairing import FLAGS
from sam_med2d.dataset_conversion.formats.slice_files import slices_of
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.dataset_conversion.slices import AXES, NIFTI


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """With --classes each file is a map of labels, else of one structure."""
    return slices_of(tree, choice, lambda name: bool(NIFTI.search(name)))


NIFTI_SLICES = DataSet(
    name="nifti",
    title="NIfTI files of one slice: maps of labels, or one for each structure",
    layout="""images/eye_1.jpg
masks/eye_1.nii.gz, a map of labels (--classes 1=optic_disc,2=optic_cup)
or masks/eye_1_optic_disc.nii.gz, or optic_disc/eye_1.nii.gz: one for each structure""",
    find=find,
    may_be_soft=True,
    flags={"--classes": CLASSES, "--axes": AXES, **FLAGS},
)
