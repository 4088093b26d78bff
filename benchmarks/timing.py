"""Time calls in turn, here or in processes of their own, so that each meets the machine in the same state."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, float]:
    """Median milliseconds of each call over `rounds`, one of each in turn, after `warm_up` rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[warm_up:]) for name, values in times.items()}


def peak_memory() -> float:
    """Largest resident size of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB


class Worker:
    """A process that calls `serve` and prints a JSON object last. Raises RuntimeError when it ends early."""

    def __init__(self, command: Sequence[str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, **pipes)
        self._wait()  # the next one must not start while this one does

    def ask(self, request: int = 1) -> None:
        """Have the work done once, and wait for it; what `request` means is up to the work."""
        if self._process.poll() is None:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
        self._wait()

    def finish(self) -> dict[str, float]:
        """End the process; returns what it has measured itself."""
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
