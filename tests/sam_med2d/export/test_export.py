"""ONNX export: the files answer as PyTorch does, whatever the counts, and nothing half-written is left."""

import errno
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from sam_med2d.export import command, onnx_files, onnx_image_encoder, onnx_parts, onnx_sam
from sam_med2d.export.onnx_files import run_session, session
from sam_med2d.export.onnx_modules import OnnxEncoder, OnnxPreprocess
from sam_med2d.export.onnx_parts import OnnxPart, decoder_part, encoder_part, synthetic_picture
from sam_med2d.export.quantization import large_products
from segment_anything.build_sam import MODEL_SPECS
from segment_anything.checkpoint import METADATA_KEY
from segment_anything.modeling import HEADS, Sam
from segment_anything.modeling.image_encoder import GridAttention
from segment_anything.modeling.prompt_encoder import STRUCTURE
from segment_anything.preprocessing import Preprocessing, inside_square
from segment_anything.utils.onnx import SamOnnxModel, inner_frame
from tests.helpers.exports import SCRIPTS, export
from tests.helpers.tiny_models import TINY_SPEC, lively, make_tiny_model, save_model, structured

SIZE = 64


# of the detail head, what starts at zero
@pytest.fixture
def checkpoint(tmp_path, tiny_type):
    return save_model(lively(structured()), tmp_path / "weights.safetensors")


def metadata(path: Path) -> dict:
    return json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}[METADATA_KEY])


# --- the modules, in PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("size", [64, 96, 160])  # whole windows, windows that the grid does not fill, both
def test_the_encoder_computes_the_same(adapter, size, monkeypatch):
    model = lively(make_tiny_model(encoder_adapter=adapter, image_size=size))
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    whole = OnnxEncoder(model)(image)[0]
    torch.testing.assert_close(whole, model.encode(image).detach(), atol=2e-5, rtol=0)
    monkeypatch.setattr(onnx_image_encoder, "SCORES_AT_ONCE", 3 * 16)  # bands of few query rows
    torch.testing.assert_close(OnnxEncoder(model)(image)[0], whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "size"), [("vit_t", 256), ("vit_b", 256), ("vit_l", 256), ("vit_h", 256), ("vit_t", 1024)]
)
def test_attention_of_every_type_and_size(name, size):
    """One windowed block of each, in its own shape."""
    spec, grid = MODEL_SPECS[name], size // 16
    torch.manual_seed(0)
    attention = GridAttention(dim=spec.embed_dim, num_heads=spec.num_heads, window=spec.window_size, grid=grid)
    for table in (attention.rel_pos_h, attention.rel_pos_w):
        torch.nn.init.normal_(table)
    x = torch.randn(1, grid, grid, spec.embed_dim)
    with torch.no_grad():
        torch.testing.assert_close(
            onnx_image_encoder.OnnxAttention(attention, grid)(x), attention(x), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(("scale", "grey_level"), [("sam", 1 / 57), ("unit", 1 / 150)])
@pytest.mark.parametrize("mode", ["fundus", "sam_med2d"])
@pytest.mark.parametrize("shape", [(40, 50), (64, 64), (200, 131), (50, 300)])
def test_preprocessing_inside_the_file(mode, shape, scale, grey_level):
    rule = Preprocessing(SIZE, mode=mode, pixel_scale=scale)
    pixels = synthetic_picture(*shape, seed=0)
    frame = rule.frame(pixels)
    assert frame.crop == (0, 0, *shape)
    found = OnnxPreprocess(rule)(torch.from_numpy(pixels).float())[0].numpy()
    # half a grey level: OpenCV rounds averages, and interpolates in fixed point
    np.testing.assert_allclose(found, rule.image(pixels, frame), atol=1.1 * grey_level if mode == "fundus" else 1e-6)


@pytest.mark.parametrize("mode", ["fundus", "sam_med2d"])
def test_geometry_is_that_of_the_preprocessing(mode):
    rule = Preprocessing(SIZE, mode=mode)
    for shape in itertools.product((1, 5, 31, 63, 64, 65, 97, 128, 3001), repeat=2):
        inner = inside_square(rule.image_size, *shape) if mode == "fundus" else rule._pad_or_stretch(*shape)
        assert tuple(int(side) for side in inner_frame(torch.tensor(shape), SIZE, mode)) == inner


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["--batch_size", "2"], marks=pytest.mark.slow),
        ["--dynamic-batch"],
    ],
    ids=" ".join,
)
def test_encoder_files(checkpoint, tmp_path, flags):
    assert export("encoder", checkpoint, tmp_path / "e.onnx", *flags) == 0
    file, model = session(tmp_path / "e.onnx"), lively(structured())
    assert [i.name for i in file.get_inputs()] == ["input_image"]
    assert [o.name for o in file.get_outputs()] == ["image_embeddings"]
    assert {opset.version for opset in onnx.load(tmp_path / "e.onnx").opset_import if not opset.domain} == {17}
    counts = {"": (1,), "--batch_size 2": (2,), "--dynamic-batch": (1, 2, 5)}[" ".join(flags)]
    for count in counts:
        image = torch.randn(count, 3, SIZE, SIZE)
        found = run_session(file, {"input_image": image})["image_embeddings"]
        torch.testing.assert_close(found, model.encode(image).detach(), atol=1e-4, rtol=0)


def test_a_file_with_preprocessing_takes_pictures_of_any_size(checkpoint, tmp_path):
    assert export("encoder", checkpoint, tmp_path / "e.onnx", "--use-preprocess") == 0
    model, file = lively(structured()), session(tmp_path / "e.onnx")
    pixels = synthetic_picture(150, 130, seed=3)
    rule = model.preprocessing
    expected = model.encode(torch.from_numpy(rule.image(pixels, rule.frame(pixels)))[None]).detach()
    found = run_session(file, {"input_image": torch.from_numpy(pixels).float()})["image_embeddings"]
    assert (found - expected).abs().max() < 0.1 * expected.std()


def test_decoder_file_answers_any_number_of_prompts(checkpoint, tmp_path):
    assert export("decoder", checkpoint, tmp_path / "d.onnx") == 0
    file, model = session(tmp_path / "d.onnx"), lively(structured())
    names = ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"]
    assert [i.name for i in file.get_inputs()] == names
    assert [o.name for o in file.get_outputs()] == ["masks", "iou_predictions", "low_res_masks"]
    embedding = model.encode(torch.randn(1, 3, SIZE, SIZE)).detach()
    for prompts, points in ((1, 1), (6, 9), (32, 2)):
        labels = torch.randint(-1, STRUCTURE + 3, (prompts, points)).float()
        coords = SIZE * torch.rand(prompts, points, 2)
        inputs = {"image_embeddings": embedding, "point_coords": coords, "point_labels": labels}
        blank = {"mask_input": torch.zeros(1, 1, SIZE // 4, SIZE // 4), "has_mask_input": torch.zeros(1)}
        found = run_session(file, inputs | blank | {"orig_im_size": torch.tensor([90.0, 70.0])})
        with torch.no_grad():
            expected = model.decode_points(embedding, coords, labels)
        logits = model.withhold_absent(expected.logits, expected.presence, labels)
        assert found["masks"].shape == (prompts, 3, 90, 70)
        torch.testing.assert_close(found["low_res_masks"], logits, atol=1e-3, rtol=0)
        torch.testing.assert_close(found["iou_predictions"], expected.iou, atol=1e-4, rtol=0)


def test_a_structure_held_to_be_absent_is_empty(tmp_path, tiny_type):
    model = structured()
    model.prompt_encoder.presence_thresholds |= {"optic_disc": 1.0, "vessel": 0.0}
    assert export("decoder", save_model(model, tmp_path / "w.safetensors"), tmp_path / "d.onnx") == 0
    labels = torch.tensor([[STRUCTURE + 1.0, -1], [STRUCTURE + 2.0, -1], [STRUCTURE + 1.0, 1]])
    inputs = onnx_parts._prompts(model, prompts=3, points=2, seed=0) | {"point_labels": labels}
    found = run_session(
        session(tmp_path / "d.onnx"), inputs | onnx_parts.encoded_inputs(model, onnx_parts.images(model, 1))
    )
    assert (found["masks"][0] < -19.9).all() and (found["low_res_masks"][0] == -20).all()
    assert (found["masks"][1] > -19).all()
    assert (found["masks"][2] > -19).all(), "a click says that it is there"


@pytest.mark.slow
def test_options_of_the_decoder(checkpoint, tmp_path):
    flags = ["--return-single-mask", "--return_extra_metrics", "--use-stability-score", "--resize-longest-img-size"]
    assert export("decoder", checkpoint, tmp_path / "d.onnx", *flags) == 0
    file, model = session(tmp_path / "d.onnx"), lively(structured())
    extra = ["masks", "iou_predictions", "stability_scores", "areas", "low_res_masks"]
    assert [o.name for o in file.get_outputs()] == extra
    inputs = onnx_parts._prompts(model, prompts=5, points=3, seed=7) | onnx_parts.encoded_inputs(
        model, onnx_parts.images(model, 1)
    )
    found = run_session(file, inputs)
    assert found["masks"].shape == (5, 1, 200, 180)
    torch.testing.assert_close(found["areas"][:, 0], (found["masks"] > 0).sum((1, 2, 3)).float())
    assert ((found["stability_scores"] >= 0) & (found["stability_scores"] <= 1)).all()


def test_the_single_mask_is_the_candidate_of_the_highest_iou():
    """Also with three labels, where the public export returns the token that was never trained."""
    model = lively(structured())
    inputs = onnx_parts._prompts(model, prompts=4, points=3, seed=7) | onnx_parts.encoded_inputs(
        model, onnx_parts.images(model, 1)
    )
    candidates, iou, _ = SamOnnxModel(model, multimask=True)(**inputs)
    single, best, _ = SamOnnxModel(model, return_single_mask=True)(**inputs)
    assert torch.equal(best[:, 0], iou.amax(1)) and len(iou.argmax(1).unique()) >= 1
    torch.testing.assert_close(single[:, 0], candidates[torch.arange(4), iou.argmax(1)])


@pytest.mark.parametrize("detail", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "light")) for kind in HEADS])
def test_a_detail_head_travels(tmp_path, tiny_type, detail):
    model = lively(structured(detail=detail))
    path = save_model(model, tmp_path / "w.safetensors")
    assert export("encoder", path, tmp_path / "e.onnx") == export("decoder", path, tmp_path / "d.onnx") == 0
    image = torch.randn(1, 3, SIZE, SIZE)
    encoded = run_session(session(tmp_path / "e.onnx"), {"input_image": image})
    assert encoded["detail_features"].shape == (1, model.mask_decoder.detail.channels, SIZE, SIZE)
    labels = torch.tensor([[1.0, -1]])
    inputs = onnx_parts._prompts(model, prompts=1, points=2, seed=0, original=(SIZE, SIZE)) | {"point_labels": labels}
    found = run_session(session(tmp_path / "d.onnx"), inputs | encoded)
    with torch.no_grad():
        embedding = model.encode(image)
        features = model.features(image, embedding)
        expected = model.decode_points(embedding, inputs["point_coords"], labels, features=features).logits
    torch.testing.assert_close(found["masks"], expected, atol=1e-3, rtol=0)


def test_files_say_what_they_are(checkpoint, tmp_path):
    assert export("encoder", checkpoint, tmp_path / "e.onnx") == export("decoder", checkpoint, tmp_path / "d.onnx") == 0
    encoder, decoder = metadata(tmp_path / "e.onnx"), metadata(tmp_path / "d.onnx")
    assert encoder["weights"] == decoder["weights"] and len(encoder["weights"]) == 32
    assert (encoder["part"], decoder["part"]) == ("encoder", "decoder")
    for about in (encoder, decoder):
        assert about["structures"] == ["optic_cup", "optic_disc", "vessel"] and about["image_size"] == SIZE
        assert about["preprocessing"]["mode"] == "fundus" and about["presence_thresholds"]["vessel"] == 0.5
        assert (about["model_type"], about["format_version"], about["opset"]) == ("vit_t", 1, 17)


def test_large_weights_lie_beside_the_file(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "ONE_FILE_LIMIT", 50_000)
    assert export("encoder", checkpoint, tmp_path / "out" / "e.onnx") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"e.{metadata(tmp_path / 'out' / 'e.onnx')['weights'][:8]}.fp32.data", "e.onnx"]
    assert run_session(session(tmp_path / "out" / "e.onnx"), {"input_image": torch.zeros(1, 3, SIZE, SIZE)})


@pytest.mark.parametrize("limit", [50_000, onnx_files.ONE_FILE_LIMIT])
def test_weights_that_were_exported_beside_a_file_stay_with_it(checkpoint, tmp_path, monkeypatch, limit):
    """As above 2 GB, where the exporter itself writes a file for each weight."""
    assert export("encoder", checkpoint, tmp_path / "e.onnx") == 0
    apart = tmp_path / "apart"
    apart.mkdir()
    options = {"save_as_external_data": True, "all_tensors_to_one_file": False, "size_threshold": 0}
    onnx.save(onnx.load(tmp_path / "e.onnx"), apart / "e.onnx", **options)
    about = metadata(tmp_path / "e.onnx")
    monkeypatch.setattr(onnx_files, "ONE_FILE_LIMIT", limit)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "e.onnx"
    onnx_files.save(onnx.load(apart / "e.onnx", load_external_data=False), target, about, source=apart)
    shutil.rmtree(apart)
    assert len(list(target.parent.iterdir())) == (2 if limit == 50_000 else 1)
    image = {"input_image": torch.rand(1, 3, SIZE, SIZE)}
    found, wanted = (run_session(session(path), image)["image_embeddings"] for path in (target, tmp_path / "e.onnx"))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


# --- smaller files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["encoder", pytest.param("decoder", marks=pytest.mark.slow)])
def test_smaller_files_are_measured(checkpoint, tmp_path, script, capfd):
    flags = ["--half", "--quantize-out", str(tmp_path / "int8.onnx"), "--max-dice-loss", "100"]
    flags += ["--photographs", "data_demo", "--photograph-count", "1"]
    assert export(script, checkpoint, tmp_path / "half.onnx", *flags) == 0
    lines = {line.split()[0]: line.split() for line in capfd.readouterr().out.splitlines() if line.strip()}
    assert {"torch", "fp32", "fp16", "int8"} <= lines.keys()
    assert float(lines["fp16"][1]) < 0.8 * float(lines["fp32"][1])
    assert float(lines["fp16"][2]) > 0 and float(lines["int8"][2]) > 0
    assert abs(float(lines["fp32"][4])) < 0.02, "Dice points"
    assert metadata(tmp_path / "half.onnx")["precision"] == "fp16"
    model = onnx.load(tmp_path / "int8.onnx")
    assert metadata(tmp_path / "int8.onnx")["precision"] == "int8"
    kinds = {node.op_type for node in model.graph.node}
    assert kinds & {"DynamicQuantizeMatMul", "MatMulInteger"}


def test_static_scales_from_photographs(checkpoint, tmp_path):
    flags = ["--quantize-out", str(tmp_path / "int8.onnx"), "--calibration", "data_demo", "--calibration-count", "2"]
    assert export("encoder", checkpoint, tmp_path / "e.onnx", *flags) == 0
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert "QuantizeLinear" in kinds and "DynamicQuantizeLinear" not in kinds


def test_a_file_that_loses_too_much_is_not_written(checkpoint, tmp_path, capfd):
    flags = ["--quantize-out", str(tmp_path / "o" / "int8.onnx"), "--photographs", "data_demo"]
    flags += ["--photograph-count", "1", "--max-dice-loss", "-100"]
    assert export("encoder", checkpoint, tmp_path / "o" / "e.onnx", *flags) == 2
    assert "int8 loses" in capfd.readouterr().err
    assert not list((tmp_path / "o").iterdir())


def test_each_file_is_made_on_its_own_disk(checkpoint, tmp_path, monkeypatch, capfd):
    replace = onnx_files.os.replace

    def on_one_disk(source: Path, target: Path) -> None:
        if target.parent not in Path(source).parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(onnx_files.os, "replace", on_one_disk)
    output, int8 = tmp_path / "a" / "e.onnx", tmp_path / "b" / "int8.onnx"
    assert export("encoder", checkpoint, output, "--quantize-out", str(int8)) == 0, capfd.readouterr().err
    assert [path for folder in "ab" for path in (tmp_path / folder).iterdir()] == [output, int8]


def test_a_folder_that_cannot_be_written_is_found_before_any_file(checkpoint, tmp_path, capfd):
    flags = ["--quantize-out", str(checkpoint / "int8.onnx")]
    assert export("encoder", checkpoint, tmp_path / "a" / "e.onnx", *flags) == 2
    assert f"--quantize_out: cannot write to {checkpoint}" in capfd.readouterr().err
    assert not list((tmp_path / "a").iterdir())


def test_only_weights_are_quantized(checkpoint, tmp_path):
    assert export("encoder", checkpoint, tmp_path / "e.onnx") == 0
    model = onnx.load(tmp_path / "e.onnx")
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    chosen = [shapes[node.input[1]] for node in model.graph.node if node.name in large_products(model)]
    dim, depth = TINY_SPEC.embed_dim, TINY_SPEC.depth
    assert chosen == depth * [(4 * dim, dim)], "the other products of so small a model have few rows"


# --- what fails ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["differs", "breaks"])
def test_a_failed_export_leaves_no_file(checkpoint, tmp_path, monkeypatch, capfd, where):
    target = tmp_path / "out" / "e.onnx"
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    make_part = command.encoder_part

    def spoiled(*args, **options) -> OnnxPart:
        part = make_part(*args, **options)
        if where == "differs":
            part.module.encoder.positions = part.module.encoder.positions + 0.05
        return part

    def broken(*args, **options) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(command, "encoder_part", spoiled)
    if where == "breaks":
        monkeypatch.setattr(onnx_files, "save", broken)
    assert export("encoder", checkpoint, target) == 2
    message = capfd.readouterr().err
    assert ("differs from PyTorch: image_embeddings by" if where == "differs" else "no space left") in message
    assert message.startswith("error: ") and "Traceback" not in message
    assert [path.name for path in target.parent.iterdir()] == ["e.onnx"] and target.read_bytes() == b"earlier"


def test_verification_notices_wrong_shapes_and_numbers(checkpoint, tmp_path):
    assert export("encoder", checkpoint, tmp_path / "e.onnx", "--dynamic-batch") == 0
    file = session(tmp_path / "e.onnx")
    image = {"input_image": torch.zeros(1, 3, SIZE, SIZE)}
    with pytest.raises(onnx_files.ExportError, match="has shape"):
        onnx_files.differences(file, [(image, {"image_embeddings": torch.zeros(2, 256, 4, 4)})])
    nothing = {"input_image": torch.full((1, 3, SIZE, SIZE), torch.nan)}
    with pytest.raises(onnx_files.ExportError, match="no numbers"):
        onnx_files.differences(file, [(nothing, {"image_embeddings": torch.zeros(1, 256, 4, 4)})])


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("encoder", ["--opset", "11"], "--opset 11: give 17 to 20"),
        ("encoder", ["--calibration", "data_demo"], "add --quantize-out"),
        ("encoder", ["--dynamic-batch", "--use-preprocess"], "one picture"),
        ("encoder", ["--dynamic-batch", "--batch-size", "2"], "leave --batch_size out"),
        ("encoder", ["--image_size", "100"], "100 is not a multiple of 16"),
        ("encoder", ["--photographs", "nowhere", "--half"], "nowhere is not a folder"),
        ("encoder", ["--photographs", "data_demo"], "add --half or --quantize-out"),
        ("decoder", ["--half", "--max-dice-loss", "nan"], "--max_dice_loss nan"),
        ("decoder", ["--photographs", "tests", "--half"], "tests: it has no map"),
        ("decoder", ["--return-single-mask", "--photographs", "data_demo", "--half"], "needs the candidates"),
        ("decoder", ["--device", "warp"], "--device warp"),
    ],
)
def test_bad_flags(checkpoint, tmp_path, script, flags, message, capfd):
    assert export(script, checkpoint, tmp_path / "o" / "x.onnx", *flags) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())


def test_output_must_be_an_onnx_file(checkpoint, tmp_path, capfd):
    assert export("encoder", checkpoint, tmp_path / "encoder.pt") == 2
    assert "ends in .onnx" in capfd.readouterr().err


@pytest.mark.parametrize("script", SCRIPTS)
def test_both_spellings_of_flags(script):
    parse = SCRIPTS[script].parse_args
    hyphens = "--checkpoint w --output o.onnx --model-type vit_b --image-size 512 --gelu-approximate --quantize-out q"
    underscores = hyphens.replace("checkpoint", "sam_checkpoint").replace("-type", "_type").replace("-size", "_size")
    underscores = underscores.replace("gelu-", "gelu_").replace("quantize-", "quantize_")
    assert parse(hyphens.split()) == parse(underscores.split())


def test_gelu_by_tanh(checkpoint, tmp_path):
    assert export("encoder", checkpoint, tmp_path / "e.onnx", "--gelu-approximate") == 0
    kinds = {node.op_type for node in onnx.load(tmp_path / "e.onnx").graph.node}
    assert "Tanh" in kinds and "Erf" not in kinds


def test_checks_use_counts_that_the_trace_has_not_seen():
    model = make_tiny_model()
    part = decoder_part(model)
    traced = tuple(part.example["point_labels"].shape)
    seen = [tuple(inputs["point_labels"].shape) for inputs, _ in part.checks()]
    assert traced not in seen and len({shape[0] for shape in seen}) > 2 and len({shape[1] for shape in seen}) > 2
    batches = [len(inputs["input_image"]) for inputs, _ in encoder_part(model, batch=None).checks()]
    assert batches == [1, 3]


def test_bgr_models(tmp_path, tiny_type):
    """The channel order is the caller's: the file holds no exchange of channels."""
    model = structured()
    model.preprocessing = replace(model.preprocessing, channel_order="bgr", mode="sam_med2d")
    assert (
        export("encoder", save_model(model, tmp_path / "w.safetensors"), tmp_path / "e.onnx", "--use-preprocess") == 0
    )
    assert metadata(tmp_path / "e.onnx")["preprocessing"]["channel_order"] == "bgr"


def test_loss_limits_are_those_that_were_promised():
    assert (command.INT8_LOSS, command.HALF_LOSS) == (0.5, 0.1)
    assert (onnx_parts.TOLERANCE, onnx_parts.IOU_TOLERANCE) == (1e-3, 1e-3)


class ScaledFile:
    """Stands for a session whose outputs are those of PyTorch, off by a share of their range."""

    def __init__(self, wanted: torch.Tensor, share: float) -> None:
        self.found = wanted + share * (wanted.max() - wanted.min())

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="low_res_masks")]

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [self.found.numpy()]


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_the_limit_of_logits_is_a_share_of_their_range(scale, monkeypatch, tmp_path):
    """Weights with large logits round more in absolute terms; they are as sound as those with small ones."""
    wanted = scale * torch.linspace(-20, 20, 64).view(1, 1, 8, 8)
    checks = [({"x": torch.zeros(1)}, {"low_res_masks": wanted})]
    for share, sound in ((2e-4, True), (5e-3, False)):
        monkeypatch.setattr(onnx_files, "session", lambda *_, s=share, **__: ScaledFile(wanted, s))
        monkeypatch.setattr(onnx_files, "is_large", lambda _: False)
        if sound:
            found = onnx_files.verify(tmp_path / "x.onnx", checks)["low_res_masks"]
            assert found.share == pytest.approx(share, rel=0.05) and found.absolute == pytest.approx(
                40 * scale * share, rel=0.05
            )
        else:
            with pytest.raises(onnx_files.ExportError, match=r"low_res_masks by 0.005 of its range \(limit 0.001\)"):
                onnx_files.verify(tmp_path / "x.onnx", checks)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_model_whose_part_is_a_file_leaves_the_model_as_it_is(name):
    """Nothing is set on the PyTorch model, nor on a copy that shares its modules."""
    model = structured()
    before = dict(vars(model))
    changed = onnx_sam.with_file(model, SimpleNamespace(name=name), file=None)
    assert vars(model) == before and isinstance(changed, Sam)
    assert changed.image_size == model.image_size and changed.mask_decoder is model.mask_decoder
    replaced = {"encoder": "encode_all", "decoder": "decode_points"}[name]
    kept = {"encoder": "decode_points", "decoder": "encode_all"}[name]
    assert getattr(type(changed), kept) is getattr(Sam, kept)
    assert getattr(type(changed), replaced) is not getattr(Sam, replaced)


@pytest.mark.parametrize("make_part", [encoder_part, decoder_part])
def test_an_exported_model_stays_in_evaluation_mode(make_part, tmp_path):
    """In training mode the mask rule "dice" is not applied: the report would measure another model."""
    model = structured()
    part = make_part(model)
    onnx_files.export(part, tmp_path / "x.onnx", 17)
    assert not any(module.training for module in (*model.modules(), *part.module.modules()))
