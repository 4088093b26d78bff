"""SAM-Med2D's `utils`: each name by the published formulas and by hand."""

import logging

import cv2
import numpy as np
import pytest
import torch

from utils import (
    DiceLoss,
    FocalDiceloss_IoULoss,
    FocalLoss,
    MaskIoULoss,
    generate_point,
    get_boxes_from_mask,
    get_logger,
    init_point_sampling,
    save_masks,
    select_random_points,
    setting_prompt_none,
    train_transforms,
)


def squares(*corners: tuple[int, int, int]) -> np.ndarray:
    """A mask uint8 [40, 60] of squares: top, left and side of each."""
    mask = np.zeros((40, 60), np.uint8)
    for top, left, side in corners:
        mask[top : top + side, left : left + side] = 1
    return mask


# --- boxes ----------------------------------------------------------------------------------------------------

THREE = squares((2, 3, 4), (10, 20, 12), (30, 45, 8))  # of 16, 144 and 64 pixels


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_boxes_are_those_of_the_largest_components(kind):
    boxes = get_boxes_from_mask(kind(THREE.astype(np.int64)), max_pixel=0)
    assert boxes.dtype == torch.float32 and boxes.tolist() == [[20, 10, 32, 22]]
    assert get_boxes_from_mask(kind(THREE), box_num=2, max_pixel=0).tolist() == [[20, 10, 32, 22], [45, 30, 53, 38]]


def test_boxes_come_again_where_there_are_too_few():
    boxes = get_boxes_from_mask(squares((2, 3, 4), (20, 20, 6)), box_num=5, max_pixel=0).tolist()
    assert len(boxes) == 5 and {tuple(box) for box in boxes} == {(3, 2, 7, 6), (20, 20, 26, 26)}
    assert get_boxes_from_mask(np.zeros((8, 8)), box_num=2).tolist() == [[0, 0, 0, 0]] * 2


def test_pixels_that_touch_at_a_corner_are_one_component():
    assert get_boxes_from_mask(squares((2, 3, 4), (6, 7, 2)), max_pixel=0).tolist() == [[3, 2, 9, 8]]


@pytest.mark.parametrize(("side", "options", "reach"), [(20, {}, 5), (20, {"max_pixel": 2}, 2), (4, {}, 2), (1, {}, 0)])
def test_a_box_moves_as_a_whole_by_whole_pixels(side, options, reach):
    np.random.seed(0)
    mask = squares((8, 9, side))
    moves = torch.cat([get_boxes_from_mask(mask, **options) for _ in range(300)]) - torch.tensor(
        [9.0, 8, 9 + side, 8 + side]
    )
    assert torch.equal(moves[:, :2], moves[:, 2:])
    expected = set(range(-reach, reach)) if reach else {0}
    assert {int(x) for x in moves[:, 0]} == {int(y) for y in moves[:, 1]} == expected


def test_a_seeded_script_gets_the_same_box():
    """x before y, from NumPy's global generator."""
    np.random.seed(7)
    dx, dy = np.random.randint(-5, 5), np.random.randint(-5, 5)
    np.random.seed(7)
    assert get_boxes_from_mask(squares((8, 9, 20))).tolist() == [[9 + dx, 8 + dy, 29 + dx, 28 + dy]]


# --- clicks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "inside"), [(1, 1), (2, 1), (3, 1), (9, 4)])
def test_opening_clicks_have_the_label_of_their_pixel(count, inside):
    coords, labels = init_point_sampling(torch.from_numpy(THREE), count)
    assert coords.shape == (count, 2) and coords.dtype == torch.float32
    assert labels.shape == (count,) and labels.dtype == torch.int32 and labels.sum() == inside
    assert [THREE[int(y), int(x)] for x, y in coords.tolist()] == labels.tolist()


def test_opening_clicks_of_empty_and_of_full_masks():
    for mask in (np.zeros((5, 7)), np.ones((5, 7))):
        for count in (1, 4):
            coords, labels = init_point_sampling(mask, count)
            assert labels.tolist() == [int(mask[0, 0])] * count and (coords < torch.tensor([7, 5])).all()


def test_a_seeded_script_gets_the_same_clicks():
    pixels = np.argwhere(THREE == 1)
    np.random.seed(3)
    y, x = pixels[np.random.randint(len(pixels))]
    np.random.seed(3)
    assert init_point_sampling(THREE)[0].tolist() == [[x, y]]
    np.random.seed(3)
    inside, outside = np.random.choice(len(pixels), 2), np.random.choice(THREE.size - len(pixels), 2)
    both = np.concatenate((pixels[inside], np.argwhere(THREE == 0)[outside]))[np.random.permutation(4)]
    np.random.seed(3)
    assert init_point_sampling(THREE, 4)[0].tolist() == both[:, ::-1].tolist()


def test_corrective_clicks_lie_on_errors_and_tell_the_truth():
    truth = torch.from_numpy(np.stack([THREE, squares((5, 5, 9))]))[:, None].float()
    predicted = truth.roll((3, -2), (2, 3))
    points, labels = select_random_points(predicted, truth, point_num=50)
    assert points.shape == (2, 50, 2) and labels.shape == (2, 50)
    assert points.dtype == labels.dtype == np.int64
    for i in range(2):
        for (x, y), label in zip(points[i], labels[i], strict=True):
            assert predicted[i, 0, y, x] != truth[i, 0, y, x] == label
    assert set(labels[0]) == {0, 1}


def test_without_an_error_clicks_are_marked_as_none():
    truth = torch.from_numpy(THREE)[None, None].float()
    points, labels = select_random_points(truth, truth, point_num=3)
    assert labels.tolist() == [[-1, -1, -1]] and (points >= 0).all() and (points < (60, 40)).all()


def test_the_next_round_gets_clicks_and_the_mask():
    logits = torch.randn(2, 1, 40, 60, requires_grad=True)
    low_res, truth = logits[..., ::4, ::4], torch.from_numpy(np.stack([THREE, THREE]))[:, None].float()
    batch = {"image": "kept", "boxes": torch.zeros(2, 1, 4)}
    found = generate_point(logits, truth, low_res, batch, 3)
    assert found is batch and found.keys() == {"image", "boxes", "mask_inputs", "point_coords", "point_labels"}
    assert found["image"] == "kept" and found["boxes"] is None
    torch.testing.assert_close(found["mask_inputs"], 1 / (1 + torch.exp(-low_res.detach())))
    assert not found["mask_inputs"].requires_grad
    coords, labels = found["point_coords"], found["point_labels"]
    assert coords.shape == (2, 3, 2) and labels.shape == (2, 3) and coords.dtype == labels.dtype == torch.int64
    for i in range(2):
        for (x, y), label in zip(coords[i].tolist(), labels[i].tolist(), strict=True):
            assert (logits[i, 0, y, x] > 0) != truth[i, 0, y, x] == label


def test_a_round_without_prompts():
    batch = {"point_coords": 1, "point_labels": 2, "boxes": 3, "mask_inputs": 4}
    assert setting_prompt_none(batch) is batch
    assert batch == {"point_coords": None, "point_labels": None, "boxes": None, "mask_inputs": 4}


# --- pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("size", [(40, 61), (63, 10)])
def test_a_small_picture_is_padded_around(size, dtype):
    image, (height, width) = np.random.default_rng(0).normal(100, 9, (*size, 3)).astype(dtype), size
    found = train_transforms(64, height, width)(image=image, mask=image[..., 0])
    top, left = (64 - height) // 2, (64 - width) // 2
    expected = np.zeros((64, 64, 3), dtype)
    expected[top : top + height, left : left + width] = image
    assert np.array_equal(found["image"].numpy(), expected.transpose(2, 0, 1))
    assert np.array_equal(found["mask"].numpy(), expected[..., 0]) and found["mask"].numpy().dtype == dtype


@pytest.mark.parametrize("size", [(40, 64), (97, 131), (64, 64)])
def test_another_picture_is_stretched(size):
    image = np.random.default_rng(0).normal(100, 9, (*size, 3))
    rows, columns = (np.arange(64) * side // 64 for side in size)  # the nearest pixel, as OpenCV takes it
    found = train_transforms(64, *size)(image=image)
    assert found.keys() == {"image"}
    assert np.array_equal(found["image"].numpy(), image[rows][:, columns].transpose(2, 0, 1))


def saved(path, **options) -> np.ndarray:
    """What `save_masks` writes of THREE."""
    save_masks(torch.from_numpy(THREE)[None, None] * 2.0 - 1, path / "new", "eye.png", 64, (40, 60), **options)
    return cv2.imread(str(path / "new/eye.png"), cv2.IMREAD_UNCHANGED)


def test_a_mask_is_saved_as_a_picture(tmp_path):
    picture = saved(tmp_path)
    assert picture.shape == (40, 60, 3) and picture.dtype == np.uint8
    assert all(np.array_equal(picture[..., c], 255 * THREE) for c in range(3))
    boxes, points = torch.tensor([[[1.0, 2, 30, 40]]]), (torch.tensor([[[5.0, 6]]]), torch.tensor([[1]]))
    assert np.array_equal(saved(tmp_path, boxes=boxes, points=points), picture)


@pytest.mark.parametrize("pad", [None, (12, 2), (torch.tensor([12]), torch.tensor([2]))])
def test_prompts_are_drawn_where_they_lie_in_the_picture(tmp_path, pad):
    def to_frame(x, y):
        return [x * 64 / 60 + 0.1, y * 64 / 40 + 0.1] if pad is None else [x + 2, y + 12]

    points = torch.tensor([[to_frame(40, 5), to_frame(10, 30), to_frame(55, 25)]]), torch.tensor([[1, 0, -1]])
    boxes = torch.tensor([[[*to_frame(20, 10), *to_frame(32, 22)]]])
    picture = saved(tmp_path, pad=pad, boxes=boxes, points=points, visual_prompt=True)
    assert picture[5, 40].tolist() == [0, 255, 0] and picture[30, 10].tolist() == [0, 0, 255]
    assert not picture[25, 55].any()  # -1 is no click
    assert picture[10, 26].tolist() == picture[22, 26].tolist() == picture[16, 20].tolist() == [0, 255, 0]


def test_a_mask_that_cannot_be_saved_is_an_error(tmp_path):
    (tmp_path / "new").write_text("a file")
    with pytest.raises(OSError, match="new"):
        saved(tmp_path)


# --- logging --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verbosity", "lines"), [(0, 3), (1, 2), (2, 1)])
def test_a_logger_writes_to_its_file(tmp_path, verbosity, lines, capsys):
    logger = get_logger(tmp_path / "logs/run.log", verbosity, name=f"drop in {verbosity}")
    logger.propagate = False
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logger.log(level, "epoch: 1")
    for handler in logger.handlers:
        handler.close()
    text = (tmp_path / "logs/run.log").read_text().splitlines()
    assert len(text) == lines and capsys.readouterr().err.splitlines() == text
    assert text[-1].endswith("[WARNING] epoch: 1") and "test_utils.py" in text[-1]


# --- losses ---------------------------------------------------------------------------------------------------


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and masks [3, 1, 12, 9], one of them empty, and predicted IoU [3, 1]."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(3, 1, 12, 9, generator=generator) < 0.3).float()
    mask[1] = 0
    return 3 * torch.randn(3, 1, 12, 9, generator=generator), mask, torch.rand(3, 1, generator=generator)


def published(logits, mask, iou, *, gamma=2.0, alpha=0.25, smooth=1.0):
    """Focal, Dice and IoU loss of the whole batch, in float64."""
    logits, mask, iou = (part.double() for part in (logits, mask, iou))
    p = 1 / (1 + torch.exp(-logits))
    p_t, alpha_t = torch.where(mask > 0, p, 1 - p), torch.where(mask > 0, alpha, 1 - alpha)
    overlap = (p * mask).sum()
    soft_iou = (overlap + 1e-7) / (p.sum() + mask.sum() - overlap + 1e-7)
    dice = 1 - (2 * overlap + smooth) / (p.sum() + mask.sum() + smooth)
    return (-alpha_t * (1 - p_t) ** gamma * torch.log(p_t)).mean(), dice, ((soft_iou - iou) ** 2).mean()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == () and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)


def test_losses_are_the_published_ones():
    logits, mask, iou = case()
    focal, dice, iou_loss = published(logits, mask, iou)
    close(FocalLoss()(logits, mask), focal)
    close(DiceLoss()(logits, mask), dice)
    close(MaskIoULoss()(logits, mask, iou), iou_loss)
    close(FocalDiceloss_IoULoss()(logits, mask, iou), 20 * focal + dice + iou_loss)
    close(FocalDiceloss_IoULoss(weight=3.0, iou_scale=0.5)(logits, mask, iou), 3 * focal + dice + iou_loss / 2)
    close(FocalLoss(gamma=1.5, alpha=0.6)(logits, mask), published(logits, mask, iou, gamma=1.5, alpha=0.6)[0])
    close(DiceLoss(smooth=0.1)(logits, mask), published(logits, mask, iou, smooth=0.1)[1])


def test_gradients_are_those_of_the_published_loss():
    """Also through the IoU, which is not detached: a script that trains goes the same way."""
    logits, mask, iou = case(1)
    gradients = []
    for loss_of in (
        FocalDiceloss_IoULoss(),
        lambda *c: sum(w * p for w, p in zip((20, 1, 1), published(*c), strict=True)),
    ):
        leaves = [logits.clone().requires_grad_(), iou.clone().requires_grad_()]
        gradients.append(torch.autograd.grad(loss_of(leaves[0], mask, leaves[1]), leaves))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float64])
def test_masks_may_be_of_any_type(dtype):
    logits, mask, iou = case()
    expected = FocalDiceloss_IoULoss()(logits, mask, iou)
    assert torch.equal(FocalDiceloss_IoULoss()(logits, mask.to(dtype), iou), expected)


@pytest.mark.parametrize("loss_of", [FocalLoss(), DiceLoss(), lambda p, m: MaskIoULoss()(p, m, torch.zeros(3, 1))])
def test_other_shapes_are_refused(loss_of):
    logits, mask, _ = case()
    with pytest.raises(ValueError, match=r"the shapes \[3, 1, 12, 9\] and \[3, 12, 9\]"):
        loss_of(logits, mask[:, 0])
