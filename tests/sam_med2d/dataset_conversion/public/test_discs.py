"""The data sets with optic disc and cup: their trees, names, splits, patients and encodings.

Each tree is a miniature of the official one, drawn here, with its real file names and values.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import read_image
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.public.drishti import DRISHTI
from sam_med2d.dataset_conversion.public.g1020 import G1020
from sam_med2d.dataset_conversion.public.origa import ORIGA
from sam_med2d.dataset_conversion.public.papila import PAPILA
from sam_med2d.dataset_conversion.public.refuge import REFUGE
from sam_med2d.dataset_conversion.public.rimone_dl import RIMONE_DL
from sam_med2d.dataset_conversion.public.rimone_r3 import RIMONE_R3
from sam_med2d.dataset_conversion.public.smdg import SMDG
from sam_med2d.dataset_conversion.samples import Choice, Sample
from sam_med2d.errors import DataError

SETS = (DRISHTI, G1020, ORIGA, PAPILA, REFUGE, RIMONE_DL, RIMONE_R3, SMDG)
HEIGHT, WIDTH = 60, 90
DISC, CUP = (40, 25, 15, 18), (43, 27, 6, 9)  # centre x, y and half axes, in pixels; far from symmetric in x and y
OTHER_DISC, OTHER_CUP = (38, 24, 12, 14), (40, 26, 4, 6)  # by another expert
GREY = 128


def ellipse(x: int, y: int, a: int, b: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Filled, bool [H, W]."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1


def photograph(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    save(path, np.full((*size, 3), (150, 70, 30), np.uint8))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def look(data_set: DataSet, folder: Path, **choice: object) -> FoundSamples:
    """What the data set finds, with its own choices where none are given, as the script makes them."""
    defaults = {"observer": next(iter(data_set.observers), ""), "threshold": data_set.threshold}
    return data_set.find(Tree(folder), Choice(**{**defaults, **choice}))


def named(offer: FoundSamples) -> dict[str, Sample]:
    assert len({sample.name for sample in offer.samples}) == len(offer.samples)
    return {sample.name: sample for sample in offer.samples}


def decoded(sample: Sample) -> dict[str, np.ndarray]:
    """The sample's masks, in the size of its part of the photograph."""
    height, width = read_image(sample.image).shape[:2]
    left, top, right, bottom = (round(f * n) for f, n in zip(sample.part, (width, height) * 2, strict=True))
    return {mask.structure: mask.decode(mask.path, (bottom - top, right - left)) for mask in sample.masks}


def assert_drawn(sample: Sample, disc: tuple = DISC, cup: tuple = CUP, *, wider: int = 0) -> None:
    """The masks are the drawn disc and cup, or wider by up to some pixels."""
    masks = decoded(sample)
    assert set(masks) == {"optic_disc", "optic_cup"}
    for structure, truth in (("optic_disc", ellipse(*disc)), ("optic_cup", ellipse(*cup))):
        assert masks[structure].dtype == bool
        around = cv2.dilate(truth.astype(np.uint8), np.ones((1 + 2 * wider,) * 2, np.uint8)).astype(bool)
        assert (truth <= masks[structure]).all() and (masks[structure] <= around).all(), structure


def labels(background: int, rim: int, cup: int) -> np.ndarray:
    """Disc and cup as one map of classes."""
    return np.where(ellipse(*CUP), cup, np.where(ellipse(*DISC), rim, background)).astype(np.uint8)


@pytest.mark.parametrize("data_set", SETS, ids=lambda data_set: data_set.name)
def test_another_tree_is_not_the_data_set(data_set, tmp_path):
    photograph(tmp_path / "photographs/21_training.png")
    save(tmp_path / "1st_manual/21_manual1.png", ellipse(*DISC) * 255)
    offer = look(data_set, tmp_path)
    assert offer.samples == [] and offer.problems == []


@pytest.mark.parametrize("data_set", SETS, ids=lambda data_set: data_set.name)
def test_the_layout_that_is_shown_is_the_one_that_is_found(data_set, tmp_path):
    """The tree for people in each row of the table holds photographs that the patterns find."""
    for name in data_set.layout.splitlines():
        write(tmp_path / "as downloaded" / name, "names\n")
    found = look(data_set, tmp_path).samples
    assert {sample.split for sample in found} <= {*data_set.counts, ""}
    assert {mask.structure for sample in found for mask in sample.masks} == set(data_set.structures)


# REFUGE


def refuge(folder: Path) -> Path:
    """Training400 in an outer folder of its archive's name, the others without; test masks by class."""
    masks = labels(255, GREY, 0)
    train, truth = folder / "REFUGE-Training400/Training400", folder / "Annotation-Training400/Disc_Cup_Masks"
    for group, name in (("Glaucoma", "g0001"), ("Non-Glaucoma", "n0001")):
        photograph(train / group / f"{name}.jpg")
        save(truth / group / f"{name}.bmp", masks)
        write(train / group / "Thumbs.db", "")
    photograph(folder / "REFUGE-Validation400/V0001.jpg")
    save(folder / "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp", masks)
    photograph(folder / "Test400/T0001.JPG")
    save(folder / "REFUGE-Test-GT/Disc_Cup_Masks/G/T0001.bmp", masks)
    write(folder / "Test400/T0001.jpg:Zone.Identifier", "")
    return folder


def test_refuge(tmp_path):
    offer = look(REFUGE, refuge(tmp_path))
    assert offer.problems == []
    splits = {sample.name: sample.split for sample in offer.samples}
    assert splits == {"refuge_g0001": "train", "refuge_n0001": "train", "refuge_T0001": "test", "refuge_V0001": "val"}
    for sample in offer.samples:
        assert_drawn(sample)  # 0 is the cup: an inverted reading takes the rim or the background for it


def test_refuge_refuses_masks_in_which_black_is_the_background(tmp_path):
    """Converted copies hold 0, 1, 2: their background must not become the cup."""
    save(refuge(tmp_path) / "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp", labels(0, 1, 2))
    with pytest.raises(DataError, match=r"g0001\.bmp holds the value\(s\) 1, 2"):
        decoded(named(look(REFUGE, tmp_path))["refuge_g0001"])


def test_refuge_re_uploaded(tmp_path):
    """Folders train, val and test; beside the masks lie converted ones, which are not taken."""
    for part, name in (("train", "g0001"), ("val", "V0001"), ("test", "T0001")):
        photograph(tmp_path / f"REFUGE/{part}/Images/{name}.jpg")
        photograph(tmp_path / f"REFUGE/{part}/Images_Square/{name}.jpg")
        save(tmp_path / f"REFUGE/{part}/Masks/{name}.png", labels(0, 1, 2))
        if part != "test":
            save(tmp_path / f"REFUGE/{part}/gts/{name}.bmp", labels(255, GREY, 0))
    offer = look(REFUGE, tmp_path)
    assert {sample.name: sample.split for sample in offer.samples} == {
        "refuge_g0001": "train",
        "refuge_T0001": "test",
        "refuge_V0001": "val",
    }
    assert_drawn(named(offer)["refuge_V0001"])
    picture = tmp_path / "REFUGE/test/Images/T0001.jpg"
    assert offer.problems == [f"{picture} has no optic_disc mask", f"{picture} has no optic_cup mask"]


# Drishti-GS1


def soft(*experts: np.ndarray) -> np.ndarray:
    """The share of four experts who agree, in the values of Drishti-GS1."""
    return np.array([0, 64, 128, 191, 255], np.uint8)[np.sum(experts, axis=0)]


def boundary(region: np.ndarray) -> np.ndarray:
    """Pixels of a region with a 4-neighbour outside, x and y [n, 2], by rows."""
    inner = cv2.erode(region.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))).astype(bool)
    return np.argwhere(region & ~inner)[:, ::-1]


def lines(points: np.ndarray) -> str:
    return "".join(f"{a} {b}\n" for a, b in points)


def drishti(folder: Path) -> Path:
    """Two photographs; experts 1 to 3 draw the disc and cup, the fourth other ones, the boundary is that of three."""
    truth = folder / "Drishti-GS1_files"
    for part, truth_name, group, number in (
        ("Training", "GT", "", "002"),
        ("Test", "Test_GT", "GLAUCOMA", "001"),
    ):
        name = f"drishtiGS_{number}"
        photograph(truth / part / "Images" / group / f"{name}.png")
        case = truth / part / truth_name / name
        for kind, region, other in (("OD", DISC, OTHER_DISC), ("cup", CUP, OTHER_CUP)):
            experts = [ellipse(*region)] * 3 + [ellipse(*other)]
            save(case / "SoftMap" / f"{name}_{kind}segSoftmap.png", soft(*experts))
            file = case / "AvgBoundary" / f"{name}_{kind[0].upper() + kind[1:]}AvgBoundary.txt"
            points = boundary(ellipse(*region))
            write(file, lines(points[:, ::-1]))  # y before x
        write(case / "AvgBoundary" / f"{name}_diskCenter.txt", "25 40")
        write(case / f"{name}_cdrValues.txt", "0.5")
    return folder


def test_drishti(tmp_path):
    offer = look(DRISHTI, drishti(tmp_path))
    assert offer.problems == []
    assert {sample.name: sample.split for sample in offer.samples} == {"drishti_001": "test", "drishti_002": "train"}
    for sample in offer.samples:
        assert_drawn(sample)  # three of four, whose 191 is a little less than 0.75


@pytest.mark.parametrize(
    ("threshold", "of_three", "of_one"),
    [(0.25, True, True), (0.5, True, False), (0.75, True, False), (1, False, False)],
)
def test_drishti_counts_experts(threshold, of_three, of_one, tmp_path):
    """`threshold` is the share of experts from which on a pixel counts."""
    sample = named(look(DRISHTI, drishti(tmp_path), threshold=threshold))["drishti_002"]
    three, one = ellipse(*CUP), ellipse(*OTHER_CUP)
    expected = (three & one) | (three & ~one & of_three) | (one & ~three & of_one)
    assert (decoded(sample)["optic_cup"] == expected).all()


def test_drishti_average_boundary_agrees_with_the_soft_map(tmp_path):
    """Its pixels come by rows, y before x: neither a polygon in this order nor exchanged columns give the region."""
    offer = look(DRISHTI, drishti(tmp_path), observer="average")
    assert offer.problems == []
    for sample in offer.samples:
        assert_drawn(sample)


@pytest.mark.parametrize("columns", ["xy", "yx"])
@pytest.mark.parametrize("times", [1, 2])
def test_drishti_average_boundary_that_is_followed(columns, times, tmp_path):
    """Contours in order, sparse, either column first, once or twice round."""
    file = drishti(tmp_path) / (
        "Drishti-GS1_files/Test/Test_GT/drishtiGS_001/AvgBoundary/drishtiGS_001_CupAvgBoundary.txt"
    )
    contour = cv2.findContours(ellipse(*CUP).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0][0][:, 0]
    points = np.concatenate([contour] * times)
    write(file, lines(points if columns == "xy" else points[:, ::-1]))
    assert_drawn(named(look(DRISHTI, tmp_path, observer="average"))["drishti_001"])


def test_drishti_refuses_a_boundary_elsewhere_or_open(tmp_path):
    file = drishti(tmp_path) / (
        "Drishti-GS1_files/Training/GT/drishtiGS_002/AvgBoundary/drishtiGS_002_ODAvgBoundary.txt"
    )
    sample = named(look(DRISHTI, tmp_path, observer="average"))["drishti_002"]
    points = boundary(ellipse(*DISC))[:, ::-1]
    for wrong in (points + np.array([20, 40]), points[5:-5]):
        write(file, lines(wrong))
        with pytest.raises(DataError, match=r"ODAvgBoundary\.txt does not agree with .*ODsegSoftmap\.png"):
            decoded(sample)


def test_drishti_soft_maps_of_nearly_the_photographs_size(tmp_path):
    """They are scaled; a soft map of another size is refused."""
    photograph(tmp_path / "Training/Images/drishtiGS_004.png", (600, 900))
    sizes = {"OD": (596, 904), "cup": (550, 900)}
    for kind, size in sizes.items():
        region = ellipse(400, 250, 150, 180, size)
        save(tmp_path / f"Training/GT/drishtiGS_004/SoftMap/drishtiGS_004_{kind}segSoftmap.png", soft(*[region] * 4))
    disc, cup = look(DRISHTI, tmp_path).samples[0].masks
    mask = disc.decode(disc.path, (600, 900))
    truth = ellipse(400, 250, 150, 180, (600, 900))
    assert mask.shape == (600, 900) and (mask != truth).sum() < 0.02 * truth.sum()
    with pytest.raises(DataError, match=r"cupsegSoftmap\.png is 900 x 550 pixels, its photograph 900 x 600"):
        cup.decode(cup.path, (600, 900))


def test_drishti_names_a_missing_soft_map(tmp_path):
    lost = drishti(tmp_path) / "Drishti-GS1_files/Test/Test_GT/drishtiGS_001/SoftMap/drishtiGS_001_cupsegSoftmap.png"
    lost.unlink()
    (problem,) = look(DRISHTI, tmp_path).problems
    assert problem.endswith("drishtiGS_001.png has no optic_cup mask")
    with pytest.raises(DataError, match="no soft map to compare with"):
        decoded(named(look(DRISHTI, tmp_path, observer="average"))["drishti_001"])


# RIM-ONE DL


def rimone_dl(folder: Path, *partitions: str) -> Path:
    """The hospital partition has all of r1 in training; the random one r1_Im001 in test."""
    parts = {
        "partitioned_randomly": {"r1_Im001": "test_set/glaucoma", "r3_N-12-R": "training_set/normal"},
        "partitioned_by_hospital": {"r1_Im001": "training_set/glaucoma", "r3_N-12-R": "test_set/normal"},
    }
    for partition in partitions:
        for name, place in parts[partition].items():
            photograph(folder / "RIM-ONE_DL_images" / partition / place / f"{name}.png")
    truth = folder / "RIM-ONE_DL_reference_segmentations"
    for name, group in (("r1_Im001", "glaucoma"), ("r3_N-12-R", "normal")):
        for kind, region in (("Disc", DISC), ("Cup", CUP)):
            save(truth / group / f"{name}-1-{kind}-T.png", ellipse(*region) * 255)
            write(truth / group / f"{name}-1-{kind}-T.txt", "DCSeg")
    return folder


@pytest.mark.parametrize(
    ("partitions", "split"),
    [
        (("partitioned_randomly",), "test"),
        (("partitioned_by_hospital",), "train"),
        (("partitioned_by_hospital", "partitioned_randomly"), "test"),
    ],
)
def test_rimone_dl(partitions, split, tmp_path):
    """Both partitions hold the same photographs; the random one counts where both are."""
    offer = look(RIMONE_DL, rimone_dl(tmp_path, *partitions))
    assert offer.problems == []
    samples = named(offer)
    assert set(samples) == {"rimone_dl_r1_Im001", "rimone_dl_r3_N-12-R"}
    assert samples["rimone_dl_r1_Im001"].split == split
    for sample in offer.samples:
        assert_drawn(sample)


def test_rimone_dl_without_its_segmentations(tmp_path):
    """They are a second archive, which is easily forgotten."""
    photograph(tmp_path / "partitioned_randomly/test_set/normal/r2_Im300.png")
    offer = look(RIMONE_DL, tmp_path)
    assert [problem.split("r2_Im300.png ")[1] for problem in offer.problems] == [
        "has no optic_disc mask",
        "has no optic_cup mask",
    ]


# RIM-ONE r3


def rimone_r3(folder: Path) -> Path:
    """Stereo pairs, twice as wide as a photograph; the masks lie in the left half, the experts differ."""
    for group, name in (("Healthy", "N-1-L"), ("Glaucoma and suspects", "G-2-R"), ("Glaucoma and suspects", "S-3-L")):
        place = folder / "RIM-ONE r3" / group
        photograph(place / "Stereo Images" / f"{name}.jpg", (HEIGHT, 2 * WIDTH))
        for kind, average, expert1, expert2 in (("Disc", DISC, OTHER_DISC, CUP), ("Cup", CUP, OTHER_CUP, OTHER_CUP)):
            for file, region in (
                (f"Average_masks/{name}-{kind}-Avg.png", average),
                (f"Expert1_masks/{name}-1-{kind}-exp1.png", expert1),
                (f"Expert2_masks/{name}-1-{kind}-exp2.png", expert2),
            ):
                save(place / file, ellipse(*region, (HEIGHT, 2 * WIDTH)) * 255)
                write((place / file).with_suffix(".txt"), "DCSeg")
    return folder


@pytest.mark.parametrize(
    ("observer", "disc", "cup"),
    [("average", DISC, CUP), ("expert1", OTHER_DISC, OTHER_CUP), ("expert2", CUP, OTHER_CUP)],
)
def test_rimone_r3(observer, disc, cup, tmp_path):
    offer = look(RIMONE_R3, rimone_r3(tmp_path), observer=observer)
    assert offer.problems == []
    assert set(named(offer)) == {"rimone_r3_N-1-L", "rimone_r3_G-2-R", "rimone_r3_S-3-L"}
    for sample in offer.samples:
        assert sample.part == (0, 0, 0.5, 1) and sample.split == "" and sample.patient == ""
        assert_drawn(sample, disc, cup)


def test_rimone_r3_refuses_masks_of_the_right_photograph_or_of_one_alone(tmp_path):
    file = rimone_r3(tmp_path) / "RIM-ONE r3/Healthy/Average_masks/N-1-L-Disc-Avg.png"
    sample = named(look(RIMONE_R3, tmp_path))["rimone_r3_N-1-L"]
    save(file, np.roll(ellipse(*DISC, (HEIGHT, 2 * WIDTH)), WIDTH, axis=1) * 255)
    with pytest.raises(DataError, match=r"N-1-L-Disc-Avg\.png is drawn on the right photograph"):
        decoded(sample)
    save(file, ellipse(*DISC) * 255)
    with pytest.raises(DataError, match=r"N-1-L-Disc-Avg\.png is 90 x 60 pixels: not the size of its stereo pair"):
        decoded(sample)


def test_rimone_r3_a_pair_of_odd_width(tmp_path):
    """The half is rounded as the photograph's is."""
    name = tmp_path / "Healthy/Stereo Images/N-1-L.jpg"
    photograph(name, (HEIGHT, 2 * WIDTH + 1))
    for kind, region in (("Disc", DISC), ("Cup", CUP)):
        mask = ellipse(*region, (HEIGHT, 2 * WIDTH + 1)) * 255
        save(tmp_path / f"Healthy/Average_masks/N-1-L-{kind}-Avg.png", mask)
    assert_drawn(named(look(RIMONE_R3, tmp_path))["rimone_r3_N-1-L"])


# ORIGA


def origa(folder: Path, *, matlab: bool = False) -> Path:
    """The re-upload with PNG masks, squared and cropped copies beside them, or the one with MATLAB files only."""
    for number in ("001", "006", "650"):
        photograph(folder / f"ORIGA/Images/{number}.jpg")
        photograph(folder / f"ORIGA/Images_Square/{number}.jpg")
        file = folder / f"ORIGA/Semi-automatic-annotations/{number}.mat"
        file.parent.mkdir(exist_ok=True)
        savemat(file, {"mask": labels(0, 1, 2)})
        if not matlab:
            save(folder / f"ORIGA/Masks/{number}.png", labels(0, 1, 2))
            save(folder / f"ORIGA/Masks_Cropped/{number}.png", labels(0, 1, 2)[:40])
    write(folder / "ORIGA/Semi-automatic-annotations/013.tif", "")
    return folder


@pytest.mark.parametrize("matlab", [False, True])
@pytest.mark.parametrize(
    ("table", "content"),
    [
        (
            "OrigaList.csv",
            "Eye,Filename,ExpCDR,Set,Glaucoma\nOD,001.jpg,0.7,A,0\nOD,006.jpg,0.6,B,0\nOS,650.jpg,0.6,B,1\n",
        ),
        ("glaucoma.csv", "Filename,Set\n'001.jpg',A\n'006.jpg',B\n'650.jpg', B\n"),
    ],
)
def test_origa(matlab, table, content, tmp_path):
    write(origa(tmp_path, matlab=matlab) / table, content)
    offer = look(ORIGA, tmp_path)
    assert offer.problems == []
    splits = {sample.name: sample.split for sample in offer.samples}
    assert splits == {"origa_001": "train", "origa_006": "test", "origa_650": "test"}
    for sample in offer.samples:
        assert {mask.path.suffix for mask in sample.masks} == {".mat" if matlab else ".png"}
        assert_drawn(sample)


def test_origa_without_its_table_or_a_mask(tmp_path):
    (origa(tmp_path) / "ORIGA/Masks/006.png").unlink()
    offer = look(ORIGA, tmp_path)
    assert {sample.split for sample in offer.samples} == {""}
    assert [problem.split("006.jpg ")[1] for problem in offer.problems] == [
        "has no optic_disc mask",
        "has no optic_cup mask",
    ]
    (note,) = offer.notes
    assert note.startswith("3 photographs, ") and "OrigaList.csv" in note


@pytest.mark.parametrize(
    "content", ["text", 200, {"other": np.zeros((2, 2))}, {"mask": labels(255, GREY, 0)}, {"mask": "a"}]
)
def test_origa_refuses_other_matlab_files(content, tmp_path):
    file = origa(tmp_path, matlab=True) / "ORIGA/Semi-automatic-annotations/001.mat"
    if isinstance(content, str):
        write(file, content)
    elif isinstance(content, int):
        file.write_bytes(file.read_bytes()[:content])
    else:
        savemat(file, content)
    with pytest.raises(DataError, match=r"001\.mat"):
        decoded(named(look(ORIGA, tmp_path))["origa_001"])


# G1020


def g1020(folder: Path) -> Path:
    """Two photographs, the second without a visible cup; outlines in JSON lie beside the photographs."""
    for number, mask in ((0, labels(0, 1, 2)), (3, labels(0, 1, 1))):
        photograph(folder / f"G1020/Images/image_{number}.jpg")
        write(folder / f"G1020/Images/image_{number}.json", "{}")
        save(folder / f"G1020/Masks/image_{number}.png", mask)
        save(folder / f"G1020/NerveRemoved_Images/image_{number}.jpg", mask)
    write(folder / "G1020/G1020.csv", "imageID,binaryLabels\nimage_0.jpg,0\nimage_3.jpg,0\n")
    return folder


def test_g1020(tmp_path):
    offer = look(G1020, g1020(tmp_path))
    assert offer.problems == [] and list(named(offer)) == ["g1020_0", "g1020_3"]
    assert_drawn(offer.samples[0])
    masks = decoded(offer.samples[1])  # an empty mask was looked for: the conversion calls it absent
    assert (masks["optic_disc"] == ellipse(*DISC)).all() and not masks["optic_cup"].any()


def test_g1020_names_what_is_missing(tmp_path):
    (g1020(tmp_path) / "G1020/Masks/image_3.png").rename(tmp_path / "G1020/Masks/image_4.png")
    problems = look(G1020, tmp_path).problems
    assert len(problems) == 3 and problems[2].endswith("image_4.png has no photograph")


# PAPILA


def papila(folder: Path) -> Path:
    """Both eyes of two patients, contours by two experts in MATLAB's notation."""
    root = folder / "PapilaDB-PAPILA-17f8fa7746adb20275b5b6a0d99dc9dfe3007e9f"
    for name in ("RET002OD", "RET002OS", "RET004OD"):
        photograph(root / f"FundusImages/{name}.jpg")
        photograph(root / f"ExpertsSegmentations/ImagesWithContours/Opht_cont_{name}.jpg")
        for expert, disc, cup in ((1, DISC, CUP), (2, OTHER_DISC, OTHER_CUP)):
            for kind, (x, y, a, b) in (("disc", disc), ("cup", cup)):
                angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
                text = "".join(f"   {x + a * np.cos(t):.7e}   {y + b * np.sin(t):.7e}\n" for t in angles)
                write(root / f"ExpertsSegmentations/Contours/{name}_{kind}_exp{expert}.txt", text)
    return folder


@pytest.mark.parametrize(("observer", "disc", "cup"), [("expert1", DISC, CUP), ("expert2", OTHER_DISC, OTHER_CUP)])
def test_papila(observer, disc, cup, tmp_path):
    offer = look(PAPILA, papila(tmp_path), observer=observer)
    assert offer.problems == []
    patients = {sample.name: sample.patient for sample in offer.samples}
    assert patients == {
        "papila_RET002OD": "papila_002",
        "papila_RET002OS": "papila_002",
        "papila_RET004OD": "papila_004",
    }
    for sample in offer.samples:
        assert_drawn(sample, disc, cup, wider=1)  # filled with its line; the other expert is 3 to 4 pixels away


def test_papila_names_a_missing_contour_of_the_chosen_expert(tmp_path):
    next(papila(tmp_path).rglob("RET004OD_cup_exp2.txt")).unlink()
    assert look(PAPILA, tmp_path).problems == []
    (problem,) = look(PAPILA, tmp_path, observer="expert2").problems
    assert problem.endswith("RET004OD.jpg has no optic_cup mask")


# SMDG-19

HEAD = "names,types,original_name,patient_id,fundus,fundus_od_seg,fundus_oc_seg,bv_seg,artery_seg,vein_seg\n"
ROWS = (
    "PAPILA-1,0,2,PAPILA-2,,,,,,\n"
    "PAPILA-245,0,2,PAPILA-2,,,,,,\n"
    "OIA-ODIR-TRAIN-40,1,1363_left.jpg,,,,,,,\n"
    "OIA-ODIR-TEST-ONLINE-41,1,1363_right.jpg,,,,,,,\n"
    "BEH-7,0,1363_right.jpg,,,,,,,\n"
    "G1020-3,0,image_3.jpg,,,/optic-disc/G1020-3.png,Not Visible,,,\n"
)
SMDG_NAMES = (
    *("PAPILA-1", "PAPILA-245", "OIA-ODIR-TRAIN-40", "OIA-ODIR-TEST-ONLINE-41", "BEH-7", "G1020-3", "FIVES-52"),
    *("LES-AV-3", "CRFO-v4-1", "DRISHTI-GS1-train-7"),
)


def smdg(folder: Path, *, flat: bool = False, table: bool = True) -> Path:
    """Photographs of several sources, each with the masks of its own; folders twice in each other, or once."""

    def place(kind: str, name: str) -> Path:
        return folder / kind / ("" if flat else kind) / f"{name}.png"

    for name in SMDG_NAMES:
        photograph(place("full-fundus", name))
    for name in ("PAPILA-1", "DRISHTI-GS1-train-7"):
        save(place("optic-disc", name), ellipse(*DISC) * 255)
        save(place("optic-cup", name), ellipse(*CUP) * 255)
    save(place("optic-disc", "G1020-3"), np.repeat((ellipse(*DISC) * 255)[..., None], 3, axis=2))
    grey = cv2.GaussianBlur((ellipse(*DISC) * 255).astype(np.uint8), (0, 0), 1)  # as resizing leaves it
    for kind, name in (("blood-vessel", "FIVES-52"), ("artery", "LES-AV-3"), ("vein", "LES-AV-3")):
        save(place(kind, name), grey)
    if table:
        write(folder / "metadata.csv", "name,other\n")
        write(folder / "metadata - standardized.csv", HEAD + ROWS)
    return folder


@pytest.mark.parametrize("flat", [False, True])
def test_smdg(flat, tmp_path):
    offer = look(SMDG, smdg(tmp_path, flat=flat))
    assert offer.problems == []
    samples = named(offer)
    assert set(samples) == set(SMDG_NAMES) and {sample.split for sample in offer.samples} == {""}
    assert {name: sample.data_set for name, sample in samples.items() if not name.startswith("OIA")} == {
        "PAPILA-1": "PAPILA",
        "PAPILA-245": "PAPILA",
        "BEH-7": "BEH",
        "G1020-3": "G1020",
        "FIVES-52": "FIVES",
        "LES-AV-3": "LES-AV",
        "CRFO-v4-1": "CRFO-v4",
        "DRISHTI-GS1-train-7": "DRISHTI-GS1-train",
    }
    for name in ("PAPILA-1", "DRISHTI-GS1-train-7"):
        assert_drawn(samples[name])
    assert {mask.structure for mask in samples["FIVES-52"].masks} == {"vessel"}
    assert {mask.structure for mask in samples["LES-AV-3"].masks} == {"artery", "vein"}
    assert samples["CRFO-v4-1"].masks == ()


def test_smdg_patients_and_what_is_not_visible(tmp_path):
    samples = named(look(SMDG, smdg(tmp_path)))
    assert samples["PAPILA-1"].patient == samples["PAPILA-245"].patient == "PAPILA-2"
    assert samples["OIA-ODIR-TRAIN-40"].patient == samples["OIA-ODIR-TEST-ONLINE-41"].patient == "OIA-ODIR-1363"
    assert samples["BEH-7"].patient == "" and samples["FIVES-52"].patient == ""
    assert {name: sample.absent for name, sample in samples.items() if sample.absent} == {"G1020-3": ("optic_cup",)}
    assert (decoded(samples["G1020-3"])["optic_disc"] == ellipse(*DISC)).all()


def test_smdg_masks_have_the_edges_of_their_white(tmp_path):
    """A mask with grey edges counts from half white on."""
    masks = decoded(named(look(SMDG, smdg(tmp_path)))["LES-AV-3"])
    assert all((mask != ellipse(*DISC)).sum() < 40 for mask in masks.values())


def test_smdg_without_its_table(tmp_path):
    """Patients are then unknown, which is said once; the rest is the same."""
    offer = look(SMDG, smdg(tmp_path / "without", table=False))
    (note,) = offer.notes
    assert "metadata - standardized.csv" in note and offer.problems == []
    full = look(SMDG, smdg(tmp_path / "with")).samples
    one = {"patient": "", "absent": (), "image": Path(), "masks": ()}
    assert [replace(sample, **one) for sample in full] == [replace(sample, **one) for sample in offer.samples]
    assert all(sample.patient == "" and sample.absent == () for sample in offer.samples)


def test_smdg_names_a_mask_without_photograph(tmp_path):
    save(smdg(tmp_path) / "optic-disc/optic-disc/HRF-1.png", ellipse(*DISC) * 255)
    (problem,) = look(SMDG, tmp_path).problems
    assert problem.endswith("HRF-1.png has no photograph")
