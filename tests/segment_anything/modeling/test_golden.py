"""Prompt encoder and mask decoder against golden numbers of the public implementation, on seeded stand-in weights."""

import numpy as np
import pytest
import torch

from benchmarks.reference_training import PlainDecoder, PlainPromptEncoder
from segment_anything.build_sam import build_network
from tests.helpers.paths import GOLDEN
from tests.helpers.seeded_weights import fill, load_layout
from tests.helpers.tiny_models import TINY_SPEC

LAYOUTS = ("vit_b_256", "vit_b_256_adapter")
TOLERANCE = 1e-4  # of logits that reach 4, on any processor
FAST, SLOW = ("box", "point_mask"), ("point1", "point3", "mask", "box_point")
CASES = pytest.mark.parametrize("case", [*FAST, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)])


@pytest.fixture(scope="module", params=LAYOUTS)
def golden(request):
    """(model with the seeded weights behind an encoder that nothing here calls, golden arrays) for one layout."""
    layout = load_layout(GOLDEN / f"{request.param}.layout.json")
    model = build_network(TINY_SPEC, image_size=256, encoder_adapter=False).eval()
    weights = fill({key: shape for key, shape in layout.items() if not key.startswith("image_encoder.")}, smooth=True)
    report = model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=False)
    assert not report.unexpected_keys and all(key.startswith("image_encoder.") for key in report.missing_keys)
    arrays = np.load(GOLDEN / f"golden_smooth_{request.param}.npz")
    return model, {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def exact(golden):
    """(the model, prompt encoder and mask decoder of the plain formulas, the golden arrays), all in float64."""
    _, arrays = golden
    model = build_network(TINY_SPEC, image_size=256, encoder_adapter=False).eval().double()
    model.load_state_dict(golden[0].state_dict())
    plain = PlainPromptEncoder(256, 256).double(), PlainDecoder(256).double()
    for own, other in zip((model.prompt_encoder, model.mask_decoder), plain, strict=True):
        other.load_state_dict(own.state_dict())
    return model, *plain, {name: a.double() if a.is_floating_point() else a for name, a in arrays.items()}


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


@pytest.mark.parametrize("multimask", [True, False])
@CASES
@torch.no_grad()
def test_decoder_matches_public_implementation(golden, case, multimask):
    model, arrays = golden
    found = model.decode(arrays["embedding"], **prompts_of(case, arrays), multimask=multimask)[:2]
    kind = "multi" if multimask else "single"
    assert furthest(found, [arrays[f"{case}_{kind}_{name}"] for name in ("low_res", "iou")]) <= TOLERANCE


@CASES
@torch.no_grad()
def test_decoder_has_the_plain_formulas(exact, case):
    """In float64, where no processor's rounding shows; positions alone are always computed in float32."""
    model, plain_prompt_encoder, plain_decoder, arrays = exact
    prompts = prompts_of(case, arrays)
    found = model.decode(arrays["embedding"], **prompts, multimask=None)[:2]
    count = len(found[0])
    encoder = model.prompt_encoder
    sparse, dense = encoder(**{"points": None, "boxes": None, "masks": None} | prompts)
    plain = plain_prompt_encoder(*plain_points(count, **prompts), prompts.get("masks"))
    positions = encoder.get_dense_pe()
    assert furthest((dense, sparse, positions), (plain[1], plain[0], plain_prompt_encoder.dense_positions())) <= 1e-5
    images = arrays["embedding"].expand(count, -1, -1, -1)
    assert furthest(found, plain_decoder.all_masks(images, positions, sparse, dense)) <= 1e-8
