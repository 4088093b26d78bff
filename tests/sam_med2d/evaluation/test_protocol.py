"""test.py against a slow rendering of SAM-Med2D's evaluation: one mask at a time, nothing shared."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.measure import label, regionprops
from torch.nn import functional as F

from segment_anything.build_sam import MODEL_SPECS
from segment_anything.checkpoint import save_weights
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model
from tests.helpers.training_runs import load_test_script

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def to_frame(array, size):
    """Centre-pad with zeros if smaller than size in both directions, else stretch, nearest neighbour."""
    height, width = array.shape[:2]
    if height >= size or width >= size:
        return cv2.resize(array, (size, size), interpolation=cv2.INTER_NEAREST)
    out = np.zeros((size, size, *array.shape[2:]), array.dtype)
    top, left = (size - height) // 2, (size - width) // 2
    out[top : top + height, left : left + width] = array
    return out


def from_frame(logits, size, original):
    """Logits [1, 1, s, s] back to the photograph's size."""
    logits = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
    height, width = original
    if height < size and width < size:
        top, left = (size - height) // 2, (size - width) // 2
        return logits[..., top : top + height, left : left + width]
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def slow_case(model, mask_path, image_path, entry, mode):
    """Dice and IoU of one mask, encoded for itself alone."""
    size = model.image_size
    pixels = (cv2.imread(str(image_path)) - MEAN) / STD  # BGR pixels with the RGB-ordered mean, as published
    image = torch.from_numpy(to_frame(pixels, size)).float().permute(2, 0, 1)[None]
    truth = cv2.imread(str(mask_path), 0) > 0
    with torch.no_grad():
        if mode == "box":
            prompts = {"boxes": torch.tensor([entry["boxes"]], dtype=torch.float32)}
        else:
            coords = torch.tensor([entry["point_coords"]], dtype=torch.float32)
            prompts = {"points": (coords, torch.tensor([entry["point_labels"]]))}
        low_res, iou, _ = model.decode(model.image_encoder(image), **prompts)
    best = low_res[:, iou[0].argmax()][:, None]
    predicted = torch.sigmoid(from_frame(best, size, truth.shape))[0, 0].numpy() > 0.5
    overlap, eps = (predicted & truth).sum(), 1e-7
    return (
        (2 * overlap + eps) / (predicted.sum() + truth.sum() + eps),
        (overlap + eps) / ((predicted | truth).sum() + eps),
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 672], ids=["stretched", "padded"])
@torch.no_grad()
def test_numbers_are_those_of_the_published_protocol(tmp_path, monkeypatch, size):
    monkeypatch.setitem(MODEL_SPECS, "vit_t", TINY_SPEC)
    model = make_tiny_model(image_size=size)
    for parameter in model.mask_decoder.output_hypernetworks_mlps.parameters():
        parameter.mul_(1.5)  # larger logits: masks of all sizes, none of them trivial
    save_weights(tmp_path / "w.safetensors", model.state_dict(), {})
    script = load_test_script()
    flags = f"--model_type vit_t --image_size {size} --preprocess sam_med2d --channel_order bgr --prompts box 1 "
    flags += f"--num_workers 0 --work_dir {tmp_path} --run_name out --sam_checkpoint {tmp_path / 'w.safetensors'}"
    assert script.main(script.parse_args(flags.split())) == 0

    prompts = json.loads((tmp_path / f"{size}_prompt.json").read_text())
    images = {Path(mask).name: (mask, image) for mask, image in read_map().items()}
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").open()))
    assert len(rows) == 2 * len(images)
    for row in rows:
        mask, image = (Path("data_demo") / path for path in images[row["mask"]])
        entry = prompts[row["mask"]]
        check_prompts(entry, mask, size)
        expected = slow_case(model, mask, image, entry, row["prompt"])
        assert (float(row["dice"]), float(row["iou"])) == pytest.approx(expected, abs=1e-3)


def read_map():
    return json.loads(Path("data_demo/label2image_test.json").read_text())


def check_prompts(entry, mask_path, size):
    """The box is that of the largest component, the point lies inside, in the model frame."""
    mask = to_frame((cv2.imread(str(mask_path), 0) > 0).astype(np.uint8), size)
    region = max(regionprops(label(mask)), key=lambda region: region.area)
    top, left, bottom, right = region.bbox
    assert entry["boxes"] == [[left, top, right, bottom]]
    (x, y), (point_label,) = entry["point_coords"][0], entry["point_labels"]
    assert mask[y, x] == point_label == 1
