"""The optimizer of a training run, its learning rate, and the moving average of the weights."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from segment_anything.modeling.adapter import Adapter
from segment_anything.modeling.factored_gradients import factors_of, keep_factors

IMAGE_PARTS = ("image_encoder.", "mask_decoder.detail.")  # of the model's parameters, by name


def make_optimizer(
    model: nn.Module, *, lr: float, weight_decay: float, encoder_lr: float | None = None
) -> torch.optim.AdamW:
    """Make AdamW over the trainable parameters; norms, biases and embeddings of one row do not decay.

    Each group of parameters keeps its highest rate as "peak_lr".

    Args:
        model: Its parameters that require a gradient train.
        lr: Highest learning rate.
        weight_decay: Of the parameters that decay.
        encoder_lr: Highest learning rate of the image encoder and the detail head; None: `lr`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and parameter.shape[0] > 1
            groups.setdefault((name.startswith(IMAGE_PARTS), decays), []).append(parameter)
    found = []
    for (own_rate, decays), parameters in groups.items():
        highest = encoder_lr if own_rate and encoder_lr else lr
        found.append({"params": parameters, "lr": highest, "peak_lr": highest})
        found[-1] |= {} if decays else {"weight_decay": 0.0}
    optimizer = torch.optim.AdamW(found, lr=lr, weight_decay=weight_decay, fused=True)
    _start_moments(optimizer)
    return optimizer


def _start_moments(optimizer: torch.optim.AdamW) -> None:
    """Allocate the moments now, in one piece: those made amid the first update's gradients leave gaps on the heap."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            step = torch.zeros((), dtype=torch.float32, device=p.device)
            optimizer.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}


def learning_rate_factor(step: int, total: int, *, warmup: int, schedule: str) -> float:
    """Compute the share of the highest learning rate at a step: linear warm-up, then a schedule.

    Args:
        step: From 0.
        total: Steps of the run.
        warmup: Steps of the warm-up, a tenth of all at most.
        schedule: "cosine", down to 1 %; "multistep", halved at 2/3 and at 5/6; or "none", constant.
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if schedule == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if schedule == "multistep":
        return 0.5 ** ((progress >= 2 / 3) + (progress >= 5 / 6))
    return 1.0


def factor_adapters(model: nn.Module) -> None:
    """Have the adapters keep the gradients of their convolutions as factors: with few photographs they are a fifth.

    A float32 CPU route alone does it; gradients that processes exchange, or a scaler unscales, must lie in `.grad`.
    """
    for module in model.modules():
        if isinstance(module, Adapter):
            keep_factors(module.spatial[0].weight)
            keep_factors(module.spatial[2].weight)


class Gradients:
    """The gradients of one update: those that lie in `.grad`, and those that a weight keeps as factors.

    The latter are multiplied out one after the other, each just for its own weight's update. Parameters without a
    gradient are left out.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        kept = [p for p in parameters if p.grad is not None or factors_of(p)]
        for p in kept:
            if p.grad is not None and factors_of(p):  # of batches whose gradients are summed, some were too large
                p.grad += p.factors.pop().view_as(p)
        self._dense = [p for p in kept if p.grad is not None]
        self._factored = [p for p in kept if p.grad is None]

    def scale(self, factor: float) -> None:
        """Multiply all gradients by a factor."""
        torch._foreach_mul_([p.grad for p in self._dense], factor)
        for p in self._factored:
            p.factors.scale(factor)

    def clip(self, largest: float) -> Tensor:
        """Scale the gradients down where their norm, which is returned, is larger than `largest`."""
        squares = [p.factors.square_norm() for p in self._factored]
        dense = torch.nn.utils.get_total_norm([p.grad for p in self._dense])
        norm = torch.stack((dense.square(), *squares)).sum().sqrt() if squares else dense
        torch.nn.utils.clip_grads_with_norm_(self._dense, largest, norm)
        for p in self._factored:
            p.factors.scale((largest / (norm + 1e-6)).clamp(max=1))  # as the function above does
        return norm

    def update(self, step: Callable[[], object]) -> None:
        """Update the weights by the optimizer's step: all dense gradients at once, then each of the others."""
        step()
        for p in self._dense:
            p.grad = None
        for p in self._factored:
            p.grad = p.factors.pop().view_as(p)
            step()
            p.grad = None


class WeightAverage:
    """Exponential moving average of the trainable parameters (Polyak and Juditsky 1992).

    The decay grows with the steps up to `decay`, from 0 to below 1, so that early weights are forgotten quickly. With
    decay 0 the average is the parameters themselves.

    Attributes:
        parameters: The trained parameters, by name.
        values: Their averages, by name.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after so many steps, from 1."""
        decay = min(self.decay, step / (step + 10))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """For the time of the context, whatever ends it, the model's parameters are their average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the model's parameters and their average."""
        for name, parameter in self.parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)
