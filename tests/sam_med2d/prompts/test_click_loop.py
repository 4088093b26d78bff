"""The click loop and what evaluation makes of it: prompts of each round, choice of a mask, batches, prompt files."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_med2d.data.dataset import Batch
from sam_med2d.data.records import MaskRef, Record
from sam_med2d.errors import DataError
from sam_med2d.evaluation import batch_prediction
from sam_med2d.evaluation.batch_prediction import parse_mode, predict_batch
from sam_med2d.evaluation.scoring import masks_at_original_size
from sam_med2d.prompts.click_loop import ClickPolicy, Round, click_rounds, random_mask_only
from sam_med2d.prompts.prompt_file import make_prompts, random_stream, read_prompts, write_prompts
from sam_med2d.prompts.simulation import box_points, first_points, pad_points
from segment_anything.preprocessing import Preprocessing
from segment_anything.utils.masks import bounding_box

SIZE = 64
INDEX = torch.tensor([0, 0, 1, 1, 1])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def calls(tiny_model, monkeypatch):
    """Arguments and results of each call of the decoder: {"embedding", "coords", "labels", "masks", "result"}."""
    record, original = [], tiny_model.decode_points

    def spy(embedding, coords, labels, masks=None, *, image_index=None, multimask=True, **kwargs):
        result = original(embedding, coords, labels, masks, image_index=image_index, multimask=multimask, **kwargs)
        embedding = embedding if image_index is None else embedding[image_index]
        call = {"embedding": embedding, "coords": coords, "labels": labels, "masks": masks, "result": result}
        record.append(call | {"multimask": multimask})
        return result

    monkeypatch.setattr(tiny_model, "decode_points", spy)
    return record


def squares() -> torch.Tensor:
    """Five masks [5, 1, S, S] of different sizes."""
    mask = torch.zeros(5, 1, SIZE, SIZE, dtype=torch.bool)
    for i in range(5):
        mask[i, :, 4 + 3 * i : 30 + 5 * i, 10:40] = True
    return mask


def play(model, policy, *, box=False, seed=0):
    """The rounds of five masks on two random embeddings, and what they started from."""
    mask = squares()
    embedding = torch.randn(2, 256, SIZE // 16, SIZE // 16, generator=generator(5))
    boxes = torch.tensor([bounding_box(m[0].numpy()) for m in mask], dtype=torch.float32)
    opening = box_points(boxes) if box else pad_points(first_points(mask[:, 0], 1, generator(seed)))
    with torch.no_grad():
        return (
            mask,
            embedding,
            opening,
            list(click_rounds(model, embedding, INDEX, mask, opening, policy, generator(seed))),
        )


# --- rounds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("clicks", [1, 3])
def test_opening_prompt_then_clicks_one_behind_the_other(tiny_model, calls, box, clicks):
    mask, embedding, opening, rounds = play(tiny_model, ClickPolicy(4, clicks), box=box)
    assert len(rounds) == len(calls) == 4
    assert torch.equal(calls[0]["coords"], opening[0]) and torch.equal(calls[0]["labels"], opening[1])
    assert calls[0]["labels"][0].tolist() == ([2, 3] if box else [1, -1]) and calls[0]["masks"] is None
    for number, (call, result) in enumerate(zip(calls, rounds, strict=True)):
        assert torch.equal(call["embedding"], embedding[INDEX])
        assert call["coords"].shape == (5, 2 + clicks * number, 2)
        assert torch.equal(call["coords"], result.points[0]) and torch.equal(call["labels"], result.points[1])
    for before, after in itertools.pairwise(rounds):
        kept = before.points[0].shape[1]
        assert torch.equal(after.points[0][:, :kept], before.points[0])
        assert torch.equal(after.points[1][:, :kept], before.points[1])
        error = (before.logits()[:, 0] > 0) != mask[:, 0]
        for i in range(5):
            for (x, y), label in zip(after.points[0][i, kept:].long(), after.points[1][i, kept:], strict=True):
                assert error[i, y, x] and label == int(mask[i, 0, y, x])


def test_previous_probability_is_the_mask_prompt(tiny_model, calls):
    _, _, _, rounds = play(tiny_model, ClickPolicy(4, mask_only=frozenset({2})))
    for call, before in zip(calls[1:], rounds, strict=False):
        chosen = torch.stack([before.candidates[i, before.choice[i]] for i in range(5)])[:, None]
        assert torch.equal(call["masks"], 1 / (1 + (-chosen).exp())) or torch.allclose(call["masks"], chosen.sigmoid())
        assert not call["masks"].requires_grad


def test_mask_only_rounds_have_no_points(tiny_model, calls):
    policy = ClickPolicy(6, clicks=2, mask_only=frozenset({2, 5}))
    _, _, _, rounds = play(tiny_model, policy)
    assert [call["coords"].shape[1] for call in calls] == [2, 4, 0, 6, 8, 0]
    assert [call["labels"].shape[1] for call in calls] == [2, 4, 0, 6, 8, 0]
    assert all(call["masks"].shape == (5, 1, SIZE // 4, SIZE // 4) for call in calls[1:])
    assert [result.points[0].shape[1] for result in rounds] == [2, 4, 4, 6, 8, 8]  # no click is lost on the way


@pytest.mark.parametrize(("multimask", "outputs"), [(True, 3), (None, 4), (False, 1)])
def test_the_policy_chooses_the_tokens(tiny_model, calls, multimask, outputs):
    _, _, _, rounds = play(tiny_model, ClickPolicy(2, multimask=multimask))
    assert all(call["multimask"] is multimask for call in calls)
    assert all(result.candidates.shape == (5, outputs, SIZE // 4, SIZE // 4) for result in rounds)


def test_both_kinds_of_outputs_play_the_same_game(tiny_model):
    three, four = (play(tiny_model, ClickPolicy(3, multimask=multimask))[3] for multimask in (True, None))
    for a, b in zip(three, four, strict=True):
        torch.testing.assert_close(a.low_res, b.low_res)
        torch.testing.assert_close(a.points[0], b.points[0])


@pytest.mark.parametrize(
    "iou", [[0.1, 0.7, 0.3], [0.9, 0.1, 0.7, 0.3], [0.4, 0.2, 0.8, 0.5], [0.3], [0.9, 0.1, 0.1, 0.4]]
)
def test_choice_is_the_best_predicted_iou_of_the_candidates(iou):
    m = len(iou)
    candidates = torch.arange(m).float().view(1, m, 1, 1).expand(2, m, 16, 16)
    result = Round(candidates, torch.tensor([iou, iou[::-1]]), (torch.zeros(2, 0, 2), torch.zeros(2, 0)), SIZE)
    for i, row in enumerate((iou, iou[::-1])):
        expected = max(range(1 if m == 4 else 0, m), key=lambda j, row=row: row[j])
        assert result.choice[i] == expected
        assert result.predicted_iou[i].item() == pytest.approx(row[expected])
        assert (result.low_res[i] == expected).all() and (result.logits()[i] == expected).all()
    assert result.logits().shape == (2, 1, SIZE, SIZE) and result.low_res.shape == (2, 1, 16, 16)


def test_gradients_stay_within_a_round(tiny_model):
    mask = squares()
    opening = pad_points(first_points(mask[:, 0], 1, generator()))
    embedding = torch.randn(2, 256, 4, 4, generator=generator(5))
    for result in click_rounds(tiny_model, embedding, INDEX, mask, opening, ClickPolicy(3), generator()):
        tiny_model.zero_grad()
        result.logits().mean().backward()  # a graph shared between rounds would be freed by now
        assert tiny_model.mask_decoder.mask_tokens.weight.grad.abs().sum() > 0


def test_clicks_depend_on_the_seed_alone(tiny_model):
    first, again, other = (play(tiny_model, ClickPolicy(4), seed=seed)[3][-1].points[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("rounds", [2, 3, 9])
def test_random_mask_only_is_a_later_round_and_the_last(rounds):
    shared = generator()
    drawn = [random_mask_only(rounds, shared) for _ in range(300)]
    assert all(rounds - 1 in rows and len(rows) <= 2 for rows in drawn)
    assert set().union(*drawn) == set(range(1, rounds))


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_single_round_is_never_mask_only(rounds):
    assert random_mask_only(rounds, generator()) == frozenset()


# --- batches --------------------------------------------------------------------------------------------------


def make_batch(keep: list[int] | None = None, dtype: torch.dtype = torch.float32) -> Batch:
    """Masks `keep` of five on two images, with only the images they need."""
    keep = list(range(5)) if keep is None else keep
    images = torch.randn(2, 3, SIZE, SIZE, generator=generator(9))
    needed, image_index = INDEX[keep].unique(return_inverse=True)
    refs = [MaskRef(Path(f"masks/m{i}.png"), f"m{i}.png", "disc") for i in range(5)]
    frame = Preprocessing(SIZE, "sam_med2d").frame(np.zeros((50, 90, 3), np.uint8))
    mask = squares()[keep]
    return Batch(
        image=images[needed].to(dtype),
        mask=mask,
        box=torch.tensor([bounding_box(m[0].numpy()) for m in mask], dtype=torch.float32),
        image_index=image_index,
        structure_label=torch.full((len(keep),), -1),
        refs=[refs[i] for i in keep],
        seeds=keep,
        frames=[frame] * len(needed),
        records=[Record(Path(f"image{i}.png"), ()) for i in needed.tolist()],
        truth=None,
    )


@pytest.mark.parametrize("names", [["box"], ["5"], ["box", "1", "3", "5"]])
def test_each_image_is_encoded_once_whatever_the_modes(tiny_model, calls, monkeypatch, names):
    encoded, original = [], tiny_model.image_encoder.forward
    monkeypatch.setattr(tiny_model.image_encoder, "forward", lambda image: (encoded.append(image), original(image))[1])
    batch, modes = make_batch(), [parse_mode(name) for name in names]
    predictions = predict_batch(tiny_model, batch, make_prompts(batch, point_num=1, seed=0), modes, seed=0)
    assert len(encoded) == 1 and torch.equal(encoded[0], batch.image)
    assert [[p.mode for p in row] for row in predictions] == [modes] * 5
    assert len(calls) == ("box" in names) + 5 * ("5" in names)
    for row in predictions:
        for prediction in row:
            points = 2 if prediction.mode.opening == "box" else 1 + prediction.mode.clicks
            assert prediction.points[0].shape == (points, 2) and prediction.low_res.shape == (16, 16)


def test_every_seed_mask_and_purpose_has_its_own_stream():
    seeds, keys, purposes = (0, 1, 2, 7, 2**16, 2**31, 2**32 - 1), ("a.png", "b.png"), ("opening", "clicks")
    cases = list(itertools.product(seeds, keys, purposes))
    drawn = {tuple(torch.rand(4, generator=random_stream(*case)).tolist()) for case in cases}
    again = {tuple(torch.rand(4, generator=random_stream(*case)).tolist()) for case in cases}
    assert len(drawn) == len(cases) and drawn == again


@pytest.mark.parametrize("point_num", [1, 3])
@pytest.mark.parametrize("keep", [[0], [4], [3, 1], [4, 3, 2, 1, 0]])
def test_predictions_do_not_depend_on_the_batch(tiny_model, keep, point_num):
    tiny_model.double()  # in float32 a logit of 1e-8 may change sides with the batch, and with it a click
    modes = [parse_mode(name) for name in ("box", "1", "4")]
    prompts = make_prompts(make_batch(), point_num=point_num, seed=3)
    batch = make_batch(keep, torch.float64)
    assert make_prompts(batch, point_num=point_num, seed=3) == {f"m{i}.png": prompts[f"m{i}.png"] for i in keep}
    together = predict_batch(tiny_model, make_batch(dtype=torch.float64), prompts, modes, seed=3)
    part = predict_batch(tiny_model, batch, prompts, modes, seed=3)
    for row, i in zip(part, keep, strict=True):
        for found, expected in zip(row, together[i], strict=True):
            torch.testing.assert_close(found.low_res, expected.low_res, atol=1e-5, rtol=0)
            assert found.predicted_iou == pytest.approx(expected.predicted_iou, abs=1e-5)
            assert torch.equal(found.points[0], expected.points[0]) and torch.equal(found.points[1], expected.points[1])


def test_masks_with_different_numbers_of_points_do_not_disturb_each_other(tiny_model):
    tiny_model.double()
    prompts = make_prompts(make_batch(), point_num=1, seed=3)
    prompts["m2.png"] |= {"point_coords": [[12, 14], [3, 3], [30, 30]], "point_labels": [1, 0, 1]}
    modes = [parse_mode("2")]
    together = predict_batch(tiny_model, make_batch(dtype=torch.float64), prompts, modes, seed=3)
    for i in range(5):
        alone = predict_batch(tiny_model, make_batch([i], torch.float64), prompts, modes, seed=3)[0][0]
        torch.testing.assert_close(alone.low_res, together[i][0].low_res, atol=1e-5, rtol=0)


@pytest.mark.parametrize("at_once", [1, 2, 4, 5])
def test_few_masks_at_once_give_what_all_give(tiny_model, calls, monkeypatch, at_once):
    tiny_model.double()
    batch, modes = make_batch(dtype=torch.float64), [parse_mode(name) for name in ("box", "1", "3")]
    prompts = make_prompts(batch, point_num=1, seed=3)
    together = predict_batch(tiny_model, batch, prompts, modes, seed=3)
    calls.clear()
    monkeypatch.setattr(batch_prediction, "MASKS_AT_ONCE", at_once)
    in_parts = predict_batch(tiny_model, batch, prompts, modes, seed=3)
    assert {len(call["coords"]) for call in calls} <= {at_once, 5 % at_once}
    assert sum(len(call["coords"]) for call in calls) == 5 * (1 + 3)
    for row, expected_row in zip(in_parts, together, strict=True):
        assert [prediction.mode for prediction in row] == modes
        for found, expected in zip(row, expected_row, strict=True):
            torch.testing.assert_close(found.low_res, expected.low_res, atol=1e-5, rtol=0)
            assert torch.equal(found.points[0], expected.points[0]) and torch.equal(found.points[1], expected.points[1])


def test_a_vanished_mask_is_never_asked_for(tiny_model):
    batch = make_batch()
    batch.mask[1], batch.box[1] = False, 0
    prompts = make_prompts(batch, point_num=1, seed=0)
    assert prompts["m1.png"] == {"boxes": [], "point_coords": [], "point_labels": []}
    predictions = predict_batch(tiny_model, batch, prompts, [parse_mode("box"), parse_mode("3")], seed=0)
    masks = masks_at_original_size(batch, 1, predictions[1])
    assert masks.shape == (2, 50, 90) and masks.dtype == bool and not masks.any()
    assert all((prediction.points[1] <= 0).all() for prediction in predictions[1])


@pytest.mark.parametrize("name", ["0", "101", "-1", "3.0", "points", ""])
def test_unknown_mode_is_named(name):
    with pytest.raises(ValueError, match=re.escape(f"prompt {name!r} is unknown")):
        parse_mode(name)


# --- prompt files ---------------------------------------------------------------------------------------------

REFS = [MaskRef(Path(key), key, "disc") for key in ("od/1.png", "oc/1.png", "2_vessel_000.png")]


def entry(x: int = 5, count: int = 1) -> dict:
    return {"boxes": [[x, 1, 60, 64]], "point_coords": [[x, 9]] * count, "point_labels": [1] * count}


@pytest.mark.parametrize("count", [0, 1, 4])
def test_prompts_return_from_their_file(tmp_path, count):
    prompts = {ref.key: entry(5 + i, count) for i, ref in enumerate(REFS)}
    write_prompts(tmp_path / "new" / "64_prompt.json", [prompts])
    assert read_prompts(tmp_path / "new" / "64_prompt.json", REFS, 64) == prompts


def test_made_prompts_return_from_their_file(tmp_path):
    batch = make_batch()
    prompts = make_prompts(batch, point_num=3, seed=0)
    for i, ref in enumerate(batch.refs):
        own = prompts[ref.key]
        assert own["boxes"] == [list(bounding_box(batch.mask[i, 0].numpy()))]
        assert [int(batch.mask[i, 0, y, x]) for x, y in own["point_coords"]] == own["point_labels"] == [1, 0, 0]
    write_prompts(tmp_path / "p.json", [prompts])
    assert read_prompts(tmp_path / "p.json", batch.refs, SIZE) == prompts


def test_plain_basenames_still_load(tmp_path):
    refs = [MaskRef(Path(key), key, "disc") for key in ("a/1.png", "b/2.png")]
    write_prompts(tmp_path / "p.json", [{"1.png": entry(1), "2.png": entry(2), "other.png": entry()}])
    assert read_prompts(tmp_path / "p.json", refs, 64) == {"a/1.png": entry(1), "b/2.png": entry(2)}


def test_a_basename_of_two_masks_stands_for_neither(tmp_path):
    write_prompts(tmp_path / "p.json", [{"1.png": entry(), "2_vessel_000.png": entry()}])
    with pytest.raises(DataError, match=r"no entry for 2 mask\(s\): od/1.png, oc/1.png"):
        read_prompts(tmp_path / "p.json", REFS, 64)


def test_missing_entries_are_named(tmp_path):
    write_prompts(tmp_path / "p.json", [{"od/1.png": entry()}])
    with pytest.raises(DataError, match=r"p.json has no entry for 2 mask\(s\): oc/1.png, 2_vessel_000.png"):
        read_prompts(tmp_path / "p.json", REFS, 64)


@pytest.mark.parametrize(
    "change",
    [
        {"point_coords": [[5, 65]]},
        {"point_coords": [[-1, 5]]},
        {"point_coords": [[float("nan"), 5]]},
        {"boxes": [[0, 0, 100, 20]]},
    ],
)
def test_prompts_outside_the_frame_are_named(tmp_path, change):
    write_prompts(tmp_path / "p.json", [{ref.key: entry() for ref in REFS} | {"oc/1.png": entry() | change}])
    with pytest.raises(DataError, match=r"outside 0\.\.64 for oc/1.png\."):
        read_prompts(tmp_path / "p.json", REFS, 64)


@pytest.mark.parametrize(
    "broken",
    [
        {"boxes": [[1, 2, 3, 4]]},
        {"point_coords": [[1, 2]], "point_labels": [1]},
        entry() | {"point_labels": [1, 0]},
        entry() | {"point_coords": [["a", "b"]]},
        entry() | {"point_coords": [[1, 2], [3]], "point_labels": [1, 1]},
        entry() | {"point_labels": [7]},
        entry() | {"boxes": [[1, 2, 3]]},
        [[1, 2]],
    ],
)
def test_malformed_entries_are_named(tmp_path, broken):
    (tmp_path / "p.json").write_text(json.dumps({ref.key: entry() for ref in REFS} | {"od/1.png": broken}))
    with pytest.raises(DataError, match="od/1.png"):
        read_prompts(tmp_path / "p.json", REFS, 64)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"text"'])
def test_unreadable_file_is_named(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match="p.json"):
        read_prompts(tmp_path / "p.json", REFS, 64)


def test_entries_nested_one_level_deeper_or_flat_are_read(tmp_path):
    """SAM-Med2D nested points by mask; a flat box is a box too."""
    deep = {"boxes": [[[5, 1, 60, 64]]], "point_coords": [[[5, 9], [7, 8]]], "point_labels": [[1, 0]]}
    flat = {"boxes": [5, 1, 60, 64], "point_coords": [5, 9], "point_labels": [1]}
    (tmp_path / "p.json").write_text(json.dumps({REFS[0].key: deep, REFS[1].key: flat, REFS[2].key: entry()}))
    prompts = read_prompts(tmp_path / "p.json", REFS, 64)
    assert prompts[REFS[0].key] == entry() | {"point_coords": [[5, 9], [7, 8]], "point_labels": [1, 0]}
    assert prompts[REFS[1].key] == entry()
