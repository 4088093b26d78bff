"""One or several processes of a run, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from sam_med2d.errors import UsageError
from sam_med2d.runtime.devices import resolve_device


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as torchrun starts them; one alone without torchrun."""

    rank: int = 0  # this one's number, from 0 on
    count: int = 1  # number of all
    here: int = 1  # how many share this one's machine

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the processes; `values` itself holds it, too."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, item: Any) -> list[Any]:
        """Every process's `item`, in order of rank."""
        items = [item] * self.count
        if self.count > 1:
            distributed.all_gather_object(items, item)
        return items

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined_processes(device_name: str | None) -> Iterator[tuple[Processes, torch.device]]:
    """A context among the other processes of the run, as the environment says that torchrun sets.

    Args:
        device_name: of --device; None for the best one present.

    Yields:
        This process's place among them, and its device: the GPU of its local rank, or the CPU.

    Raises:
        UsageError: for a device that is not there, or that the processes cannot share.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "LOCAL_WORLD_SIZE" not in os.environ:
        yield Processes(), resolve_device(device_name)
        return
    if device_name not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {device_name}: {count} processes take one GPU each; use cuda, cpu or leave it out.")
    device = resolve_device(device_name)
    if device.type == "cuda":
        device = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    # a process may wait long for another one, which checks the files or validates
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield Processes(distributed.get_rank(), count, int(os.environ["LOCAL_WORLD_SIZE"])), device
    finally:
        distributed.destroy_process_group()
