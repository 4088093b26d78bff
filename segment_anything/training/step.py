"""One training step: encode once, decode round after round, gradients of all rounds in one update."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..modeling import Sam
from .interactive import ClickPolicy, random_mask_only, run
from .losses import candidate_loss
from .prompts import Points, box_points, first_points, jitter_boxes, pad_points

ENCODER_MODES = ("adapter", "full", "none")


@dataclass(frozen=True)
class StepPolicy:
    """corrective_rounds: prompts after the opening one. clicks: how many corrective clicks a round may
    give, drawn for each round. multimask: train the three candidates beside the single mask."""

    corrective_rounds: int = 8
    clicks: tuple[int, ...] = (1, 3, 5, 9)
    multimask: bool = True


def select_trainable(model: Sam, encoder: str) -> None:
    """Freeze what does not train: `encoder` is "adapter" (its adapters train), "full" or "none".

    Raises ValueError for another value, or for "adapter" on a model without adapters.
    """
    if encoder not in ENCODER_MODES:
        raise ValueError(f"train_encoder={encoder!r} is unknown: choose one of {', '.join(ENCODER_MODES)}.")
    adapters = 0
    for name, parameter in model.named_parameters():
        in_adapter = ".Adapter." in name
        adapters += in_adapter
        in_encoder = name.startswith("image_encoder.")
        parameter.requires_grad_(not in_encoder or encoder == "full" or (encoder == "adapter" and in_adapter))
    if encoder == "adapter" and not adapters:
        raise ValueError("--train_encoder adapter needs adapters: add --encoder_adapter True, or use full or none.")


def random_openings(mask: Tensor, box: Tensor, generator: torch.Generator) -> Points:
    """Opening prompt of each mask: a jittered box or one click, with equal chance.

    mask: bool [N, S, S]; box: float [N, 4]. Both kinds are two labelled points, so they share a batch.
    """
    jittered = box_points(jitter_boxes(box, mask.shape[-1], generator))
    clicked = pad_points(first_points(mask, 1, generator))
    use_box = (torch.rand(len(mask), 1, generator=generator) < 0.5).to(mask.device)
    coords = torch.where(use_box[..., None], jittered[0], clicked[0])
    return coords, torch.where(use_box, jittered[1], clicked[1])


def forward_backward(
    model: Sam,
    image: Tensor,
    mask: Tensor,
    box: Tensor,
    image_index: Tensor,
    policy: StepPolicy,
    generator: torch.Generator,
) -> dict[str, float]:
    """Add the gradient of the mean loss over all rounds to the trainable parameters.

    image: [B, 3, S, S]; mask: bool [N, 1, S, S]; box: [N, 4]; image_index: [N]. Each round's graph is freed
    by its own backward pass: the rounds meet in the gradient of the embedding, which then goes through the
    encoder once. Returns the mean loss and its parts.
    """
    rounds = 1 + policy.corrective_rounds
    drawn = torch.randint(len(policy.clicks), (rounds,), generator=generator)
    clicks = tuple(policy.clicks[i] for i in drawn.tolist())
    multimask = None if policy.multimask else False
    click_policy = ClickPolicy(rounds, clicks, random_mask_only(rounds, generator), multimask)
    opening = random_openings(mask[:, 0], box, generator)
    embedding = model.encode(image)
    leaf = embedding.detach().requires_grad_(embedding.requires_grad)
    totals: dict[str, Tensor] = {}
    for result in run(model, leaf, image_index, mask, opening, click_policy, generator):
        loss, parts = candidate_loss(result.candidates, mask, result.candidate_iou, generator)
        (loss / rounds).backward()
        for name, value in ({"loss": loss.detach()} | parts).items():
            totals[name] = totals.get(name, 0) + value / rounds
    if embedding.requires_grad:
        embedding.backward(leaf.grad)
    return {name: float(value) for name, value in totals.items()}
