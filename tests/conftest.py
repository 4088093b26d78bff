"""Fixtures shared by the tests; --fundus=PATH runs the tests that need real photographs."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; before torch, which asks once
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from matplotlib.figure import Figure

from segment_anything.build_sam import MODEL_SPECS
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model

# processes that tests start come from one server, which has imported what they need once
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["tests.helpers.tiny_scripts", "tests.helpers.endless_writers"]
)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a background job; processes that tests start would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--fundus", type=Path, help="folder of real photographs with our JSON maps")


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
def tiny_type(monkeypatch):
    """Make "vit_t" a tiny model, so that whole runs take seconds."""
    monkeypatch.setitem(MODEL_SPECS, "vit_t", TINY_SPEC)


@pytest.fixture
def saved_figures(monkeypatch):
    """The matplotlib figures that a test saves, in order."""
    saved, original = [], Figure.savefig

    def spy(self, *args, **options):
        saved.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved
