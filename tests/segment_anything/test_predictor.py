"""`SamPredictor` and `Sam.forward`: prompts in photograph pixels, masks at the photograph's size."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segment_anything import SamPredictor
from segment_anything.build_sam import build_network
from segment_anything.modeling.sam import ABSENT_LOGIT
from segment_anything.preprocessing import OUTSIDE_LOGIT, Frame, Preprocessing, window_around
from tests.helpers.cases import check_all
from tests.helpers.photographs import PREPROCESSINGS, photograph
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model

SIZE = 64
LOW = SIZE // 4
POINTS = {"point_coords": np.array([[30, 40], [10, 5.5]]), "point_labels": np.array([1, 0])}
BOX = np.array([10, 20, 40, 44])


def predictor_for(preprocessing: Preprocessing, image: np.ndarray, image_format: str = "RGB") -> SamPredictor:
    model = make_tiny_model()
    model.preprocessing = preprocessing
    predictor = SamPredictor(model)
    predictor.set_image(image, image_format)
    return predictor


@pytest.fixture(scope="module")
def predictor():
    return predictor_for(PREPROCESSINGS[0], photograph(73, 91))


def close(actual: tuple, expected: tuple) -> None:
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


# --- shapes and values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(73, 91), (201, 155), (64, 64), (41, 257), (41, 31)])
@pytest.mark.parametrize("multimask", [True, False])
def test_masks_have_the_photographs_size(size, multimask):
    predictor = predictor_for(PREPROCESSINGS[0], photograph(*size))
    masks, iou, low_res = predictor.predict(**POINTS, multimask_output=multimask)
    count = 3 if multimask else 1
    assert masks.shape == (count, *size) and masks.dtype == bool
    assert iou.shape == (count,) and iou.dtype == np.float32
    assert low_res.shape == (count, LOW, LOW) and low_res.dtype == np.float32


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
@pytest.mark.parametrize("prompt", ["points", "box", "both", "mask", "all"])
@torch.no_grad()
def test_predict_is_decode_and_the_inverse_of_the_preprocessing(preprocessing, prompt):
    image = photograph(201, 155)
    predictor = predictor_for(preprocessing, image)
    mask_input = np.random.default_rng(0).standard_normal((1, LOW, LOW)).astype(np.float32)
    given = {
        "points": POINTS,
        "box": {"box": BOX},
        "both": POINTS | {"box": BOX},
        "mask": {"mask_input": mask_input},
        "all": POINTS | {"box": BOX, "mask_input": mask_input},
    }[prompt]

    model, frame = predictor.model, preprocessing.frame(image)
    direct = {}
    if "point_coords" in given:
        coords = torch.tensor(frame.points_to_model(POINTS["point_coords"]), dtype=torch.float32)[None]
        direct["points"] = (coords, torch.tensor([[1.0, 0.0]]))
    if "box" in given:
        direct["boxes"] = torch.tensor(frame.boxes_to_model(BOX), dtype=torch.float32)[None]
    if "mask_input" in given:
        mask = torch.from_numpy(mask_input)[None]
        direct["masks"] = mask.sigmoid() if preprocessing.mask_prompt == "probability" else mask
    embedding = model.encode(torch.from_numpy(preprocessing.image(image, frame))[None])
    low_res, iou, _ = model.decode(embedding, **direct)
    logits = frame.logits_to_original(low_res)

    close(predictor.predict(**given, return_logits=True), (logits[0], iou[0], low_res[0]))
    assert np.array_equal(predictor.predict(**given)[0], (logits[0] > 0).numpy())
    assert torch.equal(predictor.get_image_embedding(), embedding)


def test_the_surround_of_a_photograph_is_background():
    """Outside the field of view, which the model never saw, no pixel is ever claimed."""
    image = np.zeros((120, 200, 3), np.uint8)
    cv2.circle(image, (60, 60), 50, (200, 90, 40), -1)
    predictor = predictor_for(PREPROCESSINGS[0], image)
    _, left, _, right = predictor.frame.crop
    logits = predictor.predict(box=np.array([40, 40, 80, 80]), return_logits=True)[0]
    assert right < 120 and (logits[..., right:] < -5).all() and (logits[..., :left] < -5).all()


def test_return_logits_are_the_masks_before_the_threshold(predictor):
    logits = predictor.predict(box=BOX, return_logits=True)[0]
    assert logits.dtype == np.float32
    assert np.array_equal(logits > 0, predictor.predict(box=BOX)[0])
    assert logits.std() > 0


@pytest.mark.parametrize("mode", ["fundus", "sam_med2d"])
def test_bgr_pixels_give_the_same_as_rgb(mode):
    image = photograph(73, 91)
    rgb = predictor_for(Preprocessing(SIZE, mode), image).predict(box=BOX)
    close(predictor_for(Preprocessing(SIZE, mode), image[..., ::-1], "BGR").predict(box=BOX), rgb)
    swapped = predictor_for(Preprocessing(SIZE, mode), image, "BGR").predict(box=BOX)
    assert np.abs(swapped[2] - rgb[2]).max() > 1e-3


# --- many prompts at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["box", "points", "mask_input", "both"])
def test_many_prompts_are_the_same_as_one_by_one(predictor, kind):
    rng = np.random.default_rng(3)
    corner = rng.integers(0, 40, (3, 2))
    boxes = np.concatenate([corner, corner + rng.integers(5, 30, (3, 2))], axis=1)
    points = {"point_coords": rng.uniform(0, 70, (3, 2, 2)), "point_labels": np.array([[1, 0], [1, 1], [0, 1]])}
    masks = rng.standard_normal((3, 1, LOW, LOW))
    prompts = {
        "box": {"box": boxes},
        "points": points,
        "mask_input": {"mask_input": masks},
        "both": points | {"box": boxes},
    }[kind]
    many = predictor.predict(**prompts, return_logits=True)
    assert [array.shape for array in many] == [(3, 3, 73, 91), (3, 3), (3, 3, LOW, LOW)]
    for i in range(3):
        one = predictor.predict(**{name: value[i] for name, value in prompts.items()}, return_logits=True)
        close(one, tuple(array[i] for array in many))
    assert np.abs(many[2][0] - many[2][1]).max() > 1e-3, "different prompts must differ"


@pytest.mark.parametrize(
    ("single", "listed"),
    [
        ({"box": BOX}, {"box": BOX[None, None]}),
        (POINTS, {name: value[None] for name, value in POINTS.items()}),
        (POINTS | {"box": BOX}, {name: value[None] for name, value in POINTS.items()} | {"box": BOX[None]}),
    ],
)
def test_one_prompt_in_a_list_keeps_its_dimension(predictor, single, listed):
    single, listed = predictor.predict(**single), predictor.predict(**listed)
    assert [array.shape for array in listed] == [(1, *array.shape) for array in single]
    close(single, tuple(array[0] for array in listed))


def test_a_list_of_boxes_of_any_length(predictor):
    boxes = np.stack([BOX, BOX + 3])
    close(predictor.predict(box=boxes[:, None]), predictor.predict(box=boxes))
    none = predictor.predict(box=boxes[:0, None])
    assert [len(array) for array in none] == [0, 0, 0]
    assert none[0].shape[1:] == predictor.predict(box=BOX)[0].shape


def test_a_window_is_encoded_as_its_part_of_the_photograph(tiny_model):
    """In both preprocessings; prompts and masks stay in the photograph's pixels."""
    image = np.random.default_rng(3).integers(60, 200, (90, 120, 3), dtype=np.uint8)
    for preprocessing in (Preprocessing(SIZE, "fundus"), Preprocessing(SIZE, "sam_med2d")):
        tiny_model.preprocessing = preprocessing
        part, whole = SamPredictor(tiny_model), SamPredictor(tiny_model)
        whole.set_image(image, window=(20, 10, 110, 80))
        part.set_image(np.ascontiguousarray(image[10:80, 20:110]))
        assert whole.frame.crop == (10, 20, 80, 110) and whole.original_size == (90, 120)
        box = np.array([50, 30, 80, 70])
        masks, iou, _ = whole.predict(box=box, return_logits=True)
        expected, expected_iou, _ = part.predict(box=box - [20, 10, 20, 10], return_logits=True)
        close((masks[:, 10:80, 20:110], iou), (expected, expected_iou))
        assert (masks[:, :10] == OUTSIDE_LOGIT).all() and (masks[:, :, 110:] == OUTSIDE_LOGIT).all()


def test_a_window_outside_the_field_of_view_is_encoded_all_the_same(tiny_model):
    image = photograph(200, 300)
    predictor = SamPredictor(tiny_model)
    predictor.set_image(image, window=(0, 0, 20, 30))
    assert predictor.frame.crop == (0, 0, 30, 20)


@pytest.mark.parametrize("index", [0, 2])
def test_low_res_can_be_fed_back(predictor, index):
    _, _, low_res = predictor.predict(box=BOX)
    first = predictor.predict(**POINTS)
    again = predictor.predict(**POINTS, mask_input=low_res[index][None])
    assert again[2].shape == low_res.shape
    assert np.abs(again[2] - first[2]).max() > 1e-4, "the mask prompt must have an effect"


def test_predict_torch_takes_prompts_of_the_model_frame(predictor):
    boxes = torch.tensor(predictor.frame.boxes_to_model(BOX), dtype=torch.float32)[None]
    masks, iou, low_res = predictor.predict_torch(boxes=boxes)
    expected = predictor.predict(box=BOX)
    assert masks.dtype == torch.bool and masks.shape == (1, 3, 73, 91)
    close((masks[0], iou[0], low_res[0]), expected)


# --- state --------------------------------------------------------------------------------------------------------


def test_without_a_photograph_the_message_says_so(tiny_model):
    predictor = SamPredictor(tiny_model)
    for ask in (lambda: predictor.predict(box=BOX), predictor.get_image_embedding, predictor.predict_torch):
        with pytest.raises(RuntimeError, match="call set_image first"):
            ask()


def test_reset_forgets_the_photograph(tiny_model):
    predictor = SamPredictor(tiny_model)
    predictor.set_image(photograph(40, 50))
    predictor.reset_image()
    with pytest.raises(RuntimeError, match="call set_image first"):
        predictor.predict(box=BOX)


def test_a_second_photograph_replaces_the_first(tiny_model):
    predictor = SamPredictor(tiny_model)
    predictor.set_image(photograph(73, 91))
    predictor.set_image(photograph(50, 40))
    masks, *_ = predictor.predict(box=np.array([5, 5, 30, 30]))
    assert masks.shape[1:] == (50, 40)


# --- what does not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (np.zeros((40, 40), np.uint8), r"\[40, 40\]"),
        (np.zeros((40, 40, 4), np.uint8), r"\[40, 40, 4\]"),
        (np.zeros((40, 40, 3), np.float32), "float32"),
        (np.zeros((1, 40, 40, 3), np.uint8), r"\[1, 40, 40, 3\]"),
        (np.zeros((0, 40, 3), np.uint8), r"\[0, 40, 3\]"),
        (None, "NoneType"),
        ([[[1, 2, 3]]], "list"),
    ],
)
def test_a_bad_photograph_is_named(tiny_model, image, named):
    with pytest.raises(ValueError, match=f"{named}.*give uint8"):
        SamPredictor(tiny_model).set_image(image)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ([0, 0, 0, 0], "91 x 73 pixels"),
        ([200, 200, 220, 220], "91 x 73 pixels"),
        ([-20, 0, -5, 40], "91 x 73 pixels"),
        ([30, 30, 10, 10], "x0 < x1 and y0 < y1"),
        ([0.2, 0.2, 0.8, 0.8], "x0 < x1 and y0 < y1"),
        ([1, 2], "give four numbers"),
        ([1, 2, 3, 4, 5], "give four numbers"),
        ([1, 2, np.nan, 4], "give four numbers"),
        (5, "give four numbers"),
    ],
)
def test_a_bad_window_is_named_and_the_photograph_before_stays(tiny_model, window, message):
    predictor = SamPredictor(tiny_model)
    predictor.set_image(photograph(40, 50))
    with pytest.raises(ValueError, match=rf"^window={re.escape(str(window))}.*{message}"):
        predictor.set_image(photograph(73, 91), window=window)
    assert predictor.original_size == (40, 50)


@pytest.mark.parametrize(("window", "crop"), [((-20, -20, 4, 5), (0, 0, 5, 4)), ((85, 70, 300, 300), (70, 85, 73, 91))])
def test_a_window_ends_where_the_photograph_does(tiny_model, window, crop):
    predictor = SamPredictor(tiny_model)
    predictor.set_image(photograph(73, 91), window=window)
    assert predictor.frame.crop == crop and predictor.predict(box=BOX)[0].shape == (3, 73, 91)


def test_an_unknown_format_is_named(tiny_model):
    with pytest.raises(ValueError, match="'GRAY'"):
        SamPredictor(tiny_model).set_image(photograph(40, 40), "GRAY")


def test_prompts_that_do_not_fit_are_named(predictor):
    def check(prompts: dict, message: str, zoom: bool) -> None:
        with pytest.raises(ValueError, match=message):
            predictor.predict(**prompts, zoom=zoom)

    cases = [
        ({}, "No prompt"),
        ({"point_coords": [[1, 2]]}, "go together"),
        ({"point_labels": [1]}, "go together"),
        ({"point_coords": [[1, 2]], "point_labels": [1, 0]}, "point_labels for"),
        ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords has shape \[2\]"),
        ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, r"point_coords has shape \[1, 3\]"),
        ({"point_coords": [[1, 2]], "point_labels": 1}, "point_labels has shape"),
        ({"point_coords": [[1, 2]], "point_labels": [7]}, "point_labels are 1"),
        ({"box": [1, 2, 3]}, r"box has shape \[3\]: give \[4\]"),
        ({"box": [[[[1, 2, 3, 4]]]]}, r"box has shape \[1, 1, 1, 4\]"),
        ({"mask_input": np.zeros((LOW, LOW))}, "mask_input has shape"),
        ({"mask_input": np.zeros((1, SIZE, SIZE))}, rf"mask_input has shape \[1, 64, 64\]: give \[1, {LOW}, {LOW}\]"),
        ({"box": np.ones((3, 4)), "mask_input": np.zeros((2, 1, LOW, LOW))}, "disagree.*'boxes': 3, 'mask_input': 2"),
        ({"point_coords": np.ones((2, 1, 2)), "point_labels": np.ones((2, 1)), "box": BOX}, "disagree"),
        ({"point_coords": np.zeros((0, 2)), "point_labels": np.zeros(0)}, "point_coords holds no point"),
        ({"point_coords": np.zeros((3, 0, 2)), "point_labels": np.zeros((3, 0))}, "point_coords holds no point"),
        ({"point_coords": [[1, np.nan]], "point_labels": [1]}, "point_coords holds NaN"),
        ({"point_coords": [[1, 2]], "point_labels": [np.nan]}, "point_labels holds NaN"),
        ({"box": [1, 2, np.inf, 4]}, "box holds NaN, infinity"),
        ({"box": [1, 2, 1e300, 4]}, r"box holds .* numbers from 1e\+30 on"),
        ({"mask_input": np.full((1, LOW, LOW), np.nan)}, "mask_input holds NaN"),
        ({"mask_input": np.full((1, LOW, LOW), -np.inf)}, "mask_input holds NaN, infinity"),
    ]
    check_all(check, [(*case, zoom) for case in cases for zoom in (False, True)])


def test_no_point_beside_a_box_is_the_box(predictor):
    close(predictor.predict(np.zeros((0, 2)), np.zeros(0), box=BOX), predictor.predict(box=BOX))


# --- Sam.forward --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
@torch.no_grad()
def test_sam_forward_takes_a_list_of_images(tiny_model, multimask, count):
    torch.manual_seed(1)
    images = [255 * torch.rand(3, 48, 64), 255 * torch.rand(3, 64, 30)]
    boxes = torch.tensor([[4.0, 4, 20, 30], [10, 2, 28, 40]])
    points = {"point_coords": torch.rand(1, 3, 2) * 30, "point_labels": torch.tensor([[1, 0, 1]])}
    batch = [
        {"image": images[0], "original_size": (97, 131), "boxes": boxes},
        {"image": images[1], "original_size": (64, 30), "mask_inputs": torch.randn(1, 1, LOW, LOW)} | points,
    ]
    outputs = tiny_model(batch, multimask)
    for item, output, prompts in zip(batch, outputs, (2, 1), strict=True):
        assert output["masks"].shape == (prompts, count, *item["original_size"])
        assert output["masks"].dtype == torch.bool
        assert output["iou_predictions"].shape == (prompts, count)
        assert output["low_res_logits"].shape == (prompts, count, LOW, LOW)

    normalised = (images[0] - tiny_model.pixel_mean) / tiny_model.pixel_std
    padded = torch.zeros(1, 3, SIZE, SIZE)
    padded[..., :48, :] = normalised
    low_res, iou, _ = tiny_model.decode(tiny_model.encode(padded), boxes=boxes, multimask=multimask)
    close((outputs[0]["low_res_logits"], outputs[0]["iou_predictions"]), (low_res, iou))
    upscaled = F.interpolate(low_res, (SIZE, SIZE), mode="bilinear", align_corners=False)[..., :48, :]
    logits = F.interpolate(upscaled, (97, 131), mode="bilinear", align_corners=False)
    assert torch.equal(outputs[0]["masks"], logits > 0) and 0 < outputs[0]["masks"].float().mean() < 1


@torch.no_grad()
def test_pixels_in_0_to_1_of_each_picture_the_way_of_sam():
    """`set_torch_image` and `Sam.forward` scale each picture by itself, before it is padded."""
    model = make_tiny_model()
    model.preprocessing = Preprocessing(SIZE, "sam_med2d", pixel_scale="unit")
    images = [20 + 100 * torch.rand(3, 48, 64), 30 + 200 * torch.rand(3, 64, 30)]
    boxes, predictor = torch.tensor([[4.0, 4, 20, 30]]), SamPredictor(model)
    outputs = model([{"image": image, "original_size": (90, 91), "boxes": boxes} for image in images], False)
    for image, output in zip(images, outputs, strict=True):
        padded = torch.zeros(1, 3, SIZE, SIZE)
        padded[..., : image.shape[1], : image.shape[2]] = (image - image.min()) / (image.max() - image.min())
        expected = model.decode(model.encode(padded), boxes=boxes, multimask=False).logits
        torch.testing.assert_close(output["low_res_logits"], expected)
        predictor.set_torch_image(image[None], (90, 91))
        torch.testing.assert_close(predictor.predict_torch(boxes=boxes, multimask_output=False)[2], expected)


def test_points_without_labels_are_refused(tiny_model):
    predictor, image = SamPredictor(tiny_model), torch.zeros(3, SIZE, SIZE)
    predictor.set_torch_image(image[None], (SIZE, SIZE))
    point = {"point_coords": torch.zeros(1, 1, 2)}
    for call in (lambda: predictor.predict_torch(**point), lambda: tiny_model([{"image": image, **point}], True)):
        with pytest.raises(ValueError, match="go together"):
            call()


@torch.no_grad()
def test_sam_forward_answers_as_predict_torch_does_with_all_that_the_weights_have():
    torch.manual_seed(0)
    model = build_network(TINY_SPEC, image_size=64, encoder_adapter=False, structures=["optic_disc"], detail="light")
    for parameter in model.mask_decoder.detail.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.prompt_encoder.presence_thresholds["optic_disc"] = 1.0
    predictor, image = SamPredictor(model.eval()), 255 * torch.rand(3, 64, 48)
    predictor.set_torch_image(image[None], (128, 96))
    boxes = torch.tensor([[4.0, 4, 20, 30]])
    low_res = predictor.predict_torch(boxes=boxes, multimask_output=False)[2]
    name = {"point_coords": torch.zeros(1, 1, 2), "point_labels": torch.tensor([[4]])}
    for prompts in ({"boxes": boxes}, {"boxes": boxes, "mask_inputs": low_res}, name):
        item = {"image": image, "original_size": (128, 96)} | prompts
        output = model([{"image": image.flip(2), "original_size": (64, 48)} | prompts, item], True)[1]
        assert output["low_res_logits"].shape == (1, 3, LOW, LOW)
        expected = predictor.predict_torch(**{"mask_input" if k == "mask_inputs" else k: v for k, v in prompts.items()})
        close((output["iou_predictions"], output["low_res_logits"]), expected[1:])
        assert torch.equal(output["masks"], expected[0]) and output["masks"].any() == (prompts is not name)


def test_sam_forward_does_not_mix_images(tiny_model):
    """An image's answer is the same alone and beside another image."""
    torch.manual_seed(2)
    batch = [
        {"image": 255 * torch.rand(3, 64, 64), "original_size": (64, 64), "boxes": torch.tensor([[4.0, 4, 40, 40]])}
        for _ in range(2)
    ]
    together = tiny_model(batch, True)
    alone = [tiny_model([item], True)[0] for item in batch]
    for one, other in zip(together, alone, strict=True):
        close((one["low_res_logits"],), (other["low_res_logits"],))
    assert not torch.allclose(together[0]["low_res_logits"], together[1]["low_res_logits"], atol=1e-4)


# --- windows and names ----------------------------------------------------------------------------------------


def test_zoom_answers_from_the_window_around_the_box(tiny_model):
    """The same as cutting the window out by hand, and nothing outside it."""
    image = np.random.default_rng(3).integers(60, 200, (300, 400, 3), dtype=np.uint8)
    predictor = SamPredictor(tiny_model)
    predictor.set_image(image)
    box = np.array([100, 120, 140, 150])
    first = predictor.predict(box=box, return_logits=True)
    masks, iou, low_res = predictor.predict(box=box, return_logits=True, zoom=True)
    window = window_around(predictor.frame, box)
    top, left, bottom, right = window.crop
    assert (bottom - top, right - left) == (80, 80)
    by_hand = SamPredictor(tiny_model)
    frame = replace(by_hand_frame(tiny_model, image[top:bottom, left:right]), original=(80, 80))
    pixels = torch.from_numpy(tiny_model.preprocessing.image(image[top:bottom, left:right], frame))[None]
    by_hand.features, by_hand.frame = tiny_model.encode(pixels), frame
    expected, expected_iou, _ = by_hand.predict(box=box - [left, top, left, top], return_logits=True)
    np.testing.assert_allclose(masks[:, top:bottom, left:right], expected, atol=1e-4)
    np.testing.assert_allclose(iou, expected_iou, atol=1e-5)
    outside = np.ones((300, 400), bool)
    outside[top:bottom, left:right] = False
    assert (masks[:, outside] == OUTSIDE_LOGIT).all()
    np.testing.assert_array_equal(low_res, first[2])


def by_hand_frame(model, image):
    size, (height, width) = model.image_size, image.shape[:2]
    return Frame(size, (height, width), (0, 0, height, width), (0, 0, size, size))


def test_zoom_of_clicks_keeps_them_in_view(tiny_model):
    predictor = SamPredictor(tiny_model)
    predictor.set_image(np.random.default_rng(3).integers(60, 200, (300, 400, 3), dtype=np.uint8))
    masks, iou, _ = predictor.predict(np.array([[30, 40], [45, 52]]), np.array([1, 0]), zoom=True)
    assert masks.shape == (3, 300, 400) and iou.shape == (3,)


def test_a_structure_is_predicted_by_name_or_by_its_label():
    torch.manual_seed(0)
    model = build_network(
        TINY_SPEC, image_size=64, encoder_adapter=False, structures=["optic_disc", "vessel"], detail="light"
    )
    predictor = SamPredictor(model.eval())
    predictor.set_image(np.random.default_rng(3).integers(60, 200, (90, 100, 3), dtype=np.uint8))
    model.prompt_encoder.presence_thresholds["vessel"] = 0.0
    mask, _ = predictor.predict_structure("vessel")
    masks, ious, low_res = predictor.predict(np.array([[7, 7]]), np.array([5]))
    assert mask.shape == (90, 100) and low_res.shape == (3, 16, 16)
    np.testing.assert_array_equal(mask, masks[ious.argmax()])
    model.prompt_encoder.presence_thresholds["vessel"] = 1.0
    assert not predictor.predict_structure("vessel")[0].any()
    click = predictor.predict(np.array([[7, 7], [50, 50]]), np.array([5, 1]), return_logits=True)[0]
    assert (click != ABSENT_LOGIT).any()  # a click says that it is there
    with pytest.raises(ValueError, match="'fovea' is unknown"):
        predictor.predict_structure("fovea")
    with pytest.raises(ValueError, match=r"4 \(optic_disc\), 5 \(vessel\)"):
        predictor.predict(np.array([[7, 7]]), np.array([6]))
