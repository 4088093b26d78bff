"""The optimizer of a training run, its learning rate, and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

IMAGE_PARTS = ("image_encoder.", "mask_decoder.detail.")  # of the model's parameters, by name
SCHEDULES = ("cosine", "multistep", "none")


def make_optimizer(
    model: nn.Module, *, lr: float, weight_decay: float, encoder_lr: float | None = None
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; norms, biases and embeddings of one row do not decay.

    encoder_lr: of the image encoder and the detail head, lr where it is not given. Each group keeps its highest rate as
    `highest_lr`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and parameter.shape[0] > 1
            groups.setdefault((name.startswith(IMAGE_PARTS), decays), []).append(parameter)
    found = []
    for (own_rate, decays), parameters in groups.items():
        highest = encoder_lr if own_rate and encoder_lr else lr
        found.append({"params": parameters, "lr": highest, "highest_lr": highest})
        found[-1] |= {} if decays else {"weight_decay": 0.0}
    return torch.optim.AdamW(found, lr=lr, weight_decay=weight_decay, fused=True)


def of_image(name: str) -> bool:
    """Whether a parameter of the model sees each image once, whatever the prompts: encoder and detail head's stem."""
    prompted = tuple(f"mask_decoder.detail.{part}." for part in ("weights", "under_prompts", "named"))
    return name.startswith(IMAGE_PARTS) and not name.startswith(prompted)


def learning_rate_factor(step: int, total: int, *, warmup: int, schedule: str) -> float:
    """Share of the highest learning rate at a step of `total`.

    Linear warm-up over `warmup` steps, a tenth of all at most; then by `schedule` a cosine down to 1 %, halved
    at 2/3 and at 5/6 ("multistep"), or constant ("none").
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


class Average:
    """Exponential moving average of the trainable parameters (Polyak and Juditsky 1992).

    The decay grows with the steps up to `decay`, so that early weights are forgotten quickly. With decay 0
    the average is the parameters themselves.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step number `step`, counted from 1."""
        decay = min(self.decay, step / (step + 10))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
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
