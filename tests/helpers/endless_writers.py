"""Processes that write files and checkpoints until they are killed."""

import multiprocessing
import os
import signal
import time
from itertools import count
from pathlib import Path

import torch

from sam_med2d.training.checkpoints import load_state, save_checkpoint
from segment_anything.utils.atomic import atomic_path

BIG = 4_000_000


def kill_while(target, *args, ready, delay: float) -> None:
    """Run `target` in a process of its own and kill it `delay` seconds after `ready()` is true."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args)
    process.start()
    deadline = time.monotonic() + 30
    while not ready() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ready() and process.is_alive()
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def write_slowly(path: Path) -> None:
    """Write `path` bit by bit, for longer than the test waits."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for _ in range(10_000):
            file.write(b"new")
            file.flush()
            time.sleep(0.002)


def write_again_and_again(path: Path) -> None:
    for number in count():
        with atomic_path(path) as temporary:
            temporary.write_bytes(bytes([number % 256]) * BIG)


def save(run: Path, step: int, links: list[str], keep: int = 0) -> Path:
    weights = {"weight": torch.full((50_000,), float(step)), "bias": torch.full((3,), float(step))}
    state = {"flags": {}, "step": step, "moment": torch.full((50_000,), float(step))}
    return save_checkpoint(run, f"step-{step:07d}", weights, {"step": step}, state, links, keep=keep)


def save_again_and_again(run: Path) -> None:
    """A run that resumes from `last`, saves each step and finds every third one the best."""
    first = load_state(run / "last")["step"] if (run / "last").exists() else 0
    for step in count(first + 1):
        save(run, step, ["last", "best"] if step % 3 == 0 or not (run / "best").exists() else ["last"])
