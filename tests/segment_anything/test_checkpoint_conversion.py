"""Checkpoints in other shapes: HuggingFace's names in both directions, what was trained without its base."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scripts import convert_checkpoint
from segment_anything import checkpoint_conversion
from segment_anything.build_sam import MODEL_SPECS, build_network, build_sam
from segment_anything.checkpoint import (
    CheckpointError,
    model_metadata,
    read_checkpoint,
    save_weights,
)
from segment_anything.checkpoint_conversion import EXTRA_NAME, hub_config, hub_name, own_name, read_any, to_hub
from segment_anything.checkpoint_loading import load_into
from tests.helpers.commands import run_command
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model

STRUCTURES = ("optic_disc", "vessel")
# names and shapes of transformers' SamModel for TINY_SPEC at 64 px, one of each kind
HUB_LAYOUT = {
    "shared_image_embedding.positional_embedding": (2, 128),
    "vision_encoder.pos_embed": (1, 4, 4, 32),
    "vision_encoder.patch_embed.projection.weight": (32, 3, 16, 16),
    "vision_encoder.layers.0.layer_norm1.weight": (32,),
    "vision_encoder.layers.1.attn.rel_pos_w": (7, 16),
    "vision_encoder.layers.0.attn.rel_pos_w": (3, 16),
    "vision_encoder.layers.1.attn.qkv.weight": (96, 32),
    "vision_encoder.layers.1.mlp.lin2.weight": (32, 128),
    "vision_encoder.neck.conv1.weight": (256, 32, 1, 1),
    "vision_encoder.neck.layer_norm1.bias": (256,),
    "vision_encoder.neck.conv2.weight": (256, 256, 3, 3),
    "vision_encoder.neck.layer_norm2.weight": (256,),
    "prompt_encoder.shared_embedding.positional_embedding": (2, 128),
    "prompt_encoder.mask_embed.conv1.weight": (4, 1, 2, 2),
    "prompt_encoder.mask_embed.layer_norm1.weight": (4,),
    "prompt_encoder.mask_embed.conv2.bias": (16,),
    "prompt_encoder.mask_embed.layer_norm2.bias": (16,),
    "prompt_encoder.mask_embed.conv3.weight": (256, 16, 1, 1),
    "prompt_encoder.no_mask_embed.weight": (1, 256),
    "prompt_encoder.not_a_point_embed.weight": (1, 256),
    "prompt_encoder.point_embed.3.weight": (1, 256),
    "mask_decoder.iou_token.weight": (1, 256),
    "mask_decoder.mask_tokens.weight": (4, 256),
    "mask_decoder.transformer.layers.1.layer_norm4.weight": (256,),
    "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight": (128, 256),
    "mask_decoder.transformer.layers.0.mlp.lin1.weight": (2048, 256),
    "mask_decoder.transformer.final_attn_token_to_image.out_proj.weight": (256, 128),
    "mask_decoder.transformer.layer_norm_final_attn.bias": (256,),
    "mask_decoder.upscale_conv1.weight": (256, 64, 2, 2),
    "mask_decoder.upscale_layer_norm.weight": (64,),
    "mask_decoder.upscale_conv2.weight": (64, 32, 2, 2),
    "mask_decoder.output_hypernetworks_mlps.2.proj_in.weight": (256, 256),
    "mask_decoder.output_hypernetworks_mlps.2.layers.0.bias": (256,),
    "mask_decoder.output_hypernetworks_mlps.2.proj_out.weight": (32, 256),
    "mask_decoder.iou_prediction_head.proj_in.weight": (256, 256),
    "mask_decoder.iou_prediction_head.layers.0.weight": (256, 256),
    "mask_decoder.iou_prediction_head.proj_out.weight": (4, 256),
}
HUB_TENSORS = 175


def write_model(path: Path, *, image_size: int = 64, full: bool = False, base: Path | None = None) -> dict:
    """A checkpoint with metadata; full: with adapters, structures and detail head. Returns its tensors."""
    extra = {"structures": STRUCTURES, "detail": "light"} if full else {}
    model = build_network(TINY_SPEC, image_size=image_size, encoder_adapter=full, **extra)
    generator = torch.Generator().manual_seed(image_size)
    for value in model.parameters():
        value.data = 0.1 * torch.randn(value.shape, generator=generator)
    if base:
        own, known = model.state_dict(), read_checkpoint(base)
        load_into(model, known)  # adapters, structures and the detail head are new
        for key in ("mask_decoder.iou_token.weight", "image_encoder.neck.1.bias"):
            own[key] += 1  # trained: of the encoder too
    if full:
        model.prompt_encoder.presence_thresholds["vessel"] = 0.25
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t"))
    return model.state_dict()


@pytest.fixture
def whole(tmp_path):
    write_model(tmp_path / "whole.safetensors", full=True)
    return tmp_path / "whole.safetensors"


def run(*words: object) -> int:
    return run_command(convert_checkpoint, [str(word) for word in words])


def same(one: Path, other: Path) -> None:
    """Two checkpoints are equal to the bit, metadata too."""
    a, b = read_checkpoint(one), read_checkpoint(other)
    assert a.metadata == b.metadata and a.state.keys() == b.state.keys()
    assert all(torch.equal(value, b.state[key]) and value.dtype == b.state[key].dtype for key, value in a.state.items())


# --- HuggingFace --------------------------------------------------------------------------------------------------


def test_names_and_shapes_are_those_of_sam_model():
    theirs, extra = to_hub(make_tiny_model().state_dict())
    assert not extra and len(theirs) == HUB_TENSORS
    assert {key: tuple(theirs[key].shape) for key in HUB_LAYOUT} == HUB_LAYOUT


def test_every_name_has_one_other_name():
    state = make_tiny_model().state_dict()
    assert {own_name(hub_name(key)) for key in state} == set(state)
    assert own_name("mask_decoder.transformer.layers.0.layer_norm1.weight").endswith("layers.0.norm1.weight")
    for key in ("vision_encoder.layers.0.Adapter.norm.weight", "prompt_encoder.structure_embeddings.weight"):
        assert own_name(key) is None and hub_name(key) is None


@pytest.mark.parametrize("name", ["vit_t", "vit_b", "vit_h"])
@pytest.mark.parametrize("image_size", [224, 256, 1024])
def test_the_config_says_the_size(name, image_size):
    spec = MODEL_SPECS[name]
    with torch.device("meta"):
        state = build_network(spec, image_size=image_size, encoder_adapter=False).state_dict()
    vision = hub_config(state)["vision_config"]
    assert (vision["hidden_size"], vision["num_hidden_layers"]) == (spec.embed_dim, spec.depth)
    assert (vision["num_attention_heads"], vision["mlp_dim"]) == (spec.num_heads, 4 * spec.embed_dim)
    assert (vision["image_size"], vision["window_size"]) == (image_size, spec.window_size)
    if image_size // 16 != spec.window_size:  # else a window is the whole grid, and all blocks are the same
        assert tuple(vision["global_attn_indexes"]) == spec.global_attn_indexes


def test_there_and_back_keeps_everything_and_names_what_sam_model_lacks(whole, tmp_path, capsys):
    hub, back = tmp_path / "hub", tmp_path / "back.safetensors"
    assert run(whole, hub, "--to", "huggingface") == 0
    printed = capsys.readouterr().out
    lacking = ("the adapters (12", "the structures (1", "the structures' presence", "the detail head", "the metadata")
    for part in lacking:
        assert f"SamModel cannot hold {part}" in printed, part
    assert json.loads((hub / "config.json").read_text())["vision_config"]["image_size"] == 64
    assert len(load_file(hub / "model.safetensors")) == HUB_TENSORS
    assert run(hub, back) == 0
    same(whole, back)


def test_a_plain_model_loses_nothing(tmp_path, capsys):
    save_weights(tmp_path / "sam.safetensors", make_tiny_model().state_dict(), {})
    assert run(tmp_path / "sam.safetensors", tmp_path / "hub", "--to", "huggingface") == 0
    assert "cannot hold" not in capsys.readouterr().out
    assert run(tmp_path / "hub", tmp_path / "back.safetensors") == 0
    same(tmp_path / "sam.safetensors", tmp_path / "back.safetensors")


def test_a_file_from_the_hub_is_read(tmp_path, tiny_type):
    """transformers saves the tensor that it has twice once."""
    state = make_tiny_model().state_dict()
    theirs, _ = to_hub(state)
    del theirs["prompt_encoder.shared_embedding.positional_embedding"]
    path = tmp_path / "hub.safetensors"
    save_file(theirs, path, metadata={"format": "pt"})
    assert read_any(path).state.keys() == state.keys()
    with pytest.raises(CheckpointError, match=r"HuggingFace, convert it with scripts/convert_checkpoint\.py"):
        read_checkpoint(path)
    assert run(path, tmp_path / "own.safetensors") == 0
    model = build_sam("vit_t", tmp_path / "own.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("fault", ["another tensor", "two codes"])
def test_what_is_not_sam_models_is_named(tmp_path, capsys, fault):
    theirs, _ = to_hub(make_tiny_model().state_dict())
    if fault == "another tensor":
        theirs["vision_encoder.layers.0.lora.weight"] = torch.zeros(1)
    else:
        theirs["prompt_encoder.shared_embedding.positional_embedding"] += 1
    save_file(theirs, tmp_path / "odd.safetensors")
    assert run(tmp_path / "odd.safetensors", tmp_path / "own.safetensors") == 2
    error = capsys.readouterr().err
    assert ("lora" in error) if fault == "another tensor" else ("differ" in error and "shared_embedding" in error)
    assert not (tmp_path / "own.safetensors").exists()


def test_a_damaged_second_file_is_not_passed_over(whole, tmp_path, capsys):
    assert run(whole, tmp_path / "hub", "--to", "huggingface") == 0
    (tmp_path / "hub" / EXTRA_NAME).write_bytes(b"cut")
    assert run(tmp_path / "hub", tmp_path / "own.safetensors") == 2
    assert f"{EXTRA_NAME} is damaged" in capsys.readouterr().err


# --- what was trained, and its base -------------------------------------------------------------------------------


@pytest.mark.parametrize("image_size", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_what_was_trained_and_its_base_give_the_checkpoint_to_the_bit(tmp_path, capsys, image_size):
    """The base has another size, its tables are resized; of the encoder one tensor was trained too."""
    base, best, small, again = (tmp_path / f"{name}.safetensors" for name in ("base", "best", "small", "again"))
    write_model(base, image_size=128)
    write_model(best, image_size=image_size, full=True, base=base)
    assert run(best, small, "--to", "adapters", "--base", base) == 0
    kept = load_file(small)
    assert [key for key in kept if key.startswith("image_encoder.") and "Adapter" not in key] == [
        "image_encoder.neck.1.bias"
    ]
    assert small.stat().st_size < best.stat().st_size and "the rest is in" in capsys.readouterr().out
    assert run(small, again, "--base", base) == 0
    same(best, again)
    assert best.read_bytes() == again.read_bytes()


def test_another_base_is_refused(tmp_path, capsys):
    base, other, best, small = (tmp_path / f"{name}.safetensors" for name in ("base", "other", "best", "small"))
    write_model(base)
    write_model(best, full=True, base=base)
    assert run(best, small, "--to", "adapters", "--base", base) == 0
    shutil.copy(base, other)
    state = load_file(other)
    state["image_encoder.blocks.0.mlp.lin1.weight"][0, 0] += 1e-6
    save_weights(other, state, {})
    assert run(small, tmp_path / "again.safetensors", "--base", other) == 2
    assert "is not the base of" in capsys.readouterr().err
    del state["image_encoder.blocks.1.mlp.lin1.weight"]
    save_weights(other, state, {})
    assert run(small, tmp_path / "again.safetensors", "--base", other) == 2
    assert "has no tensor 'image_encoder.blocks.1.mlp.lin1.weight'" in capsys.readouterr().err
    assert not (tmp_path / "again.safetensors").exists()


def test_flags_that_do_not_fit_are_refused(whole, tmp_path, capsys):
    small, out = tmp_path / "small.safetensors", tmp_path / "out.safetensors"
    base = tmp_path / "base.safetensors"
    write_model(base)
    cases = {
        (whole, out, "--to", "adapters"): "give the weights that IN was trained from with --base",
        (whole, out, "--base", base): "--base goes with --to adapters",
        (whole, out, "--to", "huggingface"): "writes a folder",
        (whole, base, "--to", "adapters", "--base", base): "is the input itself",
    }
    for words, message in cases.items():
        assert run(*words) == 2
        assert message in capsys.readouterr().err
    assert run(whole, small, "--to", "adapters", "--base", base) == 0
    assert run(small, out) == 2
    assert "give it with --base" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="merged onto its base"):
        read_checkpoint(small)
    assert not out.exists()


def test_a_hub_folder_is_not_written_over_itself(whole, tmp_path, capsys):
    assert run(whole, tmp_path / "hub", "--to", "huggingface") == 0
    assert run(tmp_path / "hub", tmp_path / "hub", "--to", "huggingface") == 2
    assert "is the input itself" in capsys.readouterr().err


def test_half_is_half_the_size_and_loads(whole, tmp_path, tiny_type, capsys):
    small = tmp_path / "half.safetensors"
    assert run(whole, small, "--half") == 0
    assert small.stat().st_size < 0.55 * whole.stat().st_size
    before, after = (build_sam("vit_t", checkpoint=path).state_dict() for path in (whole, small))
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        torch.testing.assert_close(after[name], tensor.half().to(tensor.dtype), rtol=0, atol=0)
    state = load_file(whole)
    state["prompt_encoder.no_mask_embed.weight"][0, 0] = 1e6
    save_weights(tmp_path / "large.safetensors", state, {})
    assert run(tmp_path / "large.safetensors", small, "--half") == 2
    assert "prompt_encoder.no_mask_embed.weight has numbers that 16 bits cannot hold" in capsys.readouterr().err
    assert run(whole, tmp_path / "hub", "--to", "huggingface", "--half") == 2


def test_the_mask_rule_can_be_written_in(whole, tmp_path, capsys):
    assert read_checkpoint(whole).mask_rule == "half"
    assert run(whole, tmp_path / "out.safetensors", "--mask_rule", "dice") == 0
    out = read_checkpoint(tmp_path / "out.safetensors")
    assert out.mask_rule == "dice" and out.metadata["presence_thresholds"]["vessel"] == 0.25
    assert run(whole, tmp_path / "folder", "--to", "huggingface", "--mask_rule", "dice") == 2
    assert "--mask_rule goes with --to safetensors" in capsys.readouterr().err


def test_the_pixel_scale_can_be_written_in(whole, tmp_path, capsys):
    before = read_checkpoint(whole).metadata
    assert run(whole, tmp_path / "out.safetensors", "--pixel_scale", "unit") == 0
    after = read_checkpoint(tmp_path / "out.safetensors").metadata
    assert after["preprocessing"] == before["preprocessing"] | {"pixel_scale": "unit"}
    assert {**after, "preprocessing": 0} == {**before, "preprocessing": 0}
    assert run(tmp_path / "out.safetensors", tmp_path / "back.safetensors", "--pixel_scale", "sam") == 0
    assert read_checkpoint(tmp_path / "back.safetensors").metadata == before
    assert run(whole, tmp_path / "folder", "--to", "huggingface", "--pixel_scale", "unit") == 2
    assert "--pixel_scale goes with --to safetensors" in capsys.readouterr().err


def test_what_is_left_of_an_interrupted_folder_is_no_mixture(tmp_path, monkeypatch):
    """Of the earlier weights no part is left that would be read together with parts of the later ones."""

    def to_hub_folder(name: str) -> int:
        words = (tmp_path / name, tmp_path / "hf", "--to", "huggingface")
        return run_command(convert_checkpoint, [str(word) for word in words])

    def full(*_):
        raise OSError(28, "No space left on device")

    save_weights(tmp_path / "old.safetensors", make_tiny_model().state_dict(), {})
    save_weights(tmp_path / "new.safetensors", make_tiny_model(encoder_adapter=True).state_dict(), {})
    assert to_hub_folder("old.safetensors") == 0
    monkeypatch.setattr(checkpoint_conversion, "_write_json", full)
    assert to_hub_folder("new.safetensors") == 2
    with pytest.raises(CheckpointError):
        read_any(tmp_path / "hf")
