"""State dicts as other programs save them: wrapped, prefixed, whole models, and those of other models."""

from argparse import Namespace

import pytest
import torch

from scripts import convert_checkpoint
from segment_anything.build_sam import MODEL_SPECS, sam_model_registry
from segment_anything.checkpoint import POSITIONS, CheckpointError, read_checkpoint, save_weights
from tests.helpers.commands import run_command
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model


@pytest.fixture(autouse=True)
def tiny_vit_t(monkeypatch):
    monkeypatch.setitem(MODEL_SPECS, "vit_t", TINY_SPEC)


@pytest.fixture(scope="module")
def plain():
    """Weights of a tiny model at 64 px."""
    return make_tiny_model().state_dict()


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


DECODER = {"out_conv.weight": torch.zeros(1)}
ADAM = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
WRAPPED = {  # a layout: what a file holds of weights, and what is said
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3, "optimizer": ADAM}, "its entry 'state_dict'"),
    "model_state_dict": (lambda s: {"model_state_dict": s, "optimizer_state_dict": ADAM}, "'model_state_dict'"),
    "model, optimizer": (lambda s: {"model": s, "optimizer": ADAM, "epoch": 1}, ""),
    "distributed": (lambda s: prefixed(s, "module."), "names without 'module.'"),
    "distributed, wrapped": (lambda s: {"model": prefixed(s, "module.")}, "'model', names without 'module.'"),
    "micro-sam": (lambda s: {"model_state": s, "decoder_state": DECODER}, "its entry 'model_state'"),
    "micro-sam, training": (lambda s: {"model_state": prefixed(s, "sam."), "optimizer_state": ADAM}, "'sam.'"),
    "micro-sam, distributed": (lambda s: {"model_state": prefixed(s, "module.sam.")}, "names without 'module.sam.'"),
    "Lightning": (
        lambda s: {
            "state_dict": {**prefixed(s, "model."), "loss.weight": torch.ones(2)},
            "hyper_parameters": {"lr": 1e-4},
            "pytorch-lightning_version": "2.4.0",
        },
        "its entry 'state_dict', names without 'model.', left out what lies beside: loss.weight",
    ),
    "Lightning, sam": (lambda s: {"state_dict": prefixed(s, "model.sam."), "loops": {}}, "without 'model.sam.'"),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), "names without '_orig_mod.'"),
    "nested": (lambda s: {"state": {"model": s}}, "its entry 'state.model'"),
}


@pytest.mark.parametrize("layout", WRAPPED)
def test_wrappers_and_prefixes_are_taken_off_and_named(plain, tmp_path, layout, capsys):
    wrap, words = WRAPPED[layout]
    path = tmp_path / "some.ckpt"
    torch.save(wrap(plain), path)
    model = sam_model_registry["vit_t"](Namespace(sam_checkpoint=path, image_size=64, encoder_adapter=False))
    assert all(torch.equal(value, plain[key]) for key, value in model.state_dict().items())
    summary = model.load_report.summary()
    assert words in summary and ("entry" in summary or "without" in summary) == bool(words)
    assert run_command(convert_checkpoint, [str(path), str(tmp_path / "out.safetensors")]) == 0
    assert words in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "out.safetensors").state.keys() == plain.keys()


def test_prefixes_in_safetensors_are_taken_off(plain, tmp_path):
    save_weights(tmp_path / "a.safetensors", prefixed(plain, "module.sam."), {"multimask": False})
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert found.state.keys() == plain.keys() and found.metadata == {"multimask": False}
    assert found.note == "names without 'module.sam.'"


def test_of_several_models_one_is_named(plain, tmp_path, capsys):
    path, out = tmp_path / "two.pth", tmp_path / "out.safetensors"
    other = {key: value + 1 for key, value in plain.items()}
    torch.save({"model": plain, "ema": other}, path)
    with pytest.raises(
        CheckpointError, match=r"several models: model, ema\. Say which: .*convert_checkpoint.* --entry"
    ):
        read_checkpoint(path)
    assert run_command(convert_checkpoint, [str(path), str(out)]) == 2
    assert run_command(convert_checkpoint, [str(path), str(out), "--entry", "teacher"]) == 2
    assert "--entry teacher" in capsys.readouterr().err and not out.exists()
    assert run_command(convert_checkpoint, [str(path), str(out), "--entry", "ema"]) == 0
    assert all(torch.equal(value, other[key]) for key, value in read_checkpoint(out).state.items())
    torch.save({"state_dict": prefixed(plain, "model.") | prefixed(other, "model.ema.")}, path)
    assert run_command(convert_checkpoint, [str(path), str(out), "--entry", "state_dict/model."]) == 0
    found = read_checkpoint(out).state
    assert found.keys() == plain.keys() and all(torch.equal(value, plain[key]) for key, value in found.items())


def test_a_whole_model_is_refused_with_the_command_that_helps(plain, tmp_path, capsys):
    path, out = tmp_path / "whole.pth", tmp_path / "out.safetensors"
    for content in (make_tiny_model(), {"model": make_tiny_model(), "epoch": 3}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=rf"Sam\), .*any code.*convert_checkpoint\.py --trust {path} OUT"):
            read_checkpoint(path)
        assert run_command(convert_checkpoint, ["--trust", str(path), str(out)]) == 0
        assert read_checkpoint(out).state.keys() == plain.keys()
    capsys.readouterr()


class Elsewhere(torch.nn.Module):
    """A class that is gone when the file is read."""

    def __init__(self, **parts) -> None:
        super().__init__()
        self.sam, self.settings = make_tiny_model(), parts


class Settings(dict):
    """Another one."""


def test_a_whole_model_of_classes_that_are_not_installed(plain, tmp_path, monkeypatch, capsys):
    """As of Segment Anything's own package, whose classes have other names than those here."""
    path, out = tmp_path / "whole.pth", tmp_path / "out.safetensors"
    model = Elsewhere(a=1)
    model.sam.load_state_dict(plain)
    for legacy in (False, True):
        torch.save({"net": model, "step": 3}, path, _use_new_zipfile_serialization=not legacy)
        with monkeypatch.context() as patch:
            patch.delattr(f"{__name__}.Elsewhere")
            assert run_command(convert_checkpoint, ["--trust", str(path), str(out)]) == 0
        assert "its entry 'net', names without 'sam.'" in capsys.readouterr().out
        found = read_checkpoint(out).state
        assert all(torch.equal(found[key], plain[key]) for key in plain)
    torch.save(Settings(a=1), path)
    monkeypatch.delattr(f"{__name__}.Settings")
    assert run_command(convert_checkpoint, ["--trust", str(path), str(out)]) == 2
    assert "torch.save(model.state_dict(), 'weights.pth')" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_named(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt is a TorchScript program: save the weights alone"):
        read_checkpoint(tmp_path / "a.pt")


ONE = torch.zeros(1)
OTHERS = {  # names of tensors in public files: whose they are
    "image_encoder.patch_embed.seq.0.c.weight": "MobileSAM",
    "mask_decoder.hf_token.weight": "SAM-HQ .*sam_vit_b",
    "mask_decoder.compress_vit_feat.0.weight": "SAM-HQ",
    "image_encoder.trunk.patch_embed.proj.weight": "SAM 2, .*MedSAM2",
    "sam_mask_decoder.transformer.layers.0.self_attn.q_proj.weight": "SAM 2",
    "memory_attention.layers.0.self_attn.q_proj.weight": "SAM 2",
    "vision_encoder.backbone.blocks.0.layer_norm1.weight": "SAM 2",
    "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight": "SAM 3",
    "tracker.maskmem_tpos_enc": "SAM 3",
    "tracker_model.memory_attention.layers.0.self_attn.o_proj.bias": "SAM 3",
    "image_encoder.blocks.0.mlp.fc1.weight": "EfficientSAM",
    "image_encoder.backbone.stages.0.op_list.0.main.conv1.conv.weight": "EfficientViT-SAM",
    "base_model.model.vision_encoder.layers.0.attn.qkv.lora_A.weight": "LoRA, .*merge_and_unload",
    "image_encoder.blocks.0.attn.qkv.linear_a_q.weight": "LoRA",
    "image_encoder.blocks.0.attn.qkv.w_a_linear_q.weight": "LoRA",
    "w_a_000": "LoRA",
    "encoder_w_b_003": "LoRA",
}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": prefixed(s, "model.")}])
def test_other_models_are_named_by_their_tensors(plain, tmp_path, capsys, wrap):
    path, wrong = tmp_path / "other.pth", []
    for key, words in OTHERS.items():
        for beside in ({}, {POSITIONS: plain[POSITIONS]}):  # alone, and beside a tensor that both models have
            torch.save(wrap({**beside, key: ONE}), path)
            command = run_command(convert_checkpoint, [str(path), str(tmp_path / "out.safetensors")])
            message = capsys.readouterr().err
            parts = words.split(".*")
            found = command == 2 and f"holds weights of {parts[0]}" in message and all(p in message for p in parts)
            wrong += [] if found and str(path) in message else [(key, bool(beside), message)]
            with pytest.raises(CheckpointError, match="holds weights of"):
                read_checkpoint(path)
    assert not wrong


def test_a_model_of_volumes_and_an_optimizer_are_named(plain, tmp_path):
    torch.save(
        {"model_state_dict": plain | {"image_encoder.pos_embed": torch.zeros(1, 2, 2, 2, 8)}}, tmp_path / "a.pth"
    )
    with pytest.raises(CheckpointError, match="SAM-Med3D"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save(ADAM, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="state of an optimizer, without weights"):
        read_checkpoint(tmp_path / "a.pth")


def test_tensors_of_no_model_here_are_not_converted(plain, tmp_path, capsys):
    torch.save(plain | {"image_encoder.prompt_generator.shared.weight": ONE}, tmp_path / "a.pth")
    assert run_command(convert_checkpoint, [str(tmp_path / "a.pth"), str(tmp_path / "out.safetensors")]) == 2
    assert "has 1 tensors of another model: image_encoder.prompt_generator" in capsys.readouterr().err


def test_parts_of_a_model_and_whole_numbers_are_not_converted(plain, tmp_path, capsys):
    encoder = {key: value for key, value in plain.items() if key.startswith("image_encoder.")}
    whole = {key: (100 * value).to(torch.int8) for key, value in plain.items()}
    for state, words in ((encoder, "is no whole model, it lacks 5 tensors: prompt_encoder."), (whole, "whole numbers")):
        torch.save(state, tmp_path / "a.pth")
        assert run_command(convert_checkpoint, [str(tmp_path / "a.pth"), str(tmp_path / "out.safetensors")]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_numbers_that_are_not_finite_are_refused(plain, tmp_path, capsys, bad, suffix):
    path = tmp_path / f"bad{suffix}"
    broken = {key: value.clone() for key, value in plain.items()}
    broken["mask_decoder.iou_token.weight"].view(-1)[3] = bad
    save_weights(path, broken, {}) if suffix == ".safetensors" else torch.save({"model": broken}, path)
    with pytest.raises(
        CheckpointError, match=r"NaN or infinite numbers in 1 of \d+ tensors: mask_decoder.iou_token.weight"
    ):
        read_checkpoint(path)
    assert run_command(convert_checkpoint, [str(path), str(tmp_path / "out.safetensors")]) == 2
    assert not (tmp_path / "out.safetensors").exists()
    capsys.readouterr()


def test_large_numbers_are_finite(plain, tmp_path):
    """Their sum is not, in the tensor's own type."""
    large = {key: value.half() for key, value in plain.items()}
    large["mask_decoder.iou_token.weight"] = torch.full((1, 256), 6e4, dtype=torch.float16)
    huge = plain | {"mask_decoder.iou_token.weight": torch.full((1, 256), 3e38)}
    for state in (large, huge):
        torch.save(state, tmp_path / "a.pth")
        assert read_checkpoint(tmp_path / "a.pth").state.keys() == plain.keys()


def test_files_that_hold_no_numbers_of_weights(plain, tmp_path):
    (tmp_path / "a.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 375042383\n")
    with pytest.raises(CheckpointError, match=r"a\.pth is a pointer of Git LFS.* git lfs pull"):
        read_checkpoint(tmp_path / "a.pth")
    (tmp_path / "b.onnx").write_bytes(bytes(50))
    with pytest.raises(CheckpointError, match=r"b\.onnx is an exported file"):
        read_checkpoint(tmp_path / "b.onnx")
    torch.save({key: (100 * value).to(torch.int8) for key, value in plain.items()}, tmp_path / "int8.pth")
    with pytest.raises(CheckpointError, match=r"image_encoder.pos_embed holds int8, no fractions \(quantised\?\)"):
        sam_model_registry["vit_t"](checkpoint=tmp_path / "int8.pth", image_size=64)


def test_nothing_is_unpickled_on_the_way(plain, tmp_path):
    """A layout of another program is no reason to trust its file."""
    torch.save({"state_dict": prefixed(plain, "model."), "hyper_parameters": Namespace(lr=1)}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"argparse.Namespace.*--trust"):
        read_checkpoint(tmp_path / "a.ckpt")
