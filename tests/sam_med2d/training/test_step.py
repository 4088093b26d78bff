"""One training step: what learns, whose gradients meet where, and a plain rendering of the same step."""

import copy

import pytest
import torch

from sam_med2d.prompts.click_loop import ClickPolicy, Round, click_rounds
from sam_med2d.prompts.simulation import append_points, box_points, error_points, uniform
from sam_med2d.training import losses
from sam_med2d.training.losses import candidate_loss, soft_iou
from sam_med2d.training.optimizer import make_optimizer
from sam_med2d.training.step import StepPolicy, random_openings, round_losses, select_trainable
from segment_anything.utils.upsampling import upsample
from tests.helpers.tiny_models import make_tiny_model
from tests.helpers.training_runs import backward, gradients, streams, two_discs

POLICY = StepPolicy(corrective_rounds=4, clicks=(1, 2))
LAST = {"loss", "focal", "dice", "iou"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def five_discs():
    """Three pictures with one, three and one masks."""
    image, mask, box, _ = two_discs()
    index = torch.tensor([0, 1, 1, 1, 2])
    pictures, masks = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 0, 1, 0])
    return image[pictures], mask[masks], box[masks], index


def part_of(batch, pictures):
    """The batch of some of its pictures, and the places of their masks in the whole batch."""
    image, mask, box, index = batch
    places = [i for i, picture in enumerate(index.tolist()) if picture in pictures]
    renumbered = torch.tensor([pictures.index(picture) for picture in index[places].tolist()])
    return (image[pictures], mask[places], box[places], renumbered), places


# --- what learns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["full", pytest.param("adapter", marks=pytest.mark.slow), "none"])
def test_every_trainable_parameter_learns_and_no_frozen_one_does(encoder):
    model = make_tiny_model(encoder_adapter=True).train()
    select_trainable(model, encoder)
    touched = set()
    for step in range(12):
        model.zero_grad()
        backward(model, two_discs(), POLICY, seed=step)
        touched |= {name for name, gradient in gradients(model).items() if gradient.any()}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert touched == trainable
    assert {"prompt_encoder.not_a_point_embed.weight", "prompt_encoder.no_mask_embed.weight"} <= trainable
    assert {f"prompt_encoder.point_embeddings.{i}.weight" for i in range(4)} <= trainable
    assert any("mask_downscaling" in name for name in trainable)
    assert ("image_encoder.pos_embed" in trainable) == (encoder == "full")
    assert any("Adapter" in name for name in trainable) == (encoder != "none")


def test_a_round_without_points_leaves_their_embeddings_alone():
    """Zero gradients would let momentum and weight decay move them."""
    model = make_tiny_model().train()
    policy = StepPolicy(corrective_rounds=1, clicks=(1,))  # the later round sees the mask alone
    drawn = policy.draw(generator())
    for loss in round_losses(model, *two_discs(), policy=policy, click_policy=drawn, randomness=generator()):
        model.zero_grad()
        loss.total.backward()
    embeddings = [*model.prompt_encoder.point_embeddings, model.prompt_encoder.not_a_point_embed]
    assert all(embedding.weight.grad is None for embedding in embeddings)
    assert model.mask_decoder.iou_token.weight.grad is not None


def test_frozen_parameters_do_not_move_under_momentum_and_weight_decay():
    model = make_tiny_model(encoder_adapter=True).train()
    select_trainable(model, "adapter")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, lr=0.01, weight_decay=0.5)

    def update():
        optimizer.step()
        optimizer.zero_grad()

    for step in range(3):
        backward(model, two_discs(), POLICY, seed=step, after_round=update)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("rounds", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_each_step_reaches_every_parameter(rounds):
    """All rounds together, whatever prompts were drawn."""
    model = make_tiny_model().train()
    for seed in range(6):
        model.zero_grad()
        backward(model, part_of(two_discs(), [seed % 2])[0], StepPolicy(rounds, (1, 3)), seed=seed)
        assert gradients(model).keys() == dict(model.named_parameters()).keys()


@pytest.mark.slow
def test_one_batch_is_learnt_by_heart():
    model = make_tiny_model().train()
    batch = two_discs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    policy = StepPolicy(corrective_rounds=2, clicks=(1,))
    for step in range(150):
        optimizer.zero_grad()
        backward(model, batch, policy, seed=step)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    image, mask, box, index = batch
    with torch.no_grad():
        rounds = click_rounds(
            model, model.encode(image), index, mask, box_points(box), ClickPolicy(rounds=1), generator()
        )
        predicted = next(rounds).logits() > 0
    dice = 2 * (predicted & mask).sum() / (predicted.sum() + mask.sum())
    assert dice > 0.9


# --- the same step, plainly ---------------------------------------------------------------------------------------


def plain_rounds(model, batch, policy, clicks, randomness):
    """Loss of each round, summed over masks, of which the first reaches the encoder; lazily, as one click loop."""
    image, mask, box, index = batch
    points, previous = random_openings(mask[:, 0], box, randomness), None
    embedding = model.encode(image)
    for number in range(clicks.rounds):
        if number:
            embedding = embedding.detach()
        coords, labels = (part[:, :0] for part in points) if number in clicks.mask_only else points
        logits, iou, _ = model.decode_points(embedding[index], coords, labels, previous, multimask=clicks.multimask)
        yield len(mask) * candidate_loss(logits, mask, iou, relaxation=uniform(len(mask), 2, randomness))[0]
        result = Round(logits.detach(), iou.detach(), points, model.image_size)
        previous = result.low_res.sigmoid()
        if number + 1 < clicks.rounds and number + 1 not in clicks.mask_only:
            count = clicks.clicks[number + 1]
            points = append_points(points, error_points(result.logits()[:, 0] > 0, mask[:, 0], count, randomness))


@pytest.mark.parametrize("multimask", [True, False])
def test_gradients_of_the_rounds_add_up_to_those_of_one_graph(multimask):
    """Backward passes round by round, without an update between them, and the losses that they report."""
    model = make_tiny_model().train()
    policy = StepPolicy(corrective_rounds=3, clicks=(1, 2), multimask=multimask)
    sums = backward(model, five_discs(), policy, seed=3, masks=range(5))
    found = gradients(model)
    model.zero_grad()
    rounds = list(plain_rounds(model, five_discs(), policy, policy.draw(generator(3)), streams(range(5))))
    assert len(rounds) == policy.rounds == 4
    total = sum(rounds)
    total.backward()
    assert sums["loss"] == pytest.approx(total.item(), rel=1e-5) and sums.keys() == LAST
    expected = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name] / 20, gradient / 20, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_an_update_of_each_round_is_the_plain_schedule():
    """As SAM-Med2D: an optimizer step after every round, of which only the first reaches the encoder."""
    model = make_tiny_model().train()
    plain = copy.deepcopy(model)
    policy = StepPolicy(corrective_rounds=3, clicks=(1, 2))
    reached = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def update():
        reached.append(any(name.startswith("image_encoder.") for name in gradients(model)))
        optimizer.step()
        optimizer.zero_grad()

    sums = backward(model, five_discs(), policy, seed=1, masks=range(5), after_round=update)
    assert reached == [True, False, False, False] and sums.keys() == LAST

    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    for loss in plain_rounds(plain, five_discs(), policy, policy.draw(generator(1)), streams(range(5))):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    untouched = make_tiny_model().state_dict()
    assert any(not torch.equal(p, untouched[name]) for name, p in plain.state_dict().items())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(dict(model.named_parameters())[name], parameter, atol=1e-5, rtol=0, msg=name)


def test_the_candidate_of_the_best_iou_learns(monkeypatch):
    """Not that of the best predicted IoU: the two differ for some mask of some round here."""
    monkeypatch.setattr(losses, "RELAXATION", 0.0)
    model, batch = make_tiny_model().train(), five_discs()
    decode, rounds, learns = model.decode_points, [], []

    def watched(*args, **options):
        decoded = decode(*args, **options)
        logits, iou, _ = decoded
        logits.register_hook(lambda gradient: learns.append(gradient[:, 1:].abs().sum((2, 3)) > 0))
        rounds.append((logits.detach(), iou.detach()))
        return decoded

    monkeypatch.setattr(model, "decode_points", watched)
    backward(model, batch, StepPolicy(corrective_rounds=4, clicks=(1,)), seed=2)
    best = [soft_iou(upsample(logits, 64), batch[1])[:, 1:].argmax(1) for logits, _ in rounds]
    assert not torch.equal(torch.cat(best), torch.cat([iou[:, 1:].argmax(1) for _, iou in rounds]))
    for found, expected in zip(learns, best, strict=True):
        assert torch.equal(found, torch.nn.functional.one_hot(expected, 3).bool())


# --- sums, scales and memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pictures",
    [
        ([0], [1, 2]),
        pytest.param(([1], [0, 2]), marks=pytest.mark.slow),
        pytest.param(([2], [1], [0]), marks=pytest.mark.slow),
    ],
)
def test_gradients_of_several_batches_add_up_to_those_of_the_joint_one(pictures):
    """Whatever the numbers of masks, 1, 3 and 1 here: a mask counts the same in any batch."""
    model = make_tiny_model().train()
    joint = backward(model, five_discs(), POLICY, seed=4, masks=range(5))
    expected = gradients(model)
    model.zero_grad()
    parts = [part_of(five_discs(), list(chosen)) for chosen in pictures]
    sums = [backward(model, batch, POLICY, seed=4, masks=places) for batch, places in parts]
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient / 5, expected[name] / 5, atol=1e-5, rtol=0, msg=name)
    for name, value in joint.items():
        assert sum(part[name] for part in sums) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("encoder", ["full", pytest.param("adapter", marks=pytest.mark.slow)])
def test_gradient_checkpointing_changes_memory_and_no_gradient(encoder):
    model = make_tiny_model(encoder_adapter=True).train()
    select_trainable(model, encoder)
    passes = []
    model.image_encoder.blocks[0].register_forward_pre_hook(lambda *_: passes.append(1))
    found = []
    for enabled in (False, True):
        model.image_encoder.grad_checkpointing = enabled
        model.zero_grad()
        backward(model, two_discs(), POLICY)
        found.append(gradients(model))
    assert len(passes) == 1 + 2
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


def test_the_scale_is_that_of_the_gradients_alone():
    """A power of two scales floats without rounding."""
    model = make_tiny_model().train()
    policy = StepPolicy(corrective_rounds=2, clicks=(1,))
    plain_sums = backward(model, two_discs(), policy)
    plain = gradients(model)
    model.zero_grad()
    assert backward(model, two_discs(), policy, scale=1024) == plain_sums
    for name, gradient in gradients(model).items():
        assert torch.equal(gradient, 1024 * plain[name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", [1e4, -1e4])
def test_extreme_logits_under_autocast_give_finite_losses_and_gradients(dtype, level, monkeypatch):
    model = make_tiny_model().train()
    decode = model.decode_points

    def extreme(*args, **options):
        decoded = decode(*args, **options)
        return decoded._replace(logits=decoded.logits + level)

    monkeypatch.setattr(model, "decode_points", extreme)
    with torch.autocast("cpu", dtype):
        sums = backward(model, two_discs(), POLICY)
    assert all(torch.tensor(value).isfinite() for value in sums.values()) and sums["loss"] > 1
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_iou_target_has_no_gradient():
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    gradients_of = []
    for weight in (0.0, 1.0):  # of the squared error: the predicted IoU is right, or far from it
        predicted = (soft_iou(logits, torch.ones(1, 1, 8, 8)) + weight).detach().requires_grad_()
        loss, _ = candidate_loss(logits, torch.ones(1, 1, 8, 8), predicted)
        gradients_of.append(torch.autograd.grad(loss, [logits, predicted]))
    assert torch.equal(gradients_of[0][0], gradients_of[1][0])
    assert not gradients_of[0][1].any() and gradients_of[1][1].all()
