"""Vessel and lesion data sets: miniatures of their official trees, with the real encodings, are found and decoded."""

import gzip
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import read_image, read_values
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.mask_readers import BLACK_AND_WHITE
from sam_med2d.dataset_conversion.public.chase import CHASE
from sam_med2d.dataset_conversion.public.ddr import DDR
from sam_med2d.dataset_conversion.public.drive import DRIVE
from sam_med2d.dataset_conversion.public.eophtha import EOPHTHA
from sam_med2d.dataset_conversion.public.fives import FIVES
from sam_med2d.dataset_conversion.public.hrf import HRF
from sam_med2d.dataset_conversion.public.idrid import IDRID
from sam_med2d.dataset_conversion.public.les_av import LES_AV
from sam_med2d.dataset_conversion.public.stare import STARE
from sam_med2d.dataset_conversion.samples import Choice, Sample
from sam_med2d.errors import DataError

SIZE = (20, 28)  # height, width
VIEW = np.hypot(*(np.mgrid[:20, :28] - np.array([10, 14])[:, None, None])) < 9
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
Truth = dict[str, dict[str, np.ndarray]]  # sample -> structure -> mask


def drawn(*place: int) -> np.ndarray:
    """A mask with one box; its place and size depend on the numbers."""
    mask = np.zeros(SIZE, bool)
    top, left = (3 * sum(place)) % 11 + 1, (5 * len(place) + sum(place)) % 13 + 1
    mask[top : top + 6, left : left + 7 + len(place)] = True
    return mask


def put(path: Path, picture: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def photograph(path: Path) -> Path:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return put(path, Image.fromarray(np.stack([7 * x, 9 * y, 0 * x], axis=2).astype(np.uint8)))


def grey(mask: np.ndarray) -> Image.Image:
    """0 and 255, one channel."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def one_bit(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask)


def palette(mask: np.ndarray, colour: tuple[int, int, int] = RED) -> Image.Image:
    """Indices 0 and 1 into black and a colour."""
    picture = Image.fromarray(mask.astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, *colour])
    return picture


def coloured(*parts: tuple[np.ndarray, tuple[int, ...]], channels: int = 3) -> Image.Image:
    pixels = np.zeros((*SIZE, channels), np.uint8)
    pixels[..., 3:] = 255  # opaque
    for mask, colour in parts:
        pixels[mask, :3] = colour
    return Image.fromarray(pixels)


def zipped(path: Path, picture: Image.Image) -> Path:
    """A portable pixmap, gzip."""
    content = io.BytesIO()
    picture.save(content, format="PPM")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.getvalue()))
    return path


def junk(*folders: Path) -> None:
    """What Windows and macOS leave behind."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (folder / "._im0001.ppm").write_bytes(b"\0")
        (folder / ".DS_Store").write_bytes(b"\0")


# --- miniatures ---------------------------------------------------------------------------------------------------


def make_drive(root: Path) -> Truth:
    truth: Truth = {}
    for part, number in (("training", 21), ("training", 22), ("test", 1), ("test", 2)):
        folder = root / "DRIVE" / part
        photograph(folder / f"images/{number:02d}_{part}.tif")
        put(folder / f"mask/{number:02d}_{part}_mask.gif", grey(VIEW))
        put(folder / f"1st_manual/{number:02d}_manual1.gif", grey(drawn(number)))
        if part == "test":
            put(folder / f"2nd_manual/{number:02d}_manual2.gif", palette(drawn(number, 1), WHITE))
        truth[f"drive_{number:02d}_{part}"] = {"vessel": drawn(number)}
    junk(root / "__MACOSX/DRIVE/test/images")
    return truth


def make_idrid(root: Path) -> Truth:
    """81 has hard exudates in RGBA; 43 and 81 have lesions without a file."""
    folder = root / "A. Segmentation/A. Segmentation"
    kinds = {
        "microaneurysm": ("1. Microaneurysms", "MA"),
        "haemorrhage": ("2. Haemorrhages", "HE"),
        "hard_exudate": ("3. Hard Exudates", "EX"),
        "soft_exudate": ("4. Soft Exudates", "SE"),
        "optic_disc": ("5. Optic Disc", "OD"),
    }
    missing = {(43, "haemorrhage"), (43, "soft_exudate"), (81, "soft_exudate")}
    truth: Truth = {}
    for number in (1, 43, 81):
        part = "a. Training Set" if number <= 54 else "b. Testing Set"
        photograph(folder / f"1. Original Images/{part}/IDRiD_{number:02d}.jpg")
        masks = truth[f"idrid_{number:02d}"] = {}
        for place, (structure, (name, suffix)) in enumerate(kinds.items()):
            if (number, structure) in missing:
                continue
            masks[structure] = mask = drawn(number, place)
            picture = coloured((mask, RED), channels=4) if (number, suffix) == (81, "EX") else palette(mask)
            picture = one_bit(mask) if (number, suffix) == (1, "OD") else picture
            path = folder / f"2. All Segmentation Groundtruths/{part}/{name}/IDRiD_{number:02d}_{suffix}.tif"
            put(path, picture)
    photograph(root / "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_001.jpg")
    return truth


def make_ddr(root: Path) -> Truth:
    """A black file says that a lesion is absent."""
    kinds = {"microaneurysm": "MA", "haemorrhage": "HE", "hard_exudate": "EX", "soft_exudate": "SE"}
    truth: Truth = {}
    for number, (part, name) in enumerate([("train", "007-1774-100"), ("valid", "007-2846-100"), ("test", "2017")]):
        folder = root / "DDR-dataset/lesion_segmentation" / part
        photograph(folder / f"image/{name}.jpg")
        labels = "segmentation label" if part == "valid" else "label"
        masks = truth[f"ddr_{name}"] = {}
        for place, (structure, kind) in enumerate(kinds.items()):
            masks[structure] = drawn(number, place) & (structure != "soft_exudate")
            put(folder / labels / kind / f"{name}.tif", grey(masks[structure]))
    photograph(root / "DDR-dataset/DR_grading/train/007-0004-000.jpg")
    return truth


def make_eophtha(root: Path) -> Truth:
    """C1 lies in both parts with lesions, H1 is healthy in EX and has microaneurysms in MA."""
    ex, ma = root / "e_ophtha_EX/e_optha_EX", root / "e_ophtha_MA/e_optha_MA"
    photograph(ex / "EX/E0000010/C1.jpg")
    photograph(ma / "MA/E0000010/C1.jpg")
    photograph(ex / "healthy/E0000011/H1.jpg")
    photograph(ma / "MA/E0000011/H1.JPG")
    photograph(ma / "healthy/E0000011/H2.jpg")
    photograph(ma / "healthy/E0000012/C1.jpg")
    put(ex / "Annotation_EX/E0000010/C1_EX.png", grey(drawn(1)))
    put(ma / "Annotation_MA/E0000010/C1.png", grey(drawn(2)))
    put(ma / "Annotation_MA/E0000011/H1.png", grey(drawn(3)))
    photograph(ma / "MA/E0000043/DS1.JPG")
    put(ma / "Annotation_MA/E0000043/DS1.png", grey(drawn(4)))
    junk(ma / "MA/E0000043")
    return {
        "eophtha_E0000010_C1": {"hard_exudate": drawn(1), "microaneurysm": drawn(2)},
        "eophtha_E0000011_H1": {"microaneurysm": drawn(3)},
        "eophtha_E0000011_H2": {},
        "eophtha_E0000012_C1": {},
        "eophtha_E0000043_DS1": {"microaneurysm": drawn(4)},
    }


def make_chase(root: Path) -> Truth:
    eyes = ("01L", "01R", "10R", "11L")
    for number, eye in enumerate(eyes):
        photograph(root / f"Image_{eye}.jpg")
        put(root / f"Image_{eye}_1stHO.png", one_bit(drawn(number)))
        put(root / f"Image_{eye}_2ndHO.png", one_bit(drawn(number, 1)))
    return {f"chase_{eye}": {"vessel": drawn(number)} for number, eye in enumerate(eyes)}


def make_stare(root: Path) -> Truth:
    """Photograph 6 is one of the full set, without vessels."""
    picture = Image.open(photograph(root / "unused.png"))
    for number in (1, 6, 235, 236, 240):
        zipped(root / f"stare-images/im{number:04d}.ppm.gz", picture)
    for number in (1, 235, 236, 240):
        zipped(root / f"labels-ah/im{number:04d}.ah.ppm.gz", grey(drawn(number)))
        zipped(root / f"labels-vk/im{number:04d}.vk.ppm.gz", coloured((drawn(number, 1), WHITE)))
    junk(root / "stare-images")
    return {f"stare_im{number:04d}": {"vessel": drawn(number)} for number in (1, 235, 236, 240)}


def make_hrf(root: Path) -> Truth:
    names = {"01_dr": "JPG", "05_g": "jpg", "06_h": "jpg"}
    for number, (name, suffix) in enumerate(names.items()):
        photograph(root / f"all/images/{name}.{suffix}")
        put(root / f"all/manual1/{name}.tif", grey(drawn(number)))
        put(root / f"all/mask/{name}_mask.tif", coloured((VIEW, WHITE)))
    return {f"hrf_{name}": {"vessel": drawn(number)} for number, name in enumerate(names)}


def make_fives(root: Path) -> Truth:
    truth: Truth = {}
    for number, (part, name) in enumerate([("train", "1_A"), ("train", "10_N"), ("test", "1_A"), ("test", "2_G")]):
        photograph(root / f"{part}/Original/{name}.png")
        put(root / f"{part}/Ground truth/{name}.png", coloured((drawn(number), WHITE)))
        truth[f"fives_{part}_{name}"] = {"vessel": drawn(number)}
    junk(root / "train/Original")
    return truth


def make_les_av(root: Path) -> Truth:
    """An artery and a vein cross; part of the vein is of unknown kind."""
    truth: Truth = {}
    for number in (11, 275):
        artery, vein, unknown = (np.zeros(SIZE, bool) for _ in range(3))
        artery[8:12, 2:26], vein[2:18, number % 9 + 8], unknown[16:18, number % 9 + 8] = True, True, True
        folder = root / "LES-AV"
        photograph(folder / f"images/{number}.png")
        put(folder / f"masks/{number}_mask.gif", grey(VIEW))
        put(folder / f"vessel-segmentations/{number}.png", one_bit(artery | vein))
        map_ = coloured((artery, RED), (vein, BLUE), (artery & vein, GREEN), (unknown, WHITE))
        put(folder / f"arteries-and-veins/{number}.png", map_)
        put(folder / f"arteries/{number}.png", one_bit(artery))
        put(folder / f"veins/{number}.png", one_bit(vein & ~unknown))
        truth[f"les_av_{number}"] = {"vessel": artery | vein, "artery": artery, "vein": vein & ~unknown}
    junk(root / "__MACOSX/LES-AV/images")
    return truth


@dataclass(frozen=True)
class Case:
    """A data set, its miniature, one of its masks with the structures it shows, one of its photographs."""

    data_set: DataSet
    make: Callable[[Path], Truth]
    splits: tuple[str, ...]
    mask: str
    structures: tuple[str, ...]
    image: str


IDRID_DISC = "A. Segmentation/A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/5. Optic Disc/"
CASES = {
    case.data_set.name: case
    for case in (
        Case(
            *(DRIVE, make_drive, ("train", "train", "test", "test")),
            *("DRIVE/test/1st_manual/01_manual1.gif", ("vessel",), "DRIVE/training/images/21_training.tif"),
        ),
        Case(
            *(IDRID, make_idrid, ("train", "train", "test"), f"{IDRID_DISC}IDRiD_43_OD.tif", ("optic_disc",)),
            "A. Segmentation/A. Segmentation/1. Original Images/b. Testing Set/IDRiD_81.jpg",
        ),
        Case(
            *(DDR, make_ddr, ("train", "val", "test")),
            "DDR-dataset/lesion_segmentation/valid/segmentation label/HE/007-2846-100.tif",
            *(("haemorrhage",), "DDR-dataset/lesion_segmentation/test/image/2017.jpg"),
        ),
        Case(
            *(EOPHTHA, make_eophtha, ("",) * 5, "e_ophtha_EX/e_optha_EX/Annotation_EX/E0000010/C1_EX.png"),
            *(("hard_exudate",), "e_ophtha_MA/e_optha_MA/MA/E0000043/DS1.JPG"),
        ),
        Case(
            *(CHASE, make_chase, ("train", "train", "train", "test")),
            *("Image_01R_1stHO.png", ("vessel",), "Image_01L.jpg"),
        ),
        Case(
            *(STARE, make_stare, ("",) * 4),
            *("labels-ah/im0235.ah.ppm.gz", ("vessel",), "stare-images/im0240.ppm.gz"),
        ),
        Case(
            *(HRF, make_hrf, ("train", "train", "test")),
            *("all/manual1/05_g.tif", ("vessel",), "all/images/01_dr.JPG"),
        ),
        Case(
            *(FIVES, make_fives, ("test", "test", "train", "train")),
            *("train/Ground truth/1_A.png", ("vessel",), "test/Original/1_A.png"),
        ),
        Case(
            *(LES_AV, make_les_av, ("",) * 2, "LES-AV/arteries-and-veins/275.png", ("artery", "vein")),
            "LES-AV/images/11.png",
        ),
    )
}
NAMES = list(CASES)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, tuple[Path, Truth]]:
    """Each data set's miniature, for tests that only read, and the truth."""
    folders = {name: tmp_path_factory.mktemp(name) for name in CASES}
    return {name: (folder, CASES[name].make(folder)) for name, folder in folders.items()}


def offered(data_set: DataSet, *folders: Path, observer: str = "") -> FoundSamples:
    observer = observer or (data_set.observers[0] if data_set.observers else "")
    return data_set.find(Tree(*folders), Choice(observer=observer))


def decoded(sample: Sample) -> dict[str, np.ndarray]:
    return {source.structure: source.decode(source.path, SIZE) for source in sample.masks}


def assert_shows(offer: FoundSamples, truth: Truth) -> None:
    """Same names, and the masks as drawn."""
    assert {sample.name for sample in offer.samples} == truth.keys()
    for sample in offer.samples:
        masks = decoded(sample)
        assert masks.keys() == truth[sample.name].keys()
        for structure, mask in masks.items():
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, truth[sample.name][structure], err_msg=f"{sample.name} {structure}")


def by_name(offer: FoundSamples) -> dict[str, Sample]:
    return {sample.name: sample for sample in offer.samples}


# --- all of them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_official_tree_is_read(made, name):
    """Names, masks and splits; every photograph can be read; structures and splits are those the row announces."""
    (root, truth), case = made[name], CASES[name]
    offer = offered(case.data_set, root)
    assert not offer.problems
    assert_shows(offer, truth)
    assert len(offer.samples) == len(truth)
    assert tuple(sample.split for sample in offer.samples) == case.splits
    assert set(case.splits) <= case.data_set.counts.keys()
    for sample in offer.samples:
        assert read_image(sample.image).shape == (*SIZE, 3)
        assert {*decoded(sample), *sample.absent} <= set(case.data_set.structures)


@pytest.mark.parametrize("name", NAMES)
def test_no_other_tree_is_taken_for_it(made, name):
    for other in NAMES:
        if other != name:
            assert offered(CASES[name].data_set, made[other][0]) == FoundSamples([]), other


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_mask_is_a_problem(tmp_path, name):
    case = CASES[name]
    truth = case.make(tmp_path)
    (tmp_path / case.mask).unlink()
    offer = offered(case.data_set, tmp_path)
    assert len(offer.samples) == len(truth)
    assert len(offer.problems) == len(case.structures)
    for structure, problem in zip(case.structures, offer.problems, strict=True):
        assert problem.endswith(f"has no {structure} mask")


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_without_its_photograph_is_a_problem(tmp_path, name):
    case = CASES[name]
    truth = case.make(tmp_path)
    before = by_name(offered(case.data_set, tmp_path))
    (tmp_path / case.image).unlink()
    offer = offered(case.data_set, tmp_path)
    (gone,) = truth.keys() - by_name(offer).keys()
    assert set(offer.problems) == {f"{source.path} has no photograph" for source in before[gone].masks}


@pytest.mark.parametrize("name", NAMES)
def test_case_and_extra_folders_do_not_matter(tmp_path, name):
    """As some unpackers leave a tree: everything in capitals, two folders deeper."""
    case = CASES[name]
    truth = case.make(tmp_path / "made")
    for path in (tmp_path / "made").rglob("*"):
        if path.is_file():
            target = tmp_path / "source/my data" / str(path.relative_to(tmp_path / "made")).upper()
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    offer = offered(case.data_set, tmp_path / "source")
    assert not offer.problems
    assert tuple(sample.split for sample in offer.samples) == case.splits
    masks = {sample.name.lower(): decoded(sample).keys() for sample in offer.samples}
    assert masks == {sample.lower(): masks.keys() for sample, masks in truth.items()}


@pytest.mark.parametrize("name", NAMES)
def test_each_row_says_where_it_comes_from(name):
    data_set = CASES[name].data_set
    assert all([data_set.title, data_set.citation, data_set.terms, data_set.where, data_set.layout])
    assert data_set.where.startswith("https://") and data_set.threshold is None
    totals = {"drive": 40, "idrid": 81, "ddr": 757, "eophtha": 434, "chase": 28, "stare": 20, "hrf": 45, "fives": 800}
    assert sum(data_set.counts.values()) == totals.get(name, 22)


# --- one by one ---------------------------------------------------------------------------------------------------


def test_drive_second_observer_drew_the_test_part(made):
    root, truth = made["drive"]
    offer = offered(DRIVE, root, observer="second")
    seconds = {f"drive_{number:02d}_test": {"vessel": drawn(number, 1)} for number in (1, 2)}
    assert not offer.problems
    assert_shows(offer, truth | seconds)


def test_drive_of_the_challenge_gives_its_training_part(tmp_path):
    make_drive(tmp_path)
    for folder in ("1st_manual", "2nd_manual"):
        shutil.rmtree(tmp_path / "DRIVE/test" / folder)
    offer = offered(DRIVE, tmp_path)
    assert {sample.split for sample in offer.samples} == {"train"} and len(offer.samples) == 2
    assert len(offer.problems) == 1 and "2 photographs are left out" in offer.problems[0]
    shutil.rmtree(tmp_path / "DRIVE/test")
    assert not offered(DRIVE, tmp_path).problems


@pytest.mark.parametrize("name", ["drive", "hrf", "les_av"])
def test_fields_of_view_are_found(made, name):
    for sample in offered(CASES[name].data_set, made[name][0]).samples:
        assert sample.field_of_view is not None
        np.testing.assert_array_equal(BLACK_AND_WHITE(sample.field_of_view, SIZE), VIEW)


def test_idrid_lesions_without_a_file_are_absent(made):
    samples = by_name(offered(IDRID, made["idrid"][0]))
    assert samples["idrid_01"].absent == ()
    assert samples["idrid_43"].absent == ("haemorrhage", "soft_exudate")
    assert samples["idrid_81"].absent == ("soft_exudate",)


def test_idrid_reads_zeros_and_255_too(tmp_path):
    truth = make_idrid(tmp_path)
    for path in tmp_path.rglob("*_MA.tif"):
        grey(read_values(path) > 0).save(path)
    assert_shows(offered(IDRID, tmp_path), truth)


def test_ddr_black_masks_stay_with_their_photograph(made):
    """The file is given, and shows nothing."""
    for sample in offered(DDR, made["ddr"][0]).samples:
        assert sample.absent == ()
        assert not decoded(sample)["soft_exudate"].any() and decoded(sample)["haemorrhage"].any()


def test_ddr_may_begin_at_any_folder(made):
    root, truth = made["ddr"]
    assert_shows(offered(DDR, root / "DDR-dataset/lesion_segmentation"), truth)


def test_eophtha_healthy_is_without_its_parts_lesion(made):
    offer = offered(EOPHTHA, made["eophtha"][0])
    absent = {sample.name: sample.absent for sample in offer.samples}
    assert absent == {
        "eophtha_E0000010_C1": (),
        "eophtha_E0000011_H1": ("hard_exudate",),
        "eophtha_E0000011_H2": ("microaneurysm",),
        "eophtha_E0000012_C1": ("microaneurysm",),
        "eophtha_E0000043_DS1": (),
    }
    assert [sample.patient for sample in offer.samples] == ["E0000010", "E0000011", "E0000011", "E0000012", "E0000043"]


def test_eophtha_parts_can_be_used_alone(made, monkeypatch):
    """Also by a relative path from inside, where no path says which part it is."""
    folder = made["eophtha"][0] / "e_ophtha_MA/e_optha_MA"
    offer = offered(EOPHTHA, folder)
    assert not offer.problems and len(offer.samples) == 5
    monkeypatch.chdir(folder)
    inside = offered(EOPHTHA, Path())
    assert [(s.name, s.absent) for s in inside.samples] == [(s.name, s.absent) for s in offer.samples]


def test_eophtha_without_folders_of_examinations(tmp_path):
    folder = tmp_path / "e_optha_EX"
    photograph(folder / "EX/C1.jpg")
    photograph(folder / "healthy/H1.jpg")
    put(folder / "Annotation_EX/C1_EX.png", grey(drawn(1)))
    offer = offered(EOPHTHA, tmp_path)
    assert not offer.problems
    assert_shows(offer, {"eophtha_C1": {"hard_exudate": drawn(1)}, "eophtha_H1": {}})
    assert by_name(offer)["eophtha_H1"].absent == ("hard_exudate",)


def test_eophtha_healthy_folder_of_no_part_is_a_problem(tmp_path):
    photograph(tmp_path / "downloads/healthy/E0000011/H1.jpg")
    offer = offered(EOPHTHA, tmp_path)
    assert [problem for problem in offer.problems if "is in neither part" in problem] == offer.problems != []
    assert offer.samples[0].absent == ()


def test_chase_eyes_of_a_child_stay_together(made):
    root, _ = made["chase"]
    samples = offered(CHASE, root).samples
    assert [sample.patient for sample in samples] == ["01", "01", "10", "11"]
    offer = offered(CHASE, root, observer="second")
    assert_shows(offer, {sample.name: {"vessel": drawn(n, 1)} for n, sample in enumerate(samples)})


def test_stare_is_read_from_gzip_and_by_both_observers(made):
    root, truth = made["stare"]
    offer = offered(STARE, root)
    assert all(sample.image.suffix == ".gz" for sample in offer.samples)
    assert [sample.patient for sample in offer.samples] == ["", "0235", "0235", ""]
    second = {name: {"vessel": drawn(int(name[-4:]), 1)} for name in truth}
    assert_shows(offered(STARE, root, observer="vk"), second)


def test_stare_may_be_unpacked(tmp_path):
    truth = make_stare(tmp_path)
    for path in list(tmp_path.rglob("im*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    with pytest.raises(DataError, match=r"im0001\.ppm and .*im0001\.ppm\.gz"):
        offered(STARE, tmp_path)
    for path in tmp_path.rglob("im*.gz"):
        path.unlink()
    assert_shows(offered(STARE, tmp_path), truth)


def test_hrf_comes_in_flat_archives_too(tmp_path):
    truth = make_hrf(tmp_path / "made")
    flat = [tmp_path / "healthy", tmp_path / "healthy_manualsegm"]
    for folder in flat:
        folder.mkdir()
    for path in (tmp_path / "made").rglob("*.*"):
        path.rename(flat[path.suffix == ".tif"] / path.name)
    assert_shows(offered(HRF, *flat), truth)


def test_fives_numbers_start_again_in_the_test_part(made):
    samples = by_name(offered(FIVES, made["fives"][0]))
    first, again = samples["fives_train_1_A"], samples["fives_test_1_A"]
    assert first.image != again.image and first.masks[0].path.parts[-3:] == ("train", "Ground truth", "1_A.png")


def test_fives_folders_with_the_typing_error(tmp_path):
    truth = make_fives(tmp_path)
    for part in ("train", "test"):
        (tmp_path / part / "Ground truth").rename(tmp_path / part / "Groud truth")
    assert_shows(offered(FIVES, tmp_path), truth)


def test_les_av_crossings_belong_to_both_and_unknown_to_neither(made):
    root, _ = made["les_av"]
    for sample in offered(LES_AV, root).samples:
        masks = decoded(sample)
        assert (masks["artery"] & masks["vein"]).sum() == 4
        assert (masks["vessel"] & ~masks["artery"] & ~masks["vein"]).sum() == 2


def test_les_av_without_the_coloured_map(tmp_path):
    truth = make_les_av(tmp_path)
    shutil.rmtree(tmp_path / "LES-AV/arteries-and-veins")
    offer = offered(LES_AV, tmp_path)
    assert not offer.problems
    assert_shows(offer, truth)
