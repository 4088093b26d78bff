"""Weights in other programs: the real transformers, micro-sam and segment-anything draw the same masks with them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sam_med2d.export.onnx_parts import synthetic_picture
from scripts import convert_checkpoint
from segment_anything.build_sam import build_network, build_sam
from segment_anything.checkpoint import model_metadata, read_checkpoint, save_weights
from segment_anything.checkpoint_conversion import PROCESSOR_NAME, hub_name
from segment_anything.modeling import Sam
from segment_anything.preprocessing import Preprocessing
from segment_anything.utils.transforms import ResizeLongestSide
from tests.helpers.commands import run_command
from tests.helpers.paths import ROOT
from tests.helpers.seeded_weights import fill, load_layout
from tests.helpers.tiny_models import TINY_SPEC, lively, make_tiny_model, structured

BOXES = [[30.0, 40.0, 150.0, 170.0], [100.0, 90.0, 190.0, 200.0]]
POINTS, LABELS = [[[100.0, 120.0], [30.0, 40.0]], [[60.0, 70.0], [190.0, 200.0]]], [[1, 0], [1, 1]]


@pytest.fixture
def transformers():
    """The package; skipped where it is missing."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed: HuggingFace folders are not tried (requirements-dev.txt)")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def convert(*words: object) -> int:
    return run_command(convert_checkpoint, words)


def public_vit_b(path: Path) -> Path:
    """A file in the layout of the public ViT-B at 256 px without adapters, with weights that anyone can make."""
    layout = load_layout(ROOT / "tests" / "golden" / "vit_b_256.layout.json")
    torch.save({"model": {key: torch.from_numpy(value) for key, value in fill(layout, smooth=True).items()}}, path)
    return path


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@torch.no_grad()
def own_masks(model: Sam, picture: np.ndarray, **prompts: list) -> tuple[np.ndarray, np.ndarray]:
    """Masks and predicted IoU of SAM's own interface, whose preprocessing other programs have."""
    resize, shape = ResizeLongestSide(model.image_size), picture.shape[:2]
    item = {"image": torch.from_numpy(resize.apply_image(picture)).permute(2, 0, 1).float(), "original_size": shape}
    if "boxes" in prompts:
        item["boxes"] = torch.from_numpy(resize.apply_boxes(np.array(prompts["boxes"]), shape)).float()
    else:
        item["point_coords"] = torch.from_numpy(resize.apply_coords(np.array(prompts["points"]), shape)).float()
        item["point_labels"] = torch.tensor(prompts["labels"])
    found = model([item], multimask_output=True)[0]
    return found["masks"].numpy(), found["iou_predictions"].numpy()


# --- transformers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_norm_has_the_same_epsilon(transformers, tmp_path):
    model = make_tiny_model()
    save_weights(tmp_path / "sam.safetensors", model.state_dict(), {})
    assert convert(tmp_path / "sam.safetensors", tmp_path / "hub", "--to", "huggingface") == 0
    theirs = dict(transformers.SamModel.from_pretrained(tmp_path / "hub").named_modules())
    norms = {name: module for name, module in model.named_modules() if hasattr(module, "eps")}
    pairs = {name: theirs[hub_name(f"{name}.weight").removesuffix(".weight")] for name in norms}
    assert len(pairs) == sum(isinstance(module, nn.LayerNorm) for module in theirs.values())
    assert {name: norms[name].eps for name in norms} == {name: module.eps for name, module in pairs.items()}


@pytest.mark.slow
@torch.no_grad()
def test_weights_in_16_bits_are_computed_in_32(transformers, tmp_path):
    model = lively(make_tiny_model())
    save_weights(tmp_path / "sam.safetensors", model.half().state_dict(), {})
    assert convert(tmp_path / "sam.safetensors", tmp_path / "hub", "--to", "huggingface") == 0
    model, theirs = model.float(), transformers.SamModel.from_pretrained(tmp_path / "hub").eval()
    image, boxes = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)), torch.tensor(BOXES) / 4
    found = theirs(pixel_values=image, input_boxes=boxes[None])
    wanted = model.decode(model.encode(image), boxes=boxes)
    torch.testing.assert_close(found.pred_masks[0], wanted.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.iou_scores[0], wanted.iou, atol=1e-5, rtol=0)


@pytest.mark.slow
@torch.no_grad()
def test_masks_of_the_public_layout_are_the_same(transformers, tmp_path, capsys):
    """From the photograph to the mask, by the folder's own processor: clicks, boxes, two sizes of photographs."""
    path = public_vit_b(tmp_path / "sam-med2d.pth")
    assert convert(path, tmp_path / "hub", "--to", "huggingface") == 0
    assert "WARNING" not in "".join(capsys.readouterr())
    model = build_sam("vit_b", path)
    theirs = transformers.SamModel.from_pretrained(tmp_path / "hub").eval()
    processor = transformers.SamProcessor.from_pretrained(tmp_path / "hub")
    for shape in ((256, 203), (500, 700)):
        picture = synthetic_picture(*shape, seed=3)
        for own, hub in (
            ({"boxes": BOXES}, {"input_boxes": [BOXES]}),
            ({"points": POINTS, "labels": LABELS}, {"input_points": [POINTS], "input_labels": [LABELS]}),
        ):
            wanted, iou = own_masks(model, picture, **own)
            inputs = processor(picture, return_tensors="pt", **hub)
            sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
            answer = theirs(**{key: v.float() if v.is_floating_point() else v for key, v in inputs.items()})
            found = processor.post_process_masks(answer.pred_masks, *sizes)[0].numpy()
            assert found.shape == wanted.shape == (2, 3, *shape) and 0.01 < wanted.mean() < 0.99
            assert dice(found, wanted) >= 0.999
            np.testing.assert_allclose(answer.iou_scores[0].numpy(), iou, atol=1e-3)


# --- what is lost is said -----------------------------------------------------------------------------------------


def test_the_processor_is_sams_own(tmp_path):
    save_weights(tmp_path / "sam.safetensors", make_tiny_model().state_dict(), {})
    assert convert(tmp_path / "sam.safetensors", tmp_path / "hub", "--to", "huggingface") == 0
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["mask_decoder_config"] == {"layer_norm_eps": 1e-5} and config["dtype"] == "float32"
    about = json.loads((tmp_path / "hub" / PROCESSOR_NAME).read_text())
    assert about["size"] == {"longest_edge": 64} and about["pad_size"] == {"height": 64, "width": 64}
    assert about["mask_size"] == {"longest_edge": 16}
    np.testing.assert_allclose(255 * np.array(about["image_mean"]), [123.675, 116.28, 103.53])


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"channel_order": "bgr"}, "expect BGR, and SamModel gives RGB: reverse the channels"),
        ({"pixel_scale": "unit"}, "expect pixels in 0..1"),
        ({"mode": "fundus"}, "cropped to the field of view"),
        ({"mask_rule": "dice"}, "begin at the logit ln(predicted IoU), at least -2"),
        ({"adapters": True}, "SamModel computes without the adapters"),
        ({"detail": True}, "SamModel computes without the detail head"),
    ],
)
def test_what_a_program_does_otherwise_is_said(tmp_path, capsys, changes, warning):
    adapter, detail = changes.pop("adapters", False), changes.pop("detail", False)
    model = structured(detail="light") if detail else make_tiny_model(encoder_adapter=adapter)
    model.mask_decoder.mask_rule = changes.pop("mask_rule", "half")
    model.preprocessing = Preprocessing(64, **{"mode": "sam_med2d"} | changes)
    save_weights(tmp_path / "w.safetensors", model.state_dict(), model_metadata(model, "vit_t"))
    assert convert(tmp_path / "w.safetensors", tmp_path / "hub", "--to", "huggingface") == 0
    captured = capsys.readouterr()
    assert captured.err.count("WARNING") == 1 and warning in captured.err
    colours = changes.keys() & {"channel_order", "pixel_scale"}
    assert (tmp_path / "hub" / PROCESSOR_NAME).exists() != bool(colours)
    assert ("SamProcessor cannot give the colours" in captured.out) == bool(colours)


# --- a raw state dict ---------------------------------------------------------------------------------------------


def wide_model(**parts: object) -> Sam:
    """A model as wide as ViT-B with a single block."""
    spec = type(TINY_SPEC)(embed_dim=768, depth=1, num_heads=12, global_attn_indexes=(0,))
    torch.manual_seed(2)
    return build_network(spec, image_size=64, **{"encoder_adapter": False} | parts).eval()


def test_a_raw_state_dict_is_plain_tensors(tmp_path, capsys):
    model = wide_model(structures=("vessel",))
    source, target = tmp_path / "own.safetensors", tmp_path / "sam.pth"
    save_weights(source, model.state_dict(), model_metadata(model, "vit_b"))
    assert convert(source, target, "--to", "sam") == 0
    printed = capsys.readouterr()
    assert "left out the structures, the structures' presence" in printed.out
    assert "get_sam_model('vit_b', ..., image_size=64)" in printed.out and "field of view" in printed.err
    state = torch.load(target, weights_only=True)
    assert state.keys() == wide_model().state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
    assert read_checkpoint(target).state.keys() == state.keys()


def test_adapters_stay_in_a_raw_state_dict(tmp_path, capsys):
    model = wide_model(encoder_adapter=True)
    save_weights(tmp_path / "own.safetensors", model.state_dict(), {})
    assert convert(tmp_path / "own.safetensors", tmp_path / "sam.pth", "--to", "sam") == 0
    assert torch.load(tmp_path / "sam.pth", weights_only=True).keys() == model.state_dict().keys()
    printed = capsys.readouterr()
    assert "SAM's code and micro-sam refuse it" in printed.out and "expect BGR" in printed.err
    assert "without the adapters" not in printed.err


def test_what_sam_does_not_have_is_refused(tmp_path, capsys):
    cases = {"no image encoder of 32 channels": make_tiny_model(), "has a detail head": wide_model(detail="light")}
    for message, model in cases.items():
        save_weights(tmp_path / "own.safetensors", model.state_dict(), {})
        assert convert(tmp_path / "own.safetensors", tmp_path / "sam.pth", "--to", "sam") == 2
        assert message in capsys.readouterr().err
    assert convert(tmp_path / "own.safetensors", tmp_path / "sam.safetensors", "--to", "sam") == 2
    assert convert(tmp_path / "own.safetensors", tmp_path / "sam.pth") == 2
    assert "--to sam writes a .pth" in capsys.readouterr().err
    assert not (tmp_path / "sam.pth").exists()


IN_ANOTHER_PROGRAM = """
import sys
import numpy as np
package, weights, inputs, outputs = sys.argv[1:]
given = np.load(inputs)
if package == "micro_sam":
    from micro_sam.util import get_sam_model
    predictor = get_sam_model("vit_b", device="cpu", checkpoint_path=weights, image_size=256)
else:
    from segment_anything import SamPredictor, sam_model_registry
    predictor = SamPredictor(sam_model_registry["vit_b"](checkpoint=weights))
predictor.set_image(given["picture"])
found = [predictor.predict(box=box, multimask_output=True) for box in given["boxes"]]
np.savez(outputs, masks=np.stack([masks for masks, _, _ in found]), iou=np.stack([iou for _, iou, _ in found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("package", "size"), [("micro_sam", 256), ("segment_anything", 1024)])
def test_masks_of_a_raw_state_dict_are_the_same(tmp_path, package, size):
    """In a process of its own: the other package has the name of ours."""
    run = [sys.executable, "-I", "-c", f"import {package}"]
    if subprocess.run(run, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip(f"{package.replace('_', '-')} of PyPI is not installed: --to sam is not tried with it")
    source = public_vit_b(tmp_path / "sam-med2d.pth")
    model = build_sam("vit_b", checkpoint=source, image_size=size)
    save_weights(tmp_path / "own.safetensors", model.state_dict(), {})
    assert convert(tmp_path / "own.safetensors", tmp_path / "raw.pth", "--to", "sam") == 0
    picture = synthetic_picture(300, 250, seed=3)
    np.savez(tmp_path / "in.npz", picture=picture, boxes=np.array(BOXES))
    words = [package, tmp_path / "raw.pth", tmp_path / "in.npz", tmp_path / "out.npz"]
    subprocess.run([sys.executable, "-I", "-c", IN_ANOTHER_PROGRAM, *map(str, words)], cwd=tmp_path, check=True)
    wanted, iou = own_masks(model, picture, boxes=BOXES)
    found = np.load(tmp_path / "out.npz")
    assert 0.01 < wanted.mean() < 0.99 and dice(found["masks"], wanted) >= 0.999
    np.testing.assert_allclose(found["iou"], iou, atol=1e-3)
