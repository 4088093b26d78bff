"""The data path on real photographs with expert masks (skipped without --fundus=PATH)."""

import cv2
import numpy as np
import pytest
import torch

from sam_med2d.data.dataset import FundusDataset
from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.mask_values import classes_of
from sam_med2d.data.record_checks import load_checked
from sam_med2d.data.records import load_index
from sam_med2d.evaluation.mask_pair import MaskPair
from sam_med2d.evaluation.metrics import dice
from segment_anything.predictor import SamPredictor
from segment_anything.preprocessing import Preprocessing

EVERY = 9  # a spread over all data sets that takes seconds


@pytest.fixture
def records(fundus):
    return load_index(fundus, "train")[::EVERY]


def test_all_maps_pass_every_check(fundus):
    assert sum(len(load_checked(fundus, split)) for split in ("val", "test")) > 100


def test_field_of_view_keeps_what_experts_drew(records):
    for record in records:
        top, left, bottom, right = Preprocessing(256).frame(read_image(record.image)).crop
        for ref in record.masks:
            mask = read_mask(ref.path)
            outside = mask.sum() - mask[top:bottom, left:right].sum()
            assert outside <= 0.005 * mask.sum(), ref.path


@pytest.mark.parametrize(("structure", "least"), [("optic_disc", 0.97), ("vessel", 0.55), ("haemorrhage", 0.5)])
def test_masks_survive_the_way_there_and_back(fundus, structure, least):
    """Dice of a mask against itself after the model frame; no structure vanishes."""
    preprocessing = Preprocessing(256)
    scores = []
    for record in load_index(fundus, "val"):
        for ref in record.masks:
            if ref.structure != structure:
                continue
            mask = read_mask(ref.path)
            frame = preprocessing.frame(read_image(record.image))
            small = torch.from_numpy(preprocessing.mask(mask, frame)).float()[None, None]
            assert small.any(), ref.path
            back = frame.logits_to_original(20 * small - 10)[0, 0].numpy() > 0
            scores.append(dice(MaskPair(back, mask.astype(bool))))
    assert np.mean(scores) > least


def test_samples_are_whole(records):
    dataset = FundusDataset(records, Preprocessing(256), mask_num=3)
    for item in (dataset[i] for i in range(len(dataset))):
        assert item["image"].shape == (3, 256, 256) and item["image"].isfinite().all()
        assert (item["box"][:, 2:] > item["box"][:, :2]).all()
        assert 1 <= len(item["mask"]) == len(item["box"]) <= 3


def test_predictor_answers_at_the_photographs_size(records, tiny_model):
    predictor = SamPredictor(tiny_model)
    for record in records[::10]:
        image = read_image(record.image)
        predictor.set_image(image)
        masks, _, _ = predictor.predict(box=np.array([10, 10, 60, 50]))
        assert masks.shape == (3, *image.shape[:2])


def test_masks_that_experts_drew_have_one_meaning_with_edges_of_any_kind(fundus):
    """As JPEG files, shrunk by area and enlarged: vessels of one pixel and lesions of a few, too."""
    paths = [ref.path for split in ("train", "val") for record in load_index(fundus, split) for ref in record.masks]
    refused = []
    for path in paths[::40]:
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(read_mask(path), mask > 127), path
        jpeg = [cv2.imdecode(cv2.imencode(".jpg", mask, [1, quality])[1], 0) for quality in (30, 75, 95)]
        height, width = mask.shape
        small = cv2.resize(mask, (width * 3 // 7, height * 3 // 7), interpolation=cv2.INTER_AREA)
        large = cv2.resize(mask, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        refused += [path.name for values in (*jpeg, small, large) if values.max() > 190 and classes_of(values)]
    assert len(paths) > 400 and not refused
