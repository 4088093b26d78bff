"""What a machine has: processor, memory, GPU, disk, and whether half precision is faster on it."""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from sam_med2d.runtime.devices import autocast_dtype, torch_threads
from sam_med2d.runtime.timing import interleaved
from segment_anything import sam_model_registry

FEATURES = {"avx2": "AVX2", "avx512_f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16"}
GIGA = 1e9
PAYS = 1.1  # times as fast, for --use_amp to be worth its rounding


def processor() -> dict[str, Any]:
    """Name, cores that this process may use, whether each of FEATURES is there, and what PyTorch uses of them."""
    found = torch.cpu.get_capabilities()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": found.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": cores,
        "cores_of_container": _quota(),
        "threads": torch.get_num_threads(),
        "features": {title: bool(found.get(name)) for name, title in FEATURES.items()},
        "pytorch_uses": torch.backends.cpu.get_cpu_capability(),
    }


def _quota() -> float | None:
    """The processor time that a Linux container may use, in cores; None without a limit."""
    path = Path("/sys/fs/cgroup/cpu.max")
    quota, period = path.read_text().split() if path.is_file() else ("max", "1")
    return None if quota == "max" else int(quota) / int(period)


def memory() -> dict[str, float | None]:
    """Gigabytes of memory: all, free, the container's limit, and what processes share (of /dev/shm); None: unknown."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").is_file() else []
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    limit = Path("/sys/fs/cgroup/memory.max")
    of_container = limit.read_text().strip() if limit.is_file() else "max"
    return {
        "all": _rounded(kilobytes.get("MemTotal"), 1e3),
        "free": _rounded(kilobytes.get("MemAvailable"), 1e3),
        "of_container": None if of_container == "max" else _rounded(int(of_container), 1),
        "shared": _rounded(shutil.disk_usage("/dev/shm").free, 1) if Path("/dev/shm").is_dir() else None,
    }


def _rounded(count: int | None, unit: float) -> float | None:
    """A count of `unit` bytes in gigabytes."""
    return None if count is None else round(count * unit / GIGA, 1)


def accelerators() -> dict[str, Any]:
    """GPUs that this PyTorch can use, the CUDA version that it was built for, and whether there is a driver or MPS."""
    gpus = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, size = torch.cuda.mem_get_info(number)
        place = {"name": torch.cuda.get_device_name(number), "memory": _rounded(size, 1), "free": _rounded(free, 1)}
        gpus.append({"device": f"cuda:{number}", **place})
    return {
        "gpus": gpus,
        "built_for_cuda": torch.version.cuda,
        "nvidia_driver": Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None,
        "mps": torch.backends.mps.is_available(),
    }


def half_precision(device: torch.device, *, rounds: int = 5) -> dict[str, Any]:
    """How many times as fast a small model encodes a photograph of 256 pixels with --use_amp, on one core or a GPU.

    Args:
        device: where it computes.
        rounds: how often each precision is timed, in turn.

    Returns:
        The name of the precision, its `speed` (1.0: as float32), milliseconds of both, and whether it `pays`.
    """
    model = sam_model_registry["vit_t"](image_size=256).eval().to(device)
    image, dtype = torch.zeros(1, 3, 256, 256, device=device), autocast_dtype(device)

    def encode(half: bool) -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=half):
            model.encode(image).sum().item()  # waits for a GPU

    with torch_threads(1):  # threads that wait for each other on a busy machine say nothing of the precision
        times = interleaved({"half": lambda: encode(True), "float32": lambda: encode(False)}, rounds, warm_up=2)
    speed = times["float32"] / times["half"]
    name = str(dtype).removeprefix("torch.")
    return {"dtype": name, "device": str(device), "speed": round(speed, 2), "milliseconds": times, "pays": speed > PAYS}
