"""refine(): what it leaves as it is, in what order it answers, and how little of it is in memory at a time."""

import math
import weakref

import numpy as np
import pytest
import torch

from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.refinement.refine import NO_REFINEMENT, Refinement, refine
from segment_anything.refinement.tiling import Tiles, window_pixels
from tests.helpers.tiny_models import TILED_STRUCTURES, large_logits_model, make_tiny_model


@pytest.fixture
def model() -> Sam:
    return large_logits_model()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(60, 200, (150, 200, 3), dtype=np.uint8)


def boxes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Small boxes all over the model frame, as points."""
    corner = torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(0)) * 45
    return torch.cat((corner, corner + 5), 1), torch.tensor([[2, 3]] * count)


@torch.no_grad()
def first_answers(model: Sam, image: np.ndarray, points: tuple[torch.Tensor, torch.Tensor]) -> Decoded:
    embedding, features = model.encode_all(window_pixels(model, [image], [model.preprocessing.frame(image)]))
    return model.decode_points(embedding, *points, features=features)


def watch_encoder(monkeypatch) -> tuple[list[int], list[int]]:
    """Batch sizes that the encoder sees, and how many earlier embeddings are still there each time."""
    embeddings, sizes, alive, encode = [], [], [], ImageEncoderViT.forward

    def watched(self: Sam, pixels: torch.Tensor) -> torch.Tensor:
        alive.append(sum(earlier() is not None for earlier in embeddings))
        sizes.append(len(pixels))
        embedding = encode(self, pixels)
        embeddings.append(weakref.ref(embedding))
        return embedding

    monkeypatch.setattr(ImageEncoderViT, "forward", watched)
    return sizes, alive


def test_without_refinement_the_first_answers_stay(model, image, monkeypatch):
    points = model.prompt_encoder.structure_points(TILED_STRUCTURES)
    decoded, frame = first_answers(model, image, points), model.preprocessing.frame(image)
    sizes, _ = watch_encoder(monkeypatch)
    found = list(refine(model, NO_REFINEMENT, None, [frame], decoded, points))
    assert not sizes and len(found) == 3
    for i, one in enumerate(found):
        best = int(decoded.iou[i].argmax())
        assert torch.equal(one.low_res, decoded.logits[i, best]) and one.frame == frame
        assert one.predicted_iou == float(decoded.iou[i, best])
        assert one.presence == pytest.approx(float(decoded.presence[i].sigmoid())) and not one.absent
        full = frame.logits_to_original(decoded.logits[i, best][None, None])[0, 0]
        assert torch.equal(one.logits(), full) and (one.mask() == (full > 0).numpy()).all()
        assert (one.mask(threshold=1.5) == (full > 1.5).numpy()).all()


def test_weights_that_know_no_structures_say_nothing_of_presence(image):
    model = make_tiny_model()
    points = boxes(2)
    decoded = first_answers(model, image, points)
    found = list(refine(model, NO_REFINEMENT, None, [model.preprocessing.frame(image)], decoded, points))
    assert all(math.isnan(one.presence) and not one.absent for one in found)


def test_predictions_come_in_order_whatever_refines_them(model, image):
    """The disc is left to the whole photograph and zoomed, the others are tiled, a repeated prompt has one answer."""
    names = ("vessel", "optic_disc", "haemorrhage", "vessel")
    points = model.prompt_encoder.structure_points(names)
    decoded, frame = first_answers(model, image, points), model.preprocessing.frame(image)
    settings = Refinement(mirror=True, tiles=Tiles(), zoom=True)
    found = list(refine(model, settings, [image], [frame], decoded, points))
    assert [one.frame.image_size > 64 for one in found] == [True, False, True, True]
    assert torch.equal(found[0].logits(), found[3].logits()) and not torch.equal(found[0].logits(), found[2].logits())
    assert found[0].predicted_iou == float(decoded.iou[0].max())  # the whole photograph's
    for i, one in enumerate(found):
        prompt = points[0][i : i + 1], points[1][i : i + 1]
        own = Decoded(decoded.logits[i : i + 1], decoded.iou[i : i + 1], decoded.presence[i : i + 1])
        (alone,) = refine(model, settings, [image], [frame], own, prompt)
        assert (one.mask() != alone.mask()).mean() < 1e-3 and one.frame == alone.frame


def test_mirror_images_and_tiles_leave_boxes_and_clicked_structures(model, image, monkeypatch):
    frame = model.preprocessing.frame(image)
    label = model.prompt_encoder.label_of("vessel")
    points = torch.tensor([[[0.0, 0], [30, 30], [0, 0]], [[10, 10], [30, 30], [5, 5]]])
    points = points, torch.tensor([[label, 1, -1], [2, 3, label]])
    decoded = first_answers(model, image, points)
    sizes, _ = watch_encoder(monkeypatch)
    found = list(refine(model, Refinement(mirror=True, tiles=Tiles()), [image], [frame], decoded, points))
    assert not sizes and all(torch.equal(one.candidates, decoded.logits[i]) for i, one in enumerate(found))


def test_what_is_predicted_absent_has_logits_but_no_mask(model, image, monkeypatch):
    model.prompt_encoder.presence_thresholds["vessel"] = 1.0
    points = model.prompt_encoder.structure_points(["vessel", "haemorrhage"])
    decoded, frame = first_answers(model, image, points), model.preprocessing.frame(image)
    decoded = decoded._replace(logits=decoded.logits.abs())
    sizes, _ = watch_encoder(monkeypatch)
    settings = Refinement(mirror=True, tiles=Tiles(side=80, whole=0.5, shares={}))
    refined = list(refine(model, settings, [image], [frame], decoded, points))
    windows = sum(sizes)
    assert [one.absent for one in refined] == [True, False]
    assert not refined[0].mask().any() and refined[0].mask().shape == image.shape[:2] and refined[1].mask().any()
    assert refined[0].frame != frame and (refined[0].logits() > 0).any()
    sizes.clear()
    skipped = list(refine(model, settings, [image], [frame], decoded, points, skip_absent=True))
    assert skipped[0].frame == frame and torch.equal(skipped[0].candidates, decoded.logits[0])
    assert (skipped[1].mask() == refined[1].mask()).mean() > 0.999 and sum(sizes) == windows
    sizes.clear()
    one = points[0][:1], points[1][:1]
    own = Decoded(decoded.logits[:1], decoded.iou[:1], decoded.presence[:1])
    assert list(refine(model, settings, [image], [frame], own, one, skip_absent=True)) and not sizes


def test_zoom_windows_are_encoded_as_they_are_wanted(model, image, monkeypatch):
    """However many prompts there are, the encodings of at most one earlier batch are still there."""
    points, frame = boxes(20), model.preprocessing.frame(image)
    decoded = first_answers(model, image, points)
    sizes, alive = watch_encoder(monkeypatch)
    found = refine(model, Refinement(zoom=True, windows_at_once=3), [image], [frame], decoded, points)
    assert not sizes
    for number, one in enumerate(found):
        assert one.frame != frame and one.candidates.shape[0] == 3
        assert len(sizes) <= 1 + (number + 1) // 3
    assert sizes == [3] * 6 + [2] and max(alive) <= 1


def test_the_best_candidate_keeps_no_other_in_memory(model, image):
    points, frame = boxes(5), model.preprocessing.frame(image)
    decoded = first_answers(model, image, points)
    for one in refine(model, Refinement(zoom=True), [image], [frame], decoded, points):
        best = one.best()
        assert best.candidates.untyped_storage().nbytes() == 4 * best.candidates.numel() == 4 * 64 * 64
        assert torch.equal(best.low_res, one.low_res) and best.predicted_iou == one.predicted_iou


@pytest.mark.parametrize("wrong", [{"tiles": True}, {"zoom": None}, {"mirror": "yes"}, {"windows_at_once": 0}])
def test_settings_of_another_kind_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*give"):
        Refinement(**wrong)


def test_settings_tell_what_they_are():
    assert NO_REFINEMENT.active == () and NO_REFINEMENT.describe() == ""
    assert NO_REFINEMENT.as_dict() == {"mirror": False, "zoom": False, "tiles": None, "multimask": True}
    settings = Refinement(mirror=True, zoom=True, tiles=Tiles(side=100), multimask=False)
    assert settings.active == ("mirror", "tiles", "zoom") and settings.as_dict()["tiles"]["side"] == 100
    text = settings.describe()
    assert text.startswith("Mirrored: ") and "Zoom: " in text and "windows of 100 pixels" in text
