"""Maps, structures, keys, samples and batches of DataLoader.py."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from DataLoader import (
    Batch,
    DataError,
    EpochSampler,
    FundusDataset,
    MaskRef,
    Record,
    collate,
    load_index,
    make_loader,
    read_image,
    read_mask,
    resolve,
    structure_of,
)
from segment_anything.training.augmentation import Augmentation
from segment_anything.utils.transforms import Preprocessing

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
    return load_index(tmp_path, "train")


def dataset_of(records, mode: str = "fundus", **kwargs) -> FundusDataset:
    return FundusDataset(records, Preprocessing(SIZE, mode), **kwargs)


def same(one: Batch, other: Batch) -> bool:
    tensors = ("image", "mask", "box", "image_index")
    equal = all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)
    return equal and one.refs == other.refs and one.frames == other.frames


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
    assert load_index(tmp_path, split) == [Record(tmp_path / "images/eye.png", tuple(masks))]


@pytest.mark.parametrize(("split", "expected"), [("train", 2), ("test", 1)])
def test_each_split_prefers_its_own_direction(tmp_path, split, expected):
    one_eye(tmp_path, NAMES)
    (tmp_path / f"image2label_{split}.json").write_text(json.dumps({"images/eye.png": NAMES}))
    (tmp_path / f"label2image_{split}.json").write_text(json.dumps({NAMES[0]: "images/eye.png"}))
    assert len(load_index(tmp_path, split)[0].masks) == expected


@pytest.mark.parametrize("direction", ["image2label", "label2image"])
def test_back_slashes_are_separators(tmp_path, direction):
    one_eye(tmp_path, NAMES)
    image, masks = "images\\eye.png", [name.replace("/", "\\") for name in NAMES]
    content = {image: masks} if direction == "image2label" else dict.fromkeys(masks, image)
    (tmp_path / f"{direction}_train.json").write_text(json.dumps(content))
    (record,) = load_index(tmp_path, "train")
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


def test_images_without_masks_are_left_out(tmp_path):
    one_eye(tmp_path, NAMES)
    write_png(tmp_path / "images/healthy.png", picture())
    content = {"images/healthy.png": [], "images/eye.png": NAMES}
    (tmp_path / "image2label_train.json").write_text(json.dumps(content))
    assert [record.image.name for record in load_index(tmp_path, "train")] == ["eye.png"]
    (tmp_path / "image2label_train.json").write_text(json.dumps({"images/healthy.png": []}))
    with pytest.raises(DataError, match="lists no mask"):
        load_index(tmp_path, "train")


@pytest.mark.parametrize(
    ("mask", "image", "structure"),
    [
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
    ],
)
def test_structure_is_the_suffix_of_the_name_or_the_folder(mask, image, structure):
    assert structure_of(Path(mask), Path(image)) == structure


def test_equal_basenames_get_different_keys(tmp_path):
    names = ["optic-disc/eye.png", "optic-cup\\eye.png", "vessel/eye_vessel.png"]
    one_eye(tmp_path, [name.replace("\\", "/") for name in names])
    (tmp_path / "image2label_test.json").write_text(json.dumps({"images/eye.png": names}))
    (record,) = load_index(tmp_path, "test")
    assert [mask.key for mask in record.masks] == ["optic-disc/eye.png", "optic-cup/eye.png", "eye_vessel.png"]
    assert [mask.structure for mask in record.masks] == ["optic_disc", "optic_cup", "vessel"]


@pytest.mark.parametrize("value", [1, 255])
def test_masks_hold_0_and_1_or_0_and_255(tmp_path, value):
    mask = read_mask(write_png(tmp_path / "m.png", square(3, 4, value=value)))
    assert mask.dtype == np.uint8 and np.array_equal(mask, square(3, 4, value=1))


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
    drawn = [dataset[(epoch, 0)]["chosen"].tolist() for epoch in range(20)]
    assert all(len(set(chosen)) == len(chosen) == min(count, MASKS) for chosen in drawn)
    assert set().union(*drawn) == set(range(MASKS)), "every mask has its turn"


def test_chosen_masks_are_the_ones_returned(data):
    everything = dataset_of(data)[0]["mask"]
    item = dataset_of(data, mask_num=2)[(4, 0)]
    assert torch.equal(item["mask"], everything[item["chosen"]])


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_an_item_depends_on_seed_epoch_and_index_alone(data, augmentation):
    def item(seed, epoch, index):
        np.random.seed(int(torch.randint(1000, ())))  # the global generators have no say
        return collate([dataset_of(data, mask_num=2, augmentation=augmentation, seed=seed)[(epoch, index)]])

    assert same(item(0, 1, 2), item(0, 1, 2))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not same(item(0, 1, 2), item(*other)), other


@pytest.mark.parametrize(("box_of", "expected"), [("component", (40, 30, 60, 50)), ("mask", (2, 3, 60, 50))])
def test_a_box_covers_the_largest_component_or_all(tmp_path, box_of, expected):
    mask = square(30, 40, height=64, width=64) | square(3, 2, side=4, height=64, width=64)
    write_png(tmp_path / "eye.png", picture(64, 64))
    ref = MaskRef(write_png(tmp_path / "eye_a_000.png", mask), "eye_a_000.png", "a")
    item = dataset_of([Record(tmp_path / "eye.png", (ref,))], "sam_med2d", box_of=box_of)[0]
    assert tuple(item["box"][0].int().tolist()) == expected


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_masks_that_all_vanish_stay_countable(tmp_path, augmentation):
    """Two pixels that nearest-neighbour sampling skips: empty masks with a zero box, not a crash."""
    write_png(tmp_path / "eye.png", picture(640, 640))
    refs = []
    for k in (1, 3):
        path = write_png(tmp_path / f"eye_dot{k}_000.png", square(10 * k + 1, 10 * k + 1, 1, 640, 640))
        refs.append(MaskRef(path, path.name, f"dot{k}"))
    dataset = dataset_of([Record(tmp_path / "eye.png", tuple(refs))], "sam_med2d", augmentation=augmentation)
    batch = collate([dataset[(epoch, 0)] for epoch in range(3)])
    assert batch.mask.shape == (6, 1, SIZE, SIZE) and not batch.mask.any() and not batch.box.any()
    kept = dataset_of(dataset.records, "fundus")[0]
    assert kept["mask"].flatten(1).any(1).all(), "the fundus preprocessing keeps them"


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_truth_is_the_file_and_goes_with_its_mask(tmp_path, augmentation):
    """Truth stays beside its mask also where augmentation moves some masks out of the frame."""
    names = []
    for k, (top, left) in enumerate([(0, 0), (30, 40), (0, 90), (70, 0)]):
        path = write_png(tmp_path / f"eye_p{k}_000.png", square(top, left, 10 if k != 1 else 20))
        names.append(MaskRef(path, path.name, f"p{k}"))
    write_png(tmp_path / "eye.png", picture())
    dataset = dataset_of([Record(tmp_path / "eye.png", tuple(names))], augmentation=augmentation, keep_truth=True)
    batch = collate([dataset[(epoch, 0)] for epoch in range(12)])
    assert len(batch.truth) == len(batch.refs) == len(batch.mask)
    assert all(np.array_equal(truth, read_mask(ref.path)) for truth, ref in zip(batch.truth, batch.refs, strict=True))
    lost = 12 * 4 - len(batch.refs)
    assert lost > 0 if augmentation else lost == 0


# --- augmentation -------------------------------------------------------------------------------------------------


def bright_disc() -> tuple[np.ndarray, np.ndarray]:
    """An image [3, S, S] of mean colour with a bright disc off its centre and a mask [1, S, S] of the same."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(mask, (24, 38), 12, 1, -1)
    return np.repeat(2.0 * mask[None].astype(np.float32), 3, axis=0), mask[None]


def test_augmentation_keeps_image_and_mask_together():
    image, masks = bright_disc()
    augment, centres = Augmentation(), []
    for seed in range(40):
        changed, new_masks, kept = augment(image, masks, np.random.default_rng(seed))
        assert changed.dtype == np.float32 and changed.shape == image.shape and kept.tolist() == [0]
        assert set(np.unique(new_masks)) <= {0, 1}
        channel = changed[1]
        seen = channel > (np.median(channel) + channel.max()) / 2
        overlap = (seen & (new_masks[0] > 0)).sum() / (seen | (new_masks[0] > 0)).sum()
        assert overlap > 0.93, f"seed {seed}: IoU of picture and mask {overlap:.2f}"
        centres.append(np.argwhere(new_masks[0]).mean(0))
    assert np.ptp(centres, axis=0).min() > 15, "the disc must move"


def test_augmentation_keeps_the_range_of_a_normalised_image():
    """Nothing is clipped to 0..1, as some of albumentations' transforms do with floats."""
    _, masks = bright_disc()
    halves = np.where(np.arange(SIZE) < SIZE // 2, -2.0, 2.0).astype(np.float32)
    image = np.broadcast_to(halves, (3, SIZE, SIZE)).copy()
    for seed in range(40):
        changed, *_ = Augmentation()(image, masks, np.random.default_rng(seed))
        assert changed.min() < -0.9 and changed.max() > 0.9, f"seed {seed}"


def test_augmentation_drops_masks_that_left_the_frame():
    image, disc = bright_disc()
    corner = np.zeros_like(disc)
    corner[0, :4, :4] = 1
    masks = np.concatenate([corner, disc])
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(40):
        _, new_masks, kept = Augmentation()(image, masks, np.random.default_rng(seed))
        assert len(new_masks) == len(kept) and new_masks.any((1, 2)).all()
        counts[tuple(kept)] += 1
    assert set(counts) == {(0, 1), (1,)}


def test_augmentation_never_leaves_an_image_without_masks():
    image, disc = bright_disc()
    corner = np.zeros_like(disc)
    corner[0, :4, :4] = 1
    unchanged = 0
    for seed in range(40):
        changed, new_masks, kept = Augmentation()(image, corner, np.random.default_rng(seed))
        assert kept.tolist() == [0] and new_masks.any()
        unchanged += changed is image and new_masks is corner
    assert 0 < unchanged < 40


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


def test_sampler_shuffles_by_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(20, seed)
        sampler.epoch = epoch
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert len(EpochSampler(20, 0)) == 20
    assert sorted(order(0, 3)) == [(3, i) for i in range(20)]
    indexes = [[i for _, i in order(*case)] for case in ((0, 3), (0, 4), (1, 3))]
    assert indexes[0] != indexes[1] and indexes[0] != indexes[2]


def test_batches_are_the_same_with_and_without_workers(data):
    """Two epochs of augmented samples through the same loader, as in training."""
    results = []
    for workers in (0, 2):
        sampler = EpochSampler(len(data), seed=5)
        dataset = dataset_of(data, mask_num=2, augmentation=Augmentation(), seed=5)
        loader = make_loader(dataset, batch_size=2, num_workers=workers, sampler=sampler)
        batches = []
        for sampler.epoch in (0, 1):
            batches += list(loader)
        results.append(batches)
    assert len(results[0]) == len(results[1]) == 6
    assert all(same(one, other) for one, other in zip(*results, strict=True))
    assert not same(results[0][0], results[0][3])
