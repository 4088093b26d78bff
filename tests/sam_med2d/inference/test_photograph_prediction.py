"""Prompts of several kinds on one photograph."""

import pytest

from sam_med2d.inference.photograph_prediction import encode, predict_click_sequence, predict_prompts
from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.refinement.refine import Refinement
from tests.helpers.photographs import photograph
from tests.helpers.tiny_models import large_logits_model

CLICK = ((30.0, 40.0, 1),)
BOX = (20.0, 15.0, 60.0, 50.0)
PROMPTS = [
    Prompt("vessel", structure=True),
    Prompt("vessel", points=CLICK),
    Prompt("anything", points=CLICK),
    Prompt("vessel", structure=True, points=CLICK),
    Prompt("vessel", box=BOX),
    Prompt("vessel", structure=True, box=BOX),
    Prompt("anything", box=BOX, points=CLICK),
    Prompt("haemorrhage", structure=True),
]


@pytest.mark.parametrize("zoom", [False, True])
def test_prompts_of_every_kind_are_predicted_as_if_alone(zoom):
    """One click and a structure prompt have as many points, and are not one kind."""
    model = large_logits_model()
    encoded, settings = encode(model, photograph(73, 91)), Refinement(zoom=zoom)
    together = {one.number: one for one in predict_prompts(model, encoded, PROMPTS, settings)}
    assert sorted(together) == list(range(len(PROMPTS)))
    for number, one in together.items():
        (alone,) = predict_prompts(model, encoded, [PROMPTS[number]], settings)
        assert one.prompt == PROMPTS[number] and (one.mask() != alone.mask()).mean() < 1e-3
        assert one.predicted_iou == pytest.approx(alone.predicted_iou, abs=1e-4)
    ious = {round(one.predicted_iou, 4) for one in together.values()}
    assert len(ious) == len(PROMPTS) - 1  # a click is the same under any label


def test_without_a_click_after_it_a_prompt_is_predicted_alike_by_both():
    model = large_logits_model()
    encoded = encode(model, photograph(73, 91))
    for prompt in (prompt for prompt in PROMPTS if not prompt.points or prompt == PROMPTS[1]):
        (once,) = predict_prompts(model, encoded, [prompt])
        clicked = predict_click_sequence(model, encoded, prompt)
        assert (once.mask() == clicked.mask()).all() and once.predicted_iou == clicked.predicted_iou
