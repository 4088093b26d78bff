"""A test above the limit fails unless it is marked slow; neither a busy machine nor a shared fixture makes it fail."""

import time

from tests.helpers import time_limit

pytest_plugins = "pytester"
FILE = """
import time
import pytest

@pytest.fixture(scope="module")
def shared():
    time.sleep(0.25)

@pytest.fixture
def own():
    time.sleep(0.25)

def test_sleeps():
    time.sleep(0.3)

def test_waits_for_its_fixture(own):
    pass

@pytest.mark.slow
def test_marked(own):
    time.sleep(0.25)

def test_quick(shared):
    pass

def test_fails():
    time.sleep(0.25)
    raise ValueError("a fault of its own")
"""


def run_with_limit(pytester, monkeypatch, *, slowdown: float):
    with monkeypatch.context() as patch:
        patch.setattr(time_limit, "slowdown", lambda: slowdown)
        return pytester.inline_run("-p", "no:cacheprovider", plugins=[time_limit.TimeLimit(0.2)])


def test_what_takes_too_long_is_named(pytester, monkeypatch):
    pytester.makepyfile(FILE)
    pytester.makeini("[pytest]\nmarkers = slow: x")
    result = run_with_limit(pytester, monkeypatch, slowdown=1)
    failures = {report.nodeid.split("::")[1]: str(report.longrepr) for report in result.getfailures()}
    assert failures.keys() == {"test_sleeps", "test_waits_for_its_fixture", "test_fails"}
    assert "s: mark it slow" in failures["test_sleeps"]
    assert "mark it slow" in failures["test_waits_for_its_fixture"]
    assert "a fault of its own" in failures["test_fails"] and "slow" not in failures["test_fails"]


def test_a_slower_machine_may_take_longer(pytester, monkeypatch):
    pytester.makepyfile("import time\ndef test_sleeps():\n    time.sleep(0.25)")
    run_with_limit(pytester, monkeypatch, slowdown=5).assertoutcome(passed=1)


def test_waiting_for_a_processor_core_does_not_count(tmp_path, monkeypatch):
    """The kernel's file: nanoseconds on a core, nanoseconds of waiting for one, turns."""
    with monkeypatch.context() as patch:  # undone before the test itself is timed
        patch.setattr(time_limit, "SCHEDSTAT", tmp_path / "schedstat")
        absent = time.perf_counter() - time_limit.clock()
        (tmp_path / "schedstat").write_text("7000000000 500000000000 12\n")
        waited = time.perf_counter() - time_limit.clock()
    assert absent < 100 and 400 < waited < 600
