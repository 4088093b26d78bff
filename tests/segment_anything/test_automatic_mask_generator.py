"""Automatic masks: the parts against slow oracles, the generator against clicks one by one, the script's files."""

import csv
import json
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from scripts import amg as script
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, automatic_mask_generator
from segment_anything.checkpoint import model_metadata, save_weights
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.preprocessing import Frame, Preprocessing
from segment_anything.utils.amg import (
    boxes_around,
    build_all_layer_point_grids,
    build_point_grid,
    calculate_stability_score,
    generate_crop_boxes,
    is_box_near_crop_edge,
    nms,
    remove_small_regions,
)
from segment_anything.utils.field_of_view import find_field_of_view
from segment_anything.utils.masks import bounding_box
from segment_anything.utils.rle import rle_to_mask
from tests.helpers.commands import run_command
from tests.helpers.input_forms import tiff
from tests.helpers.photographs import photograph
from tests.helpers.tiny_models import make_tiny_model

SIZE, LOW = 64, 16
ALL = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


# --- the parts ------------------------------------------------------------------------------------------------


def test_points_are_the_centres_of_equal_cells():
    np.testing.assert_allclose(build_point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    assert [len(grid) for grid in build_all_layer_point_grids(32, 2, 2)] == [32**2, 16**2, 8**2]
    assert [len(grid) for grid in build_all_layer_point_grids(3, 2, 4)] == [9, 1, 1]


@pytest.mark.parametrize("size", [(100, 100), (97, 131), (141, 200)])
@pytest.mark.parametrize("overlap", [0.0, 512 / 1500])
def test_crops_cover_the_picture(size, overlap):
    boxes, layers = generate_crop_boxes(size, 2, overlap)
    assert boxes[0] == [0, 0, size[1], size[0]] and np.bincount(layers).tolist() == [1, 4, 16]
    for layer in (1, 2):
        times = np.zeros(size, int)
        for x0, y0, x1, y1 in (box for box, own in zip(boxes, layers, strict=True) if own == layer):
            assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
            times[y0:y1, x0:x1] += 1
        assert times.min() == 1 and (times.max() > 1) == (overlap > 0)


def test_the_overlap_of_crops_is_a_share_of_the_shorter_side():
    boxes, layers = generate_crop_boxes((300, 500), 2, 0.2)
    for layer, overlap in ((1, 60), (2, 30)):
        first = [box for box, own in zip(boxes, layers, strict=True) if own == layer]
        edges = sorted({(box[0], box[2]) for box in first})
        assert all(a[1] - b[0] == overlap for a, b in pairwise(edges))


@pytest.mark.parametrize("size", [(1, 1), (900, 1), (3, 300)])
def test_a_picture_of_few_pixels_has_fewer_crops(tiny_model, size):
    boxes, layers = generate_crop_boxes(size, 2, 512 / 1500)
    assert len(boxes) == len(layers) and all(x0 < x1 and y0 < y1 for x0, y0, x1, y1 in boxes)
    generator = SamAutomaticMaskGenerator(tiny_model, points_per_side=1, crop_n_layers=2, pred_iou_thresh=0)
    assert isinstance(generator.generate(np.full((*size, 3), 99, np.uint8)), list)


def test_stability_is_the_iou_of_two_cuts():
    logits = torch.tensor([[[-2.0, -0.5, 0.5, 2.0]], [[3.0, 3, 3, 3]], [[-9.0, -9, -9, -9]]])
    scores = calculate_stability_score(logits, 0.0, 1.0)
    assert scores[:2].tolist() == pytest.approx([1 / 3, 1.0]) and scores[2].isnan()


def test_boxes_around_masks():
    masks = torch.rand(20, 9, 13, generator=torch.Generator().manual_seed(0)) > 0.97
    masks[0] = False
    for mask, box in zip(masks, boxes_around(masks).tolist(), strict=True):
        assert tuple(box) == (bounding_box(mask.numpy()) if mask.any() else (0, 0, 0, 0))


def test_boxes_at_a_crops_edge_but_not_at_the_pictures():
    crop, picture = (100, 0, 200, 150), (0, 0, 300, 150)
    boxes = np.array([[130, 30, 170, 120], [105, 30, 170, 120], [130, 0, 170, 150], [130, 30, 195, 60]])
    assert is_box_near_crop_edge(boxes, crop, picture).tolist() == [False, True, False, True]
    assert not is_box_near_crop_edge(boxes, picture, picture).any()


def greedy(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Non-maximum suppression, pair by pair."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in kept:
            width = min(boxes[i][2], boxes[j][2]) - max(boxes[i][0], boxes[j][0])
            height = min(boxes[i][3], boxes[j][3]) - max(boxes[i][1], boxes[j][1])
            common = max(width, 0) * max(height, 0)
            areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (boxes[i], boxes[j]))
            if areas > common and common / (areas - common) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("whole_pixels", [True, False])
def test_suppression_is_greedy(whole_pixels):
    rng = np.random.default_rng(0)
    for _ in range(25):
        count, threshold = rng.integers(0, 40), rng.choice([0.2, 0.5, 0.7])
        corner, size = rng.uniform(0, 30, (count, 2)), rng.uniform(0, 30, (count, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        boxes = boxes.round() if whole_pixels else boxes
        scores = rng.integers(-3, 5, count) / 7  # with ties, and below 0
        assert nms(boxes, scores, threshold).tolist() == greedy(boxes, scores, threshold)


def test_an_overlap_of_just_the_threshold_is_allowed():
    def kept(percent: int, threshold: float) -> int:
        return len(nms(np.array([[0, 0, 100, 10], [0, 0, percent, 10]]), np.array([1.0, 0.5]), threshold))

    found = {percent: (kept(percent, percent / 100), kept(percent, percent / 100 - 1e-6)) for percent in range(1, 100)}
    assert not {percent: counts for percent, counts in found.items() if counts != (2, 1)}


def test_small_holes_are_filled_and_small_islands_dropped():
    mask = np.zeros((40, 40), bool)
    mask[2:20, 2:20] = True
    mask[5:7, 5:7] = mask[10:15, 10:15] = False  # holes of 4 and 25 pixels
    mask[30:32, 30:32] = True  # an island of 4
    filled, changed = remove_small_regions(mask, 5, "holes")
    assert changed and (filled ^ mask).sum() == 4 and filled[5:7, 5:7].all()
    cleared, changed = remove_small_regions(mask, 5, "islands")
    assert changed and (cleared ^ mask).sum() == 4 and not cleared[30:32, 30:32].any()
    assert not remove_small_regions(mask, 4, "holes")[1] and not remove_small_regions(mask, 4, "islands")[1]
    largest, changed = remove_small_regions(mask, 1000, "islands")
    assert changed and largest[2:20, 2:20].any() and not largest[30:].any()
    with pytest.raises(ValueError, match="'both' is unknown"):
        remove_small_regions(mask, 4, "both")


# --- the generator --------------------------------------------------------------------------------------------


def model_for(preprocessing: Preprocessing):
    model = make_tiny_model()
    model.preprocessing = preprocessing
    return model


def one_by_one(model, image: np.ndarray, settings: dict, least_iou: float, least_stability: float) -> list[tuple]:
    """Masks of `generate`, from one click at a time: (mask, predicted IoU, stability, click, crop box)."""
    predictor, (height, width) = SamPredictor(model), image.shape[:2]
    boxes, layers = generate_crop_boxes((height, width), settings.get("crop_n_layers", 0), 512 / 1500)
    grids = build_all_layer_point_grids(settings["points_per_side"], max(layers), 1)
    seen = find_field_of_view(image).mask() if model.preprocessing.mode == "fundus" else np.ones((height, width), bool)
    every = []
    for box, layer in zip(boxes, layers, strict=True):
        predictor.set_image(image, window=box)
        top, left, bottom, right = predictor.frame.crop
        found = []
        for x, y in np.array(box[:2]) + grids[layer] * (box[2] - box[0], box[3] - box[1]):
            if not (left <= x < right and top <= y < bottom and seen[int(y), int(x)]):
                continue
            logits, ious, _ = predictor.predict(np.array([[x, y]]), np.array([1]), return_logits=True)
            for mask, iou in zip(logits, ious, strict=True):
                stability = (mask > 1).sum() / max(1, (mask > -1).sum())
                if iou > least_iou and stability >= least_stability and (mask > 0).any():
                    own = bounding_box(mask > 0)
                    at_crop = [abs(a - b) <= 20 < abs(a - c) for a, b, c in zip(own, box, boxes[0], strict=True)]
                    found += [] if any(at_crop) else [(mask > 0, iou, stability, (x, y), box, own)]
        every += [found[i] for i in greedy([one[5] for one in found], [one[1] for one in found], 0.7)]
    if len(boxes) == 1:
        return every
    areas = [-(one[4][2] - one[4][0]) * (one[4][3] - one[4][1]) for one in every]
    return [every[i] for i in greedy([one[5] for one in every], areas, 0.7)]


def model_of_discs(preprocessing: Preprocessing):
    """A model that answers a click with three discs around it, so that the masks are known shapes."""
    model = model_for(preprocessing)
    centres = 4 * torch.arange(LOW) + 1.5

    def decode(embedding, *, points, boxes=None, masks=None, multimask=True, features=None):
        x, y = points[0][:, 0].T[..., None, None]
        distance = torch.hypot(centres[None, None] - x, centres[None, :, None] - y)
        radii = torch.tensor([4.0, 9.0, 15.0]) + 3 * torch.sin(points[0][:, 0].sum(1, keepdim=True))
        iou = 0.6 + 0.3 * torch.sin(points[0][:, 0] @ torch.tensor([[1.0, 2, 3], [5, 3, 1]]))
        return Decoded(radii[..., None, None] - distance[:, None], iou, None)

    model.encode = lambda pixels: torch.zeros(1, 256, 4, 4)
    model.decode = decode
    return model


@pytest.mark.parametrize("crops", [0, 1])
@pytest.mark.parametrize("preprocessing", [Preprocessing(SIZE), Preprocessing(SIZE, "sam_med2d", "bgr")], ids=str)
def test_the_same_masks_as_from_clicks_one_by_one(preprocessing, crops):
    model, image = model_of_discs(preprocessing), photograph(97, 131)
    least = {"pred_iou_thresh": 0.45, "stability_score_thresh": 0.4}
    settings = {"points_per_side": 6, "points_per_batch": 4, "crop_n_layers": crops} | least
    records = SamAutomaticMaskGenerator(model, **settings).generate(image)
    expected = one_by_one(model, image, settings, *least.values())
    assert len(records) == len(expected) > 10
    assert len({tuple(record["crop_box"]) for record in records}) == (5 if crops else 1)
    for record, (mask, iou, stability, click, crop, box) in zip(records, expected, strict=True):
        assert (record["segmentation"] != mask).mean() < 1e-3  # logits of a batch may differ in their last bits
        assert record["predicted_iou"] == pytest.approx(iou, abs=1e-5)
        assert record["stability_score"] == pytest.approx(stability, abs=1e-2)
        assert record["point_coords"] == [pytest.approx(click)]
        assert record["crop_box"] == [crop[0], crop[1], crop[2] - crop[0], crop[3] - crop[1]]
        x, y, width, height = record["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], box, atol=1)


@pytest.fixture(scope="module")
def records():
    """Of each output mode, the records of one photograph."""
    model, image = model_for(Preprocessing(SIZE)), photograph(97, 131)
    modes = automatic_mask_generator.OUTPUT_MODES
    return {
        mode: SamAutomaticMaskGenerator(model, points_per_side=3, output_mode=mode, **ALL).generate(image)
        for mode in modes
    }


def test_run_lengths_are_those_of_pycocotools(records):
    coco = pytest.importorskip("pycocotools.mask")
    assert records["binary_mask"]
    for binary, runs, packed in zip(*records.values(), strict=True):
        mask = binary["segmentation"]
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert packed["segmentation"] == {"size": [97, 131], "counts": theirs["counts"].decode()}
        assert coco.frPyObjects(runs["segmentation"], 97, 131)["counts"] == theirs["counts"]
        assert binary["area"] == mask.sum() == coco.area(theirs)
        assert binary["bbox"] == coco.toBbox(theirs).tolist()
        json.dumps([runs, packed])  # plain numbers throughout


def test_records_are_complete_and_sorted(records):
    names = {"segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box"}
    scores = [record["predicted_iou"] for record in records["binary_mask"]]
    assert scores == sorted(scores, reverse=True)
    for record in records["binary_mask"]:
        assert set(record) == names and record["segmentation"].dtype == bool
        assert record["crop_box"] == [0, 0, 131, 97] and record["segmentation"].shape == (97, 131)


def test_clicks_outside_the_field_of_view_are_not_made():
    image = photograph(97, 131)
    generator = SamAutomaticMaskGenerator(model_for(Preprocessing(SIZE)), points_per_side=8, **ALL, box_nms_thresh=1.0)
    clicks = {tuple(record["point_coords"][0]) for record in generator.generate(image)}
    grid = build_point_grid(8) * (131, 97)
    seen = find_field_of_view(image).mask()
    inside = {tuple(point) for point in grid if seen[int(point[1]), int(point[0])]}
    assert clicks <= inside and 10 < len(inside) < 60 and len(clicks) > 10


def test_memory_is_bounded_by_pixels_and_not_by_clicks(monkeypatch):
    model, image = model_for(Preprocessing(SIZE)), photograph(97, 131)
    generator = SamAutomaticMaskGenerator(model, points_per_side=4, **ALL)
    usual, sizes, original = generator.generate(image), [], Frame.logits_to_original

    def spy(self, logits):
        full = original(self, logits)
        sizes.append(full.numel())
        return full

    monkeypatch.setattr(Frame, "logits_to_original", spy)
    monkeypatch.setattr(automatic_mask_generator, "CHUNK_PIXELS", 3 * 97 * 131)
    chunked = generator.generate(image)
    assert len(sizes) >= 5 and max(sizes) <= 3 * 97 * 131
    assert [one["area"] for one in chunked] == [one["area"] for one in usual]


def test_small_regions_are_gone():
    generator = SamAutomaticMaskGenerator(
        model_for(Preprocessing(SIZE)), points_per_side=3, min_mask_region_area=60, output_mode="coco_rle", **ALL
    )
    records = generator.generate(photograph(97, 131))
    assert records
    for record in records:
        mask = rle_to_mask(record["segmentation"])
        for part in (mask, ~mask):
            sizes = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
            assert len(sizes) == 1 or sizes.min() >= 60
        x, y, width, height = record["bbox"]
        assert bounding_box(mask) == (x, y, x + width, y + height) and record["area"] == mask.sum()


def test_nothing_good_gives_no_record():
    generator = SamAutomaticMaskGenerator(model_for(Preprocessing(SIZE)), points_per_side=2, pred_iou_thresh=99)
    assert generator.generate(photograph(97, 131)) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_side": None}, "points_per_side and point_grids: give one of them"),
        ({"point_grids": [build_point_grid(2)]}, "points_per_side and point_grids: give one of them"),
        ({"points_per_side": None, "point_grids": [build_point_grid(2)], "crop_n_layers": 1}, "1 point_grids for 1"),
        ({"points_per_side": 0}, "points_per_side=0: give 1 or more"),
        ({"min_mask_region_area": -1}, "min_mask_region_area=-1: give 0 or more"),
        ({"output_mode": "png"}, "output_mode='png' is unknown: choose one of binary_mask"),
    ],
)
def test_settings_that_cannot_work_are_named(tiny_model, settings, message):
    with pytest.raises(ValueError, match=message):
        SamAutomaticMaskGenerator(tiny_model, **settings)


# --- the script -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [None, [1], np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_photograph_is_refused(tiny_model, image):
    with pytest.raises(ValueError, match=r"give uint8 \[H, W, 3\]"):
        SamAutomaticMaskGenerator(tiny_model, points_per_side=1).generate(image)


@pytest.fixture
def weights(tmp_path, tiny_type):
    model = make_tiny_model()
    save_weights(tmp_path / "tiny.safetensors", model.state_dict(), model_metadata(model, "vit_t"))
    return tmp_path / "tiny.safetensors"


def words(weights, source, out, *more: str) -> list[str]:
    flags = "--model-type vit_t --points-per-side 3 --pred-iou-thresh 0 --stability-score-thresh 0 --device cpu"
    flags += " --box-nms-thresh 1"
    return ["--input", str(source), "--output", str(out), "--sam_checkpoint", str(weights), *flags.split(), *more]


def test_the_script_writes_what_the_generator_finds(weights, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(photos / f"{name}.png"), photograph(60, 70)[..., ::-1])
    (photos / "broken.jpg").write_bytes(b"no picture")
    assert run_command(script, words(weights, photos, out)) == 1
    assert "left out" in (printed := capsys.readouterr()).err and "masks in 2 photographs" in printed.out
    generator = SamAutomaticMaskGenerator(make_tiny_model(), points_per_side=3, box_nms_thresh=1.0, **ALL)
    records = generator.generate(photograph(60, 70))
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]
    rows = list(csv.DictReader((out / "a/metadata.csv").open()))
    assert len(rows) == len(records) == len(list((out / "a").glob("*.png"))) > 1
    for i, (row, record) in enumerate(zip(rows, records, strict=True)):
        mask = cv2.imread(str(out / f"a/{i}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask, record["segmentation"] * np.uint8(255))
        assert [int(row[f"bbox_{side}"]) for side in ("x0", "y0", "w", "h")] == record["bbox"]
        assert (int(row["id"]), int(row["area"])) == (i, record["area"])
        assert float(row["predicted_iou"]) == pytest.approx(record["predicted_iou"], abs=1e-6)
        assert [float(row[f"point_input_{axis}"]) for axis in "xy"] == record["point_coords"][0]

    assert run_command(script, words(weights, photos / "a.png", out, "--max_pixels", "4199")) == 1
    assert "a.png is 70 x 60 pixels, more than --max_pixels 4199" in capsys.readouterr().err

    assert run_command(script, words(weights, photos / "a.png", out, "--max_pixels", "0")) == 2
    assert "--max_pixels 0: give 1 to" in capsys.readouterr().err

    (photos / "two.tif").write_bytes(tiff(photograph(60, 70), photograph(40, 50)))
    assert run_command(script, words(weights, photos / "two.tif", out)) == 1
    assert "two.tif holds 2 pages" in capsys.readouterr().err
    assert run_command(script, words(weights, photos / "two.tif", out, "--page", "2")) == 0
    assert cv2.imread(str(out / "two/0.png")).shape[:2] == (40, 50)

    (out / "a/99.png").touch()  # of an earlier run with more masks
    assert run_command(script, words(weights, photos / "a.png", out, "--convert-to-rle")) == 0
    assert run_command(script, words(weights, photos / "a.png", out)) == 0
    assert len(list((out / "a").iterdir())) == len(rows) + 1
    masks = [rle_to_mask(one["segmentation"]) for one in json.loads((out / "a.json").read_text())]
    assert all(np.array_equal(mask, one["segmentation"]) for mask, one in zip(masks, records, strict=True))


def test_what_a_user_gets_wrong_ends_with_one_message(weights, tmp_path, capsys):
    photo, out = tmp_path / "a.png", tmp_path / "out"
    cv2.imwrite(str(photo), photograph(60, 70))
    for more, message in (
        (["--points-per-side", "0"], "--points-per-side 0: give 1 or more"),
        (["--input", str(tmp_path / "absent")], "absent: no photograph is there"),
        (["--checkpoint", str(tmp_path / "absent.pth")], "absent.pth"),
    ):
        assert run_command(script, words(weights, photo, out, *more)) == 2
        assert message in capsys.readouterr().err
    (out / "a").mkdir()
    (out / "a/mine.txt").touch()
    assert run_command(script, words(weights, photo, out)) == 2
    assert "holds no metadata.csv" in capsys.readouterr().err and (out / "a/mine.txt").exists()
