"""The decoder's ONNX module, as the export scripts of SAM and of SAM-Med2D call it."""

import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segment_anything.preprocessing import Preprocessing
from segment_anything.utils.onnx import SamOnnxModel
from tests.helpers.tiny_models import make_tiny_model

SIZE, LOW = 64, 16


@pytest.fixture
def sam():
    """A model whose photographs are stretched, as SAM-Med2D's."""
    model = make_tiny_model()
    model.preprocessing = Preprocessing(SIZE, "sam_med2d")
    return model


# --- SAM's and SAM-Med2D's decoder for ONNX -------------------------------------------------------------------


def onnx_inputs(points: int, size: tuple[int, int], *, mask: float = 0.0) -> dict[str, torch.Tensor]:
    """Inputs as scripts/export_onnx_model.py makes them."""
    return {
        "image_embeddings": torch.randn(1, 256, SIZE // 16, SIZE // 16),
        "point_coords": SIZE * torch.rand(1, points, 2),
        "point_labels": torch.randint(0, 4, (1, points)).float(),
        "mask_input": torch.randn(1, 1, LOW, LOW),
        "has_mask_input": torch.tensor([mask]),
        "orig_im_size": torch.tensor(size).float(),
    }


def test_onnx_model_by_its_usual_call(sam):
    inputs = onnx_inputs(5, (150, 225), mask=1.0)
    masks, iou, low_res = SamOnnxModel(sam, return_single_mask=False)(**inputs)
    assert masks.shape == (1, 4, 150, 225) and iou.shape == (1, 4) and low_res.shape == (1, 4, LOW, LOW)
    with torch.no_grad():
        decoded = sam.decode_points(*list(inputs.values())[:4], multimask=None)
    torch.testing.assert_close(low_res, decoded.logits)
    torch.testing.assert_close(iou, decoded.iou)
    full = F.interpolate(low_res, (SIZE, SIZE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(masks, F.interpolate(full, (150, 225), mode="bilinear", align_corners=False))
    best = int(iou[0, 1:].argmax()) + 1
    single = SamOnnxModel(sam, True)(**inputs)
    for found, expected in zip(single, (masks, iou, low_res), strict=True):
        torch.testing.assert_close(found, expected[:, best : best + 1])


def test_onnx_model_with_all_options(sam):
    inputs = onnx_inputs(2, (100, 50))
    model = SamOnnxModel(
        model=sam,
        return_single_mask=False,
        use_stability_score=True,
        return_extra_metrics=True,
        resize_logest_img_size=True,
    )
    masks, scores, stability, areas, low_res = model(**inputs)
    stable = (low_res > 1).sum((2, 3)) / (low_res > -1).sum((2, 3)).clamp(min=1)
    torch.testing.assert_close(scores, stable)
    assert stability.shape == areas.shape == (1, 4)
    torch.testing.assert_close(areas, (masks > 0).sum((2, 3)).float())
    expected = sam.postprocess_masks(low_res, (SIZE, SIZE // 2), (100, 50))  # the longer side is S
    torch.testing.assert_close(masks, expected)


@pytest.mark.slow
@pytest.mark.parametrize("single", [True, False])
def test_the_exported_decoder_takes_any_number_of_points(sam, tmp_path, single):
    """By the exporter and the arguments of SAM's script."""
    model, inputs = SamOnnxModel(sam, single).eval(), onnx_inputs(5, (150, 225))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is the older one
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            str(tmp_path / "decoder.onnx"),
            opset_version=17,
            input_names=list(inputs),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}},
            dynamo=False,
        )
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "decoder.onnx")
    for points, size, mask in ((5, (150, 225), 0.0), (1, (64, 64), 0.0), (9, (40, 130), 1.0)):
        inputs = onnx_inputs(points, size, mask=mask)
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        for array, expected in zip(found, model(**inputs), strict=True):
            np.testing.assert_allclose(array, expected.numpy(), atol=1e-3)
