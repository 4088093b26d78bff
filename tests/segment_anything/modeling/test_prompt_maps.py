"""The maps of clicks and boxes that the detail head weighs: made of profiles, they equal those drawn pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from segment_anything.modeling.prompt_maps import BOX_KINDS, CLICK_WIDTHS, KINDS, prompt_maps, under_box, under_clicks
from tests.helpers.tiny_models import structured

SIZE = 64
COORDS = torch.tensor([[[10.0, 20.0], [30.0, 44.0], [0.0, 0.0]], [[3.0, 60.0], [40.0, 9.0], [0.0, 0.0]]])
LABELS = torch.tensor([[2, 3, 0], [1, 0, -1]])


def drawn(kind: int, mask: int) -> np.ndarray:
    """One map of the two masks' prompts, float64 [S, S], by the formula."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    points, labels = COORDS[mask].double().numpy(), LABELS[mask].tolist()
    clicks = 2 * len(CLICK_WIDTHS)
    if kind < clicks:
        wanted, width = 1 - kind // len(CLICK_WIDTHS), CLICK_WIDTHS[kind % len(CLICK_WIDTHS)] * SIZE
        bumps = [
            np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * width**2))
            for (px, py), label in zip(points, labels, strict=True)
            if label == wanted
        ]
        return sum(bumps, np.zeros((SIZE, SIZE)))
    if 2 not in labels:
        return np.zeros((SIZE, SIZE))
    (x0, y0), (x1, y1) = points[:2]
    across = [
        (np.abs(place + 0.5 - (start + end) / 2), (end - start) / 2) for place, start, end in ((x, x0, x1), (y, y0, y1))
    ]
    if kind == clicks:
        return np.exp(-math.log(2) * sum((away / half) ** 2 for away, half in across))
    if kind == clicks + 1:
        return np.prod([1 / (1 + np.exp(away - half)) for away, half in across], axis=0)
    return np.ones((SIZE, SIZE))


@pytest.mark.parametrize("kind", range(KINDS))
def test_each_kind_of_map_is_that_of_its_formula(kind):
    weights = torch.zeros(2, 1, KINDS)
    weights[..., kind] = 1
    found = prompt_maps(COORDS, LABELS, SIZE).added(torch.zeros(2, 1, SIZE, SIZE), weights)
    for mask in range(2):
        np.testing.assert_allclose(found[mask, 0].numpy(), drawn(kind, mask), atol=1e-5)


def test_the_ellipse_touches_the_box_at_one_half():
    box = torch.tensor([[[10.0, 20.0], [30.0, 44.0]]])
    weights = torch.zeros(1, 1, KINDS)
    weights[..., -BOX_KINDS] = 1
    found = prompt_maps(box, torch.tensor([[2, 3]]), SIZE).added(torch.zeros(1, 1, SIZE, SIZE), weights)[0, 0]
    ellipse = found >= 0.5
    rows, columns = ellipse.any(1).nonzero().flatten(), ellipse.any(0).nonzero().flatten()
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (20, 43, 10, 29)
    assert int(ellipse.sum()) == pytest.approx(math.pi * 10 * 12, rel=0.03)


def test_what_lies_under_clicks_and_box():
    features = torch.randn(2, 5, SIZE, SIZE)
    clicked = under_clicks(features, COORDS, LABELS)
    assert torch.equal(clicked[1], torch.cat((features[1, :, 60, 3], features[1, :, 9, 40])))
    assert torch.equal(clicked[0], torch.cat((torch.zeros(5), features[0, :, 0, 0])))
    ellipse = torch.from_numpy(drawn(2 * len(CLICK_WIDTHS), 0)).float()
    mean = (features[0] * ellipse).sum((1, 2)) / ellipse.sum()
    boxed = under_box(features, prompt_maps(COORDS, LABELS, SIZE))
    torch.testing.assert_close(boxed[0], mean, atol=1e-5, rtol=1e-4)
    assert not boxed[1].any()


def test_one_picture_serves_all_prompts():
    features = torch.randn(1, 5, SIZE, SIZE)
    every = features.expand(2, -1, -1, -1)
    maps = prompt_maps(COORDS, LABELS, SIZE)
    assert torch.equal(under_clicks(features, COORDS, LABELS), under_clicks(every, COORDS, LABELS))
    torch.testing.assert_close(under_box(features, maps), under_box(every, maps))


def test_padding_and_names_draw_nothing():
    coords, labels = torch.full((1, 3, 2), 20.0), torch.tensor([[-1, 4, 6]])
    maps = prompt_maps(coords, labels, SIZE)
    nothing = torch.zeros(1, 1, SIZE, SIZE)
    assert not maps.added(nothing, torch.ones(1, 1, KINDS)).any()
    assert not under_clicks(torch.randn(1, 5, SIZE, SIZE), coords, labels).any()


@torch.no_grad()
def test_a_box_given_as_box_or_as_corners_is_the_same():
    model = structured(detail="light")
    for mlp in model.mask_decoder.detail.weights:
        torch.nn.init.normal_(mlp.layers[-1].weight)
    image = torch.randn(1, 3, 64, 64)
    embedding = model.encode(image)
    features = model.features(image, embedding)
    corners, labels = torch.tensor([[[10.0, 20.0], [30.0, 44.0]]]), torch.tensor([[2, 3]])
    as_box = model.decode(embedding, boxes=corners.flatten(1), features=features).logits
    as_points = model.decode_points(embedding, corners, labels, features=features).logits
    elsewhere = model.decode(embedding, boxes=corners.flatten(1) + 8, features=features).logits
    assert torch.equal(as_box, as_points)
    assert (as_box - elsewhere).abs().max() > 0.1


@pytest.mark.parametrize("images", [1, 3])
def test_masks_share_the_features_of_their_image(images):
    """The masks of an image are given its features without a copy: same logits, same gradient."""
    model = structured(detail="light")
    for mlp in model.mask_decoder.detail.weights:
        torch.nn.init.normal_(mlp.layers[-1].weight)
    index = torch.tensor([0, 0, 2, 2, 2])[: 5 if images == 3 else 2]  # image 1 has no mask
    coords = torch.rand(len(index), 2, 2, generator=torch.Generator().manual_seed(3)) * 60
    labels = torch.tensor([[1, 0], [2, 3], [4, -1], [1, -1], [0, 1]])[: len(index)]
    picture = torch.randn(images, 3, 64, 64)
    with torch.no_grad():
        embedding = model.encode(picture)
        features = model.features(picture, embedding)
    shared, copied = (features.clone().requires_grad_() for _ in range(2))
    one = model.decode_points(embedding, coords, labels, features=shared, image_index=index).logits
    other = model.decode_points(embedding[index], coords, labels, features=copied[index]).logits
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    for logits in (one, other):
        logits.square().mean().backward()
    assert shared.grad.abs().max() > 0
    torch.testing.assert_close(shared.grad, copied.grad, atol=1e-6, rtol=1e-3)
