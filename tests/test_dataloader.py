"""SAM-Med2D's `DataLoader`: keys, shapes, types and values of its items, and batches as its scripts make them."""

import json
import random

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from DataLoader import TestingDataset, TrainingDataset, stack_dict_batched
from sam_med2d.errors import DataError

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIZES = {"a": (50, 40), "b": (90, 120)}  # smaller and larger than the frame of 64
MASKS = {"a_disc_000": (5, 8, 20), "a_cup_000": (9, 12, 6), "b_disc_000": (30, 40, 33)}  # top, left and side


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two pictures, with values of 0 and 255 or 1, and maps with paths against the current folder."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/images", "data/masks"):
        (tmp_path / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        cv2.imwrite(f"data/images/{name}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    for name, (top, left, side) in MASKS.items():
        mask = np.zeros(SIZES[name[0]], np.uint8)
        mask[top : top + side, left : left + side] = 1 if "cup" in name else 255
        cv2.imwrite(f"data/masks/{name}.png", mask)
    order = ["a_disc_000", "b_disc_000", "a_cup_000"]
    by_mask = {f"data/masks/{name}.png": f"data/images/{name[0]}.png" for name in order}
    by_image = {f"data/images/{i}.png": [m for m in by_mask if m.startswith(f"data/masks/{i}")] for i in SIZES}
    (tmp_path / "data/label2image_test.json").write_text(json.dumps(by_mask))
    (tmp_path / "data/image2label_train.json").write_text(json.dumps(by_image))
    return "data"


def in_frame(array: np.ndarray) -> np.ndarray:
    """An array [H, W(, C)] in the frame of 64: padded around if it is smaller, else stretched, nearest."""
    height, width = array.shape[:2]
    if height < 64 and width < 64:
        out = np.zeros((64, 64, *array.shape[2:]), array.dtype)
        out[(64 - height) // 2 :, (64 - width) // 2 :][:height, :width] = array
        return out
    return array[np.arange(64) * height // 64][:, np.arange(64) * width // 64]


def normalised(name: str) -> np.ndarray:
    """The picture as the model sees it: BGR by the mean of RGB, [3, 64, 64]."""
    pixels = cv2.imread(f"data/images/{name}.png")
    return in_frame((pixels - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)


def mask_of(name: str) -> np.ndarray:
    return (cv2.imread(f"data/masks/{name}.png", cv2.IMREAD_GRAYSCALE) > 0).astype(np.uint8)


# --- testing --------------------------------------------------------------------------------------------------


def test_items_for_testing_in_the_order_of_the_map(data):
    dataset = TestingDataset(data, image_size=64, mode="test", requires_name=True, point_num=3, return_ori_mask=True)
    assert len(dataset) == 3 and [dataset[i]["name"] for i in range(3)] == [
        "a_disc_000.png",
        "b_disc_000.png",
        "a_cup_000.png",
    ]
    for item in dataset:
        stem = item["name"][:-4]
        truth = mask_of(stem)
        label = in_frame(truth)
        np.testing.assert_allclose(item["image"].numpy(), normalised(stem[0]), atol=1e-5)
        assert item["image"].dtype == torch.float32
        assert item["label"].dtype == torch.int64 and np.array_equal(item["label"].numpy(), label[None])
        assert np.array_equal(item["ori_label"].numpy(), truth[None]) and item["ori_label"].is_floating_point()
        assert item["original_size"] == truth.shape and item["label_path"] == "data/masks"
        rows, columns = np.flatnonzero(label.any(1)), np.flatnonzero(label.any(0))
        assert item["boxes"].tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
        assert item["boxes"].dtype == item["point_coords"].dtype == torch.float32
        assert item["point_coords"].shape == (3, 2) and item["point_labels"].dtype == torch.int32
        on_mask = [label[int(y), int(x)] for x, y in item["point_coords"].tolist()]
        assert sorted(on_mask) == [0, 0, 1] and on_mask == item["point_labels"].tolist()


def test_what_is_not_asked_for_is_not_there(data):
    keys = {"image", "label", "point_coords", "point_labels", "boxes", "original_size", "label_path"}
    assert TestingDataset(data, 64, requires_name=False, return_ori_mask=False)[0].keys() == keys
    assert TestingDataset(data, 64)[0].keys() == keys | {"ori_label", "name"}
    assert TrainingDataset(data, 64, requires_name=False)[0].keys() | {"name"} == TrainingDataset(data, 64)[0].keys()


def test_a_loader_joins_items_as_its_scripts_expect(data):
    batch = next(iter(DataLoader(TestingDataset(data, 64), batch_size=1)))
    shapes = {key: tuple(value.shape) for key, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "image": (1, 3, 64, 64),
        "label": (1, 1, 64, 64),
        "ori_label": (1, 1, 50, 40),
        "boxes": (1, 1, 4),
        "point_coords": (1, 1, 2),
        "point_labels": (1, 1),
    }
    assert batch["name"] == ["a_disc_000.png"] and [int(side) for side in batch["original_size"]] == [50, 40]


@pytest.mark.parametrize("deeper", [False, True])
def test_prompts_come_from_their_file(data, tmp_path, deeper):
    """SAM-Med2D nests several points by mask."""
    points, labels = [[7.0, 8.0], [9.0, 3.0]], [1, 0]
    entry = {"boxes": [[1.0, 2.0, 30.0, 40.0]], "point_coords": points, "point_labels": labels}
    entry |= {"point_coords": [points], "point_labels": [labels]} if deeper else {}
    (tmp_path / "p.json").write_text(json.dumps({f"{name}.png": entry for name in MASKS}))
    item = TestingDataset(data, 64, prompt_path=str(tmp_path / "p.json"))[1]
    assert item["boxes"].tolist() == entry["boxes"] and item["boxes"].dtype == torch.float32
    assert item["point_coords"].tolist() == points and item["point_labels"].tolist() == labels
    assert item["point_labels"].dtype == torch.int32


def test_a_mask_without_prompts_is_named(data, tmp_path):
    entry = {"boxes": [[1, 2, 30, 40]], "point_coords": [[7, 8]], "point_labels": [1]}
    (tmp_path / "p.json").write_text(json.dumps({"a_disc_000.png": entry}))
    dataset = TestingDataset(data, 64, prompt_path=tmp_path / "p.json")
    assert dataset[0]["boxes"].tolist() == [[1, 2, 30, 40]]
    with pytest.raises(DataError, match=r"p\.json has no entry for b_disc_000\.png"):
        dataset[1]


def test_a_mask_of_another_size_is_named(data):
    cv2.imwrite("data/masks/a_disc_000.png", mask_of("b_disc_000") * 255)
    for dataset in (TestingDataset(data, 64), TrainingDataset(data, 64, mask_num=50)):
        with pytest.raises(DataError, match=r"a_disc_000\.png is .*a\.png"):
            dataset[0]


def test_a_grey_mask_is_named(data):
    cv2.imwrite("data/masks/a_disc_000.png", mask_of("a_disc_000") * 128)
    with pytest.raises(DataError, match=r"a_disc_000\.png is not binary"):
        TestingDataset(data, 64)[0]


def test_a_missing_map_is_named(data):
    with pytest.raises(DataError, match="label2image_val.json"):
        TestingDataset(data, mode="val")


# --- training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point_num", "mask_num"), [(1, 5), (4, 1)])
def test_items_for_training(data, point_num, mask_num):
    dataset = TrainingDataset(data, 64, mode="train", point_num=point_num, mask_num=mask_num)
    assert len(dataset) == 2
    drawn = set()
    for item in dataset:
        name = item["name"][0]
        known = {n: in_frame(mask_of(n)) for n in MASKS if n[0] == name}
        assert item["name"] == f"{name}.png" and item["image"].shape == (1, 3, 64, 64)
        np.testing.assert_allclose(item["image"][0].numpy(), normalised(name), atol=1e-5)
        assert item["label"].shape == (mask_num, 1, 64, 64) and item["label"].dtype == torch.int64
        assert item["boxes"].shape == (mask_num, 1, 4) and item["boxes"].dtype == torch.float32
        assert item["point_coords"].shape == (mask_num, point_num, 2) and item["point_labels"].dtype == torch.int32
        for label, box, coords, labels in zip(
            item["label"][:, 0], item["boxes"][:, 0], item["point_coords"], item["point_labels"], strict=True
        ):
            drawn |= {n for n, mask in known.items() if np.array_equal(mask, label.numpy())}
            rows, columns = np.flatnonzero(label.any(1)), np.flatnonzero(label.any(0))
            moved = box - torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert torch.equal(moved[:2], moved[2:]) and moved.abs().max() <= 5
            assert [label[int(y), int(x)] for x, y in coords.tolist()] == labels.tolist()
    assert drawn <= MASKS.keys() and len(drawn) >= 2


def test_a_seeded_script_gets_the_same_item(data):
    items = []
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)
        items.append(TrainingDataset(data, 64)[0])
    for key in ("label", "boxes", "point_coords"):
        assert torch.equal(items[0][key], items[1][key])


def test_images_and_their_masks_are_joined(data):
    dataset = TrainingDataset(data, 64, point_num=2, mask_num=3)
    batch = stack_dict_batched(next(iter(DataLoader(dataset, batch_size=2))))
    shapes = {key: tuple(value.shape) for key, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "image": (2, 3, 64, 64),
        "label": (6, 1, 64, 64),
        "boxes": (6, 1, 4),
        "point_coords": (6, 2, 2),
        "point_labels": (6, 2),
    }
    assert batch["name"] == ["a.png", "b.png"]
    numbers = torch.arange(24).view(2, 3, 4)
    assert torch.equal(stack_dict_batched({"x": numbers})["x"], numbers.view(6, 4))
