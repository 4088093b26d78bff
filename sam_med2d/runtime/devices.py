"""Devices, half precision, compilation and loader processes."""

import logging
import os
import shutil

import torch

from sam_med2d.errors import UsageError
from segment_anything.modeling import Sam


def resolve_device(name: str | None) -> torch.device:
    """The device of --device, such as "cuda:0", or for None the best one present; UsageError where it does not work."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is not a device name: use cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: this PyTorch finds no CUDA device; use --device cpu or leave it out.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are only {torch.cuda.device_count()} CUDA devices.")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: this PyTorch cannot use it; use cpu, or leave it out.") from error
    return device


def autocast_dtype(device: torch.device) -> torch.dtype:
    """Precision of --use_amp on a device: bfloat16, or float16 on a GPU that has no bfloat16."""
    missing = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.float16 if missing else torch.bfloat16


def warn_of_emulation(use_amp: bool, device: torch.device) -> None:
    """Log that --use_amp does not pay where it is given and the processor has no instructions for bfloat16."""
    if use_amp and device.type == "cpu" and torch.backends.mkldnn.is_available() and not _has_bfloat16():
        logging.warning(
            "--use_amp: this processor emulates bfloat16, which takes far longer than float32: leave the flag out."
        )


def _has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def compile_encoder(model: Sam, device: torch.device) -> None:
    """Have the image encoder compiled when it is first used.

    Args:
        model: changed in place.
        device: where it will compute.

    Raises:
        UsageError: on a CPU without a C++ compiler.
    """
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise UsageError("--compile: a CPU needs a C++ compiler for it: install g++, or leave --compile out.")
    model.image_encoder.compile()


def cpu_workers(requested: int | None, *, here: int = 1) -> int:
    """How many processes load data for this one: as requested, or what the cores leave, 8 at most.

    Args:
        requested: of --num_workers; 0 for loading in this process itself. Raises UsageError for a negative number.
        here: processes of the run on this machine, which share its cores.
    """
    if requested is not None and requested < 0:
        raise UsageError(f"--num_workers {requested}: give 0 or more.")
    if requested is not None:
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(8, cores // here - 1))
