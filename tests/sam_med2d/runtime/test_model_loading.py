"""One loader of weights: what is not written out is as the checkpoint says, in every command."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from app import server
from sam_med2d.errors import UsageError
from sam_med2d.runtime.model_loading import LoadedModel, load_model
from sam_med2d.training.command import make_model
from scripts import amg, convert_checkpoint, export_onnx_model, predict
from segment_anything.build_sam import MODEL_SPECS
from segment_anything.checkpoint import CheckpointError, model_metadata, save_weights
from segment_anything.preprocessing import Preprocessing
from tests.helpers.commands import run_command
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model
from tests.helpers.training_runs import load_test_script, train_args

COMMANDS = {
    "test": (load_test_script(), []),
    "predict": (predict, ["eye.jpg"]),
    "app": (server, ["eye.jpg"]),
    "amg": (amg, ["--input", "eye.jpg", "--output", "out"]),
    "export": (export_onnx_model, ["--output", "decoder.onnx"]),
}
MULTIMASK = ("test", "predict", "app")


def write(path: Path, *, metadata: bool = True, adapter: bool = False) -> Path:
    """Weights of 64 px that say how they were trained, or do not."""
    model = make_tiny_model(encoder_adapter=adapter)
    model.preprocessing = Preprocessing(64, "sam_med2d", "bgr", "logits")
    model.mask_decoder.mask_rule = "dice"
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t", multimask=False) if metadata else {})
    return path


def parsed(command: str, path: Path, *words: str) -> Namespace:
    script, needed = COMMANDS[command]
    return script.parse_args([*needed, "--sam_checkpoint", str(path), *words])


def loaded(command: str, path: Path, *words: str) -> LoadedModel:
    return load_model(parsed(command, path, *words), torch.device("cpu"))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_given_is_as_the_checkpoint_says(tmp_path, tiny_type, command):
    found = loaded(command, write(tmp_path / "a.safetensors", adapter=True))
    model = found.model
    assert (found.model_type, found.multimask, found.trained_size) == ("vit_t", False, 64)
    assert (model.image_size, model.mask_decoder.mask_rule, model.training) == (64, "dice", False)
    assert model.preprocessing == Preprocessing(64, "sam_med2d", "bgr", "logits")
    assert any("Adapter" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_given_holds(tmp_path, tiny_type, command):
    flags = "--model_type vit_t --image_size 96 --preprocess fundus --channel_order rgb --pixel_scale unit"
    flags += " --multimask True" if command in MULTIMASK else ""
    found = loaded(command, write(tmp_path / "a.safetensors"), *flags.split())
    assert found.model.preprocessing == Preprocessing(96, "fundus", "rgb", "logits", "unit")
    assert found.multimask is (command in MULTIMASK) and found.trained_size == 64


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pixel_scale_is_as_the_checkpoint_says_and_never_guessed(tmp_path, tiny_type, command):
    path, out = write(tmp_path / "a.safetensors", metadata=False), tmp_path / "unit.safetensors"
    flags = ("--model_type", "vit_t", "--image_size", "64")
    assert loaded(command, path, *flags).model.preprocessing.pixel_scale == "sam"
    assert loaded(command, path, *flags, "--pixel-scale", "unit").model.preprocessing.pixel_scale == "unit"
    assert run_command(convert_checkpoint, [str(path), str(out), "--pixel_scale", "unit"]) == 0
    assert loaded(command, out, *flags).model.preprocessing == Preprocessing(64, "sam_med2d", "rgb", "logits", "unit")
    assert loaded(command, out, *flags, "--pixel_scale", "sam").model.preprocessing.pixel_scale == "sam"


def test_fine_tuning_keeps_the_pixel_scale_unless_told(tmp_path, tiny_type):
    plain, unit = write(tmp_path / "a.safetensors", metadata=False), tmp_path / "unit.safetensors"
    assert run_command(convert_checkpoint, [str(plain), str(unit), "--pixel_scale", "unit"]) == 0
    scales = [(plain, [], "sam"), (plain, ["--pixel_scale", "unit"], "unit"), (unit, [], "unit")]
    for path, more, scale in [*scales, (unit, ["--pixel_scale", "sam"], "sam")]:
        words = ["--sam_checkpoint", str(path), "--model_type", "vit_t", "--image_size", "64", *more]
        model = make_model(train_args(tmp_path, *words), torch.device("cpu"))
        assert model.preprocessing.pixel_scale == scale
        assert model_metadata(model, "vit_t")["preprocessing"].get("pixel_scale", "sam") == scale


def test_a_default_that_is_written_out_is_given(tmp_path, tiny_type):
    path = write(tmp_path / "a.safetensors", adapter=True)
    test = loaded("test", path, "--multimask", "True", "--image_size", "256", "--encoder_adapter", "False")
    assert test.multimask and test.model.image_size == 256
    assert not any("Adapter" in name for name, _ in test.model.named_parameters())
    assert loaded("test", path, "--mask_rule", "half").model.mask_decoder.mask_rule == "half"


def test_a_checkpoint_that_does_not_say_gets_the_flags_defaults(tmp_path, tiny_type, monkeypatch):
    monkeypatch.setitem(MODEL_SPECS, "vit_b", TINY_SPEC)
    path = write(tmp_path / "a.safetensors", metadata=False)
    for command in ("test", "export"):
        found = loaded(command, path)
        assert (found.model_type, found.model.image_size, found.multimask) == ("vit_b", 256, True), command
    found = loaded("amg", path)
    assert (found.model_type, found.model.image_size) == ("vit_b", 64)
    for command in ("predict", "app"):
        with pytest.raises(UsageError, match=r"a\.safetensors does not say its model type: give --model_type"):
            loaded(command, path)
        assert loaded(command, path, "--model_type", "vit_t").model.image_size == 64


def test_errors_are_those_of_a_user(tmp_path, tiny_type, monkeypatch):
    monkeypatch.setitem(MODEL_SPECS, "vit_b", replace(TINY_SPEC, depth=3))
    path = write(tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="image_size 100 is not a multiple of 16"):
        loaded("predict", path, "--image_size", "100")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        loaded("predict", path, "--model_type", "vit_b")
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        loaded("predict", Path("nowhere"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--sam_checkpoint", "--sam-checkpoint", "--checkpoint"])
def test_weights_have_one_flag_of_three_names(command, flag):
    script, needed = COMMANDS[command]
    assert script.parse_args([*needed, flag, "x"]).sam_checkpoint == "x"
