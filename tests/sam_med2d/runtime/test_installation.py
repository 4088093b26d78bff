"""What is installed is compared with the requirements: what is missing, of another version or damaged is told."""

import sys
from importlib import metadata

import pytest

from sam_med2d.runtime import installation
from sam_med2d.runtime.installation import installation_problems, read_requirements

INSTALLED = {"numpy": "1.26.4", "torch": "2.13.0+cpu", "fastapi": "0.115", "tensorboard": "2.20"}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A function of the lines of requirements.txt and requirements-app.txt that gives what is wrong."""

    def version(name):
        if name not in INSTALLED:
            raise metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(installation.metadata, "version", version)
    monkeypatch.setattr(installation.metadata, "distributions", lambda name: [1] * (name in INSTALLED))
    (tmp_path / "pyproject.toml").write_text('requires-python = ">=3.11"\n')

    def problems(needed: str, optional: str = "") -> list[str]:
        (tmp_path / "requirements.txt").write_text(f"# For every command.\n{needed}\n")
        (tmp_path / "requirements-app.txt").write_text(f"# For the page: a server.\n-r requirements.txt\n{optional}\n")
        (tmp_path / "requirements-dev.txt").write_text("no_such_package_at_all\n")
        return installation_problems(read_requirements(tmp_path), tmp_path)

    return problems


def test_what_keeps_the_commands_from_running_is_told(checkout):
    wrong = []
    for needed, optional, expected in (
        ("numpy>=1.26", "", None),
        ("torch>=2.11,<2.15  # a build for CPUs fits", "fastapi>=0.115", None),
        ("numpy>=1.26\ntorchvision>=0.26", "uvicorn>=0.30", None),  # on CUDA alone; optional
        ("numpy>=2.0", "", "numpy: 1.26.4, >=2.0 is required: pip install -r requirements.txt"),
        ("torch>=2.11,<2.12", "", "torch: 2.13.0+cpu, <2.12,>=2.11 is required: pip install -r requirements.txt"),
        ("scipy>=1.13", "", "scipy: not installed: pip install -r requirements.txt"),
        ("numpy", "fastapi>=0.120", "fastapi: 0.115, >=0.120 is required: pip install -r requirements-app.txt"),
    ):
        found = checkout(needed, optional)
        wrong += [(needed, found)] * (found != [expected] * (expected is not None))
    assert not wrong


def test_a_package_that_does_not_import_is_told(checkout, monkeypatch):
    def broken(name):
        raise ImportError("libGL.so.1: cannot open shared object file\nmore")

    monkeypatch.setattr(installation.importlib, "import_module", broken)
    (problem,) = checkout("numpy>=1.26")
    assert "numpy: 1.26.4 does not import (ImportError: libGL.so.1: cannot open shared object file): pip" in problem


def test_an_old_python_and_two_opencvs_are_told(checkout, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    monkeypatch.setitem(INSTALLED, "opencv-python", "4.12")
    monkeypatch.setitem(INSTALLED, "opencv-python-headless", "4.12")
    python, opencv = checkout("numpy")
    assert "3.11 or newer is required" in python
    assert opencv.startswith("opencv-python and opencv-python-headless overwrite each other: uninstall them, then pip")


def test_each_file_of_requirements_says_what_needs_it():
    files = {file.name: file for file in read_requirements()}
    assert all(file.purpose.startswith("For ") and file.packages for file in files.values())
    assert {"requirements.txt", "requirements-onnx.txt", "tensorboard"} <= files.keys()
    assert installation_problems(list(files.values())) == []
