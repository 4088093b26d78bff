"""Scripts with "vit_t" a tiny model, in processes.

python -m tests.helpers.tiny_scripts train|test|predict|app <flags>
"""

import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import train
from app import server
from sam_med2d.runtime import cli
from scripts import predict
from segment_anything.build_sam import MODEL_SPECS
from tests.helpers.tiny_models import TINY_SPEC
from tests.helpers.training_runs import load_test_script

FORKS = multiprocessing.get_context("forkserver")  # its server has imported this file, and started no thread


SCRIPTS = {"train": train, "test": load_test_script(), "predict": predict, "app": server}


def main(script: str, words: Sequence[str]) -> int:
    MODEL_SPECS["vit_t"] = TINY_SPEC
    return cli.run_main(SCRIPTS[script].main, SCRIPTS[script].parse_args(words))


def _child(script: str, words: Sequence[str], log: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(main(script, words))


def fork(words: Sequence[str], log: Path, *, script: str = "train", **environment: str) -> BaseProcess:
    """Start a script in a process of its own, with as many threads as pytest; its output goes to the end of `log`."""
    process = FORKS.Process(target=_child, args=(script, words, log, environment))
    process.start()
    return process


def fork_together(count: int, words: Sequence[str], log: Path, *, script: str = "train") -> list[BaseProcess]:
    """Start `count` processes of one run, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    place |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [fork(words, log, script=script, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
