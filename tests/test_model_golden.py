"""The whole model against golden numbers of the public implementation, on seeded stand-in weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segment_anything.build_sam import MODEL_SPECS, build_network
from tests.golden.seeded_weights import fill, load_layout

GOLDEN = Path(__file__).parent / "golden"
LAYOUTS = {"vit_b_256": False, "vit_b_256_adapter": True}
TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """With one thread PyTorch convolves by another routine, whose last bit these sharp weights turn into 1e-2."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=LAYOUTS)
def golden(request):
    """(model with the seeded weights, its golden arrays) for one layout."""
    layout = load_layout(GOLDEN / f"{request.param}.layout.json")
    model = build_network(MODEL_SPECS["vit_b"], image_size=256, encoder_adapter=LAYOUTS[request.param]).eval()
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == layout
    model.load_state_dict({key: torch.from_numpy(value) for key, value in fill(layout).items()})
    return model, {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"golden_{request.param}.npz").items()}


def prompts_of(case: str, golden: dict) -> dict:
    point1, point3 = ((golden[f"point{n}_coords"], golden[f"point{n}_labels"]) for n in (1, 3))
    return {
        "box": {"boxes": golden["boxes"]},
        "point1": {"points": point1},
        "point3": {"points": point3},
        "mask": {"masks": golden["mask_input"]},
        "box_point": {"boxes": golden["boxes"], "points": point1},
        "point_mask": {"points": point3, "masks": golden["mask_input"]},
    }[case]


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("case", ["box", "point1", "point3", "mask", "box_point", "point_mask"])
@torch.no_grad()
def test_decoder_matches_public_implementation(golden, case, multimask):
    model, arrays = golden
    low_res, iou, _ = model.decode(arrays["embedding"], **prompts_of(case, arrays), multimask=multimask)
    name = f"{case}_{'multi' if multimask else 'single'}"
    torch.testing.assert_close(low_res, arrays[f"{name}_low_res"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(iou, arrays[f"{name}_iou"], atol=TOLERANCE, rtol=0)
