"""Prompts of several kinds on one photograph."""

import pytest
import torch

from sam_med2d.inference.photograph_prediction import encode, predict_click_sequence, predict_prompts
from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.refinement.refine import Refinement
from segment_anything.refinement.tiling import Tiles
from tests.helpers.photographs import photograph
from tests.helpers.tiny_models import large_logits_model, watch_encodings

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


EVERYTHING = Refinement(mirror=True, zoom=True, tiles=Tiles(side=40, shares={}), windows_at_once=3)
REFINED = [
    (Prompt("vessel", structure=True), EVERYTHING, ["prompts", "mirror images", "tiles"]),
    (Prompt("vessel", box=(25, 35, 37, 46), points=(*CLICK, (35.0, 40.0, 0))), EVERYTHING, ["prompts", "zoom windows"]),
    (Prompt("vessel", points=(*CLICK, (35.0, 40.0, 0))), Refinement(), ["prompts"]),
]


@pytest.mark.parametrize(("prompt", "settings", "kinds"), REFINED)
def test_a_prediction_tells_its_steps_and_is_the_same(prompt, settings, kinds):
    """Each kind counts from 0, in steps that do not pass its total, which stays."""
    model, told = large_logits_model(), []
    encoded = encode(model, photograph(73, 91))
    watched = predict_click_sequence(model, encoded, prompt, settings, report=lambda *step: told.append(step))
    alone = predict_click_sequence(model, encoded, prompt, settings)
    assert torch.equal(watched.candidates, alone.candidates) and watched.frame == alone.frame
    assert list(dict.fromkeys(kind for kind, _, _ in told)) == kinds
    for kind in kinds:
        done, totals = [done for own, done, _ in told if own == kind], {total for own, _, total in told if own == kind}
        assert done[0] == 0 and done == sorted(set(done)) and len(totals) == 1 and done[-1] < max(totals)
    assert ("mirror images", 2, 3) in told or "mirror images" not in kinds
    assert (
        kinds == ["prompts", "mirror images", "tiles"] or ("prompts", 1, len(prompt.points) + bool(prompt.box)) in told
    )


def test_a_prediction_can_be_ended_at_each_of_its_steps(monkeypatch):
    """What is raised comes out, and nothing more is encoded."""
    model, steps = large_logits_model(), []
    encoded = encode(model, photograph(73, 91))
    encodings = watch_encodings(monkeypatch)
    prompt, settings, _ = REFINED[0]
    predict_click_sequence(model, encoded, prompt, settings, report=lambda *step: steps.append((step, len(encodings))))
    assert len(steps) > 8 and steps[-1][1] > 8
    for last, count in steps:
        encodings.clear()

        def end(*step: object, last=last) -> None:
            if step == last:
                raise InterruptedError(*step)

        with pytest.raises(InterruptedError):
            predict_click_sequence(model, encoded, prompt, settings, report=end)
        assert len(encodings) == count
