"""The evaluation of SAM-Med2D as its users run it, in its straightforward form: test oracle and benchmark baseline.

A data set is a list of masks, each with its photograph, and a run has one kind of prompt. So a photograph is encoded
again for each of its masks and in each run, masks are decoded one by one, and a run of n clicks makes rounds 1 to n.
Protocol of Cheng et al. 2023: a later round sees the clicks so far and the probabilities of the round before, each
new click is a uniformly drawn wrong pixel, and the candidate of the highest predicted IoU counts. The model is
benchmarks/reference_training.py; nothing here comes from segment_anything or evaluation.py.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.reference_training import OracleSam

EPS = 1e-7
Points = tuple[Tensor, Tensor]


def box_opening(box: Tensor) -> Points:
    """A box [4] as coords [1, 2, 2] and labels [1, 2]: its corners."""
    return box.view(1, 2, 2), torch.tensor([[2, 3]])


def click_opening(point: Tensor) -> Points:
    """A foreground pixel [2] as coords [1, 2, 2] and labels [1, 2]: the click and the padding point."""
    return torch.stack((point, torch.zeros(2)))[None], torch.tensor([[1, -1]])


def corrective_click(wrong: Tensor, mask: Tensor, stream: torch.Generator) -> Points:
    """A pixel of `wrong` [S, S] as coords [1, 1, 2] and label [1, 1]; label -1 where nothing is wrong."""
    pixels = wrong.nonzero()
    chance = torch.rand(1, generator=stream).item()
    if not len(pixels):
        return torch.zeros(1, 1, 2), torch.tensor([[-1]])
    y, x = pixels[int(chance * len(pixels))].tolist()
    return torch.tensor([[[float(x), float(y)]]]), torch.tensor([[int(mask[y, x])]])


def dice_and_iou(predicted: Tensor, mask: Tensor) -> tuple[float, float]:
    """2 |A and B| / (|A| + |B|) and |A and B| / |A or B| of two bool masks of one shape, not both empty."""
    both, either = (predicted & mask).sum().item(), (predicted | mask).sum().item()
    return (2 * both + EPS) / (both + either + EPS), (both + EPS) / (either + EPS)


def evaluate_mask(
    model: OracleSam, image: Tensor, mask: Tensor, opening: Points, rounds: int, stream: torch.Generator
) -> tuple[float, float]:
    """Dice and IoU of one mask, bool [S, S], of an image [3, S, S] after `rounds` prompts."""
    embedding = model.image_encoder(image[None])
    points, prompt, logits = opening, None, None
    for _ in range(rounds):
        if logits is not None:
            click = corrective_click((logits > 0) != mask, mask, stream)
            points = tuple(torch.cat(pair, 1) for pair in zip(points, click, strict=True))
        candidates, iou = model.decode(embedding, *points, prompt)
        low_res = candidates[:, iou[0].argmax()][:, None]
        logits = F.interpolate(low_res, mask.shape, mode="bilinear", align_corners=False)[0, 0]
        prompt = low_res.sigmoid()
    return dice_and_iou(logits > 0, mask)


@torch.no_grad()
def published_run(
    model: OracleSam, cases: Iterable[tuple[Tensor, Tensor, Points, torch.Generator]], *, rounds: int
) -> list[tuple[float, float]]:
    """One run of the test script: Dice and IoU of each case (image, mask, opening prompt, stream of its clicks)."""
    return [evaluate_mask(model, image, mask, opening, rounds, stream) for image, mask, opening, stream in cases]
