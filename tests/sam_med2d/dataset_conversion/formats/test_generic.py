"""Folders of one's own: layouts found by their names or described by patterns, and mask files of every encoding."""

import gzip
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import read_mask
from sam_med2d.data.record_checks import load_checked
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.binary import BINARY
from sam_med2d.dataset_conversion.formats.folder import FOLDER
from sam_med2d.dataset_conversion.formats.labelmap import LABELMAP, parse_classes
from sam_med2d.dataset_conversion.formats.pairing import structure_name
from sam_med2d.dataset_conversion.samples import Choice, Sample
from sam_med2d.errors import DataError
from tests.helpers.paths import DATA_DEMO as DEMO

SIZE = (24, 32)


def drawn(number: int = 0) -> np.ndarray:
    """A mask that tells its number."""
    mask = np.zeros(SIZE, bool)
    mask[3:9, 5 : 10 + number] = True
    return mask


def put(path: Path, pixels: np.ndarray | None = None) -> Path:
    """A picture file; a photograph where no pixels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*SIZE, 3), 90, np.uint8) if pixels is None else pixels
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(path)
    return path


def make(folder: Path, *names: str) -> None:
    """Files below a folder: a name with * is a mask, the others are photographs."""
    for name in names:
        put(folder / name.rstrip("*"), drawn() if name.endswith("*") else None)


def find(data_set: DataSet, source: Path, **options: Any) -> FoundSamples:
    return data_set.find(Tree(source), Choice(options=options))


def layout(offer: FoundSamples) -> dict[str, list[tuple[str, str]]]:
    """{sample: [(structure, mask's path below its two last folders)]}"""
    return {s.name: [(m.structure, "/".join(m.path.parts[-2:])) for m in s.masks] for s in offer.samples}


def structures(offer: FoundSamples) -> dict[str, list[str]]:
    return {sample.name: [mask.structure for mask in sample.masks] for sample in offer.samples}


def read(sample: Sample, size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    sources = pickle.loads(pickle.dumps(sample.masks))  # other processes read them
    return {source.structure: source.decode(source.path, size) for source in sources}


# --- layouts found by themselves ------------------------------------------------------------------------------


def test_our_own_layout():
    """data_demo as a folder of one's own gives what its maps list."""
    offer = find(FOLDER, DEMO)
    assert not offer.problems
    listed = {
        r.image: {m.path: m.structure for m in r.masks} for s in ("train", "val", "test") for r in load_checked(DEMO, s)
    }
    assert {s.image: {m.path: m.structure for m in s.masks} for s in offer.samples} == listed
    sample = offer.samples[0]
    size = cv2.imread(str(sample.image)).shape[:2]
    for source in sample.masks:
        assert np.array_equal(source.decode(source.path, size), read_mask(source.path) > 0)


@pytest.mark.parametrize("word", ["images", "Photos", "Original Images", "photographs", "originals"])
def test_a_folder_for_each_structure(tmp_path, word):
    make(tmp_path, f"{word}/1.jpg", f"{word}/2.jpg", "Optic-Disc/1.png*", "Optic-Disc/2.png*", "2. Vessels/1.gif*")
    offer = find(FOLDER, tmp_path)
    assert structures(offer) == {"1": ["vessels", "optic_disc"], "2": ["optic_disc"]} and not offer.problems


@pytest.mark.parametrize("masks", ["masks", "Ground Truth", "images"])
def test_structures_in_the_names_beside_or_in_a_folder_of_masks(tmp_path, masks):
    make(tmp_path, "images/a.png", "images/a_1.png", "images/b.jpg")
    make(
        tmp_path, f"{masks}/a_disc.png*", f"{masks}/a_1_disc.png*", f"{masks}/b_optic_cup.png*", f"{masks}/b-disc.png*"
    )
    offer = find(FOLDER, tmp_path)
    assert structures(offer) == {"a": ["disc"], "a_1": ["disc"], "b": ["disc", "optic_cup"]} and not offer.problems


def test_numbered_masks_of_a_structure_stay_several(tmp_path):
    make(tmp_path, "images/a.jpg", "masks/a_ma_9.png*", "masks/a_ma_10.png*", "masks/a_he_000.png*")
    make(tmp_path, "exudate/a_001.png*", "exudate/a_002.png*")
    offer = find(FOLDER, tmp_path)
    assert layout(offer)["a"] == [
        ("exudate", "exudate/a_001.png"),
        ("exudate", "exudate/a_002.png"),
        ("he", "masks/a_he_000.png"),
        ("ma", "masks/a_ma_9.png"),
        ("ma", "masks/a_ma_10.png"),
    ]


def test_one_ending_in_a_folder_of_a_structure_says_nothing(tmp_path):
    make(
        tmp_path,
        "images/a.jpg",
        "Microaneurysms/a_MA.tif*",
        "lesions/a_he.png*",
        "lesions/a_ex.png*",
        "disc/a_mask.png*",
    )
    assert structures(find(FOLDER, tmp_path)) == {"a": ["microaneurysms", "disc", "ex", "he"]}


def test_photographs_at_the_top(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg", "disc/a.png*", "masks/b_cup.png*")
    assert structures(find(FOLDER, tmp_path)) == {"a": ["disc"], "b": ["cup"]}


@pytest.mark.parametrize(
    "names",
    [
        ("train/images/1.jpg", "train/masks/1_disc.png*", "Validation/images/2.jpg", "Validation/masks/2_disc.png*"),
        ("images/train/1.jpg", "masks/train/1_disc.png*", "images/val/2.jpg", "masks/val/2_disc.png*"),
        ("images/train/1.jpg", "disc/training/1.png*", "images/val/2.jpg", "disc/valid/2.png*"),
        ("train_images/1.jpg", "train_masks/1_disc.png*", "val_images/2.jpg", "val_masks/2_disc.png*"),
        ("images/train/1.jpg", "masks/1_disc.png*", "images/val/2.jpg", "masks/2_disc.png*"),
        ("train/1.jpg", "train/1_disc.png*", "val/2.jpg", "val/2_disc.png*"),
    ],
)
def test_folders_of_splits(tmp_path, names):
    make(tmp_path, *names)
    offer = find(FOLDER, tmp_path)
    assert {s.name: (s.split, [m.structure for m in s.masks]) for s in offer.samples} == {
        "1": ("train", ["disc"]),
        "2": ("val", ["disc"]),
    }
    assert not offer.problems


def test_equal_names_in_two_folders_are_told_apart_by_these(tmp_path):
    for place in ("train", "test", "centre B"):
        put(tmp_path / place / "images" / "1.jpg")
        put(tmp_path / place / "masks" / "1_disc.png", drawn())
    offer = find(FOLDER, tmp_path)
    assert {s.name: s.split for s in offer.samples} == {"centre_b_1": "", "test_1": "test", "train_1": "train"}
    for sample in offer.samples:
        assert sample.masks[0].path.parts[-3] == sample.image.parts[-3]


def test_a_mask_never_goes_to_a_photograph_of_its_name_elsewhere(tmp_path):
    make(tmp_path, "train/images/1.jpg", "test/images/1.jpg", "test/masks/1_disc.png*", "masks/1_disc.png*")
    make(tmp_path, "train/images/2.jpg", "test/masks/2_disc.png*")
    offer = find(FOLDER, tmp_path)
    assert structures(offer) == {"test_1": ["disc"], "train_1": [], "2": []}
    lost = [problem for problem in offer.problems if "has no photograph" in problem]
    assert len(lost) == 2 and "test/masks/2_disc.png" in lost[1] and "lie(s) elsewhere" in lost[0]


def test_a_field_of_view_is_no_structure(tmp_path):
    make(tmp_path, "images/a.jpg", "fov/a_fov.png*", "vessel/a.png*")
    [sample] = find(FOLDER, tmp_path).samples
    assert sample.field_of_view == tmp_path / "fov/a_fov.png" and list(read(sample)) == ["vessel"]


# --- what does not fit ----------------------------------------------------------------------------------------


def test_photographs_and_masks_without_the_other_are_named(tmp_path):
    make(tmp_path, "images/1.jpg", "images/2.jpg", "disc/1.png*", "disc/3.png*", "figures/plan.png", "cup/1_2_3.png*")
    problems = find(FOLDER, tmp_path).problems
    assert sorted(problem.replace(f"{tmp_path}/", "") for problem in problems) == [
        "cup/ holds 1 picture(s), none with a photograph's name: not used",
        "disc/3.png has no photograph",
        "figures/ holds 1 picture(s), none with a photograph's name: not used",
        "images/2.jpg has no mask (--missing absent: there is nothing to draw)",
    ]


def test_a_name_that_goes_on_is_another_photograph(tmp_path):
    """1_2_disc.png belongs to 1_2.jpg, which is not there, and not to 1.jpg."""
    make(tmp_path, "images/1.jpg", "masks/1_disc.png*", "masks/1_2_disc.png*")
    offer = find(FOLDER, tmp_path)
    assert structures(offer) == {"1": ["disc"]} and offer.problems == [
        f"{tmp_path}/masks/1_2_disc.png has no photograph"
    ]


@pytest.mark.parametrize(
    ("missing", "absent", "problems"),
    [(None, (), 1), ("unknown", (), 1), ("absent", ("cup",), 0), ("problem", (), 2)],
)
def test_what_a_missing_structure_means(tmp_path, missing, absent, problems):
    make(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg", "disc/1.png*", "cup/1.png*", "disc/2.png*")
    offer = find(FOLDER, tmp_path, missing=missing)
    assert offer.samples[1].absent == absent and len(offer.problems) == problems
    assert offer.samples[2].absent == (("cup", "disc") if missing == "absent" else ())


def test_photographs_that_are_not_told_apart(tmp_path):
    make(tmp_path, "images/1.jpg", "images/1.png", "disc/1.png*")
    with pytest.raises(DataError, match=r"images/1\.jpg and .*images/1\.png have one name"):
        find(FOLDER, tmp_path)


def test_two_masks_of_one_name_and_structure(tmp_path):
    make(tmp_path, "images/1.jpg", "a/disc/1.png*", "b/disc/1.png*")
    with pytest.raises(DataError, match=r"a/disc/1\.png and .*b/disc/1\.png are both masks of .*1\.jpg"):
        find(FOLDER, tmp_path)


def test_folders_that_say_nothing(tmp_path):
    make(tmp_path, "left/1.jpg", "right/1.jpg")
    with pytest.raises(DataError, match="not clear: left, right. Say it with --images, such as"):
        find(FOLDER, tmp_path)
    shutil.rmtree(tmp_path / "left")
    make(tmp_path, "masks/1.png*")
    with pytest.raises(DataError, match=r"masks/1\.png: neither its folder nor its name says which structure"):
        find(FOLDER, tmp_path)


def test_nothing_there(tmp_path):
    for data_set, options in ((FOLDER, {}), (BINARY, {"structure": "vessel"}), (LABELMAP, {"classes": "1=disc"})):
        assert find(data_set, tmp_path, **options) == FoundSamples([])


# --- patterns -------------------------------------------------------------------------------------------------


def test_patterns_for_photographs_and_masks(tmp_path):
    make(tmp_path, "photos/2024/a.jpg", "photos/2025/a.jpg", "photos/plan.png")
    make(tmp_path, "drawn/2024/a_disc.png*", "drawn/2025/a_disc.png*", "drawn/2025/a_l1.png*", "drawn/2025/a_l2.png*")
    masks = ["Optic Disc=drawn/{name}_disc.png", "lesion=drawn/{name}_l{n}.*"]
    offer = find(FOLDER, tmp_path, images="photos/{name}.JPG", mask=masks, patient=r"photos/(\d+)/")
    assert layout(offer) == {
        "2024_a": [("optic_disc", "2024/a_disc.png")],
        "2025_a": [("optic_disc", "2025/a_disc.png"), ("lesion", "2025/a_l1.png"), ("lesion", "2025/a_l2.png")],
    }
    assert [sample.patient for sample in offer.samples] == ["2024", "2025"] and not offer.problems


def test_a_pattern_for_masks_alone(tmp_path):
    make(tmp_path, "a.png", "b.png", "a_disc.png*", "discs/b.png*")
    offer = find(FOLDER, tmp_path, mask=["disc=discs/{name}.png", "disc={name}_disc.png"])
    assert layout(offer) == {"a": [("disc", f"{tmp_path.name}/a_disc.png")], "b": [("disc", "discs/b.png")]}


def test_a_pattern_for_photographs_alone(tmp_path):
    make(tmp_path, "left/1.jpg", "disc/1.png*")
    assert structures(find(FOLDER, tmp_path, images="left/{name}.jpg")) == {"1": ["disc"]}


def test_patterns_pair_what_they_say_and_nothing_else(tmp_path):
    make(tmp_path, "photos/x/a.jpg", "masks/y/a.png*")
    offer = find(FOLDER, tmp_path, images="photos/{name}.jpg", mask=["disc=masks/{name}.png"])
    assert structures(offer) == {"a": []} and "masks/y/a.png has no photograph" in offer.problems[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": ["disc/{name}.png"]}, "--mask disc/{name}.png: write STRUCTURE=PATTERN"),
        ({"mask": ["disc=disc/1.png"]}, "write {name} once"),
        ({"mask": ["disc={name}/{name}.png"]}, "write {name} once"),
        ({"mask": ["disc=disc/{id}_{name}.png"]}, "write {name} once"),
        ({"mask": ["disc=dics/{name}.png"]}, "--mask disc=dics/{name}.png: no picture is there"),
        ({"images": "photos/{name}.jpg"}, "--images photos/{name}.jpg: no picture is there"),
        ({"mask": ["--=disc/{name}.png"]}, "'--' is no name of a structure"),
        ({"patient": "(x"}, r"--patient (x: no regular expression"),
        ({"patient": "x"}, "--patient x: put the patient's part into a group"),
    ],
)
def test_options_that_cannot_work(tmp_path, options, message):
    make(tmp_path, "images/1.jpg", "disc/1.png*")
    with pytest.raises(DataError) as caught:
        find(FOLDER, tmp_path, **options)
    assert message in str(caught.value)


def test_a_photograph_without_patient(tmp_path):
    make(tmp_path, "images/P1_l.jpg", "images/x.jpg", "disc/P1_l.png*", "disc/x.png*")
    offer = find(FOLDER, tmp_path, patient=r"/(P\d)")
    assert [sample.patient for sample in offer.samples] == ["P1", ""]
    assert offer.problems == ["images/x.jpg: --patient /(P\\d) finds no patient in it"]


def test_names_of_structures():
    names = {"Optic Disc": "optic_disc", "1. Hard-Exudates": "hard_exudates", " MA ": "ma", "3": "3", "视盘": "视盘"}
    assert {text: structure_name(text) for text in names} == names


# --- one structure, in every format ---------------------------------------------------------------------------


def turned(path: Path, mask: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(mask).astype(np.uint8) * 255).save(path, exif=exif)


def palette(mask: np.ndarray, colours: list[int]) -> Image.Image:
    picture = Image.fromarray(mask.astype(np.uint8), "P")
    picture.putpalette(colours)
    return picture


def test_masks_of_every_format(tmp_path):
    """The same mask in many encodings is the same mask."""
    mask = drawn()
    grey = mask.astype(np.uint8)
    folder = tmp_path / "masks"
    folder.mkdir()
    transparent = np.dstack([np.zeros((*SIZE, 3), np.uint8), grey * 255])
    opaque = np.dstack([grey * 255] * 3 + [np.full(SIZE, 255, np.uint8)])
    Image.fromarray(grey * 255).save(folder / "grey.png")
    Image.fromarray(grey).save(folder / "ones.png")
    Image.fromarray(grey * 100).save(folder / "hundred.bmp")
    Image.fromarray(mask).save(folder / "bit.tif")
    Image.fromarray(mask).convert("1").save(folder / "bits.pbm")
    Image.fromarray(grey * 255).save(folder / "loss.jpg", quality=80)
    Image.fromarray(transparent, "RGBA").save(folder / "alpha.png")
    Image.fromarray(opaque, "RGBA").save(folder / "opaque.png")
    Image.fromarray(np.dstack([grey * 200, grey * 0, grey * 0])).save(folder / "red.png")
    palette(mask, [0, 0, 0, 128, 0, 0]).save(folder / "voc.png")
    palette(~mask, [255, 255, 255, 0, 0, 0]).save(folder / "white_first.gif")
    cv2.imwrite(str(folder / "deep.png"), grey.astype(np.uint16) * 65535)
    cv2.imwrite(str(folder / "twelve.tif"), grey.astype(np.uint16) * 4095)
    cv2.imwrite(str(folder / "deep_colour.png"), np.dstack([grey.astype(np.uint16) * 65535] * 3))
    turned(folder / "turned.png", mask, 6)
    (folder / "packed.pgm.gz").write_bytes(gzip.compress(cv2.imencode(".pgm", grey * 255)[1].tobytes()))
    names = {path.name.split(".")[0] for path in folder.iterdir()}
    for name in names:
        put(tmp_path / f"images/{name}.jpg")
    offer = find(BINARY, tmp_path, structure="Vessel")
    assert not offer.problems and {sample.name for sample in offer.samples} == names
    for sample in offer.samples:
        found = read(sample)["vessel"]
        assert found.dtype == bool and np.array_equal(found, mask), sample.name


def test_pairs_by_stem_or_suffix(tmp_path):
    make(tmp_path, "images/1.jpg", "images/2.jpg", "segmented/1.png*", "segmented/2_manual1.png*", "fov/1.png*")
    offer = find(BINARY, tmp_path, structure="vessel")
    assert structures(offer) == {"1": ["vessel"], "2": ["vessel"]} and not offer.problems


def test_what_binary_needs(tmp_path):
    make(tmp_path, "images/1.jpg", "first/1.png*", "second/1.png*")
    with pytest.raises(DataError, match="binary needs --structure NAME"):
        find(BINARY, tmp_path)
    with pytest.raises(
        DataError, match=r"1\.jpg has 2 masks .*first/1\.png and .*second/1\.png.*: say which with --mask"
    ):
        find(BINARY, tmp_path, structure="vessel")
    offer = find(BINARY, tmp_path, structure="vessel", mask=["second/{name}.png"])
    assert layout(offer) == {"1": [("vessel", "second/1.png")]}


@pytest.mark.parametrize("classes", [[0, 1, 2], [1, 2], [0, 1, 2, 3]])
def test_a_map_of_classes_among_the_masks_is_not_taken_for_empty(tmp_path, classes):
    put(tmp_path / "images/1.jpg")
    put(tmp_path / "masks/1.png", np.resize(np.array(classes, np.uint8), SIZE))
    with pytest.raises(DataError, match=r"masks/1\.png is not binary \(values .* use prepare_dataset\.py labelmap"):
        read(find(BINARY, tmp_path, structure="vessel").samples[0])


def test_a_photograph_among_the_masks_is_named(tmp_path):
    make(tmp_path, "images/1.jpg", "masks/1.png")
    with pytest.raises(DataError, match=r"masks/1\.png is not binary \(values 90 on 768 pixels\)"):
        read(find(BINARY, tmp_path, structure="vessel").samples[0])


def test_a_mask_of_another_size_is_named(tmp_path):
    make(tmp_path, "images/1.jpg", "masks/1.png*")
    with pytest.raises(DataError, match=r"masks/1\.png is 32 x 24 pixels, its photograph 33 x 24"):
        read(find(BINARY, tmp_path, structure="vessel").samples[0], (24, 33))


# --- maps of several classes ----------------------------------------------------------------------------------


def label_map() -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[4:20, 4:20], labels[8:12, 8:12] = 1, 2
    return labels


@pytest.mark.parametrize("kind", ["grey", "palette", "deep", "colour"])
def test_maps_of_classes(tmp_path, kind):
    labels, path = label_map(), tmp_path / "labels/1.png"
    put(tmp_path / "images/1.jpg")
    put(path, labels)
    if kind == "palette":
        picture = Image.fromarray(labels, "P")
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        picture.save(path)
    elif kind == "deep":
        cv2.imwrite(str(path), labels.astype(np.uint16))
    elif kind == "colour":
        put(path, np.dstack([labels] * 3))
    [sample] = find(LABELMAP, tmp_path, classes="1+2=Optic Disc, 2=optic_cup,0=rest").samples
    masks = read(sample)
    assert list(masks) == ["optic_disc", "optic_cup", "rest"]
    assert np.array_equal(masks["optic_disc"], labels > 0) and np.array_equal(masks["optic_cup"], labels == 2)
    assert np.array_equal(masks["rest"], labels == 0)


def test_values_that_are_no_class_are_named(tmp_path):
    put(tmp_path / "images/1.jpg")
    put(tmp_path / "masks/1.png", label_map())
    [sample] = find(LABELMAP, tmp_path, classes="1=optic_disc").samples
    with pytest.raises(DataError, match=r"masks/1\.png holds the value\(s\) 2; its classes are 0, 1"):
        read(sample)


def test_classes_in_words():
    assert parse_classes("255=vessel,1 + 2 = disc,").structures == {"vessel": (255,), "disc": (1, 2)}
    for text, message in {
        "": "labelmap needs --classes",
        "disc": "'disc' is no class",
        "1+=disc": "no class",
        "-1=disc": "no class",
        "1=disc,2=Disc": "disc occurs twice",
        "1=": "no name of a structure",
    }.items():
        with pytest.raises(DataError, match=message):
            parse_classes(text)


def test_one_map_a_photograph(tmp_path):
    make(tmp_path, "images/1.jpg", "a/1.png*", "b/1.png*")
    with pytest.raises(DataError, match="has 2 masks"):
        find(LABELMAP, tmp_path, classes="255=disc")


def test_flags_are_shared_and_off_by_default():
    """One argparse group can hold them all: equal flags have equal settings, and none has a default."""
    settings: dict[str, Any] = {}
    for data_set in (FOLDER, BINARY, LABELMAP):
        for flag, words in data_set.flags.items():
            assert settings.setdefault(flag, words) is words and "default" not in words
    assert set(settings) == {"--images", "--mask", "--patient", "--missing", "--structure", "--classes"}
