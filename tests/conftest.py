"""Fixtures shared by the tests, and what runs of pytest have in common.

Tiers: `make test` leaves out the tests that are marked `slow`, `make test-all` runs everything. In both a test that
takes longer than 3 s (--limit-seconds 3, in CI 6) and is not marked fails; tests/helpers/time_limit.py says how it is
measured.

Hypothesis: 20 examples a property, 300 in continuous integration (CI=true) or with HYPOTHESIS_PROFILE=full.

--fundus=PATH runs the tests that need real photographs.
"""

import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; before torch, which asks once
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from matplotlib.figure import Figure

from tests.helpers import time_limit
from tests.helpers.tiny_models import make_tiny_model, tiny_vit_t

STARTED = ("tests.helpers.tiny_scripts", "tests.helpers.endless_writers")  # what processes of tests run
COMMANDS = ("sam_med2d.training", "sam_med2d.evaluation", "sam_med2d.inference", "sam_med2d.dataset_conversion", "app")
# what runs import late
LATE = ("torch._inductor", "matplotlib.pyplot", *(f"{package}.command" for package in COMMANDS))

if not torch.cuda.is_available():  # torchvision's wheel may not import beside a PyTorch for CPUs: others do without it
    sys.modules.setdefault("torchvision", None)

settings.register_profile("fast", max_examples=20, deadline=None)
settings.register_profile("full", max_examples=300, deadline=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "full" if os.environ.get("CI") == "true" else "fast")
settings.load_profile(PROFILE)

# processes that tests start come from one server, which has imported what they need once
multiprocessing.get_context("forkserver").set_forkserver_preload([*STARTED, *LATE])

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a background job; processes that tests start would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--fundus", type=Path, help="folder of real photographs with our JSON maps")
    parser.addoption("--limit-seconds", type=float, help="a test fails that takes longer and is not marked slow")


def pytest_configure(config):
    if limit := config.getoption("--limit-seconds"):
        exempt = ("slow", "hypothesis") if PROFILE == "full" else ("slow",)
        config.pluginmanager.register(time_limit.TimeLimit(limit, exempt))


def pytest_collection_finish(session):
    """What runs import late is imported before a test is timed: here, and in the server of processes."""
    if session.config.option.collectonly:
        return
    if "train" in sys.modules:
        for module in LATE:
            importlib.import_module(module)
    if sys.modules.keys() & set(STARTED):
        process = multiprocessing.get_context("forkserver").Process(target=os.getpid)
        process.start()
        process.join()


@pytest.fixture(autouse=True)
def same_threads():
    """A test leaves the number of threads as it was: it decides the last bits of what later tests compare."""
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before, f"{after} threads for {before}: torch.set_num_threads, or a benchmark without --threads"


@pytest.fixture
def fundus(request):
    """Folder of real photographs; the test is skipped, with a message, where it is absent."""
    folder = request.config.getoption("--fundus")
    if folder is None or not (folder / "image2label_train.json").is_file():
        pytest.skip(f"NO REAL PHOTOGRAPHS ({folder}): give --fundus=PATH to run this test")
    return folder


@pytest.fixture
def tiny_model():
    return make_tiny_model()


@pytest.fixture
def tiny_type():
    with tiny_vit_t():
        yield


@pytest.fixture
def quick_figures(monkeypatch):
    """The matplotlib figures that a test saves, in order; for tests that look at no picture, their files are empty."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (saved.append(self), Path(path).write_bytes(b"")))
    return saved


@pytest.fixture
def saved_figures(monkeypatch):
    """The matplotlib figures that a test saves, in order."""
    saved, original = [], Figure.savefig

    def spy(self, *args, **options):
        saved.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved
