"""Processes that do one side's work when they are told to, and what they say of their memory."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable

from benchmarks.sides import Side


def peak_memory() -> float:
    """Largest resident size of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB


class Worker:
    """A process that calls `serve` and prints a JSON object last."""

    def __init__(self, side: Side) -> None:
        """Start the process and wait until it is ready; RuntimeError where it ends early."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(side.command, cwd=side.checkout, env=side.environment, **pipes)
        self._wait()  # the next one must not start while this one does

    def ask(self, request: int = 1) -> None:
        """Have the work of this number done, and wait for it; RuntimeError where the process ends early."""
        if self._process.poll() is None:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
        self._wait()

    def finish(self) -> dict:
        """End the process: what it has measured itself."""
        return json.loads(self._process.communicate()[0])

    def _wait(self) -> None:
        if not self._process.stdout.readline():
            raise RuntimeError("a benchmark process ended early: its message is above")


def serve(work: Callable[[int], object]) -> None:
    """Do the work for each number of the standard input, until it ends; say when it can start and when it is done."""
    print("ready", flush=True)
    for request in sys.stdin:
        work(int(request))
        print("done", flush=True)
