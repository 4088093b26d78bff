"""Structures asked for by name, the presence answer and the detail head: they add, and change nothing else."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sam_med2d.data.dataset import FundusDataset, collate
from sam_med2d.data.records import MaskRef, Record, complete
from sam_med2d.data.samplers import Draw
from sam_med2d.evaluation.batch_prediction import parse_mode, predict_batch
from sam_med2d.evaluation.case_row import CaseRow
from sam_med2d.evaluation.presence import presence_thresholds
from sam_med2d.prompts.prompt_file import make_prompts
from sam_med2d.training.losses import presence_loss, segmentation_losses
from sam_med2d.training.step import StepPolicy, random_openings, round_losses
from segment_anything.build_sam import build_sam
from segment_anything.checkpoint import CheckpointError, model_metadata, read_checkpoint, save_weights
from segment_anything.modeling import HEADS
from segment_anything.modeling.prompt_encoder import STRUCTURE
from segment_anything.preprocessing import Preprocessing
from tests.helpers.case_rows import case_row
from tests.helpers.tiny_models import STRUCTURES, make_tiny_model, prompts, structured

# --- what changes and what does not -------------------------------------------------------------------------------


@pytest.mark.parametrize("detail", [None, *HEADS])
def test_boxes_and_clicks_mean_what_they_meant_to_the_bit(detail):
    plain, more = make_tiny_model(), structured(detail=detail)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        embedding = plain.encode(image)
        before = plain.decode_points(embedding, **prompts(3))
        after = more.decode_points(more.encode(image), **prompts(3))
    assert torch.equal(before.logits, after.logits) and torch.equal(before.iou, after.iou)
    assert before.presence is None and after.presence.shape == (3,)


@pytest.mark.parametrize("detail", HEADS)
def test_a_new_detail_head_adds_nothing(detail):
    model = structured(detail=detail)
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        embedding = model.encode(image)
        features = model.features(image, embedding)
        coarse = model.decode_points(embedding, **prompts(2)).logits
        fine = model.decode_points(embedding, **prompts(2), features=features).logits
    assert features.shape == (2, model.mask_decoder.detail.channels, 64, 64) and fine.shape == (2, 3, 64, 64)
    assert torch.equal(fine, torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear", align_corners=False))


def test_the_light_heads_parameters_keep_their_order():
    """The optimizer's state of a run that is taken up again goes by it, and so do the last bits of a training."""
    names = [name.split(".")[0] for name, _ in structured(detail="light").mask_decoder.detail.named_parameters()]
    layers = ["at_full", "at_half", "at_quarter", "embedding", "join_quarter", "to_half", "join_half", "to_full"]
    assert list(dict.fromkeys(names)) == [*layers, "join_full", "weights", "under_prompts", "named"]


def test_a_structures_position_is_ignored_and_names_differ():
    model = structured()
    embedding = torch.randn(1, 256, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[STRUCTURE, -1], [STRUCTURE, -1], [STRUCTURE + 2, -1]])
    coords = torch.tensor([[[0.0, 0], [0, 0]], [[30.0, 9], [5, 5]], [[0.0, 0], [0, 0]]])
    with torch.no_grad():
        logits = model.decode_points(embedding, coords, labels).logits
    torch.testing.assert_close(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2], atol=1e-4)


def test_labels_are_told_by_name():
    encoder = structured().prompt_encoder
    assert [encoder.label_of(name) for name in STRUCTURES] == [4, 5, 6]
    with pytest.raises(ValueError, match=r"'fovea' is unknown.*optic_cup, optic_disc, vessel"):
        encoder.label_of("fovea")
    with pytest.raises(ValueError, match="--structures"):
        make_tiny_model().prompt_encoder.label_of("vessel")


# --- checkpoints --------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, tiny_type):
    model = structured(detail="light")
    save_weights(tmp_path / "model.safetensors", model.state_dict(), model_metadata(model, "vit_t"))
    return tmp_path / "model.safetensors", model


def test_a_checkpoint_brings_its_structures_and_its_head(saved):
    path, model = saved
    loaded = build_sam("vit_t", checkpoint=path)
    assert loaded.prompt_encoder.structures == STRUCTURES
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_structures_are_added_behind_those_of_the_checkpoint(saved):
    path, model = saved
    loaded = build_sam("vit_t", checkpoint=path, structures=["haemorrhage", "vessel"])
    assert loaded.prompt_encoder.structures == (*STRUCTURES, "haemorrhage")
    own, old = (m.prompt_encoder.structure_embeddings.weight for m in (loaded, model))
    assert torch.equal(own[:3], old) and len(own) == 4


def test_both_can_be_left_out(saved):
    path, _ = saved
    loaded = build_sam("vit_t", checkpoint=path, structures=(), detail="none")
    assert loaded.state_dict().keys() == make_tiny_model().state_dict().keys()
    assert "the detail head" in loaded.load_report.summary() and "the structures" in loaded.load_report.summary()


def test_an_old_checkpoint_gets_new_parts(tmp_path, tiny_type):
    model = make_tiny_model()
    save_weights(tmp_path / "model.safetensors", model.state_dict(), model_metadata(model, "vit_t"))
    assert build_sam("vit_t", checkpoint=tmp_path / "model.safetensors").prompt_encoder.structures == ()
    loaded = build_sam("vit_t", checkpoint=tmp_path / "model.safetensors", structures=["vessel"], detail="light")
    assert any("structure_embeddings" in key for key in loaded.load_report.initialised)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c", "d"], "abc", [1, 2, 3]])
def test_names_that_do_not_fit_the_tokens_are_refused(tmp_path, names):
    model = structured()
    metadata = model_metadata(model, "vit_t") | {"structures": names}
    save_weights(tmp_path / "model.safetensors", model.state_dict(), metadata)
    with pytest.raises(CheckpointError, match="one name each"):
        read_checkpoint(tmp_path / "model.safetensors").structures  # noqa: B018


# --- data ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path) -> Record:
    """A photograph with two haemorrhages, a vessel, and no exudate."""
    cv2.imwrite(str(tmp_path / "eye.png"), np.full((64, 64, 3), 120, np.uint8))
    masks = []
    for i, (name, rows) in enumerate(
        {"haemorrhage_000": (5, 9), "haemorrhage_001": (30, 40), "vessel_000": (50, 55)}.items()
    ):
        mask = np.zeros((64, 64), np.uint8)
        mask[slice(*rows), 10 * i + 5 : 40] = 255
        cv2.imwrite(str(tmp_path / f"eye_{name}.png"), mask)
        masks.append(MaskRef(tmp_path / f"eye_{name}.png", f"eye_{name}.png", name.rsplit("_", 1)[0]))
    return Record(tmp_path / "eye.png", tuple(masks), "lab", ("hard_exudate",))


def test_what_is_asked_for_is_the_whole_structure_or_nothing(record):
    dataset = FundusDataset(
        [record], Preprocessing(64), mask_num=3, drop_vanished=True, structures=["haemorrhage", "hard_exudate"]
    )
    single = FundusDataset([record], Preprocessing(64))[0]["mask"]
    seen = set()
    for epoch in range(60):
        item = dataset[Draw(epoch, 0, 0)]
        names = [ref.structure for ref in item["refs"]]
        for mask, asked, name in zip(item["mask"], item["structure_label"].tolist(), names, strict=True):
            seen.add((name, asked))
            if asked == STRUCTURE:
                assert torch.equal(mask, single[0] | single[1])
            if asked == STRUCTURE + 1:
                assert not mask.any()
        assert names.count("haemorrhage") in (1, 2)  # asked for once, or clicked on each
    assert seen == {("haemorrhage", -1), ("haemorrhage", 4), ("vessel", -1), ("hard_exudate", 5)}


def test_a_healthy_photograph_is_asked_for_something_that_it_does_not_have(record):
    healthy = replace(record, masks=(), absent=("hard_exudate", "haemorrhage", "drusen"))
    names = ["haemorrhage", "hard_exudate"]
    dataset = FundusDataset([healthy], Preprocessing(64), drop_vanished=True, structures=names)
    seen = set()
    for epoch in range(20):
        item = dataset[Draw(epoch, 0, 0)]
        assert not item["mask"].any() and len(item["mask"]) == len(item["structure_label"]) > 0
        seen |= {tuple(sorted(item["structure_label"].tolist()))}
    assert seen == {(4,), (5,), (4, 5)}


def test_without_structures_nothing_is_asked_for(record):
    dataset = FundusDataset([record], Preprocessing(64), mask_num=3, drop_vanished=True)
    assert all((dataset[Draw(epoch, 0, 0)]["structure_label"] == -1).all() for epoch in range(10))


def test_complete_says_what_is_not_there(record):
    bare = replace(record, absent=())
    (found,) = complete([bare], {"lab": ["haemorrhage", "soft_exudate"], "other": ["vessel"]})
    assert found.absent == ("soft_exudate",)
    assert complete([bare], {"other": ["hard_exudate"]})[0].absent == ()


# --- learning -----------------------------------------------------------------------------------------------------


def test_openings_ask_by_name_where_they_shall():
    mask = torch.zeros(3, 64, 64, dtype=torch.bool)
    mask[:, 10:20, 10:20] = True
    mask[2] = False
    box = torch.tensor([[10.0, 10, 20, 20]] * 2 + [[0.0, 0, 0, 0]])
    asked = torch.tensor([-1, 5, 6])
    coords, labels = random_openings(mask, box, torch.Generator().manual_seed(0), asked)
    assert labels[0].tolist() in ([2, 3], [1, -1])
    assert labels[1:].tolist() == [[5, -1], [6, -1]]
    plain = random_openings(mask, box, torch.Generator().manual_seed(0))
    assert torch.equal(plain[0], coords) and torch.equal(plain[1][0], labels[0])


def test_presence_counts_only_where_a_structure_was_asked_for():
    presence = torch.tensor([3.0, -2.0, 5.0], requires_grad=True)
    mask = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    mask[0] = True
    loss = presence_loss(presence, mask, torch.tensor([4, 5, -1]))
    expected = (np.log1p(np.exp(-3.0)) + np.log1p(np.exp(-2.0))) / 3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert presence.grad[2] == 0 and presence.grad[0] < 0 < presence.grad[1]


def test_cross_entropy_equals_the_plain_formula():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 3, 8, 8, generator=generator)
    mask = torch.rand(2, 1, 8, 8, generator=generator) > 0.6
    pixel, dice = segmentation_losses(logits, mask, kind="bce")
    p, t = logits.double().sigmoid(), mask.double().expand_as(logits)
    torch.testing.assert_close(
        pixel.double(), -(t * p.log() + (1 - t) * (1 - p).log()).mean((2, 3)), atol=1e-6, rtol=1e-5
    )
    expected = 1 - (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1)
    torch.testing.assert_close(dice.double(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(segmentation_losses(logits, mask)[1].double(), expected, atol=1e-6, rtol=1e-5)
    extreme, _ = segmentation_losses(1e4 * logits.sign(), mask, kind="bce")
    assert extreme.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("multimask", [True, False, None])
def test_presence_is_what_the_head_says_and_the_masks_surest_place(multimask):
    model = structured(detail="light")
    last = model.mask_decoder.presence_head.layers[-1]
    last.weight.zero_()
    last.bias.fill_(0.5)
    embedding = model.encode(image := torch.randn(2, 3, 64, 64))
    points = torch.zeros(2, 2, 2), torch.tensor([[4, -1], [5, -1]])
    for cell, features in ((4, model.features(image, embedding)), (1, None)):
        decoded = model.decode_points(embedding, *points, features=features, multimask=multimask)
        cells = torch.nn.functional.avg_pool2d(decoded.logits, cell)
        assert cells.shape[-1] == 16
        for i in range(2):
            best = decoded.iou[i, -3:].argmax() + decoded.iou.shape[1] - min(3, decoded.iou.shape[1])
            torch.testing.assert_close(decoded.presence[i], cells[i, best].max() + 0.5)


def answer(structure: str, presence: float, *, absent: bool, dice: float = 1.0) -> CaseRow:
    place = {"mask": "m.png", "image": "i.jpg", "data_set": "d", "structure": structure, "prompt": "structure"}
    dice = float("nan") if absent else dice
    return case_row(place | {"presence": presence, "absent": absent, "dice": dice})


def test_the_presence_threshold_parts_those_with_from_those_without():
    rows = [answer("vessel", p, absent=False) for p in (0.9, 0.8, 0.7, 0.2)]
    rows += [answer("vessel", p, absent=True) for p in np.linspace(0.01, 0.6, 40)]
    rows += [answer("optic_disc", 0.1, absent=False)]
    assert presence_thresholds(rows) == {"vessel": pytest.approx(0.65), "optic_disc": 0.0}


def test_two_photographs_without_a_structure_do_not_withhold_it_from_many():
    rows = [answer("hard_exudate", p, absent=False) for p in (0.9, 0.8, 0.3, 0.2)]
    rows += [answer("hard_exudate", p, absent=True) for p in (0.5, 0.6)]
    assert presence_thresholds(rows)["hard_exudate"] == 0.0
    many = [answer("hard_exudate", p, absent=True) for p in (0.5, 0.6) for _ in range(20)]
    assert presence_thresholds(rows[:4] + many)["hard_exudate"] == pytest.approx(0.7)


def test_a_mask_that_is_nearly_wrong_is_withheld_before_a_photograph_without_is_drawn():
    rows = [answer("soft_exudate", p, absent=False, dice=dice) for p, dice in ((0.03, 0.02), (0.3, 0.2), (0.9, 0.8))]
    rows += [answer("soft_exudate", p, absent=True) for p in (0.01, 0.05, 0.1, 0.25, 0.4)]
    assert presence_thresholds(rows)["soft_exudate"] == pytest.approx(0.275)


def test_by_area_a_small_mask_pulls_as_hard_as_a_large_one():
    logits, mask = torch.full((3, 1, 40, 40), -3.0), torch.zeros(3, 1, 40, 40, dtype=torch.bool)
    mask[0, :, :20], mask[1, :, :8, :10] = True, True
    plain = segmentation_losses(logits, mask, kind="bce")[0][:, 0]
    by_area = segmentation_losses(logits, mask, kind="area")[0][:, 0]
    torch.testing.assert_close(by_area, plain / torch.tensor([0.5, 0.05, 0.01]))  # nothing counts as 1 %


def learn(model, image, mask, asked, steps: int, lr: float = 2e-3) -> None:
    policy = StepPolicy(corrective_rounds=1, clicks=(1,), loss="bce")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    index, box = torch.arange(len(image)), torch.zeros(len(image), 4)
    for _ in range(steps):
        for loss in round_losses(
            model,
            image,
            mask,
            box,
            index,
            policy=policy,
            click_policy=policy.draw(generator),
            randomness=generator,
            structure_label=asked,
        ):
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()


def test_every_new_weight_gets_a_gradient():
    model = structured(detail="light").train()
    image, mask = torch.randn(3, 3, 64, 64), torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    mask[::2, :, 20:40, 20:40] = True
    asked = torch.tensor([4, 5, -1])
    learn(model, image, mask, asked, steps=2)  # the head's weights start at zero: its stem learns second
    policy = StepPolicy(corrective_rounds=1, clicks=(1,), loss="bce")
    generator = torch.Generator().manual_seed(0)
    model.zero_grad()
    for loss in round_losses(
        model,
        image,
        mask,
        torch.zeros(3, 4),
        torch.arange(3),
        policy=policy,
        click_policy=policy.draw(generator),
        randomness=generator,
        structure_label=asked,
    ):
        loss.total.backward()
    new = {
        name: p.grad
        for name, p in model.named_parameters()
        if any(s in name for s in ("structure", "presence", "detail"))
    }
    without = {name for name, gradient in new.items() if gradient is None or not gradient.any()}
    # of the three candidates one learns
    without = {
        name for name in without if not name.startswith(tuple(f"mask_decoder.detail.weights.{i}." for i in (1, 2, 3)))
    }
    assert len(new) > 20 and not without


@pytest.mark.slow
def test_detail_draws_what_the_coarse_grid_cannot():
    """Lines of one pixel, two pixels apart: a grid of S/4 sees grey; the head overfits them."""
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 16:48:3, 8:56] = True
    image = torch.where(mask, 1.0, -1.0).expand(1, 3, 64, 64) + 0.1 * torch.randn(1, 3, 64, 64)
    scores = {}
    for detail in (None, "light"):
        model = structured(detail=detail).train()
        learn(model, image, mask, torch.tensor([4]), steps=40)
        with torch.no_grad():
            embedding = model.encode(image)
            features = model.features(image, embedding)
            labels = torch.tensor([[4, -1]])
            logits = model.decode_points(
                embedding, torch.zeros(1, 2, 2), labels, features=features, multimask=False
            ).logits
        predicted = torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear") > 0
        scores[detail] = float(2 * (predicted & mask).sum() / (predicted.sum() + mask.sum()))
    assert scores["light"] > 0.95 and scores[None] < 0.8


def test_predictions_by_name_for_structures_that_are_known(record):
    model = structured(structures=("haemorrhage",), detail="light")
    batch = collate([FundusDataset([record], Preprocessing(64), keep_truth=True)[0]])
    modes = [parse_mode("structure"), parse_mode("box"), parse_mode("2")]
    found = predict_batch(model, batch, make_prompts(batch, point_num=1, seed=0), modes, seed=0)
    assert [[p.mode.name for p in own] for own in found] == [["structure", "box", "2"]] * 2 + [["box", "2"]]
    named = found[0][0]
    assert named.low_res.shape == (64, 64) and 0 <= named.presence <= 1 and named.points[1].tolist() == [4, -1]
