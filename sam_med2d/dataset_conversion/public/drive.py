"""DRIVE: 40 photographs, vessels by two observers (the second for the test part only)."""

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples, Masks, collect
from sam_med2d.dataset_conversion.samples import Choice

# The second observer drew the test part only; training keeps the first one's masks.
OBSERVERS = {"first": ("1st_manual", "manual1"), "second": ("2nd_manual", "manual2")}
TRAINING, TEST = "training", "test"


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Both parts. The challenge gives the test part out without masks: it is then left out, and one problem says so."""
    training = _part(tree, TRAINING, *OBSERVERS["first"])
    folder, suffix = OBSERVERS[choice.observer]
    test = _part(tree, TEST, folder, suffix)
    if test.samples and not any(sample.masks for sample in test.samples):
        said = f"test/{folder} has no *_{suffix}.gif: the test part's {len(test.samples)} photographs are left out"
        return FoundSamples(training.samples, [*training.problems, said])
    return FoundSamples(training.samples + test.samples, training.problems + test.problems)


def _part(tree: Tree, part: str, folder: str, suffix: str) -> FoundSamples:
    return collect(
        tree,
        f"drive_{{id}}_{part}",
        rf"{part}/images/(?P<id>\d\d)_{part}\.tif",
        [Masks("vessel", rf"{part}/{folder}/(?P<id>\d\d)_{suffix}\.gif")],
        field_of_view=rf"{part}/mask/(?P<id>\d\d)_{part}_mask\.gif",
        split=lambda _: "train" if part == TRAINING else "test",
    )


DRIVE = DataSet(
    name="drive",
    title="DRIVE",
    citation="J. Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE TMI 23(4), 2004",
    terms="for research and education; copying, redistribution and commercial use are not allowed",
    where="https://drive.grand-challenge.org (with an account; without the test part's masks, which older copies have)",
    structures=("vessel",),
    layout="""training/images/21_training.tif
training/1st_manual/21_manual1.gif
training/mask/21_training_mask.gif
test/images/01_test.tif
test/1st_manual/01_manual1.gif
test/2nd_manual/01_manual2.gif
test/mask/01_test_mask.gif""",
    counts={"train": 20, "test": 20},
    find=find,
    observers=tuple(OBSERVERS),
)
