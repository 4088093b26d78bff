"""The image encoder: published numbers, equality with the straightforward oracle, gradients, errors.

The golden image is `np.random.default_rng(100).standard_normal((1, 3, 256, 256), dtype=np.float32)`: it gives
the stored embeddings through the oracle (difference 0 without adapters, 2e-6 with them).
"""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reference_encoder import ChannelNorm, OracleEncoder
from sam_med2d.runtime.devices import has_fast_bfloat16
from segment_anything.modeling.adapter import Adapter, gather, overlap_add, paint, strided_conv, transposed_conv
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.image_encoder import ImageEncoderViT
from tests.helpers.paths import GOLDEN
from tests.helpers.seeded_weights import fill, load_layout

GLOBALS = (2, 5, 8, 11)
VIT_B = {"image_size": 256, "embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": GLOBALS}
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2, "out_chans": 16, "global_attn_indexes": (1,)}
LAYOUTS = [("vit_b_256", False), ("vit_b_256_adapter", True)]
IDS = [name for name, _ in LAYOUTS]


def encoder_layout(name: str) -> dict[str, list[int]]:
    """Shapes of the image encoder's tensors in a stored layout, under their full names."""
    layout = load_layout(GOLDEN / f"{name}.layout.json")
    return {key: shape for key, shape in layout.items() if key.startswith("image_encoder.")}


def pair(seed: int = 0, **kwargs) -> tuple[ImageEncoderViT, OracleEncoder]:
    """A fast encoder and an oracle with the same random weights, none of them zero or one."""
    torch.manual_seed(seed)
    fast, oracle = ImageEncoderViT(**kwargs), OracleEncoder(**kwargs)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    oracle.load_state_dict(fast.state_dict())
    return fast, oracle


def image(batch: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=[LAYOUTS[0], pytest.param(LAYOUTS[1], marks=pytest.mark.slow)], ids=IDS)
def golden(request):
    """(encoder with the seeded weights, golden embedding [1, 256, 16, 16])."""
    name, adapter = request.param
    arrays = fill(encoder_layout(name), smooth=True)
    weights = {key.removeprefix("image_encoder."): torch.from_numpy(array) for key, array in arrays.items()}
    encoder = ImageEncoderViT(**VIT_B, adapter=adapter).eval()
    encoder.load_state_dict(weights)
    return encoder, torch.from_numpy(np.load(GOLDEN / f"golden_smooth_{name}.npz")["embedding"])


def golden_image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(100).standard_normal((1, 3, 256, 256), dtype=np.float32))


def test_golden_embedding(golden):
    encoder, expected = golden
    with torch.inference_mode():
        torch.testing.assert_close(encoder(golden_image()), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_bf16_weights_and_autocast_are_close(golden):
    encoder, expected = golden
    if any(isinstance(module, Adapter) for module in encoder.modules()) and not has_fast_bfloat16():
        pytest.skip("NO BFLOAT16 in this processor: minutes for the adapters; the encoder without them is tested")
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            mixed = encoder(golden_image()).float()
        low = copy.deepcopy(encoder).bfloat16()(golden_image())
    assert low.dtype == torch.bfloat16
    for output in (mixed, low.float()):
        assert (output - expected).abs().mean() < 0.03  # the mean magnitude is 0.8


@pytest.mark.parametrize(("name", "adapter"), LAYOUTS)
def test_state_dict_names_and_shapes(name, adapter):
    with torch.device("meta"):
        encoder = ImageEncoderViT(**VIT_B, adapter=adapter)
    found = {f"image_encoder.{key}": list(value.shape) for key, value in encoder.state_dict().items()}
    assert found == encoder_layout(name)


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize(("size", "batch"), [(256, 3), (384, 1), (512, 3)])
def test_equals_oracle(size, batch, adapter):
    fast, oracle = pair(image_size=size, adapter=adapter, **TINY)
    with torch.inference_mode():
        torch.testing.assert_close(fast(image(batch, size)), oracle(image(batch, size)), atol=1e-4, rtol=1e-4)


def test_chunked_bias_equals_oracle(monkeypatch):
    monkeypatch.setattr("segment_anything.modeling.image_encoder.BIAS_ELEMENTS", 200)
    fast, oracle = pair(image_size=128, adapter=False, window_size=5, **TINY)
    with torch.inference_mode():
        torch.testing.assert_close(fast(image(2, 128)), oracle(image(2, 128)), atol=1e-4, rtol=1e-4)


@given(grid=st.integers(1, 11), window=st.integers(1, 6), batch=st.integers(1, 2), adapter=st.booleans())
def test_any_grid_equals_oracle(grid, window, batch, adapter):
    grid += grid % 2 if adapter else 0
    fast, oracle = pair(image_size=16 * grid, window_size=window, adapter=adapter, **TINY)
    x = image(batch, 16 * grid)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), oracle(x), atol=1e-4, rtol=1e-4)


def gradients(encoder: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a fixed random projection of the output, by parameter name, and of the image."""
    x = x.clone().requires_grad_()
    output = encoder(x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    (output * weights).sum().backward()
    return {"image": x.grad, **{name: parameter.grad for name, parameter in encoder.named_parameters()}}


def assert_same_gradients(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        close = torch.allclose(actual[name], gradient, atol=1e-4 * scale + 1e-5, rtol=1e-3)
        assert close, f"{name}: {(actual[name] - gradient).abs().max():.1e} apart, the largest is {scale:.1e}"


@pytest.mark.parametrize(("size", "window"), [(96, 4), (256, 14)])
def test_gradients_equal_oracle(size, window):
    fast, oracle = pair(image_size=size, window_size=window, adapter=True, **TINY)
    x = image(2, size)
    assert_same_gradients(gradients(fast, x), gradients(oracle, x))


def test_tokens_of_every_block_lie_in_memory_as_norms_read_them():
    encoder, _ = pair(image_size=64, adapter=True, **TINY)
    found = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _, inputs, output: found.extend((inputs[0], output)))
    encoder(image(2, 64))
    assert found
    assert all(tokens.is_contiguous() for tokens in found)


def test_grad_checkpointing_gives_the_same_gradients():
    plain, _ = pair(image_size=96, window_size=4, adapter=True, **TINY)
    recomputed = copy.deepcopy(plain).train()
    recomputed.grad_checkpointing = True
    assert_same_gradients(gradients(recomputed, image(2, 96)), gradients(plain.train(), image(2, 96)))


def test_zero_start_is_the_encoder_without_adapters():
    with_adapter, _ = pair(image_size=96, window_size=4, adapter=True, **TINY)
    without = ImageEncoderViT(image_size=96, window_size=4, adapter=False, **TINY)
    without.load_state_dict({k: v for k, v in with_adapter.state_dict().items() if "Adapter" not in k})
    for block in with_adapter.blocks:
        block.Adapter.zero_start()
    with torch.inference_mode():
        assert torch.equal(with_adapter(image(1, 96)), without(image(1, 96)))


@pytest.mark.parametrize(("size", "adapter"), [(100, False), (0, False), (-16, False), (272, True)])
def test_bad_image_size_raises(size, adapter):
    with pytest.raises(ValueError, match=f"image_size {size} is not a multiple of {32 if adapter else 16}"):
        ImageEncoderViT(image_size=size, adapter=adapter, **TINY)


@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (3, 64, 64), (1, 1, 64, 64)])
def test_bad_image_shape_raises(shape):
    encoder = ImageEncoderViT(image_size=64, adapter=False, **TINY)
    with pytest.raises(ValueError, match="resize the image"):
        encoder(torch.zeros(shape))


@given(batch=st.integers(1, 2), height=st.integers(1, 5), width=st.integers(1, 5), channels=st.integers(1, 6))
def test_adapter_convolutions_equal_library(batch, height, width, channels):
    x = torch.randn(batch, 2 * height, 2 * width, channels)
    down, up = torch.randn(7, channels, 3, 3), torch.randn(channels, 5, 4, 4)
    nchw = x.permute(0, 3, 1, 2)
    strided = torch.nn.functional.conv2d(nchw, down, stride=2, padding=1)
    transposed = torch.nn.functional.conv_transpose2d(nchw, up, stride=2, padding=1)
    torch.testing.assert_close(strided_conv(x, down), strided.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(transposed_conv(x, up), transposed.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


@given(batch=st.integers(1, 2), height=st.integers(1, 4), width=st.integers(1, 4), size=st.sampled_from([3, 4]))
def test_gather_and_paint_are_adjoint(batch, height, width, size):
    """Each is the other's gradient: <gather(x), p> = <x, paint(p)>; and the form for exported graphs is the same."""
    x = torch.randn(batch, 2 * height, 2 * width, 3, dtype=torch.float64)
    patches = torch.randn(batch, height, width, 3, size, size, dtype=torch.float64)
    painted = paint(patches)
    torch.testing.assert_close((gather(x, size) * patches).sum(), (x * painted).sum())
    if size == 4:
        torch.testing.assert_close(overlap_add(patches), painted)


def test_gradients_of_adapter_convolutions_equal_library():
    """To the map and to both weights."""
    x, down, up = (torch.randn(s, requires_grad=True) for s in [(2, 16, 16, 6), (7, 6, 3, 3), (7, 5, 4, 4)])
    small = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), down, stride=2, padding=1)
    expected = torch.nn.functional.conv_transpose2d(small, up, stride=2, padding=1).permute(0, 2, 3, 1)
    weights = torch.randn(expected.shape)
    outputs = transposed_conv(strided_conv(x, down), up), expected
    found, wanted = (torch.autograd.grad(output, (x, down, up), weights) for output in outputs)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_adapter_starts_kaiming_normal():
    adapter = Adapter(64)
    fan_out = 64 * 9
    assert adapter.spatial[0].weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_layer_norm_2d_equals_formula():
    fast, plain = LayerNorm2d(8), ChannelNorm(8)
    torch.nn.init.normal_(fast.weight)
    torch.nn.init.normal_(fast.bias)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 8, 5, 3)
    torch.testing.assert_close(fast(x), plain(x))
