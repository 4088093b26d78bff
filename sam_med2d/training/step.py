"""One training step, from a batch of images to the losses of its rounds.

For B images with N masks, S the side of the input, s the side of the logits (S/4, or S with a detail head), M the
decoder's outputs (4: the single mask and three candidates; 1 without the candidates), h = w = S/16:

1. `StepPolicy.draw`  the step's rounds: how many corrective clicks precede each one, which see the mask prompt alone.
2. encode             image [B, 3, S, S] -> embedding [B, C, h, w], features [B, F, S, S] for a detail head; once.
3. `random_openings`  mask [N, S, S] -> the first prompt, a jittered box, a click or a structure: coords [N, 2, 2] in
                      model-frame pixels (x, y), labels [N, 2].
4. `click_rounds`     for each round: embedding, all prompts so far and the last round's probabilities [N, 1, s, s] ->
                      logits [N, M, s, s], predicted IoU [N, M], presence [N]; then clicks where the chosen candidate
                      and the mask differ are appended to the prompts.
5. `candidate_loss`   of each round, at S x S: a scalar, which is multiplied by N, so that it is a sum over masks.
6. backward           the caller's: the first round's gradient goes through decoder, embedding and encoder, that of a
                      later round ends at the embedding. A round's graph is freed before the next round starts.
7. update             the caller's, after each round: clip the gradients, step the optimizer.

`round_losses` does 2 to 5 lazily, one round each time it is asked for the next; `training.trainer` does 1, 6 and 7.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_med2d.choices import ENCODER_MODES
from sam_med2d.prompts.click_loop import ClickPolicy, click_rounds, random_mask_only
from sam_med2d.prompts.simulation import Points, Randomness, box_points, first_points, jitter_boxes, pad_points, uniform
from sam_med2d.training.losses import candidate_loss, presence_loss, segmentation_losses
from segment_anything.modeling import Sam
from segment_anything.modeling.prompt_encoder import PADDING


@dataclass(frozen=True)
class StepPolicy:
    """What the rounds of every training step have in common."""

    corrective_rounds: int = 8  # rounds after the first one
    clicks: tuple[int, ...] = (1, 3, 5, 9)  # numbers of corrective clicks, of which one is drawn for each round
    multimask: bool = True  # train the three candidates beside the single mask
    loss: str = "focal"  # the pixel loss, a key of `losses.LOSSES`

    @property
    def rounds(self) -> int:
        """Rounds of a step, each of which ends with an update of the weights."""
        return 1 + self.corrective_rounds

    def draw(self, generator: torch.Generator) -> ClickPolicy:
        """The rounds of one step: how many clicks each gives, and which see the mask alone."""
        drawn = torch.randint(len(self.clicks), (self.rounds,), generator=generator).tolist()
        clicks = tuple(self.clicks[i] for i in drawn)
        mask_only = random_mask_only(self.rounds, generator)
        return ClickPolicy(self.rounds, clicks, mask_only, None if self.multimask else False)


def select_trainable(model: Sam, encoder: str) -> None:
    """Set `requires_grad` of all parameters; prompt encoder and mask decoder always train.

    Args:
        model: The model to train.
        encoder: What trains in the image encoder: "adapter" (its adapters alone), "full" or "none".

    Raises:
        ValueError: For another value of `encoder`, or for "adapter" with a model without adapters.
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


def random_openings(mask: Tensor, box: Tensor, randomness: Randomness, structure_label: Tensor | None = None) -> Points:
    """First prompt of each mask: a jittered box or one click, with equal chance, or a structure prompt.

    All kinds are two labelled points, so they share a batch.

    Args:
        mask: bool [N, S, S], the truth.
        box: float [N, 4], half-open x0, y0, x1, y1 in model-frame pixels.
        randomness: One random stream, or one for each mask.
        structure_label: int64 [N], the point label of a structure to prompt by, -1 or None for boxes and clicks.

    Returns:
        coords float [N, 2, 2] (x, y in model-frame pixels) and labels int64 [N, 2].
    """
    jittered = box_points(jitter_boxes(box, mask.shape[-1], randomness))
    clicked = pad_points(first_points(mask, 1, randomness))
    use_box = uniform(len(mask), 1, randomness).to(mask.device) < 0.5
    coords = torch.where(use_box[..., None], jittered[0], clicked[0])
    labels = torch.where(use_box, jittered[1], clicked[1])
    if structure_label is None:
        return coords, labels
    structure = torch.stack((structure_label, torch.full_like(structure_label, PADDING)), dim=1)
    return coords, torch.where(structure_label[:, None] >= 0, structure, labels)


class RoundLoss(NamedTuple):
    """The loss of one round, summed over its N masks."""

    total: Tensor  # scalar, to call `backward` on
    parts: dict[str, Tensor]  # scalars without gradient: "loss", the pixel loss by its name, "dice", "iou", "presence"


def round_losses(
    model: Sam,
    image: Tensor,
    mask: Tensor,
    box: Tensor,
    image_index: Tensor,
    *,
    policy: StepPolicy,
    click_policy: ClickPolicy,
    randomness: Randomness,
    structure_label: Tensor | None = None,
    whole_structure: Tensor | None = None,
) -> Iterator[RoundLoss]:
    """Losses of a step's rounds, one after the other: see the head of this file.

    A round is computed when it is asked for, with the weights of that moment: call `backward` and update in between.

    Args:
        model: The model to train.
        image: float [B, 3, S, S], normalised.
        mask: bool [N, 1, S, S], the truth.
        box: float [N, 4], half-open x0, y0, x1, y1 in model-frame pixels.
        image_index: int64 [N], the image of each mask, in order.
        policy: What all steps have in common.
        click_policy: The rounds of this step, from `policy.draw`.
        randomness: One random stream, or one for each mask.
        structure_label: As in `random_openings`; None for a model without structures.
        whole_structure: int64 [N], the point label of the structure that a mask is the whole of, else -1; given, the
            detail head's features learn the structures directly, too (`dense_loss`), in the first round.
    """
    points = random_openings(mask[:, 0], box, randomness, structure_label)
    truth = mask.float()
    embedding, features = model.encode_all(image)
    dense = None if whole_structure is None else dense_loss(model, features, truth, image_index, whole_structure)
    embedding = embedding.contiguous(memory_format=torch.channels_last)  # as the decoder's tokens lie, once for all
    for result in click_rounds(
        model, embedding, image_index, mask, points, click_policy, randomness, features=features
    ):
        loss, parts = candidate_loss(
            result.candidates,
            truth,
            result.candidate_iou,
            relaxation=uniform(len(mask), 2, randomness),
            kind=policy.loss,
        )
        if structure_label is not None:
            parts["presence"] = presence_loss(result.presence, mask, structure_label)
            loss = loss + parts["presence"]
        if dense is not None:
            loss, parts["dense"], dense = loss + dense, dense, None
        yield RoundLoss(len(mask) * loss, {name: len(mask) * value.detach() for name, value in parts.items()})


def pyramid_losses(
    model: Sam, image: Tensor, mask: Tensor, image_index: Tensor, whole_structure: Tensor
) -> Iterator[RoundLoss]:
    """The one loss of a step without prompts: the pyramid alone learns the structures (`dense_loss`).

    Args: as of `round_losses`; the model has a pyramid.
    """
    detail = model.mask_decoder.detail
    features = detail.features(detail.levels(image), None)
    loss = dense_loss(model, features, mask.float(), image_index, whole_structure)
    parts = {"loss": loss, "dense": loss}
    yield RoundLoss(len(mask) * loss, {name: len(mask) * value.detach() for name, value in parts.items()})


def dense_loss(model: Sam, features: Tensor, mask: Tensor, image_index: Tensor, structure: Tensor) -> Tensor:
    """Cross entropy and Dice loss of the detail head's table of structures: a scalar, the mean over N masks.

    It reaches the features at once, whatever prompt the step gives.

    Args:
        model: With a detail head and structures.
        features: float [B, C, S, S], see `Sam.features`.
        mask: {0, 1} float [N, 1, S, S], the truth.
        image_index: int64 [N], the image of each mask, in order.
        structure: int64 [N], the point label of the structure that a mask is the whole of; -1 for a mask left out.
    """
    chosen = structure >= 0
    if not chosen.any():
        return features.sum() * 0
    logits = model.mask_decoder.detail.of_structures(features, image_index[chosen], structure[chosen])
    pixel, dice = segmentation_losses(logits.float(), mask[chosen], kind="bce")
    return (pixel + dice).sum() / len(mask)


class NextRound(nn.Module):
    """Computing a step's next round as a module's forward pass, which DistributedDataParallel can wrap.

    The backward pass of its result then averages gradients over processes.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, rounds: Iterator[RoundLoss]) -> RoundLoss:
        """The next of `rounds`, which must come from `round_losses` of this model."""
        return next(rounds)
