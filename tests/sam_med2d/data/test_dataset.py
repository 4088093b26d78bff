"""Maps, structures, keys, samples and batches of DataLoader.py."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam_med2d.data.augmentation import Augmentation
from sam_med2d.data.dataset import Batch, FundusDataset, collate, make_loader
from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.record_checks import data_digest, load_checked
from sam_med2d.data.records import MaskRef, Record, promptable, resolve, structure_of
from sam_med2d.data.samplers import Draw, EpochBatches
from sam_med2d.errors import DataError
from segment_anything.preprocessing import Preprocessing

SIZE = 64
MASKS = 6


def write_png(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
    return path


def picture(height: int = 80, width: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(40, 255, (height, width, 3), np.uint8)


def square(top: int, left: int, side: int = 20, height: int = 80, width: int = 100, value: int = 255) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + side, left : left + side] = value
    return mask


@pytest.fixture
def data(tmp_path):
    """Five photographs with six masks each, as records."""
    images = {}
    for i in range(5):
        write_png(tmp_path / f"images/eye{i}.png", picture(seed=i))
        names = [f"masks/eye{i}_part{k}_000.png" for k in range(MASKS)]
        for k, name in enumerate(names):
            write_png(tmp_path / name, square(5 * k, 10 * k))
        images[f"images/eye{i}.png"] = names
    (tmp_path / "image2label_train.json").write_text(json.dumps(images))
    return load_checked(tmp_path, "train")


def dataset_of(records, mode: str = "fundus", **kwargs) -> FundusDataset:
    return FundusDataset(records, Preprocessing(SIZE, mode), **kwargs)


def augmentation(mode: str = "fundus") -> Augmentation:
    return Augmentation(Preprocessing(SIZE, mode))


def same(one: Batch, other: Batch) -> bool:
    tensors = ("image", "mask", "box", "image_index")
    equal = all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)
    return equal and one.refs == other.refs and one.frames == other.frames and one.seeds == other.seeds


# --- maps ---------------------------------------------------------------------------------------------------------


def one_eye(folder: Path, names: list[str], image: str = "images/eye.png") -> None:
    write_png(folder / image, picture())
    for name in names:
        write_png(folder / name, square(5, 5))


NAMES = ["masks/eye_optic_disc_000.png", "masks/eye_vessel_000.png"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("direction", ["image2label", "label2image"])
def test_both_directions_of_a_map_give_the_same_records(tmp_path, split, direction):
    one_eye(tmp_path, NAMES)
    content = {"images/eye.png": NAMES} if direction == "image2label" else dict.fromkeys(NAMES, "images/eye.png")
    (tmp_path / f"{direction}_{split}.json").write_text(json.dumps(content))
    masks = [
        MaskRef(tmp_path / name, Path(name).name, structure)
        for name, structure in zip(NAMES, ["optic_disc", "vessel"], strict=True)
    ]
    assert load_checked(tmp_path, split) == [Record(tmp_path / "images/eye.png", tuple(masks), tmp_path.name)]


@pytest.mark.parametrize(("split", "expected"), [("train", 2), ("test", 1)])
def test_each_split_prefers_its_own_direction(tmp_path, split, expected):
    one_eye(tmp_path, NAMES)
    (tmp_path / f"image2label_{split}.json").write_text(json.dumps({"images/eye.png": NAMES}))
    (tmp_path / f"label2image_{split}.json").write_text(json.dumps({NAMES[0]: "images/eye.png"}))
    assert len(load_checked(tmp_path, split)[0].masks) == expected


@pytest.mark.parametrize("direction", ["image2label", "label2image"])
def test_back_slashes_are_separators(tmp_path, direction):
    one_eye(tmp_path, NAMES)
    image, masks = "images\\eye.png", [name.replace("/", "\\") for name in NAMES]
    content = {image: masks} if direction == "image2label" else dict.fromkeys(masks, image)
    (tmp_path / f"{direction}_train.json").write_text(json.dumps(content))
    (record,) = load_checked(tmp_path, "train")
    assert record.image == tmp_path / "images/eye.png"
    assert [mask.key for mask in record.masks] == [Path(name).name for name in NAMES]
    assert [mask.structure for mask in record.masks] == ["optic_disc", "vessel"]


def test_paths_are_looked_up_in_the_current_folder_first(tmp_path, monkeypatch):
    here, data = tmp_path / "here", tmp_path / "data"
    both, only = "images/both.png", "images/only.png"
    for path in (here / both, data / both, data / only):
        write_png(path, picture())
    monkeypatch.chdir(here)
    assert resolve(both, data).resolve() == here / both
    assert resolve(only, data) == data / only
    assert resolve(both.replace("/", "\\"), data).resolve() == here / both
    assert resolve("images/none.png", data) == data / "images/none.png"
    assert resolve(str(data / both), here) == data / both


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_images_without_masks_can_be_asked_for_what_they_do_not_have(tmp_path, encoding):
    one_eye(tmp_path, NAMES)
    for name in ("healthy", "unknown"):
        write_png(tmp_path / f"images/{name}.png", picture())
    content = {"images/healthy.png": [], "images/unknown.png": [], "images/eye.png": NAMES}
    (tmp_path / "image2label_train.json").write_text(json.dumps(content))
    table = "image,dataset,absent\nimages/healthy.png,clinic,drusen haemorrhage\n"
    (tmp_path / "index.csv").write_text(table, encoding=encoding)
    assert [record.image.name for record in load_checked(tmp_path, "train")] == ["eye.png"]
    records = load_checked(tmp_path, "train", without_masks=True)
    names = {asked: [r.image.stem for r in promptable(records, asked)] for asked in [(), ("drusen",), ("vessel",)]}
    assert names == {(): ["eye"], ("drusen",): ["healthy", "eye"], ("vessel",): ["eye"]}
    (tmp_path / "index.csv").unlink()
    (tmp_path / "image2label_train.json").write_text(json.dumps({"images/healthy.png": []}))
    with pytest.raises(DataError, match="lists no mask"):
        load_checked(tmp_path, "train")


def test_structure_is_the_suffix_of_the_name_or_the_folder():
    expected = [
        ("masks/eye_optic_disc_000.png", "images/eye.jpg", "optic_disc"),
        ("masks/eye_vessel.png", "images/eye.jpg", "vessel"),
        ("masks/amos_0004_75_aorta_000.png", "images/amos_0004_75.png", "aorta"),
        ("masks/s0619_32_hip_left_001.png", "images/s0619_32.png", "hip_left"),
        ("masks/IDRiD_01_MA.tif", "images/IDRiD_01.jpg", "MA"),
        ("optic-disc/FIVES-52.png", "full-fundus/FIVES-52.png", "optic_disc"),
        ("Soft Exudates/IDRiD_01.png", "images/IDRiD_01.jpg", "soft_exudates"),
        ("vessel/eye_000.png", "images/eye.jpg", "vessel"),
        ("vessel/left_eye_000.png", "images/left_eye.jpg", "vessel"),
        ("vessel/img_01_000.png", "images/img_01.jpg", "vessel"),
        ("masks/other_7_hard_exudate_002.png", "images/eye.jpg", "hard_exudate"),
        ("vessel/21.png", "images/photo.jpg", "vessel"),
    ]
    found = [(mask, image, structure_of(Path(mask), Path(image))) for mask, image, _ in expected]
    assert found == expected


def test_equal_basenames_get_different_keys(tmp_path):
    names = ["optic-disc/eye.png", "optic-cup\\eye.png", "vessel/eye_vessel.png"]
    one_eye(tmp_path, [name.replace("\\", "/") for name in names])
    (tmp_path / "image2label_test.json").write_text(json.dumps({"images/eye.png": names}))
    (record,) = load_checked(tmp_path, "test")
    assert [mask.key for mask in record.masks] == ["optic-disc/eye.png", "optic-cup/eye.png", "eye_vessel.png"]
    assert [mask.structure for mask in record.masks] == ["optic_disc", "optic_cup", "vessel"]


@pytest.mark.parametrize(("value", "dtype"), [(1, "u1"), (255, "u1"), (1, "u2"), (255, "u2"), (65535, "u2")])
def test_masks_hold_0_and_1_or_0_and_255(tmp_path, value, dtype):
    mask = read_mask(write_png(tmp_path / "m.png", square(3, 4, value=1).astype(dtype) * value))
    assert mask.dtype == np.uint8 and np.array_equal(mask, square(3, 4, value=1))


def test_an_empty_mask_of_16_bits_is_empty(tmp_path):
    path = write_png(tmp_path / "m.png", np.zeros((8, 9), np.uint16))
    assert read_mask(path, may_be_empty=True).dtype == np.uint8
    with pytest.raises(DataError, match="is empty"):
        read_mask(path)


def test_photographs_are_read_as_rgb(tmp_path):
    rgb = picture()
    write_png(tmp_path / "a.png", rgb[..., ::-1])
    assert np.array_equal(read_image(tmp_path / "a.png"), rgb)


# --- samples ------------------------------------------------------------------------------------------------------


def test_a_sample_is_as_documented(data):
    item = dataset_of(data, keep_truth=True)[2]
    assert item["image"].shape == (3, SIZE, SIZE) and item["image"].dtype == torch.float32
    assert item["mask"].shape == (MASKS, 1, SIZE, SIZE) and item["mask"].dtype == torch.bool
    assert item["box"].shape == (MASKS, 4) and item["box"].dtype == torch.float32
    assert item["record"] is data[2] and item["frame"].original == (80, 100)
    for mask, (x0, y0, x1, y1) in zip(item["mask"][:, 0], item["box"].int().tolist(), strict=True):
        ys, xs = np.nonzero(mask.numpy())
        assert (x0, y0, x1, y1) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize("count", [1, 3, MASKS, 9])
def test_masks_are_drawn_without_replacement(data, count):
    dataset = dataset_of(data, mask_num=count)
    drawn = [dataset[Draw(epoch, 0, 0)]["chosen"].tolist() for epoch in range(60)]
    assert all(len(set(chosen)) == len(chosen) == min(count, MASKS) for chosen in drawn)
    assert set().union(*drawn) == set(range(MASKS)), "every mask has its turn"


@pytest.mark.slow
def test_balance_prefers_rare_structures(data):
    """Two of three masks: with 5 of part0, 5 of part1 and 1 of part2, the shares follow 1/5, 1/5 and 1."""
    records = [replace(record, masks=record.masks[: 2 + (i == 0)]) for i, record in enumerate(data)]
    epochs = 400
    rare = {}
    for balance in (False, True):
        dataset = dataset_of(records, mask_num=2, balance=balance)
        drawn = [dataset[Draw(epoch, 0, 0)]["chosen"].tolist() for epoch in range(epochs)]
        assert all(len(set(chosen)) == 2 for chosen in drawn)
        rare[balance] = sum(2 in chosen for chosen in drawn) / epochs
    second = 2 * (1 / 7) * (5 / 6)  # first one of the others, then it
    assert abs(rare[False] - 2 / 3) < 0.07 and abs(rare[True] - (5 / 7 + second)) < 0.05


def test_each_mask_has_its_own_seed(data):
    batch = collate([dataset_of(data)[i] for i in range(3)])
    assert len(batch.seeds) == len(batch.mask) == len(set(batch.seeds))
    assert all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in batch.seeds)


def test_chosen_masks_are_the_ones_returned(data):
    everything = dataset_of(data)[0]["mask"]
    item = dataset_of(data, mask_num=2)[Draw(4, 0, 0)]
    assert torch.equal(item["mask"], everything[item["chosen"]])


@pytest.mark.parametrize("augmented", [False, True])
def test_an_item_depends_on_seed_and_draw_alone(data, augmented):
    def item(seed, *draw):
        np.random.seed(int(torch.randint(1000, ())))  # the global generators have no say
        changes = augmentation() if augmented else None
        return collate([dataset_of(data, mask_num=2, augmentation=changes, seed=seed)[Draw(*draw)]])

    assert same(item(0, 1, 4, 2), item(0, 1, 4, 2))
    for other in ((1, 1, 4, 2), (0, 2, 4, 2), (0, 1, 3, 2), (0, 1, 4, 3)):
        assert not same(item(0, 1, 4, 2), item(*other)), other
    dataset = dataset_of(data, mask_num=2, augmentation=augmentation() if augmented else None)
    assert same(item(0, 0, 2, 2), collate([dataset[2]])), "an index alone is its own place in epoch 0"


@pytest.mark.parametrize(("box_of", "expected"), [("component", (40, 30, 60, 50)), ("mask", (2, 3, 60, 50))])
def test_a_box_covers_the_largest_component_or_all(tmp_path, box_of, expected):
    mask = square(30, 40, height=64, width=64) | square(3, 2, side=4, height=64, width=64)
    write_png(tmp_path / "eye.png", picture(64, 64))
    ref = MaskRef(write_png(tmp_path / "eye_a_000.png", mask), "eye_a_000.png", "a")
    item = dataset_of([Record(tmp_path / "eye.png", (ref,))], "sam_med2d", box_of=box_of)[0]
    assert tuple(item["box"][0].int().tolist()) == expected


@pytest.mark.parametrize("augmented", [False, True])
def test_masks_that_all_vanish_stay_countable(tmp_path, augmented):
    """Two pixels that nearest-neighbour sampling skips: empty masks with a zero box, not a crash."""
    write_png(tmp_path / "eye.png", picture(640, 640))
    refs = []
    for k in (1, 3):
        path = write_png(tmp_path / f"eye_dot{k}_000.png", square(10 * k + 1, 10 * k + 1, 1, 640, 640))
        refs.append(MaskRef(path, path.name, f"dot{k}"))
    changes = augmentation("sam_med2d") if augmented else None
    dataset = dataset_of([Record(tmp_path / "eye.png", tuple(refs))], "sam_med2d", augmentation=changes)
    batch = collate([dataset[Draw(epoch, 0, 0)] for epoch in range(3)])
    assert batch.mask.shape == (6, 1, SIZE, SIZE) and not batch.mask.any() and not batch.box.any()
    kept = dataset_of(dataset.records, "fundus")[0]
    assert kept["mask"].flatten(1).any(1).all(), "the fundus preprocessing keeps them"


@pytest.mark.parametrize("augmented", [False, True])
def test_truth_is_the_file_and_goes_with_its_mask(tmp_path, augmented):
    """Truth stays beside its mask also where augmentation moves some masks out of the frame."""
    names = []
    for k, (top, left) in enumerate([(0, 0), (30, 40), (0, 90), (70, 0)]):
        path = write_png(tmp_path / f"eye_p{k}_000.png", square(top, left, 10 if k != 1 else 20))
        names.append(MaskRef(path, path.name, f"p{k}"))
    write_png(tmp_path / "eye.png", picture())
    changes = augmentation() if augmented else None
    dataset = dataset_of([Record(tmp_path / "eye.png", tuple(names))], augmentation=changes, keep_truth=True)
    batch = collate([dataset[Draw(epoch, 0, 0)] for epoch in range(12)])
    assert len(batch.truth) == len(batch.refs) == len(batch.mask)
    assert all(np.array_equal(truth, read_mask(ref.path)) for truth, ref in zip(batch.truth, batch.refs, strict=True))
    lost = 12 * 4 - len(batch.refs)
    assert lost > 0 if augmented else lost == 0


# --- batches ------------------------------------------------------------------------------------------------------


def test_collate_says_which_image_a_mask_belongs_to(data):
    records = [Record(record.image, record.masks[: k + 1]) for k, record in enumerate(data[:3])]
    batch = collate([dataset_of(records)[i] for i in range(3)])
    assert batch.image_index.tolist() == [0, 1, 1, 2, 2, 2] and batch.image_index.dtype == torch.int64
    assert batch.image.shape == (3, 3, SIZE, SIZE) and batch.mask.shape == (6, 1, SIZE, SIZE)
    assert batch.box.shape == (6, 4) and batch.truth is None
    for ref, index in zip(batch.refs, batch.image_index.tolist(), strict=True):
        assert ref in records[index].masks
    assert batch.records == records and len(batch.frames) == 3


def test_a_batch_moves_to_a_device(data):
    batch = collate([dataset_of(data)[0]])
    assert batch.to(torch.device("meta")).mask.device.type == "meta"


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_with_and_without_workers(data, workers):
    """Two epochs of augmented samples through the same loader, as in training."""
    results = []
    for num_workers in (0, workers):
        batches = EpochBatches(len(data), 2, seed=5)
        dataset = dataset_of(data, mask_num=2, augmentation=augmentation(), seed=5)
        loader = make_loader(dataset, num_workers=num_workers, batches=batches)
        got = []
        for epoch in (0, 1):
            batches.set_position(epoch)
            got += list(loader)
        results.append(got)
    assert len(results[0]) == len(results[1]) == 6
    assert all(same(one, other) for one, other in zip(*results, strict=True))
    assert not same(results[0][0], results[0][3])


def test_workers_never_give_the_same_augmentation(data):
    """One photograph, drawn ten times by two workers: ten pictures, and ten seeds for each mask."""
    records = data[:1] * 10
    batches = EpochBatches(10, 1, seed=0)
    loader = make_loader(dataset_of(records, augmentation=augmentation()), num_workers=2, batches=batches)
    got = list(loader)
    assert len({batch.image.numpy().tobytes() for batch in got}) == 10
    seeds = [seed for batch in got for seed in batch.seeds]
    assert len(set(seeds)) == len(seeds)


def test_a_photograph_drawn_twice_is_augmented_differently(data):
    dataset = dataset_of(data, augmentation=augmentation())
    one, other = (collate([dataset[Draw(3, place, 1)]]) for place in (0, 4))
    assert one.records == other.records and not torch.equal(one.image, other.image) and one.seeds != other.seeds


def test_a_closer_view_is_seen_in_image_masks_and_frame(data):
    class OnlyCloser(Augmentation):
        def __call__(self, image, masks, rng):
            return image, masks, np.arange(len(masks))

    preprocessing = Preprocessing(SIZE)
    dataset = dataset_of(data, augmentation=OnlyCloser(preprocessing), keep_truth=True)
    items = [dataset[Draw(0, place, 1)] for place in range(20)]
    for item in items:
        expected = preprocessing.image(read_image(data[1].image), item["frame"])
        assert np.array_equal(item["image"], expected)
        masks = np.stack([preprocessing.mask(truth, item["frame"]) for truth in item["truth"]])
        assert np.array_equal(item["mask"][:, 0], masks) and masks.any()
    assert 1 < len({item["frame"] for item in items}) < 20


def test_a_loader_without_batches_goes_in_order(data):
    loader = make_loader(dataset_of(data), batch_size=2, num_workers=0)
    assert [record for batch in loader for record in batch.records] == data
    assert [len(batch.records) for batch in loader] == [2, 2, 1]


# --- the digest ---------------------------------------------------------------------------------------------------


def test_the_digest_does_not_change_when_the_folder_moves(data, tmp_path):
    before = data_digest(data)
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(elsewhere)
    assert data_digest(load_checked(elsewhere, "train")) == before
    assert len(before) == 32 and int(before, 16)


def test_the_digest_changes_with_the_data(data):
    """One pixel of a mask, of a photograph, another structure, one mask more or less, another order."""
    before = data_digest(data)
    first = data[0]
    changes = [
        data[:-1],
        data[::-1],
        [replace(first, masks=first.masks[:-1]), *data[1:]],
        [replace(first, masks=(*first.masks[:-1], replace(first.masks[-1], structure="other"))), *data[1:]],
    ]
    digests = [data_digest(records) for records in changes]
    for path in (data[3].masks[2].path, data[4].image):
        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        array[7, 9] = 255 - array[7, 9]
        write_png(path, array)
        digests.append(data_digest(data))
    assert len({before, *digests}) == 1 + len(digests)


def test_the_digest_names_a_missing_file(data):
    data[2].image.unlink()
    with pytest.raises(DataError, match="eye2.png cannot be opened"):
        data_digest(data)
