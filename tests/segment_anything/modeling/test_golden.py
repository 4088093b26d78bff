"""The whole model against golden numbers of the public implementation, on seeded stand-in weights."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.reference_training import PlainDecoder, PlainPromptEncoder
from segment_anything.build_sam import MODEL_SPECS, build_network
from tests.helpers.paths import GOLDEN
from tests.helpers.seeded_weights import fill, load_layout

LAYOUTS = {"vit_b_256": False, "vit_b_256_adapter": True}
TOLERANCE = 1e-4
# The sharp weights turn a last bit of float32 into up to 0.003 and 0.03, in logits that spread by 0.6 to 1.
ROUNDING = {"vit_b_256": 0.005, "vit_b_256_adapter": 0.05}
CPUINFO = Path("/proc/cpuinfo")
# The golden numbers' last bits are those of the library's products for these processors; others round otherwise.
SAME_PROCESSOR = (
    "AVX512" in torch.backends.cpu.get_cpu_capability()
    and CPUINFO.exists()
    and "GenuineIntel" in CPUINFO.read_text(encoding="utf-8")
)


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


@pytest.fixture(scope="module")
def exact(golden):
    """(the model, prompt encoder and mask decoder of the plain formulas, the golden arrays), all in float64."""
    model, arrays, _ = golden
    doubled = copy.deepcopy(model, {id(model.image_encoder): model.image_encoder})  # which nothing here calls
    plain = PlainPromptEncoder(256, 256), PlainDecoder(256)
    for own, other in zip((doubled.prompt_encoder, doubled.mask_decoder), plain, strict=True):
        other.load_state_dict(own.state_dict())
        own.double(), other.double()
    return doubled, *plain, {k: v.double() if v.is_floating_point() else v for k, v in arrays.items()}


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


def plain_points(count, points=None, boxes=None, masks=None):
    """Labelled positions of `count` prompts, as the paper has them: clicks, then a box's corners or a padding point."""
    coords, labels = points or (torch.zeros(count, 0, 2), torch.zeros(count, 0))
    if boxes is not None:
        coords = torch.cat((coords, boxes.reshape(count, 2, 2)), 1)
        labels = torch.cat((labels, torch.tensor([[2.0, 3.0]]).expand(count, 2)), 1)
    elif points is not None:
        coords = torch.cat((coords, torch.zeros(count, 1, 2)), 1)
        labels = torch.cat((labels, -torch.ones(count, 1)), 1)
    return coords.double(), labels


def furthest(found, expected) -> float:
    """Largest difference of two lists of tensors, of which some may be empty."""
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True) if a.numel() or b.numel())


CASES = pytest.mark.parametrize("case", ["box", "point1", "point3", "mask", "box_point", "point_mask"])


@pytest.mark.parametrize("multimask", [True, False])
@CASES
@torch.no_grad()
def test_decoder_matches_public_implementation(golden, exact, case, multimask):
    (model, arrays, limit), (doubled, *_, exact_arrays) = golden, exact
    found = model.decode(arrays["embedding"], **prompts_of(case, arrays), multimask=multimask)[:2]
    expected = doubled.decode(exact_arrays["embedding"], **prompts_of(case, exact_arrays), multimask=multimask)[:2]
    kind = "multi" if multimask else "single"
    public = [arrays[f"{case}_{kind}_{name}"] for name in ("low_res", "iou")]
    rounding = furthest(found, expected)
    assert rounding <= limit and furthest(public, expected) <= limit
    assert furthest(found, public) <= (TOLERANCE if SAME_PROCESSOR else max(TOLERANCE, 4 * rounding))


@CASES
@torch.no_grad()
def test_decoder_has_the_plain_formulas(exact, case):
    """In float64, where no processor's rounding shows; positions alone are always computed in float32."""
    doubled, plain_prompt_encoder, plain_decoder, arrays = exact
    prompts = prompts_of(case, arrays)
    found = doubled.decode(arrays["embedding"], **prompts, multimask=None)[:2]
    count = len(found[0])
    encoder = doubled.prompt_encoder
    sparse, dense = encoder(**{"points": None, "boxes": None, "masks": None} | prompts)
    plain = plain_prompt_encoder(*plain_points(count, **prompts), prompts.get("masks"))
    positions = encoder.get_dense_pe()
    assert furthest((dense, sparse, positions), (plain[1], plain[0], plain_prompt_encoder.dense_positions())) <= 1e-5
    images = arrays["embedding"].expand(count, -1, -1, -1)
    assert furthest(found, plain_decoder.all_masks(images, positions, sparse, dense)) <= 1e-8
