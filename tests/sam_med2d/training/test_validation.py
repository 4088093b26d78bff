"""Validation: the same rows and pictures however many processes share the work, batches and repetitions."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam_med2d.data.dataset import FundusDataset, collate
from sam_med2d.data.records import MaskRef, Record, load_index
from sam_med2d.evaluation.batch_prediction import parse_mode, predict_batch
from sam_med2d.evaluation.mask_pair import MaskPair
from sam_med2d.evaluation.metrics import score
from sam_med2d.evaluation.scoring import draw_predictions, masks_at_original_size
from sam_med2d.evaluation.summary import summarise
from sam_med2d.prompts.prompt_file import make_prompts
from sam_med2d.training.validation import (
    VALIDATION_PROMPTS,
    Validation,
    choose_cases,
    dice_columns,
    fallen,
    merge_shares,
    structure_dice,
)
from sam_med2d.visualization import overlays
from sam_med2d.visualization.labels import prompt_heading
from tests.helpers.tiny_models import make_tiny_model

RECORDS = load_index("data_demo", "train")
KEYS = [mask.key for record in RECORDS for mask in record.masks]


@pytest.fixture(scope="module")
def model():
    """In float64, as a logit of 1e-8 may change sides with the batch in float32, and with it a click."""
    return make_tiny_model().double()


def validation(model, records=RECORDS, **changes):
    options = {"batch_size": 2, "num_workers": 0, "seed": 7, "metrics": ["iou", "dice"], "multimask": True}
    made = Validation(records, model.preprocessing, device=torch.device("cpu"), **options | changes)
    collate_float32 = made.loader.collate_fn

    def in_double(items):
        batch = collate_float32(items)
        batch.image = batch.image.double()
        return batch

    made.loader.collate_fn = in_double
    return made


@pytest.fixture(scope="module")
def whole(model):
    return validation(model).run(model)


def test_probabilities_count_inside_the_field_of_view_as_in_a_test(model):
    made = validation(model, RECORDS[:1], metrics=["auc", "dice"])
    batch = next(iter(made.loader))
    assert len(batch.inside) == 1 and batch.inside[0].shape == batch.truth[0].shape
    assert next(iter(validation(model, RECORDS[:1]).loader)).inside is None


def test_a_structure_below_its_start_is_named(caplog):
    start = {"optic_disc": 0.9, "vessel": 0.6}
    assert fallen(start, {"optic_disc": 0.896, "vessel": 0.7}) == []
    with caplog.at_level("INFO", logger="train"):
        assert fallen(start, {"optic_disc": 0.99, "vessel": 0.59}) == ["vessel"]
    assert "vessel 0.600 -> 0.590" in caplog.text


def test_the_dice_of_a_structure_is_that_of_its_prompt():
    means = {"vessel": {"box": {"dice": 0.5}, "structure": {"dice": 0.7}}, "optic_cup": {"box": {"dice": 0.4}}}
    means["soft_exudate"] = {"box": {"dice": float("nan")}}
    assert structure_dice({"structures": means}) == {"vessel": 0.7, "optic_cup": 0.4}
    columns = dice_columns({"overall": {"box": {"dice": 0.5}, "3": {"dice": 0.7}}})
    assert columns == {"val_dice_box": 0.5, "val_dice_3": 0.7, "val_dice": pytest.approx(0.6)}


def by_mask(rows):
    return {(row.mask, row.prompt): row.as_columns() for row in rows}


def assert_same_rows(found, expected):
    found, expected = by_mask(found), by_mask(expected)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key] == row | {"predicted_iou": pytest.approx(row["predicted_iou"], abs=1e-6)}


def test_each_mask_has_a_row_for_each_prompt(whole):
    rows, _ = whole
    assert [(row.mask, row.prompt) for row in rows] == list(itertools.product(KEYS, VALIDATION_PROMPTS))
    assert all(0 <= row["dice"] <= 1 and 0 <= row["iou"] <= row["dice"] for row in by_mask(rows).values())


@pytest.mark.parametrize("processes", [2, 3, len(RECORDS) + 1])
def test_processes_together_do_what_one_does(model, whole, processes):
    shares = [validation(model, rank=rank, processes=processes).run(model) for rank in range(processes)]
    rows, tiles = merge_shares(shares)
    assert_same_rows(rows, whole[0])
    assert len(rows) == len(whole[0])
    assert summarise(rows, ["iou", "dice"]) == summarise(whole[0], ["iou", "dice"])
    assert np.array_equal(np.stack(tiles), np.stack(merge_shares([whole])[1]))
    images = [{row.image for row in own} for own, _ in shares]
    assert images == [{str(record.image) for record in RECORDS[rank::processes]} for rank in range(processes)]
    drawn = [set(own) for _, own in shares]
    assert not any(a & b for a, b in itertools.combinations(drawn, 2))


@pytest.mark.parametrize(
    "batch_size", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(100, marks=pytest.mark.slow)]
)
def test_the_batch_size_changes_nothing(model, whole, batch_size):
    rows, tiles = validation(model, batch_size=batch_size).run(model)
    assert_same_rows(rows, whole[0])
    assert all(np.array_equal(a, b) for number in tiles for a, b in zip(tiles[number], whole[1][number], strict=True))


@pytest.mark.slow
def test_it_can_be_repeated_and_leaves_no_gradient(model, whole):
    again = validation(model)
    for _ in range(2):
        rows, tiles = again.run(model)
        assert [row.as_columns() for row in rows] == [row.as_columns() for row in whole[0]]
        assert tiles.keys() == whole[1].keys()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
def test_another_seed_gives_other_clicks(model, whole):
    other = validation(model, seed=8)
    assert other.prompts != validation(model).prompts
    assert [row.scores for row in other.run(model)[0]] != [row.scores for row in whole[0]]


def test_no_photographs_give_no_rows(model):
    assert validation(model, records=[]).run(model) == ([], {})
    assert merge_shares([([], {})]) == ([], [])


# --- pictures -------------------------------------------------------------------------------------------------


def record(name: str, *structures: str) -> Record:
    masks = [MaskRef(Path(f"{name}_{s}_{i}.png"), f"{name}_{s}_{i}", s) for i, s in enumerate(structures)]
    return Record(Path(f"{name}.png"), tuple(masks))


def test_structures_take_turns():
    records = [record("a", "disc", "lesion", "lesion"), record("b", "lesion", "cup"), record("c", "disc", "lesion")]
    expected = ["a_disc_0", "a_lesion_1", "b_cup_1", "c_disc_0", "b_lesion_0", "c_lesion_1"]
    for count in range(8):
        assert choose_cases(records, count) == expected[:count]


def test_a_rare_structure_is_pictured_beside_a_frequent_one():
    records = [record(str(i), "vessel") for i in range(20)] + [record("last", "disc")]
    chosen = choose_cases(records)
    assert len(chosen) == 8 and chosen[:3] == ["0_vessel_0", "last_disc_0", "1_vessel_0"]
    assert choose_cases([]) == []


@pytest.mark.slow
def test_a_case_has_a_tile_for_the_box_and_one_for_three_clicks(model, monkeypatch):
    captions, drawn = [], overlays.draw_case
    monkeypatch.setattr(overlays, "draw_case", lambda *args: (captions.append(args[-1]), drawn(*args))[1])
    made = validation(model)
    rows, tiles = made.run(model)
    assert sorted(tiles) == list(range(min(8, len(KEYS)))) and all(len(pair) == 2 for pair in tiles.values())
    scores = by_mask(rows)
    numbers = {number: key for key, number in made.cases.items()}
    expected = [
        f"{scores[key, prompt]['structure']} {prompt_heading(prompt)}: Dice {scores[key, prompt]['dice']:.2f}"
        for key in (numbers[number] for number in tiles)
        for prompt in ("box", "3")
    ]
    assert captions == expected


def test_a_tile_shows_photograph_outlines_and_prompts(model):
    dataset = FundusDataset(RECORDS, model.preprocessing, keep_truth=True)
    batch = collate([dataset[0], dataset[1]])
    prompts = make_prompts(batch, point_num=1, seed=0)
    modes = [parse_mode("box"), parse_mode("2")]
    predictions = predict_batch(make_tiny_model(), batch, prompts, modes, seed=0)
    last = len(batch.refs) - 1
    tiles = draw_predictions(batch, last, predictions[last])
    masks = masks_at_original_size(batch, last, predictions[last])
    image, truth = photograph_and_truth(batch, last)
    for tile, prediction, mask in zip(tiles, predictions[last], masks, strict=True):
        points = batch.frames[1].points_to_original(prediction.points[0].numpy())
        dice = score(MaskPair(mask, truth), ["dice"])["dice"]
        caption = f"{batch.refs[last].structure} {prompt_heading(prediction.mode.name)}: Dice {dice:.2f}"
        expected = overlays.draw_case(image, truth, mask, points, prediction.points[1].numpy(), caption)
        assert tile.shape == (overlays.TILE_SIDE + 22, overlays.TILE_SIDE, 3) and np.array_equal(tile, expected)
    assert not np.array_equal(*tiles)


def photograph_and_truth(batch, i):
    """Photograph and truth of a mask, read from the files."""
    photograph = cv2.imread(str(batch.records[int(batch.image_index[i])].image))[..., ::-1]
    return np.ascontiguousarray(photograph), cv2.imread(str(batch.refs[i].path), cv2.IMREAD_GRAYSCALE) > 0
