"""A test without the mark `slow` that takes longer than --limit-seconds fails: `make test` stays short.

What counts is the call and the set-up of the test's own fixtures; what a module or a session shares is paid once, for
many tests. The limit does not depend on who else uses the machine: the time that the test waited for a processor core
is left out (Linux tells it), and a test that is above the limit nevertheless is measured by a fixed piece of work: on
a machine that takes twice as long for it, now, than the one where the limit was set, a test may take twice as long.
`make test` runs a test that was too slow once more: a disk may have stalled.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REFERENCE = 0.12  # seconds of `slowdown`'s work on the machine where the limit was set, with nothing beside
SCHEDSTAT = Path("/proc/thread-self/schedstat")


def clock() -> float:
    """Seconds of this thread, without those that it waited for a processor core."""
    waited = int(SCHEDSTAT.read_text().split()[1]) * 1e-9 if SCHEDSTAT.is_file() else 0.0
    return time.perf_counter() - waited


def slowdown() -> float:
    """How many times longer a fixed piece of work takes now than on the machine where the limit was set; at least 1."""
    started = time.perf_counter()
    sum(i * i % 7 for i in range(2_000_000))
    return max(1.0, (time.perf_counter() - started) / REFERENCE)


class TimeLimit:
    """Pytest plugin: fails tests above the limit that are not marked."""

    def __init__(self, limit: float, exempt: tuple[str, ...] = ("slow",)) -> None:
        self.limit, self.exempt = limit, exempt  # seconds; marks of tests that may take longer
        self.seconds = 0.0  # of the set-up of the present test's own fixtures

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        self.seconds = 0.0
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Iterator[None]:
        started = clock()
        try:
            return (yield)
        finally:
            if fixturedef.scope == "function":
                self.seconds += clock() - started

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        started, before = clock(), self.seconds
        outcome = yield
        seconds = before + clock() - started
        if seconds > self.limit and not any(item.get_closest_marker(mark) for mark in self.exempt):
            seconds /= slowdown()
            if seconds > self.limit:
                pytest.fail(f"{seconds:.1f} s: mark it slow (@pytest.mark.slow), or make it faster", pytrace=False)
        return outcome
