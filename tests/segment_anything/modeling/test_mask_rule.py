"""Where masks begin: at a probability of 1/2, or at half the Dice that is expected of them."""

import numpy as np
import pytest
import torch

from sam_med2d.evaluation.command import load_tested
from sam_med2d.training.command import make_model
from segment_anything import SamPredictor
from segment_anything.build_sam import build_sam
from segment_anything.checkpoint import CheckpointError, model_metadata, read_checkpoint, save_weights
from segment_anything.modeling import HEADS
from segment_anything.modeling.mask_decoder import LOWEST_LEVEL, mask_level
from segment_anything.utils.onnx import SamOnnxModel
from tests.helpers.tiny_models import make_tiny_model, prompts, structured
from tests.helpers.training_runs import load_test_script, train_args


def decoded(model, count: int = 3):
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        embedding = model.encode(image)
        return model.decode_points(embedding, **prompts(count), features=model.features(image, embedding))


def expected_dice(probability: np.ndarray, chosen: np.ndarray, rng: np.random.Generator, worlds: int = 4000) -> float:
    """Mean Dice of a mask over truths drawn from independent probabilities of their pixels."""
    truth = rng.random((worlds, len(probability))) < probability
    return float((2 * (truth & chosen).sum(1) / np.maximum(truth.sum(1) + chosen.sum(), 1)).mean())


def test_the_level_is_where_the_expected_dice_is_highest():
    """Of every cut through sorted probabilities the best one lies at half of the Dice that it has."""
    rng = np.random.default_rng(0)
    probability = np.sort(rng.beta(0.3, 1.2, 400))
    cuts = np.linspace(0.05, 0.7, 66)
    dice = np.array([expected_dice(probability, probability >= cut, np.random.default_rng(1)) for cut in cuts])
    best = int(dice.argmax())
    iou = dice[best] / (2 - dice[best])
    assert mask_level(torch.tensor(iou)).sigmoid().item() == pytest.approx(dice[best] / 2, abs=1e-6)
    assert cuts[best] == pytest.approx(dice[best] / 2, abs=0.03) and dice[best] > dice[-20] + 0.01


def test_the_level_of_a_sure_mask_is_zero_and_that_of_a_hopeless_one_is_bounded():
    levels = mask_level(torch.tensor([1.3, 1.0, 0.5, 0.01, -0.2]))
    expected = [0.0, 0.0, np.log(0.5), LOWEST_LEVEL, LOWEST_LEVEL]
    torch.testing.assert_close(levels, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("detail", [None, *HEADS])
def test_logits_are_moved_by_the_level_and_nothing_else_is(detail):
    model = structured(detail=detail)
    half = decoded(model)
    model.mask_decoder.mask_rule = "dice"
    dice = decoded(model)
    assert torch.equal(dice.iou, half.iou) and torch.equal(dice.presence, half.presence)
    torch.testing.assert_close(dice.logits, half.logits - mask_level(half.iou)[..., None, None])
    assert (dice.logits > half.logits).any()


def test_training_sees_the_logits_as_they_are():
    model = make_tiny_model().train()
    half = decoded(model)
    model.mask_decoder.mask_rule = "dice"
    assert torch.equal(decoded(model).logits, half.logits)


def test_predictor_and_onnx_module_share_the_rule():
    model = make_tiny_model()
    model.mask_decoder.mask_rule = "dice"
    predictor = SamPredictor(model)
    predictor.set_image(np.random.default_rng(5).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    point, label = np.array([[20.0, 30.0]]), np.array([1])
    logits = predictor.predict(point, label, return_logits=True)[0]
    coords, labels = torch.tensor([[[20.0, 30.0], [0.0, 0.0]]]), torch.tensor([[1.0, -1.0]])
    size = torch.tensor([64.0, 64.0])
    no_mask = torch.zeros(1, 1, 16, 16), torch.zeros(1)
    masks = SamOnnxModel(model, multimask=True)(predictor.features, coords, labels, *no_mask, size)[0]
    np.testing.assert_allclose(logits, masks[0].numpy(), atol=1e-4)
    model.mask_decoder.mask_rule = "half"
    assert np.abs(predictor.predict(point, label, return_logits=True)[0] - logits).max() > 1e-3


# --- checkpoints and flags ----------------------------------------------------------------------------------------


def write(path, **changes):
    model = make_tiny_model()
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t") | changes)
    return path


def test_the_checkpoint_says_its_rule(tmp_path):
    for rule in ("half", "dice"):
        assert read_checkpoint(write(tmp_path / "a.safetensors", mask_rule=rule)).mask_rule == rule
    old = model_metadata(make_tiny_model(), "vit_t")
    assert old.pop("mask_rule") == "half"
    save_weights(tmp_path / "old.safetensors", make_tiny_model().state_dict(), old)
    assert read_checkpoint(tmp_path / "old.safetensors").mask_rule == "half"


def test_an_unknown_rule_is_refused_by_name(tmp_path):
    path = write(tmp_path / "a.safetensors", mask_rule="iou")
    with pytest.raises(CheckpointError, match=r"a\.safetensors.*'iou'.*half, dice"):
        _ = read_checkpoint(path).mask_rule


def test_fine_tuning_and_testing_keep_the_rule_unless_told(tmp_path, tiny_type):
    path = write(tmp_path / "a.safetensors", mask_rule="dice")
    assert build_sam("vit_t", checkpoint=path).mask_decoder.mask_rule == "dice"
    words = ["--sam_checkpoint", str(path), "--model_type", "vit_t", "--image_size", "64"]
    test = load_test_script()
    for more, rule in (([], "dice"), (["--mask_rule", "half"], "half")):
        trained = make_model(train_args(tmp_path, *words, *more), torch.device("cpu"))
        assert trained.mask_decoder.mask_rule == rule
        tested = load_tested(test.parse_args([*words, *more]), torch.device("cpu"))
        assert tested.mask_decoder.mask_rule == rule
