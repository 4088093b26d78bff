"""Time calls in turn, so that each meets the machine in the same state."""

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, float]:
    """Time calls, one of each in turn.

    Args:
        calls: by name.
        rounds: how often each is measured.
        warm_up: rounds before these that do not count.

    Returns:
        The median milliseconds of each call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[warm_up:]) for name, values in times.items()}
