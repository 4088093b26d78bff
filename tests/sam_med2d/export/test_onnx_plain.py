"""Files in SAM's own form: what X-AnyLabeling's code gives and takes, and the masks that the model draws itself."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sam_med2d.export.onnx_files import run_session, session
from sam_med2d.export.onnx_parts import synthetic_picture
from segment_anything.checkpoint import METADATA_KEY
from segment_anything.modeling import Sam
from segment_anything.modeling.sam import PIXEL_MEAN, PIXEL_STD
from segment_anything.preprocessing import Preprocessing
from tests.helpers.exports import export
from tests.helpers.tiny_models import large_logits_model, lively, make_tiny_model, save_model, structured, tiny_vit_t

SIZE = 64
ENLARGED = 5  # with a detail head
BOX = [10.0, 12.0, 40.0, 50.0]
CLICKS = [[20.0, 30.0], [50.0, 12.0]]


class XAnyLabeling:
    """What the sam_med2d models of X-AnyLabeling 4.2.1 do with two files: names, shapes, geometry, masks[0][0]."""

    def __init__(self, encoder: str, decoder: str) -> None:
        self.encoder, self.decoder = (onnxruntime.InferenceSession(path) for path in (encoder, decoder))
        self.side = self.encoder.get_inputs()[0].shape[-1]

    def encode(self, picture: np.ndarray) -> dict:
        pixels = cv2.resize((picture - np.array(PIXEL_MEAN)) / np.array(PIXEL_STD), (self.side, self.side))
        image = pixels.transpose(2, 0, 1)[None].astype(np.float32)
        (embedding,) = self.encoder.run(None, {self.encoder.get_inputs()[0].name: image})
        assert embedding.shape == (1, 256, self.side // 16, self.side // 16)
        return {"image_embedding": embedding, "original_size": picture.shape[:2]}

    def predict_masks(self, found: dict, marks: list[dict]) -> np.ndarray:
        """Boxes get labels 2 and 3; clicks come without a padding point."""
        points = [np.reshape(mark["data"], (-1, 2)) for mark in marks]
        labels = [[mark["label"]] if mark["type"] == "point" else [2, 3] for mark in marks]
        height, width = found["original_size"]
        inputs = {
            "image_embeddings": found["image_embedding"],
            "point_coords": np.concatenate(points)[None] * (self.side / width, self.side / height),
            "point_labels": np.concatenate(labels)[None],
            "mask_input": np.zeros((1, 1, self.side // 4, self.side // 4)),
            "has_mask_input": np.zeros(1),
            "orig_im_size": np.array([height, width]),
        }
        masks, _, _ = self.decoder.run(None, {name: value.astype(np.float32) for name, value in inputs.items()})
        return masks


def installed_loader():
    """X-AnyLabeling's own class; skipped where the package is missing."""
    reason = "x-anylabeling-cvhub of PyPI is not installed: its own loader is not tried with the files"
    return pytest.importorskip("anylabeling.services.auto_labeling.sam_med2d", reason=reason).SegmentAnythingONNX


LOADERS = [
    pytest.param(lambda: XAnyLabeling, id="followed"),
    pytest.param(installed_loader, id="x-anylabeling", marks=pytest.mark.slow),
]


def make_model(kind: str) -> Sam:
    """A model that expects something else than SAM's form."""
    model = large_logits_model("sam_med2d") if kind == "detail" else lively(make_tiny_model(encoder_adapter=True))
    changes = {"bgr": {"channel_order": "bgr"}, "unit": {"pixel_scale": "unit"}}.get(kind, {})
    model.preprocessing = replace(Preprocessing(SIZE, "sam_med2d"), **changes)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Paths of the two files of a kind of model, which are made once."""
    made = {}

    def paths(kind: str) -> list[Path]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            with tiny_vit_t():
                weights = save_model(make_model(kind), folder / "weights.safetensors")
                assert export("encoder", weights, folder / "encoder.onnx", "--plain") == 0
                assert export("decoder", weights, folder / "decoder.onnx", "--plain", "--return-single-mask") == 0
            made[kind] = [folder / "encoder.onnx", folder / "decoder.onnx"]
        return made[kind]

    return paths


@torch.no_grad()
def own_mask(model: Sam, picture: np.ndarray, marks: list[dict]) -> np.ndarray:
    """The best candidate of the model itself, on a picture of its own size."""
    rule = model.preprocessing
    embedding, features = model.encode_all(torch.from_numpy(rule.image(picture, rule.frame(picture)))[None])
    prompts = {"boxes": torch.tensor([mark["data"] for mark in marks])}
    if marks[0]["type"] == "point":
        prompts = {"points": tuple(torch.tensor([[mark[part] for mark in marks]]) for part in ("data", "label"))}
    found = model.decode(embedding, **prompts, features=features)
    size = (SIZE, SIZE)
    return torch.nn.functional.interpolate(found.best(), size, mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["detail", "bgr", *(pytest.param(k, marks=pytest.mark.slow) for k in ("unit", "sam"))])
def test_masks_in_x_anylabeling_are_the_models_own(exported, kind, loader):
    """Of a picture that needs no resizing: RGB in, whatever the weights expect; clicks without their padding point."""
    model, tool = make_model(kind), loader()(*map(str, exported(kind)))
    picture = synthetic_picture(SIZE, SIZE, seed=3)
    factor = ENLARGED if kind == "detail" else 1
    found = tool.encode(picture.repeat(factor, 0).repeat(factor, 1))
    clicks = [{"type": "point", "data": xy, "label": label} for xy, label in zip(CLICKS, (1, 0), strict=True)]
    for marks in ([{"type": "rectangle", "data": BOX}], clicks[:1], clicks):
        scaled = [mark | {"data": [factor * value for value in mark["data"]]} for mark in marks]
        masks = tool.predict_masks(found, scaled)
        wanted = own_mask(model, picture, marks)
        assert masks.shape == (1, 1, factor * SIZE, factor * SIZE) and 0.01 < (wanted > 0).mean() < 0.99
        of_small = cv2.resize(wanted, masks.shape[2:], interpolation=cv2.INTER_LINEAR)
        assert 2 * ((masks[0, 0] > 0) & (of_small > 0)).sum() / ((masks > 0).sum() + (of_small > 0).sum()) >= 0.999
        np.testing.assert_allclose(masks[0, 0], of_small, atol=2e-3)


@pytest.mark.parametrize("kind", ["detail", "bgr"])
def test_the_form_is_sams(exported, kind):
    paths = exported(kind)
    side = SIZE * (ENLARGED if kind == "detail" else 1)
    encoder, decoder = map(session, paths)
    assert [(i.name, i.shape) for i in encoder.get_inputs()] == [("input_image", [1, 3, side, side])]
    assert [(o.name, o.shape) for o in encoder.get_outputs()] == [
        ("image_embeddings", [1, 256, side // 16, side // 16])
    ]
    names = ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"]
    assert [i.name for i in decoder.get_inputs()] == names
    assert decoder.get_inputs()[3].shape[1:] == [1, side // 4, side // 4]
    assert [o.name for o in decoder.get_outputs()] == ["masks", "iou_predictions", "low_res_masks"]
    for path in paths:
        about = json.loads({e.key: e.value for e in onnx.load(path).metadata_props}[METADATA_KEY])
        assert about["plain"] and about["image_size"] == side and about["format_version"] == 3
        assert about["preprocessing"] == {
            "image_size": side,
            "mode": "stretch",
            "channel_order": "rgb",
            "mask_prompt": "logits",
        }
        assert about["trained_with"]["channel_order"] == ("bgr" if kind == "bgr" else "rgb")


@torch.no_grad()
def test_an_answer_is_the_next_mask_prompt(exported):
    """Logits, as SAM takes them, of weights that were trained with probabilities; a padding point may be given."""
    model, (encoder, decoder) = make_model("detail"), map(session, exported("detail"))
    side = ENLARGED * SIZE
    embedding = run_session(encoder, {"input_image": torch.randn(1, 3, side, side)})["image_embeddings"]
    inputs = {
        "image_embeddings": embedding,
        "point_coords": torch.tensor([[[100.0, 150.0]]]),
        "point_labels": torch.tensor([[1.0]]),
        "mask_input": torch.zeros(1, 1, side // 4, side // 4),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([90.0, 70.0]),
    }
    first = run_session(decoder, inputs)
    padded = {"point_coords": torch.tensor([[[100.0, 150.0], [0, 0]]]), "point_labels": torch.tensor([[1.0, -1]])}
    for name, value in run_session(decoder, inputs | padded).items():
        torch.testing.assert_close(value, first[name], atol=1e-4, rtol=0)
    again = inputs | {"mask_input": first["low_res_masks"], "has_mask_input": torch.ones(1)}
    found = run_session(decoder, again)
    flat = embedding.flatten(1)
    own, features = flat[:, : SIZE**2].view(1, 256, 4, 4), flat[:, SIZE**2 : 17 * SIZE**2].view(1, 16, SIZE, SIZE)
    prompt = torch.nn.functional.avg_pool2d(first["low_res_masks"], ENLARGED).sigmoid()
    points = torch.tensor([[[20.0, 30.0]]]), torch.tensor([[1]])
    wanted = model.decode(own, points=points, masks=prompt, features=features)
    torch.testing.assert_close(found["iou_predictions"][0, 0], wanted.iou.amax(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("head", ["light", pytest.param("pyramid", marks=pytest.mark.slow)])
def test_any_number_of_pictures(tmp_path, tiny_type, head):
    weights = save_model(lively(structured(detail=head)), tmp_path / "weights.safetensors")
    assert export("encoder", weights, tmp_path / "e.onnx", "--plain", "--dynamic-batch") == 0
    file = session(tmp_path / "e.onnx")
    images = torch.randn(3, 3, ENLARGED * SIZE, ENLARGED * SIZE)
    whole = run_session(file, {"input_image": images})["image_embeddings"]
    one = run_session(file, {"input_image": images[2:]})["image_embeddings"]
    torch.testing.assert_close(whole[2:], one, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("encoder", ["--use-preprocess"], "--plain is SAM's own form, which goes without --use_preprocess"),
        ("decoder", ["--return-extra-metrics"], "which goes without --return_extra_metrics"),
        ("decoder", ["--resize-longest-img-size"], "which goes without --resize_longest_img_size"),
        ("decoder", ["--half", "--photographs", "data_demo"], "which goes without --photographs"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, tiny_type, capfd, script, flags, message):
    weights = save_model(make_tiny_model(), tmp_path / "weights.safetensors")
    assert export(script, weights, tmp_path / "x.onnx", "--plain", *flags) == 2
    assert message in capfd.readouterr().err and not (tmp_path / "x.onnx").exists()


def test_what_goes_wrong_elsewhere_is_said(tmp_path, tiny_type, capfd):
    model = make_model("bgr")
    weights = save_model(model, tmp_path / "bgr.safetensors")
    assert export("encoder", weights, tmp_path / "e.onnx") == 0
    assert "WARNING: encoder: these weights expect BGR" in "".join(capfd.readouterr())
    model.preprocessing = replace(model.preprocessing, mode="fundus")
    weights = save_model(model, tmp_path / "fundus.safetensors")
    assert export("decoder", weights, tmp_path / "d.onnx", "--plain") == 0
    printed = "".join(capfd.readouterr())
    assert "cropped to the field of view" in printed and "X-AnyLabeling shows the first" in printed
    assert "BGR" not in printed


@pytest.mark.slow
def test_smaller_files(tmp_path, tiny_type, capfd):
    weights = save_model(make_model("detail"), tmp_path / "weights.safetensors")
    for script in ("encoder", "decoder"):
        words = ["--plain", "--half", "--quantize-out", str(tmp_path / f"{script}_int8.onnx")]
        assert export(script, weights, tmp_path / f"{script}.onnx", *words) == 0
        assert {"fp16", "int8"} <= {line.split()[0] for line in capfd.readouterr().out.splitlines() if line.split()}
