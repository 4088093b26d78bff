"""The whole model against golden numbers of the public implementation, on seeded stand-in weights."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from segment_anything.build_sam import MODEL_SPECS, build_network
from tests.golden.seeded_weights import fill, load_layout

GOLDEN = Path(__file__).parent / "golden"
LAYOUTS = {"vit_b_256": False, "vit_b_256_adapter": True}
TOLERANCE = 1e-4  # where the processor rounds as the one that made the golden numbers
# The sharp weights turn a last bit of float32 into up to 0.003 and 0.03, in logits that spread by 0.6 to 1.
ROUNDING = {"vit_b_256": 0.005, "vit_b_256_adapter": 0.05}


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """With one thread PyTorch convolves by another routine, whose last bit these sharp weights turn into 1e-2."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=LAYOUTS)
def golden(request):
    """(model with the seeded weights, its golden arrays, what rounding may change) for one layout."""
    layout = load_layout(GOLDEN / f"{request.param}.layout.json")
    model = build_network(MODEL_SPECS["vit_b"], image_size=256, encoder_adapter=LAYOUTS[request.param]).eval()
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == layout
    model.load_state_dict({key: torch.from_numpy(value) for key, value in fill(layout).items()})
    arrays = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"golden_{request.param}.npz").items()}
    return model, arrays, ROUNDING[request.param]


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


@pytest.fixture(scope="module")
def exact(golden):
    """(the same model in float64, its golden arrays in float64)"""
    model, arrays, _ = golden
    doubled = {key: value.double() if value.is_floating_point() else value for key, value in arrays.items()}
    return copy.deepcopy(model).double(), doubled


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("case", ["box", "point1", "point3", "mask", "box_point", "point_mask"])
@torch.no_grad()
def test_decoder_matches_public_implementation(golden, exact, case, multimask):
    """float64 tells on any processor whether the formulas are the same; float32, whether it rounds no worse."""
    (model, arrays, limit), (exact_model, exact_arrays) = golden, exact
    found = model.decode(arrays["embedding"], **prompts_of(case, arrays), multimask=multimask)[:2]
    expected = exact_model.decode(exact_arrays["embedding"], **prompts_of(case, exact_arrays), multimask=multimask)[:2]
    kind = "multi" if multimask else "single"
    public = [arrays[f"{case}_{kind}_{name}"] for name in ("low_res", "iou")]
    rounding = furthest(found, expected)
    assert rounding <= limit and furthest(public, expected) <= limit
    assert furthest(found, public) <= max(TOLERANCE, 4 * rounding)


def furthest(found, expected) -> float:
    """Largest difference of two lists of tensors."""
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))
