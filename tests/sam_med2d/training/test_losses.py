"""Losses against golden numbers of the public implementation and slow formulas, and where they differ on purpose."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_med2d.training import losses
from tests.helpers import paths
from utils import DiceLoss, FocalDiceloss_IoULoss, FocalLoss, MaskIoULoss

GOLDEN = paths.GOLDEN / "golden_losses_transforms.npz"


@pytest.fixture(scope="module")
def golden():
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_losses_over_the_batch_match_the_public_implementation(golden, case):
    logits, mask, iou = (golden[f"{case}_{name}"] for name in ("logits", "mask", "pred_iou"))
    torch.testing.assert_close(FocalLoss()(logits, mask), golden[f"{case}_focal"], atol=1e-5, rtol=0)
    torch.testing.assert_close(DiceLoss()(logits, mask), golden[f"{case}_dice_loss"], atol=1e-5, rtol=0)
    torch.testing.assert_close(MaskIoULoss()(logits, mask, iou), golden[f"{case}_iou_loss"], atol=1e-5, rtol=0)
    total = FocalDiceloss_IoULoss()(logits, mask, iou)
    torch.testing.assert_close(total, golden[f"{case}_total"], atol=1e-4, rtol=0)
    focal, _ = losses.segmentation_losses(logits, mask)
    torch.testing.assert_close(focal.mean(), golden[f"{case}_focal"], atol=1e-5, rtol=0)


# --- plain formulas -------------------------------------------------------------------------------------------


def slow_losses(logits: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """Focal loss, Dice loss and soft IoU of one output [H, W], as the papers write them, in float64."""
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    p_t = np.where(mask, probability, 1 - probability)
    alpha_t = np.where(mask, 0.25, 0.75)
    focal = (alpha_t * (1 - p_t) ** 2 * -np.log(p_t)).mean()
    overlap, total = (probability * mask).sum(), probability.sum() + mask.sum()
    return focal, 1 - (2 * overlap + 1) / (total + 1), (overlap + 1e-7) / (total - overlap + 1e-7)


def random_case(n: int, m: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [n, m, height, width] and a bool mask [n, 1, height, width] with one empty and one full mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, 1, height, width, generator=generator) < 0.3
    mask[0], mask[-1] = False, True
    return 3 * torch.randn(n, m, height, width, generator=generator), mask


@given(
    n=st.integers(2, 4),
    m=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_losses_equal_the_plain_formulas(n, m, height, width, seed):
    logits, mask = random_case(n, m, height, width, seed)
    expected = [[slow_losses(logits[i, j].numpy(), mask[i, 0].numpy()) for j in range(m)] for i in range(n)]
    expected = torch.tensor(np.array(expected)).movedim(-1, 0).float()
    focal, dice = losses.segmentation_losses(logits, mask)
    found = torch.stack((focal, dice, losses.soft_iou(logits, mask)))
    assert found.shape == (3, n, m)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-4)


def test_the_loss_is_the_mean_of_single_masks():
    logits, mask = random_case(4, 1, 12, 12)
    mask[0, :, :3] = True
    predicted = torch.rand(4, 1, generator=torch.Generator().manual_seed(0))
    total, _ = losses.candidate_loss(logits, mask, predicted)
    single = [losses.candidate_loss(*(x[i : i + 1] for x in (logits, mask, predicted)))[0] for i in range(4)]
    by_hand = [slow_losses(logits[i, 0].numpy(), mask[i, 0].numpy()) for i in range(4)]
    error = predicted[:, 0].numpy() - [iou for _, _, iou in by_hand]
    expected = np.mean([20 * focal + dice for focal, dice, _ in by_hand]) + np.mean(error**2)
    assert float(total) == pytest.approx(float(sum(single) / 4), abs=1e-5) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss_of", [lambda *case: losses.candidate_loss(*case)[0], FocalDiceloss_IoULoss()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("level", [1e4, -1e4])
@pytest.mark.parametrize("truth", [True, False])
def test_extreme_logits_give_finite_losses_and_gradients(loss_of, dtype, level, truth):
    logits = torch.full((2, 1, 16, 16), level, dtype=dtype, requires_grad=True)
    mask = torch.full((2, 1, 16, 16), truth)
    predicted = torch.full((2, 1), 0.5, dtype=dtype, requires_grad=True)
    loss = loss_of(logits, mask, predicted)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert logits.grad.isfinite().all() and predicted.grad.isfinite().all()
    right = truth == (level > 0)
    assert (float(loss.detach()) < 0.3) == right and (logits.grad.abs().sum() > 0) != right


# --- repairs --------------------------------------------------------------------------------------------------


def of_each_mask(logits, mask):
    """Dice loss, and squared error of the predicted IoU 1, means over masks."""
    return losses.segmentation_losses(logits, mask)[1].mean(), (1 - losses.soft_iou(logits, mask)).square().mean()


def of_the_batch(logits, mask):
    """The same with sums over the batch."""
    return DiceLoss()(logits, mask), MaskIoULoss()(logits, mask, torch.ones(len(mask), 1))


def cost_of_a_miss(side: int, losses_of) -> tuple[float, float]:
    """How much Dice and how much IoU loss it costs to miss a square in a batch of four, the other three found."""
    mask = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    mask[:3, :, 8:40, 8:40] = mask[3, :, 8 : 8 + side, 8 : 8 + side] = True
    found = torch.where(mask, 50.0, -50.0)
    missed = found.clone()
    missed[3] = -50
    return tuple(float(a - b) for a, b in zip(losses_of(missed, mask), losses_of(found, mask), strict=True))


def test_a_missed_pixel_costs_as_much_as_a_missed_disc():
    small, large = (cost_of_a_miss(side, of_each_mask) for side in (1, 32))
    assert large == pytest.approx((0.25, 0.25), abs=1e-3)
    assert small == pytest.approx((0.125, 0.25), abs=1e-3)  # the smoothing term of 1 stands for half of one pixel
    assert cost_of_a_miss(5, of_each_mask) == pytest.approx((0.25, 0.25), abs=0.01)
    assert max(cost_of_a_miss(1, of_the_batch)) < 0.008


def test_iou_target_gets_no_gradient():
    logits, mask = random_case(3, 1, 8, 8)
    mask[0, :, :3] = True
    logits.requires_grad_()
    predicted = torch.zeros(3, 1, requires_grad=True)
    losses.candidate_loss(logits, mask, predicted)[0].backward()
    with_iou = logits.grad.clone()
    logits.grad = None
    focal, dice = losses.segmentation_losses(logits, mask)
    (20 * focal + dice).mean().backward()
    torch.testing.assert_close(with_iou, logits.grad)
    torch.testing.assert_close(predicted.grad, -2 * losses.soft_iou(logits.detach(), mask) / 3)


# --- candidates -----------------------------------------------------------------------------------------------

BEST = [1, 0, 2, 2]  # of the three candidates, for each mask


def candidates(m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Low-resolution logits [4, m, 8, 8], whose candidate BEST[i] fits mask i [4, 1, 32, 32] best."""
    mask = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    for i in range(4):
        mask[i, :, 4 : 16 + 4 * i, 8:24] = True
    fit = torch.where(mask[:, :, 2::4, 2::4], 2.0, -2.0)
    logits = -fit.expand(-1, m, -1, -1) + torch.randn(4, m, 8, 8, generator=torch.Generator().manual_seed(0))
    if m > 1:
        for i, best in enumerate(BEST):
            logits[i, m - 3 + best] = fit[i, 0]
    return logits.contiguous(), mask


@pytest.mark.parametrize("m", [1, 3, 4])
def test_only_the_best_candidate_and_the_single_output_learn_the_mask(m):
    logits, mask = candidates(m)
    logits.requires_grad_()
    predicted = torch.zeros(4, m)
    predicted[:, -3:] = 1 - torch.nn.functional.one_hot(torch.tensor(BEST), 3)[:, :m].float()  # the best looks worst
    predicted.requires_grad_()
    loss, parts = losses.candidate_loss(logits, mask, predicted)
    loss.backward()
    expected = torch.zeros(4, m, dtype=torch.bool)
    if m != 3:
        expected[:, 0] = True
    if m > 1:
        expected[torch.arange(4), torch.tensor(BEST) + m - 3] = True
    assert torch.equal(logits.grad.abs().sum((2, 3)) > 0, expected)
    assert (predicted.grad != 0).all()
    assert parts.keys() == {"loss", "focal", "dice", "iou"} and not any(value.requires_grad for value in parts.values())


@pytest.mark.parametrize("m", [1, 3, 4])
def test_candidate_loss_by_hand(m):
    logits, mask = candidates(m)
    predicted = torch.rand(4, m, generator=torch.Generator().manual_seed(1))
    loss, parts = losses.candidate_loss(logits, mask, predicted)
    full = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear", align_corners=False).numpy()
    table = np.array([[slow_losses(full[i, j], mask[i, 0].numpy()) for j in range(m)] for i in range(4)])
    best = [m - 3 + candidate if m > 1 else 0 for candidate in BEST]
    last = table[range(4), best]
    learning = last if m != 4 else np.concatenate((table[:, 0], last))
    iou = np.mean((predicted.numpy() - table[..., 2]) ** 2)
    assert float(loss) == pytest.approx((20 * learning[:, 0] + learning[:, 1]).mean() + iou, abs=1e-5)
    assert [float(parts[name]) for name in ("focal", "dice", "iou")] == pytest.approx(
        [last[:, 0].mean(), last[:, 1].mean(), iou], abs=1e-5
    )


def test_an_empty_mask_teaches_no_iou_and_the_candidate_that_is_shown():
    logits, mask = candidates(4)
    mask[1:3] = False
    logits[:, 2] = -30.0  # empty already, and of the best IoU with nothing
    logits.requires_grad_()
    predicted = torch.tensor([[0.9, 0.2, 0.3, 0.4]]).repeat(4, 1).requires_grad_()
    loss, parts = losses.candidate_loss(logits, mask, predicted)
    loss.backward()
    assert torch.equal((predicted.grad != 0).any(1), torch.tensor([True, False, False, True]))
    assert logits.grad[1:3].abs().sum((2, 3)).gt(0).tolist() == [[True, False, False, True]] * 2
    there = [0, 3]
    target = losses.soft_iou(losses.upsample(logits.detach()[there], 32), mask[there])
    error = (predicted.detach()[there] - target).square().sum() / 16
    assert float(parts["iou"]) == pytest.approx(float(error), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_candidate_loss_of_low_precision_outputs(dtype):
    logits, mask = candidates(4)
    low = logits.to(dtype).requires_grad_()
    loss, _ = losses.candidate_loss(low * 1e3, mask, torch.zeros(4, 4, dtype=dtype, requires_grad=True))
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and low.grad.isfinite().all()


def learning_candidates(predicted: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of three candidates learns, and which has the best IoU, for 6000 masks: each int64 [6000]."""
    logits, mask = (part.repeat(1500, 1, 1, 1)[:, :, ::4, ::4].contiguous() for part in candidates(3))
    logits.requires_grad_()
    losses.candidate_loss(logits, mask, predicted, **options)[0].backward()
    learns = logits.grad.abs().sum((2, 3)) > 0
    assert (learns.sum(1) == 1).all()
    full = torch.nn.functional.interpolate(logits.detach(), mask.shape[-2:], mode="bilinear")
    return learns.int().argmax(1), losses.soft_iou(full, mask).argmax(1)


def test_the_candidate_of_the_best_iou_learns():
    predicted = torch.rand(6000, 3, generator=torch.Generator().manual_seed(0))
    learns, best = learning_candidates(predicted)
    assert torch.equal(learns, best) and not torch.equal(best, predicted.argmax(1))


def test_one_mask_in_sixteen_teaches_a_random_candidate():
    relaxation = torch.rand(6000, 2, generator=torch.Generator().manual_seed(0))
    predicted = torch.rand(6000, 3, generator=torch.Generator().manual_seed(1))
    learns, best = learning_candidates(predicted, relaxation=relaxation)
    at_random = relaxation[:, 0] < 1 / 16
    assert torch.equal(learns[~at_random], best[~at_random])
    assert torch.equal(learns[at_random], (3 * relaxation[at_random, 1]).long())
    assert at_random.float().mean() == pytest.approx(1 / 16, abs=0.01)
    assert torch.bincount(learns[at_random], minlength=3).min() > at_random.sum() / 5


def test_the_highest_random_number_names_the_last_candidate():
    highest = torch.tensor([[0.0, 1 - 2**-24]]).expand(6000, 2)
    learns, _ = learning_candidates(torch.zeros(6000, 3), relaxation=highest)
    assert (learns == 2).all()
