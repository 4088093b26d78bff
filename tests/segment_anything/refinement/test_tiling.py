"""Windows of a photograph that the model sees larger: tiles that blend without a seam, and zoom in batches."""

import weakref
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sam_med2d.data.dataset import FundusDataset, collate
from sam_med2d.data.records import MaskRef, Record
from sam_med2d.evaluation.batch_prediction import parse_mode, predict_batch
from sam_med2d.evaluation.scoring import masks_at_original_size
from sam_med2d.prompts.prompt_file import make_prompts
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.predictor import SamPredictor
from segment_anything.preprocessing import OUTSIDE_LOGIT, Frame, Preprocessing, window_around
from segment_anything.refinement.mirroring import mirrored
from segment_anything.refinement.refine import Refinement
from segment_anything.refinement.tiling import (
    Tiles,
    blend_tiles,
    starts,
    tiled_frame,
    weights,
    window_pixels,
    windows_of,
)
from segment_anything.refinement.zoom import prompt_places, zoom_in
from tests.helpers.cases import check_all
from tests.helpers.tiny_models import TILED_STRUCTURES, large_logits_model

EVERYTHING = Tiles(shares={})  # no structure is left to the whole photograph


def photograph(height: int = 170, width: int = 230, border: int = 12) -> np.ndarray:
    """Noise in a black frame, which is not part of the field of view."""
    image = np.zeros((height, width, 3), np.uint8)
    inside = np.random.default_rng(3).integers(60, 200, (height - 2 * border, width - 2 * border, 3), dtype=np.uint8)
    image[border : height - border, border : width - border] = inside
    return image


@pytest.fixture
def predictor():
    predictor = SamPredictor(large_logits_model())
    predictor.set_image(photograph())
    return predictor


def answer_with(model: Sam, monkeypatch, value: float) -> list[int]:
    """Let the model answer with this logit everywhere; returns the batch sizes that its encoder sees."""
    encoded, encode = [], ImageEncoderViT.forward
    monkeypatch.setattr(
        ImageEncoderViT, "forward", lambda self, image: (encoded.append(len(image)), encode(self, image))[1]
    )

    def decode_points(embedding: Tensor, coords: Tensor, labels: Tensor, masks=None, *, multimask=True, features=None):
        return Decoded(
            torch.full((len(labels), 3, 16, 16), value), torch.rand(len(labels), 3), torch.zeros(len(labels))
        )

    monkeypatch.setattr(model, "decode_points", decode_points)
    return encoded


# --- geometry of tiles --------------------------------------------------------------------------------------------


def test_windows_cover_an_axis_and_overlap():
    def check(length: int, side: int, overlap: float) -> None:
        firsts = starts(length, side, overlap)
        assert firsts[0] == 0 and firsts[-1] == length - side
        assert all(later - first <= side * (1 - overlap) + 1 for first, later in pairwise(firsts))
        assert len(firsts) == 1 or len(firsts) <= 2 + (length - side) / (side * (1 - overlap))

    axes = [(512, 256), (340, 256), (257, 256), (4000, 256), (300, 100), (64, 64)]
    check_all(check, [(*axis, overlap) for axis in axes for overlap in (0, 0.25, 0.5)])


@pytest.mark.parametrize(("length", "side"), [(512, 256), (511, 200), (40, 64), (64, 64), (1000, 64)])
def test_weights_sum_to_one_and_fade_at_inner_borders(length, side):
    firsts = starts(length, side, 0.25)
    own = weights(firsts, length, side)
    total = torch.zeros(length)
    for first, weight in zip(firsts, own, strict=True):
        total[first : first + side] += weight
    torch.testing.assert_close(total, torch.ones(length), atol=1e-6, rtol=0)
    if len(firsts) > 1:
        assert (own[1:, 0] < 0.01).all() and (own[:-1, -1] < 0.01).all()
        assert float(own.diff(dim=1).abs().max()) < 12 / side  # no jump


@pytest.mark.parametrize("size", [(170, 230), (60, 230), (150, 150)])
def test_weights_of_windows_sum_to_one_everywhere_inside(size):
    fine = tiled_frame(Preprocessing(64).frame(photograph(*size)), 64)
    total = np.zeros((fine.image_size, fine.image_size))
    for window in windows_of(fine, 64, 0.25):
        assert 0 <= window.row <= fine.image_size - 64 and 0 <= window.column <= fine.image_size - 64
        weight = (window.down[:, None] * window.across).numpy()
        total[window.row : window.row + 64, window.column : window.column + 64] += weight
    top, left, height, width = fine.inner
    np.testing.assert_allclose(total[top : top + height, left : left + width], 1, atol=1e-5)


def test_a_photograph_less_high_than_a_window_is_centred_in_it():
    fine = Frame(256, (44, 230), (2, 2, 42, 228), (105, 0, 46, 256))
    own = windows_of(fine, 64, 0.25)
    assert len(own) > 3 and {window.row for window in own} == {96} and all((window.down == 1).all() for window in own)


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_windows_are_a_share_of_the_field_of_view(factor):
    """The scale is the same whatever pixels the photograph has."""
    image = cv2.resize(photograph(), None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    frame = Preprocessing(64).frame(image)
    assert tiled_frame(frame, Tiles().side_in(frame)).image_size == 128
    assert tiled_frame(frame, Tiles(share=0.25).side_in(frame)).image_size == 256


def test_a_small_photograph_is_not_enlarged_more_than_four_times():
    frame = Frame(64, (20, 20), (0, 0, 20, 20), (0, 0, 64, 64))
    assert Tiles(share=0.1).side_in(frame) == 16


# --- blending -----------------------------------------------------------------------------------------------------


def test_a_constant_model_blends_to_its_plain_answer(monkeypatch):
    model, image = large_logits_model(), photograph()
    answer_with(model, monkeypatch, 1.7)
    frame, whole = model.preprocessing.frame(image), torch.full((16, 16), 1.7)
    blended, fine = blend_tiles(model, image, frame, {"vessel": whole}, EVERYTHING)
    plain = frame.logits_to_original(whole[None, None])[0, 0]
    found = fine.logits_to_original(blended["vessel"][None, None])[0, 0]
    top, left, bottom, right = frame.crop
    inside = np.s_[top + 2 : bottom - 2, left + 2 : right - 2]  # the border is blended with what lies outside
    torch.testing.assert_close(found[inside], plain[inside], atol=1e-5, rtol=0)
    assert (found[0] == OUTSIDE_LOGIT).all()


def test_the_blend_is_the_weighted_mean_of_probabilities():
    """Against one window after another, written out."""
    model, image = large_logits_model(), photograph()
    frame, whole = model.preprocessing.frame(image), torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    blended, fine = blend_tiles(model, image, frame, {"vessel": whole}, Tiles(whole=0.3, shares={}))
    pixels = torch.from_numpy(model.preprocessing.image(image, fine))
    expected = np.zeros(pixels.shape[1:])
    for window in windows_of(fine, 64, 0.25):
        place = np.s_[window.row : window.row + 64, window.column : window.column + 64]
        part = pixels[(slice(None), *place)][None]
        with torch.no_grad():
            embedding, features = model.encode_all(part)
            decoded = model.decode_points(
                embedding, *model.prompt_encoder.structure_points(["vessel"]), features=features
            )
        logits = F.interpolate(decoded.best(), (64, 64), mode="bilinear", align_corners=False)[0, 0]
        expected[place] += (window.down[:, None] * window.across * logits.sigmoid()).numpy()
    top, left, height, width = fine.inner
    inside = np.s_[top : top + height, left : left + width]
    only, _ = blend_tiles(model, image, frame, {"vessel": whole}, Tiles(whole=0.0, shares={}))
    np.testing.assert_allclose(only["vessel"].sigmoid().numpy()[inside], expected[inside], atol=1e-5)
    mixed = 0.7 * expected[inside] + 0.3 * _at(frame, fine, whole)
    np.testing.assert_allclose(blended["vessel"].sigmoid().numpy()[inside], mixed, atol=1e-5)


def _at(frame: Frame, fine: Frame, logits: Tensor) -> np.ndarray:
    """Probabilities of logits of the model frame at the pixels of the photograph's part in a finer frame."""
    top, left, height, width = frame.inner
    part = logits[top : top + height, left : left + width][None, None]
    return F.interpolate(part, fine.inner[2:], mode="bilinear", align_corners=False)[0, 0].sigmoid().numpy()


@pytest.mark.slow
def test_several_structures_equal_one_by_one_and_share_the_encodings(monkeypatch):
    model, image = large_logits_model(), photograph()
    encoded, encode = [], ImageEncoderViT.forward
    monkeypatch.setattr(
        ImageEncoderViT, "forward", lambda self, image: (encoded.append(len(image)), encode(self, image))[1]
    )
    frame = model.preprocessing.frame(image)
    streams = [torch.Generator().manual_seed(i) for i in range(len(TILED_STRUCTURES))]
    whole = {name: torch.randn(64, 64, generator=s) for name, s in zip(TILED_STRUCTURES, streams, strict=True)}
    together, fine = blend_tiles(model, image, frame, whole, EVERYTHING, at_once=4)
    count = len(windows_of(fine, 64, 0.25))
    assert sum(encoded) == count and max(encoded) == 4
    for name in TILED_STRUCTURES:
        alone, _ = blend_tiles(model, image, frame, {name: whole[name]}, EVERYTHING, at_once=5)
        torch.testing.assert_close(together[name], alone[name], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together["vessel"], together["haemorrhage"], atol=0.1)


def test_structures_left_to_the_whole_photograph_are_not_tiled(monkeypatch):
    model, image = large_logits_model(), photograph()
    encoded = answer_with(model, monkeypatch, 0.0)
    frame, whole = model.preprocessing.frame(image), {name: torch.zeros(16, 16) for name in TILED_STRUCTURES}
    assert blend_tiles(model, image, frame, whole, Tiles())[0].keys() == {"vessel", "haemorrhage"}
    encoded.clear()
    assert blend_tiles(model, image, frame, {"optic_disc": whole["optic_disc"]}, Tiles())[0] == {} and not encoded
    assert blend_tiles(model, image, frame, whole, Tiles(side=230))[0] == {} and not encoded


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_windows(monkeypatch):
    """However many windows there are, the encodings of at most one earlier batch are still there."""
    model, encoded, alive, encode = large_logits_model(), [], [], ImageEncoderViT.forward

    def watched(self, image):
        alive.append(sum(earlier() is not None for earlier in encoded))
        embedding = encode(self, image)
        encoded.append(weakref.ref(embedding))
        assert len(embedding) <= 3
        return embedding

    monkeypatch.setattr(ImageEncoderViT, "forward", watched)
    for image in (photograph(), photograph(400, 500)):
        encoded.clear()
        frame = model.preprocessing.frame(image)
        small = Tiles(side=64, shares={})
        blended, fine = blend_tiles(model, image, frame, {"vessel": torch.zeros(16, 16)}, small, at_once=3)
        assert blended["vessel"].shape == (fine.image_size, fine.image_size)
    assert len(encoded) > 20 and max(alive) == 1


@pytest.mark.parametrize(
    "wrong", [{"share": 0.05}, {"side": 0}, {"overlap": 0.95}, {"whole": 1.2}, {"shares": {"vessel": -1}}]
)
def test_tiles_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="give"):
        Tiles(**wrong)


def test_windows_are_not_enlarged_too_much():
    Tiles(side=64).check_side(256)
    with pytest.raises(ValueError, match="more than 4 times: give 64 or more"):
        Tiles(side=63).check_side(256)


# --- structure prompts in the predictor ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_predictor_answers_several_structures_at_once(predictor):
    for tiles in (False, True, EVERYTHING):
        together = predictor.predict_structures(TILED_STRUCTURES, tiles=tiles)
        assert together.keys() == set(TILED_STRUCTURES)
        for name, (mask, iou) in together.items():
            alone, alone_iou = predictor.predict_structure(name, tiles=tiles)
            assert mask.shape == (170, 230) and (mask != alone).mean() < 1e-3
            assert iou == pytest.approx(alone_iou, abs=1e-4)
    plain, tiled = (predictor.predict_structures(TILED_STRUCTURES, tiles=tiles) for tiles in (False, Tiles(whole=0)))
    assert (plain["optic_disc"][0] == tiled["optic_disc"][0]).all()  # left to the whole photograph
    assert (plain["vessel"][0] != tiled["vessel"][0]).any()


def test_the_whole_photograph_decides_whether_a_structure_is_there(predictor):
    predictor.model.prompt_encoder.presence_thresholds["vessel"] = 1.0
    answers = predictor.predict_structures(["vessel", "haemorrhage"], tiles=True, zoom=True)
    assert not answers["vessel"][0].any() and answers["haemorrhage"][0].any()


def test_without_an_image_or_with_an_unknown_name_there_is_no_answer(predictor):
    with pytest.raises(ValueError, match="'fovea' is unknown"):
        predictor.predict_structures(["vessel", "fovea"], tiles=True)
    with pytest.raises(RuntimeError, match="set_image"):
        SamPredictor(predictor.model).predict_structures(["vessel"])


# --- zoom ---------------------------------------------------------------------------------------------------------


def test_places_of_prompts():
    coords = torch.tensor([[[8.0, 9], [20, 30]], [[5, 50], [0, 0]], [[0, 0], [0, 0]], [[40, 3], [2, 2]]])
    labels = torch.tensor([[2, 3], [1, 0], [-1, -1], [0, -1]])
    first = torch.full((4, 16, 16), -1.0)
    first[:2, 4:8, 10:12] = 1
    first[3, 15, 15] = 1
    places = prompt_places((coords, labels), first, 64)
    np.testing.assert_allclose(places[:2], [[8, 9, 20, 30], [5, 16, 48, 51]])
    assert np.isnan(places[2]).all()
    np.testing.assert_allclose(places[3], [60, 60, 64, 64])


@pytest.mark.parametrize("mode", ["fundus", "sam_med2d"])
def test_zoom_in_batches_equals_one_by_one(mode, monkeypatch):
    model, image = large_logits_model(mode), photograph()
    frame, generator = model.preprocessing.frame(image), torch.Generator().manual_seed(0)
    corner = torch.rand(7, 1, 2, generator=generator) * 50
    points = torch.cat((corner, corner + 4), 1), torch.tensor([[2, 3]] * 7)
    first = torch.full((7, 16, 16), -1.0)
    encoded, encode = [], ImageEncoderViT.forward
    monkeypatch.setattr(
        ImageEncoderViT, "forward", lambda self, image: (encoded.append(len(image)), encode(self, image))[1]
    )
    answers = list(zoom_in(model, [image] * 7, [frame] * 7, points, first, at_once=3))
    assert encoded == [3, 3, 1] and [answer.index for answer in answers] == list(range(7))
    for i, answer in enumerate(answers):
        box = frame.boxes_to_original(torch.cat((corner[i, 0], corner[i, 0] + 4)).numpy())
        assert answer.frame == window_around(frame, box)
        (alone,) = zoom_in(model, [image], [frame], tuple(part[i : i + 1] for part in points), first[i : i + 1])
        torch.testing.assert_close(answer.logits, alone.logits, atol=1e-4, rtol=1e-4)
        top, left, bottom, right = answer.frame.crop
        blind = np.zeros_like(image)
        blind[top:bottom, left:right] = image[top:bottom, left:right]  # nothing outside the window is seen
        (same,) = zoom_in(model, [blind], [frame], tuple(part[i : i + 1] for part in points), first[i : i + 1])
        assert torch.equal(same.logits, alone.logits)


def test_prompts_without_a_window_are_left_out():
    model, image = large_logits_model(), photograph()
    frame = model.preprocessing.frame(image)
    points = torch.zeros(2, 2, 2), torch.tensor([[5, -1], [5, -1]])
    first = torch.full((2, 16, 16), -1.0)
    first[1] = 1.0  # all over the photograph
    assert not list(zoom_in(model, [image] * 2, [frame] * 2, points, first))


# --- mirror images ------------------------------------------------------------------------------------------------


def test_the_mirrored_answer_is_the_mean_of_four():
    model, image = large_logits_model(), photograph(64, 64, 0)
    pixels = window_pixels(model, [image], [model.preprocessing.frame(image)])

    def answer(turned: Tensor) -> dict[str, Tensor]:
        embedding = model.encode(turned)
        decoded = model.decode_points(embedding, *points, features=model.features(turned, embedding))
        return dict(zip(TILED_STRUCTURES, decoded.best()[:, 0], strict=True))

    points = model.prompt_encoder.structure_points(TILED_STRUCTURES)
    with torch.no_grad():
        whole = answer(pixels)
        found = mirrored(model, pixels, whole)
        turned = {axes: answer(pixels.flip(axes)) for axes in ((-2,), (-1,), (-1, -2))}
    for name in TILED_STRUCTURES:
        four = torch.stack([whole[name], *(own[name].flip(axes) for axes, own in turned.items())])
        torch.testing.assert_close(found[name], four.mean(0), atol=1e-4, rtol=1e-4)
        assert four.std(0).max() > 0.01  # the views differ


@pytest.mark.parametrize(
    "tiles", [False, pytest.param(Tiles(whole=0.3, shares={"optic_disc": 1.0}), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_turned_photograph_has_the_turned_answer(tiles, axis):
    """Its four views are the same; without mirror images its answer differs."""
    predictor, image = SamPredictor(large_logits_model()), photograph(128, 128, 0)

    def answers(seen: np.ndarray, mirror: bool) -> dict[str, np.ndarray]:
        predictor.set_image(seen)
        found = predictor.predict_structures(TILED_STRUCTURES, tiles=tiles, mirror=mirror)
        return {name: mask for name, (mask, _) in found.items()}

    turned = np.ascontiguousarray(np.flip(image, axis))
    given, back = answers(image, True), answers(turned, True)
    for name, mask in given.items():
        assert (np.flip(back[name], axis) != mask).mean() < 1e-3
    given, back = answers(image, False), answers(turned, False)
    assert any((np.flip(back[name], axis) != mask).mean() > 0.01 for name, mask in given.items())


def test_refinement_needs_the_photograph_itself(predictor):
    pixels = torch.zeros(1, 3, 64, 64)
    predictor.set_torch_image(pixels, (64, 64))
    for name in ("mirror", "tiles", "zoom"):
        with pytest.raises(ValueError, match=f"{name} needs the photograph itself"):
            predictor.predict_structures(["vessel"], **{name: True})


# --- the evaluation and the predictor are one ---------------------------------------------------------------------


@pytest.mark.parametrize("mirror", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_evaluation_answers_as_the_predictor(predictor, tmp_path, mirror):
    image, model = photograph(), predictor.model
    cv2.imwrite(str(tmp_path / "eye.png"), image[..., ::-1])
    refs = []
    for i, (name, place) in enumerate({"vessel": (30, 80), "optic_disc": (100, 130), "haemorrhage": (60, 70)}.items()):
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[slice(*place), 40 + 30 * i : 60 + 30 * i] = 255
        cv2.imwrite(str(tmp_path / f"eye_{name}_000.png"), mask)
        refs.append(MaskRef(tmp_path / f"eye_{name}_000.png", f"eye_{name}_000.png", name))
    record = Record(tmp_path / "eye.png", (*refs, refs[0]))
    dataset = FundusDataset([record], model.preprocessing, keep_truth=True, keep_photograph=True)
    batch = collate([dataset[0]])
    modes = [parse_mode(name) for name in ("box", "structure")]
    tiles = Tiles(whole=0.3)
    settings = {"tiles": tiles, "zoom": True, "mirror": mirror}
    prompts = make_prompts(batch, point_num=1, seed=0)
    found = predict_batch(model, batch, prompts, modes, seed=0, refinement=Refinement(**settings))
    structures = predictor.predict_structures(TILED_STRUCTURES, **settings)
    for i, ref in enumerate([*refs, refs[0]]):
        box = predictor.frame.boxes_to_original(batch.box[i].int().numpy())
        masks, iou, _ = predictor.predict(box=box, zoom=True)
        expected = np.stack((masks[iou.argmax()], structures[ref.structure][0]))
        answers = masks_at_original_size(batch, i, found[i])
        assert (answers != expected).mean() < 1e-3 and 0 < expected[0].mean() < 1
        assert found[i][0].predicted_iou == pytest.approx(iou.max(), abs=1e-4)
        assert (found[i][1].frame.image_size == 64) == (ref.structure == "optic_disc")
    assert found[3][1] is found[0][1]  # one prompt for all masks of a structure


@pytest.mark.slow
def test_each_photograph_of_a_batch_has_its_own_answers(predictor, tmp_path):
    model, records = predictor.model, []
    for size, name in ((170, "vessel"), (130, "haemorrhage")):
        folder = tmp_path / name
        folder.mkdir()
        cv2.imwrite(str(folder / "eye.png"), photograph(size, 200)[..., ::-1])
        mask = np.zeros((size, 200), np.uint8)
        mask[60:80, 90:120] = 255
        cv2.imwrite(str(folder / f"eye_{name}_000.png"), mask)
        ref = MaskRef(folder / f"eye_{name}_000.png", f"eye_{name}_000.png", name)
        records.append(Record(folder / "eye.png", (ref,)))
    dataset = FundusDataset(records, model.preprocessing, keep_truth=True, keep_photograph=True)
    batch = collate([dataset[0], dataset[1]])
    settings = {"tiles": Tiles(side=80, whole=0.3), "mirror": True}
    prompts = make_prompts(batch, point_num=1, seed=0)
    modes = [parse_mode("structure")]
    found = predict_batch(model, batch, prompts, modes, seed=0, refinement=Refinement(**settings))
    for i, record in enumerate(records):
        predictor.set_image(batch.photographs[i])
        mask, _ = predictor.predict_structure(record.masks[0].structure, **settings)
        (answer,) = masks_at_original_size(batch, i, found[i])
        assert (answer != mask).mean() < 1e-3 and 0 < mask.mean() < 1
