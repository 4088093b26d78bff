"""The convolutional pyramid of the detail head: its weights, what it adds, and how it learns."""

import pytest
import torch
from torch.nn import functional as F

from sam_med2d.runtime.model_loading import UsageError
from sam_med2d.training.pyramid_weights import start_pyramid
from sam_med2d.training.step import StepPolicy, dense_loss, pyramid_losses, round_losses
from segment_anything.build_sam import build_sam
from segment_anything.checkpoint import model_metadata, read_checkpoint, save_weights
from segment_anything.modeling.efficientnet import CHANNELS, EfficientNetLite0, converted_weights
from segment_anything.modeling.prompt_encoder import STRUCTURE
from tests.helpers.tiny_models import STRUCTURES, lively, structured


def image(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def published():
    """The network of the PyPI package efficientnet-lite-pytorch, with random weights and statistics."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    network = package.EfficientNet.from_name("efficientnet-lite0")
    for name, value in network.state_dict().items():
        if value.is_floating_point() and "conv" not in name:
            value.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("size", [64, 96])
def test_features_are_those_of_the_published_network(published, size):
    ours = EfficientNetLite0().eval()
    ours.load_state_dict(converted_weights(published.state_dict()))
    pixels = image(size=size)
    with torch.no_grad():
        levels = ours(pixels)
        x = F.relu6(published._bn0(published._conv_stem(pixels * ours.scale + ours.shift)))
        for block in published._blocks:
            x = block(x)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (c, size >> i, size >> i) for i, c in enumerate(CHANNELS, 1)
    ]
    torch.testing.assert_close(levels[-1], x, atol=1e-3, rtol=1e-4)


def test_a_file_starts_the_pyramid(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "w.pth")
    for order, channels in (("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))):
        model = structured(detail="pyramid")
        model.preprocessing = model.preprocessing.overridden(channel_order=order)
        start_pyramid(model, str(tmp_path / "w.pth"))
        stem = model.mask_decoder.detail.pyramid.stem.conv.weight
        assert torch.equal(stem, published.state_dict()["_conv_stem.weight"][:, channels])


def test_other_files_are_refused(tmp_path):
    model = structured(detail="pyramid")
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"--pyramid_weights .*w\.pth is not the file of .*_conv_stem"):
        start_pyramid(model, str(tmp_path / "w.pth"))


def test_its_coarse_features_reach_the_embedding():
    model = structured(detail="pyramid")
    with torch.no_grad():
        before = model.encode(image())
        assert torch.equal(before, model.image_encoder(image()))
        lively(model)
        embedding, features = model.encode_all(image())
        assert not torch.allclose(embedding, model.image_encoder(image()), atol=1e-3)
        torch.testing.assert_close(embedding, model.encode(image()))
        torch.testing.assert_close(features, model.features(image(), embedding))


def test_a_checkpoint_keeps_its_kind_and_may_get_another(tmp_path, tiny_type):
    model = lively(structured(detail="pyramid"))
    path = tmp_path / "model.safetensors"
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t"))
    assert read_checkpoint(path).detail == "pyramid"
    loaded = build_sam("vit_t", checkpoint=path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    light, none = (build_sam("vit_t", checkpoint=path, detail=kind) for kind in ("light", "none"))
    assert light.mask_decoder.detail.weights[0].layers[2].weight.abs().max() == 0  # new: it changes nothing
    assert (
        none.mask_decoder.detail is None
        and "tensors of the detail head, the structures' detail dropped" in none.load_report.summary()
    )
    assert "its pyramid detail head left out" in light.load_report.summary()
    assert torch.equal(light.image_encoder.pos_embed, model.image_encoder.pos_embed)


def test_dense_loss_is_of_whole_structures_alone():
    model = lively(structured(detail="pyramid"))
    mask = torch.zeros(3, 1, 64, 64)
    mask[0, :, 10:30, 10:30] = mask[2, :, 40:50, 5:60] = 1
    index = torch.tensor([0, 0, 1])
    with torch.no_grad():
        features = model.encode_all(image())[1]
        whole = torch.tensor([STRUCTURE + 1, -1, STRUCTURE + 2])
        loss = dense_loss(model, features, mask, index, whole)
        logits = torch.einsum("c,chw->hw", model.mask_decoder.detail.named.weight[1], features[0])
        expected = F.binary_cross_entropy_with_logits(logits, mask[0, 0])
        p = logits.sigmoid()
        expected += 1 - (2 * (p * mask[0, 0]).sum() + 1) / (p.sum() + mask[0].sum() + 1)
        first = dense_loss(model, features, mask, index, torch.tensor([STRUCTURE + 1, -1, -1]))
        torch.testing.assert_close(3 * first, expected)
        assert loss > first and dense_loss(model, features, mask, index, torch.tensor([-1, -1, -1])) == 0


def test_without_prompts_the_pyramid_alone_learns():
    model = structured(detail="pyramid").train()
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[:, :, 10:40, 10:40] = True
    whole = torch.tensor([STRUCTURE + 1, STRUCTURE])
    (loss,) = pyramid_losses(model, image(), mask, torch.tensor([0, 1]), whole)
    loss.total.backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning and all(name.startswith("mask_decoder.detail.") for name in learning)
    assert model.mask_decoder.detail.named.weight.grad[:2].abs().amin() > 0
    torch.testing.assert_close(loss.total.detach(), 2 * loss.parts["dense"] / 2)


def test_a_step_teaches_the_features_directly():
    model = structured(detail="pyramid").train()
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[:, :, 10:40, 10:40] = True
    box = torch.tensor([[10.0, 10, 40, 40]] * 2)
    label = torch.tensor([-1, STRUCTURE])
    policy = StepPolicy(1, (1,))
    generator = torch.Generator().manual_seed(0)
    inputs = (model, image(), mask, box, torch.tensor([0, 1]))
    options = {"policy": policy, "click_policy": policy.draw(generator), "randomness": generator}
    whole = torch.tensor([STRUCTURE + 1, STRUCTURE])
    rounds = round_losses(*inputs, **options, structure_label=label, whole_structure=whole)
    first, second = next(rounds), next(rounds)
    assert "dense" in first.parts and "dense" not in second.parts
    first.total.backward()
    assert model.mask_decoder.detail.named.weight.grad[:2].abs().amin(1).min() >= 0
    assert len(STRUCTURES) == 3 and model.mask_decoder.detail.named.weight.grad[2].abs().max() == 0


def test_the_table_of_a_pyramid_starts_with_background_and_channels_that_differ():
    table = structured(detail="pyramid").mask_decoder.detail.named.weight
    assert (table[:, -1] == -3).all() and table[:, :-1].std(dim=1).min() > 0.1
    assert structured(detail="light").mask_decoder.detail.named.weight.abs().max() == 0


def test_a_silent_decoder_leaves_the_logits_to_the_pyramid():
    model = lively(structured(detail="pyramid")).eval()
    for mlp in (*model.mask_decoder.detail.weights, model.mask_decoder.detail.under_prompts):
        torch.nn.init.zeros_(mlp.layers[-1].weight)
        torch.nn.init.zeros_(mlp.layers[-1].bias)
    points = model.prompt_encoder.structure_points(STRUCTURES[:1])
    with torch.no_grad():
        embedding, features = model.encode_all(image(1))
        heard = model.decode_points(embedding, *points, multimask=None, features=features).logits
        model.mask_decoder.silence()
        silent = model.decode_points(embedding, *points, multimask=None, features=features).logits
        dense = model.mask_decoder.detail.of_structures(features, torch.tensor([0]), points[1][:, 0])
    torch.testing.assert_close(silent, dense.expand_as(silent))
    assert not torch.allclose(heard, silent, atol=1e-3)
