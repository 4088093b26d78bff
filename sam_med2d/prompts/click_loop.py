"""The click loop, written once: an opening prompt, then corrective clicks, as in training and in testing.

Protocol of SAM (Kirillov et al. 2023, appendix A, "Training algorithm") and SAM-Med2D (Cheng et al. 2023).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sam_med2d.prompts.simulation import Points, Randomness, append_points, error_points
from segment_anything.modeling import Sam
from segment_anything.utils.upsampling import upsample


@dataclass(frozen=True)
class ClickPolicy:
    """How a click sequence goes."""

    rounds: int  # prompts in all, the opening one included
    clicks: int | tuple[int, ...] = 1  # corrective clicks before a later round, of all or of each round
    mask_only: frozenset[int] = frozenset()  # rounds whose prompt is the earlier mask alone
    multimask: bool | None = True  # True for the three candidates, False for the single mask, None for both

    def clicks_before(self, index: int) -> int:
        """How many corrective clicks precede round `index`."""
        return self.clicks if isinstance(self.clicks, int) else self.clicks[index]


@dataclass(frozen=True)
class Round:
    """What one prompt gave for N masks.

    Attributes:
        candidates: float [N, M, s, s], logits, s = S/4, or S with a detail head. Where M is 4 the first is the single
            mask, which is never chosen.
        candidate_iou: float [N, M], predicted IoU.
        points: All prompts so far, coords [N, P, 2] in model-frame pixels (x, y) and labels [N, P].
        image_size: S.
        presence: float [N], logits that the structure of the structure prompt is there; None for models without
            structures.
    """

    candidates: Tensor
    candidate_iou: Tensor
    points: Points
    image_size: int
    presence: Tensor | None = None

    @property
    def choice(self) -> Tensor:
        """Index [N] of the candidate with the highest predicted IoU."""
        first = 1 if self.candidate_iou.shape[1] == 4 else 0
        return first + self.candidate_iou[:, first:].argmax(dim=1)

    @property
    def low_res(self) -> Tensor:
        """Logits [N, 1, s, s] of the chosen candidate."""
        index = self.choice.view(-1, 1, 1, 1).expand(-1, 1, *self.candidates.shape[-2:])
        return self.candidates.gather(1, index)

    @property
    def predicted_iou(self) -> Tensor:
        """Predicted IoU [N, 1] of the chosen candidate."""
        return self.candidate_iou.gather(1, self.choice[:, None])

    def logits(self) -> Tensor:
        """Logits [N, 1, S, S] of the chosen candidate."""
        return upsample(self.low_res, self.image_size)


def click_rounds(
    model: Sam,
    embedding: Tensor,
    image_index: Tensor,
    mask: Tensor,
    points: Points,
    policy: ClickPolicy,
    randomness: Randomness,
    *,
    features: Tensor | None = None,
) -> Iterator[Round]:
    """Yield the rounds of one click sequence, lazily: a caller may run a backward pass between two of them.

    Each later round sees all clicks so far and, as mask prompt, the probabilities of the last round's chosen candidate,
    without gradient between rounds. Only the first round's gradient reaches embedding and features, as in SAM-Med2D.

    Args:
        model: The model that answers.
        embedding: float [B, C, h, w].
        image_index: int64 [N], the image of each mask, in order.
        mask: bool [N, 1, S, S], the truth that corrective clicks are drawn from.
        points: The first prompts, coords [N, P, 2] in model-frame pixels (x, y) and labels [N, P].
        policy: How many rounds, and what each is given.
        randomness: One random stream, or one for each mask.
        features: float [B, F, S, S] for the detail head, see `Sam.features`.

    Yields:
        What each round gave.
    """
    mask_prompt = None
    for index in range(policy.rounds):
        coords, labels = (part[:, :0] for part in points) if index in policy.mask_only else points
        decoded = model.decode_points(
            embedding,
            coords,
            labels,
            mask_prompt,
            multimask=policy.multimask,
            features=features,
            image_index=None if len(embedding) == 1 else image_index,
        )
        result = Round(decoded.logits, decoded.iou, points, model.image_size, decoded.presence)
        yield result
        embedding, features = embedding.detach(), None if features is None else features.detach()
        mask_prompt = result.low_res.detach().sigmoid()
        if index + 1 < policy.rounds and index + 1 not in policy.mask_only:
            predicted = result.logits().detach()[:, 0] > 0
            clicks = policy.clicks_before(index + 1)
            points = append_points(points, error_points(predicted, mask[:, 0], clicks, randomness))


def random_mask_only(rounds: int, generator: torch.Generator) -> frozenset[int]:
    """Draw the rounds of a training step that see the mask alone: a random later one and the last one.

    Args:
        rounds: Rounds of the step.
        generator: Where the random one comes from.

    Returns:
        One or two numbers from 1 to rounds - 1; none for fewer than two rounds.
    """
    if rounds < 2:
        return frozenset()
    return frozenset({int(torch.randint(1, rounds, (), generator=generator)), rounds - 1})
