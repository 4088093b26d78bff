"""One training step: encode once, decode round after round; the weights are updated after each round or once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sam_med2d.prompts.click_loop import ClickPolicy, random_mask_only, run
from sam_med2d.prompts.simulation import Points, Randomness, box_points, first_points, jitter_boxes, pad_points, uniform
from sam_med2d.training.losses import candidate_loss, presence_loss
from sam_med2d.training.optimizer import of_image
from segment_anything.modeling import Sam
from segment_anything.modeling.prompt_encoder import PADDING

ENCODER_MODES = ("adapter", "full", "none")
UPDATES = ("batch", "round")


@dataclass(frozen=True)
class StepPolicy:
    """corrective_rounds: prompts after the opening one. clicks: how many corrective clicks a round may
    give, drawn for each round. multimask: train the three candidates beside the single mask. teach: which
    candidate learns, see `candidate_loss`. update: after each "round", or once a "batch". loss: the pixel loss, see
    `segmentation_losses`."""

    corrective_rounds: int = 8
    clicks: tuple[int, ...] = (1, 3, 5, 9)
    multimask: bool = True
    teach: str = "best"
    update: str = "batch"
    loss: str = "focal"

    @property
    def updates(self) -> int:
        """Updates of the weights in a step."""
        return 1 + self.corrective_rounds if self.update == "round" else 1

    def draw(self, generator: torch.Generator) -> ClickPolicy:
        """The rounds of one step: how many clicks each gives, and which see the mask alone."""
        rounds = 1 + self.corrective_rounds
        drawn = torch.randint(len(self.clicks), (rounds,), generator=generator).tolist()
        clicks = tuple(self.clicks[i] for i in drawn)
        return ClickPolicy(rounds, clicks, random_mask_only(rounds, generator), None if self.multimask else False)


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


def random_openings(mask: Tensor, box: Tensor, randomness: Randomness, structure_label: Tensor | None = None) -> Points:
    """Opening prompt of each mask: a jittered box or one click, with equal chance; or the structure's name.

    mask: bool [N, S, S]; box: float [N, 4]; structure_label: int64 [N], the point label of a structure or -1.
    All kinds are two labelled points, so they share a batch.
    """
    jittered = box_points(jitter_boxes(box, mask.shape[-1], randomness))
    clicked = pad_points(first_points(mask, 1, randomness))
    use_box = uniform(len(mask), 1, randomness).to(mask.device) < 0.5
    coords = torch.where(use_box[..., None], jittered[0], clicked[0])
    labels = torch.where(use_box, jittered[1], clicked[1])
    if structure_label is None:
        return coords, labels
    named = torch.stack((structure_label, torch.full_like(structure_label, PADDING)), dim=1)
    return coords, torch.where(structure_label[:, None] >= 0, named, labels)


def objectives(
    model: Sam,
    image: Tensor,
    mask: Tensor,
    box: Tensor,
    image_index: Tensor,
    *,
    policy: StepPolicy,
    clicks: ClickPolicy,
    randomness: Randomness,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
    structure_label: Tensor | None = None,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield `policy.updates` objectives: scalars to call `backward` on, and the loss with its parts.

    image: [B, 3, S, S]; mask: bool [N, 1, S, S]; box: [N, 4]; image_index: [N]; clicks: from `policy.draw`;
    structure_label: see `random_openings`, None for a model without structures.
    The gradient of an objective is that of the loss, summed over the N masks and averaged over its rounds, and
    multiplied by what `scale` multiplies with; its value means nothing. The loss and its parts are sums over
    masks, too.

    The graph of a round is freed before the next one starts: the rounds' gradients meet in the decoder's
    parameters and in the embedding, and go from there through the encoder once. With update "round" every
    round is an objective, and only the first reaches the encoder, as in SAM-Med2D.
    """
    opening = random_openings(mask[:, 0], box, randomness, structure_label)
    truth = mask.float()
    encoded = [x for x in model.encode_all(image) if x is not None]
    in_rows = encoded[0].contiguous(memory_format=torch.channels_last)  # as the decoder's tokens lie, once for all
    leaves = [x.detach().requires_grad_(x.requires_grad) for x in (in_rows, *encoded[1:])]
    head = [p for p in _decoder_parameters(model) if p.requires_grad]
    reached, sources = [*head, *encoded], [*head, *leaves]
    share = policy.updates / clicks.rounds
    collected = Collected()
    features = leaves[1] if len(leaves) > 1 else None
    for result in run(model, leaves[0], image_index, mask, opening, clicks, randomness, features=features):
        explore = uniform(len(mask), 2, randomness)
        loss, parts = candidate_loss(
            result.candidates, truth, result.candidate_iou, teach=policy.teach, exploration=explore, kind=policy.loss
        )
        if structure_label is not None:
            parts["presence"] = presence_loss(result.presence, mask, structure_label)
            loss = loss + parts["presence"]
        factor = share * len(mask)
        parts = {name: factor * value.detach() for name, value in parts.items()}
        collected.add(_gradients(scale(factor * loss), sources), parts)
        if policy.update == "round":
            yield collected.objective(reached), collected.parts
            collected = Collected()
            for leaf in leaves:
                leaf.requires_grad_(False)  # SAM-Med2D's later rounds do not reach the encoder
    if policy.update == "batch":
        yield collected.objective(reached), collected.parts


def _decoder_parameters(model: Sam) -> Iterator[nn.Parameter]:
    """Parameters that each round's graph reaches by itself: those of the detail head's stem come with its features."""
    return (parameter for name, parameter in model.named_parameters() if not of_image(name))


def _gradients(loss: Tensor, sources: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradient of `loss` with respect to each source; None for those that need none or are not reached."""
    wanted = [source for source in sources if source.requires_grad]
    with torch.autocast(loss.device.type, enabled=False):  # each product goes back in the precision it came in
        found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
    return [next(found) if source.requires_grad else None for source in sources]


class Collected:
    """Sums of gradients and of losses over rounds."""

    def __init__(self) -> None:
        self.gradients: list[Tensor | None] = []
        self.parts: dict[str, Tensor] = {}

    def add(self, gradients: list[Tensor | None], parts: dict[str, Tensor]) -> None:
        """Add those of a round."""
        pairs = zip(self.gradients or [None] * len(gradients), gradients, strict=True)
        self.gradients = [new if old is None else old if new is None else old + new for old, new in pairs]
        self.parts = {name: self.parts.get(name, 0) + value for name, value in parts.items()}

    def objective(self, reached: Sequence[Tensor]) -> Tensor:
        """A scalar whose gradients with respect to `reached` are the collected ones, which it takes away."""
        pairs = [(t, g) for t, g in zip(reached, self.gradients, strict=True) if g is not None and t.requires_grad]
        self.gradients = []
        tensors, gradients = zip(*pairs, strict=True)
        return _Objective.apply(gradients, *tensors)


class _Objective(torch.autograd.Function):
    """A scalar zero that has the given gradients with respect to its tensors."""

    @staticmethod
    def forward(ctx, gradients: Sequence[Tensor], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        return tensors[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, ()  # where nothing else holds one, it becomes `.grad` without a copy
        return None, *(gradients if scale == 1 else [scale * gradient for gradient in gradients])


class Objectives(nn.Module):
    """The next objective of a step as a module's forward pass, which DistributedDataParallel can wrap.

    Its backward pass then averages gradients over processes.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, remaining: Iterator[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
        """The next of `remaining`, which must come from `objectives` of this model."""
        return next(remaining)
