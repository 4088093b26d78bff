"""Models small enough to train in a test, with the same weights each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from segment_anything.build_sam import MODEL_SPECS, ModelSpec, build_network
from segment_anything.checkpoint import model_metadata, save_weights
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.preprocessing import Preprocessing

TINY_SPEC = ModelSpec(embed_dim=32, depth=2, num_heads=2, global_attn_indexes=(1,), window_size=2)
STRUCTURES = ("optic_cup", "optic_disc", "vessel")
TILED_STRUCTURES = ("optic_disc", "vessel", "haemorrhage")
# of the detail head, what starts at zero
AT_ZERO = [f"detail.weights.{i}.layers.2." for i in range(4)]
AT_ZERO += ["detail.under_prompts.layers.1.", "detail.named.", "detail.to_embedding."]


def make_tiny_model(*, encoder_adapter: bool = False, image_size: int = 64):
    """A model small enough to train in a test, with the same weights each time."""
    torch.manual_seed(0)
    return build_network(TINY_SPEC, image_size=image_size, encoder_adapter=encoder_adapter).eval()


@contextmanager
def tiny_vit_t() -> Iterator[None]:
    """Make "vit_t" a tiny model, so that whole runs take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODEL_SPECS, "vit_t", TINY_SPEC)
        yield


def structured(*, detail: str | None = None, structures: tuple[str, ...] = STRUCTURES, image_size: int = 64):
    """The tiny model with structures, a detail head or both; other weights are those of `make_tiny_model`."""
    torch.manual_seed(1)
    model = build_network(
        TINY_SPEC, image_size=image_size, encoder_adapter=False, structures=structures, detail=detail
    ).eval()
    model.load_state_dict(make_tiny_model(image_size=image_size).state_dict(), strict=False)
    return model


def large_logits_model(mode: str = "fundus") -> Sam:
    """The tiny model with TILED_STRUCTURES, a detail head and larger logits: masks of all sizes, none withheld."""
    torch.manual_seed(1)
    model = build_network(
        TINY_SPEC, image_size=64, encoder_adapter=False, structures=TILED_STRUCTURES, detail="light"
    ).eval()
    for parameter in model.mask_decoder.output_hypernetworks_mlps.parameters():
        parameter.data.mul_(1.5)
    model.preprocessing = Preprocessing(64, mode)
    model.prompt_encoder.presence_thresholds |= dict.fromkeys(TILED_STRUCTURES, 0.0)
    return model


def lively(model):
    """A model whose every part shows: relative positions, adapters, detail weights and larger logits."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or "Adapter.norm" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        elif any(part in name for part in AT_ZERO):
            torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return model


def watch_encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes that image encoders are given from now on, as they come."""
    encoded, forward = [], ImageEncoderViT.forward

    def watched(self: ImageEncoderViT, image: torch.Tensor) -> torch.Tensor:
        encoded.append(len(image))
        return forward(self, image)

    monkeypatch.setattr(ImageEncoderViT, "forward", watched)
    return encoded


def save_model(model: Sam, path: Path) -> Path:
    """Write a tiny model as a checkpoint of "vit_t"; its path."""
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t"))
    return path


def prompts(count: int) -> dict[str, torch.Tensor]:
    """A box, a click and two clicks, and so on: what `Sam.decode_points` takes."""
    generator = torch.Generator().manual_seed(4)
    coords = torch.randint(0, 64, (count, 2, 2), generator=generator).float()
    return {"coords": coords, "labels": torch.tensor([[2, 3], [1, -1], [0, 1]])[torch.arange(count) % 3]}
