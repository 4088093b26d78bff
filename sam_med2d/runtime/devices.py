"""Devices, half precision, compilation and loader processes."""

import argparse
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sam_med2d.errors import UsageError
from segment_anything.modeling import Sam


def resolve_device(name: str | None) -> torch.device:
    """The device of --device, such as "cuda:0", or for None the best one present; UsageError where it does not work."""
    if name is None:
        present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        return torch.device(next(kind for kind, there in present.items() if there))
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


def drop_slow_amp(args: argparse.Namespace, device: torch.device) -> None:
    """Set `args.use_amp` to False, and say so, on a processor that is slower in bfloat16 than in float32."""
    if args.use_amp and device.type == "cpu" and not has_fast_bfloat16():
        logging.warning(
            "--use_amp: this processor has no instructions for bfloat16, which would take longer: computing in float32."
        )
        args.use_amp = False


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; with AVX-512 alone PyTorch emulates it, at a third of the speed."""
    found = torch.cpu.get_capabilities()
    if found.get("architecture", "x86_64") in ("x86_64", "AMD64", "i686"):
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


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


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """A context in which each of PyTorch's operations on the CPU runs on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
