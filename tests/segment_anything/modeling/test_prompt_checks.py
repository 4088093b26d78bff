"""Positions that cannot be meant, in the predictors' arguments."""

import numpy as np
import pytest
import torch

from segment_anything.modeling.prompt_checks import Area, box_fault, point_fault
from segment_anything.predictor import SamPredictor
from segment_anything.predictor_sammed import SammedPredictor
from segment_anything.preprocessing import Preprocessing
from tests.helpers.tiny_models import make_tiny_model

HEIGHT, WIDTH = 73, 91
PHOTOGRAPH = Area.of((HEIGHT, WIDTH))
BOXES = {  # a box: what is said of it, "" for one that may be meant
    (0, 0, 91, 73): "",
    (90, 72, 91, 73): "",
    (0, 0, 2, 1): "",
    (0.5, 0.25, 1.5, 0.75): "",
    (0.2, 0.2, 0.8, 0.8): "these look like shares of the photograph, give pixels",
    (0, 0, 1, 1): "these look like shares of the photograph",
    (30, 10, 20, 20): "these look like x, y, width, height, then give 30, 10, 50, 30 (x0 < x1 and y0 < y1)",
    (50, 30, 60, 20): ": give x0, y0, x1, y1 (x0 < x1 and y0 < y1)",
    (
        20,
        30,
        10,
        15,
    ): "x, y, width, height, then give 20, 30, 30, 45; or these look like exchanged corners, then give 10, 15,",
    (80, 60, 70, 50): "box 80, 60, 70, 50: these look like exchanged corners, then give 70, 50, 80, 60 (x0 < x1",
    (30, 10, 30, 40): "these look like x, y, width, height",
    (60, 50, 60, 70): ": give x0, y0, x1, y1 (x0 < x1 and y0 < y1)",
    (60, 50, -5, 70): ": give x0, y0, x1, y1 (x0 < x1 and y0 < y1)",
    (np.nan, 0, 3, 3): "finite",
    (0, 0, np.inf, 3): "finite",
    (10, 10, 120, 50): "lies outside the photograph",
    (10, -30, 50, 50): "lies outside the photograph",
}
OVERHANGING = (-9, -10, 101, 83)
POINTS = {
    (0, 0): "",
    (1, 1): "",
    (90, 72): "",
    (90.9, 72.9): "",
    (0.5, 0.4): "these look like shares of the photograph",
    (91, 5): "lies outside the photograph (91 x 73 pixels)",
    (5, 80): "lies outside the photograph",
    (-1, 5): "lies outside the photograph",
    (np.nan, 5): "finite",
}
AT_THE_EDGE = (91, 5), (-1, 5)  # which the predictors take


def check(found: str | None, expected: str) -> bool:
    return found is None if not expected else found is not None and expected in found


def test_each_box_and_point_is_told():
    wrong = [box for box, words in BOXES.items() if not check(box_fault(np.array(box), PHOTOGRAPH), words)]
    wrong += [point for point, words in POINTS.items() if not check(point_fault(np.array(point), PHOTOGRAPH), words)]
    assert not wrong
    assert box_fault(np.array(OVERHANGING), PHOTOGRAPH.with_overhang()) is None
    assert "lies outside" in box_fault(np.array(OVERHANGING), PHOTOGRAPH)
    assert "by more than 40 " in box_fault(np.array([-41, 0, 9, 9]), Area.of((1000, 2000)).with_overhang())


def test_one_bad_box_among_many_is_named():
    boxes = np.tile([10.0, 10, 20, 20], (1000, 1))
    assert box_fault(boxes, PHOTOGRAPH) is None
    boxes[700] = 30, 10, 20, 20
    assert box_fault(boxes, PHOTOGRAPH).startswith("box 30, 10, 20, 20")
    assert point_fault(np.array([[0.5, 0.5], [30, 20]]), PHOTOGRAPH) is None


def test_a_photograph_of_one_pixel_has_a_box():
    assert box_fault(np.array([0, 0, 1, 1]), Area.of((1, 1))) is None


def predictors(mode: str, *, ready: bool) -> list[SamPredictor]:
    """Both classes, with a photograph that is set as Segment Anything does, or by `set_image`."""
    model = make_tiny_model()
    model.preprocessing = Preprocessing(64, mode)
    found = [SamPredictor(model), SammedPredictor(model)]
    for predictor in found:
        if ready:
            predictor.set_torch_image(torch.zeros(1, 3, 51, 64), (HEIGHT, WIDTH))
        else:
            predictor.set_image(np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    return found


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("mode", ["fundus", "sam_med2d"])
def test_predictors_refuse_what_cannot_be_meant(mode, ready):
    for predictor in predictors(mode, ready=ready):
        asked = [({"box": np.array(box)}, words) for box, words in BOXES.items()]
        asked += [
            ({"point_coords": np.array([p]), "point_labels": [1]}, w) for p, w in POINTS.items() if p not in AT_THE_EDGE
        ]
        asked += [({"box": np.array([[5, 5, 9, 9], OVERHANGING])}, ""), ({"box": np.array(OVERHANGING)}, "")]
        asked += [({"point_coords": np.array(AT_THE_EDGE), "point_labels": [1, 0]}, "")]
        asked += [({"point_coords": np.array([[500, 500], [5, 5]]), "point_labels": [-1, 1]}, "")]
        wrong = [prompt for prompt, words in asked if not check(refusal(predictor.predict, **prompt), words)]
        assert not wrong


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("mode", ["fundus", "sam_med2d"])
def test_prompts_in_the_model_frame_are_refused_likewise(mode, ready):
    for predictor in predictors(mode, ready=ready):
        boxes = {(0, 0, 64, 64): "", (-8, -9, 70, 60): "", (30, 10, 20, 20): "x, y, width, height"}
        boxes |= {
            (0.2, 0.2, 0.8, 0.8): "shares",
            (np.nan, 0, 3, 3): "finite",
            (0, 0, 200, 9): "outside the model frame",
        }
        asked = [({"boxes": torch.tensor([box])}, words) for box, words in boxes.items()]
        for (*xy, label), words in {
            (5, 5, 1): "",
            (500, 5, 1): "outside the model frame",
            (500, 5, -1): "",
            (5, 5, 2): "point_labels are 1",
            (5, 5, 7): "point_labels are 1",
            (0.5, 0.5, 1): "shares",
            (np.nan, 5, 0): "finite",
        }.items():
            asked += [({"point_coords": torch.tensor([[xy]]), "point_labels": torch.tensor([[label]])}, words)]
        wrong = [prompt for prompt, words in asked if not check(refusal(predictor.predict_torch, **prompt), words)]
        assert not wrong


def test_pixels_in_0_to_1_and_prompts_with_gradients():
    for predictor in predictors("sam_med2d", ready=True):
        with pytest.raises(ValueError, match=r"pixels in 0\.\.1: give 0\.\.255"):
            predictor.set_torch_image(torch.rand(1, 3, 51, 64), (HEIGHT, WIDTH))
        predictor.set_torch_image(255 * torch.rand(1, 3, 51, 64), (HEIGHT, WIDTH))
        boxes = torch.tensor([[5.0, 5, 30, 30]])
        expected = predictor.predict_torch(boxes=boxes)[2]
        for other in (boxes.clone().requires_grad_(), boxes[:, None], boxes.double(), boxes.bfloat16()):
            torch.testing.assert_close(predictor.predict_torch(boxes=other)[2], expected)


def test_the_whole_photograph_is_a_box_beside_a_cropped_field_of_view():
    """Its edges lie far outside of what the model sees."""
    image = np.zeros((200, 600, 3), np.uint8)
    rows, columns = np.mgrid[:200, :600]
    image[(rows - 100) ** 2 + (columns - 300) ** 2 < 90**2] = 150
    predictor = predictors("fundus", ready=False)[0]
    predictor.set_image(image)
    whole = torch.tensor([[0.0, 0, 600, 200]])
    moved = predictor.transform.apply_boxes_torch(whole, (200, 600))
    assert moved.min() < -32
    predictor.predict_torch(boxes=moved)
    with pytest.raises(ValueError, match="shares"):
        predictor.transform.apply_boxes_torch(whole / torch.tensor([600, 200, 600, 200]), (200, 600))


def refusal(ask, **prompt) -> str | None:
    """What a ValueError says; None where there was none."""
    try:
        ask(**prompt)
    except ValueError as error:
        return str(error)
    return None


def test_sam_forward_refuses_what_the_predictors_refuse():
    """Boxes may overhang by what training jitters; what is padding or a structure prompt may lie anywhere."""
    model, image = make_tiny_model(), torch.zeros(3, 48, 64)
    wrong = []
    for box, point, label, expected in (
        ((10, 20, 5, 30), None, None, "box 10, 20, 5, 30"),
        ((40, 30, 20, 15), None, None, "these look like x, y, width, height"),
        ((0.1, 0.1, 0.5, 0.5), None, None, "shares of the photograph"),
        ((10, 10, 80, 30), None, None, "lies outside image 1 by more than 10 (64 x 48 pixels)"),
        ((-9, 10, 73, 57), None, None, None),
        (None, (70, 20), 1, "point 70, 20 lies outside image 1"),
        (None, (500, 500), -1, None),
    ):
        sound = {"image": image, "original_size": (48, 64)}
        item = dict(sound, boxes=torch.tensor([box]).float()) if box else dict(sound)
        if point:
            item |= {"point_coords": torch.tensor([[point]]).float(), "point_labels": torch.tensor([[label]])}
        try:
            found = model([sound, item], True) and None
        except ValueError as error:
            found = str(error)
        wrong += [] if found == expected or (found and expected and expected in found) else [(box, point, found)]
    assert not wrong
