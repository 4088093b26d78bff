"""What is installed, against the requirements of this checkout."""

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"opencv-python-headless": "cv2", "scikit-image": "skimage", "pillow": "PIL"}  # others: their own names
NOT_IMPORTED = ("torchvision",)  # its wheel does not import beside a PyTorch for CPUs, and need not
TENSORBOARD = "tensorboard>=2.18"
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class Package:
    """A requirement, and what there is of it."""

    name: str
    wanted: str  # versions, such as ">=2.11,<2.15"
    version: str | None  # None where it is not installed
    fits: bool
    broken: str = ""  # why it does not import

    def describe(self) -> str:
        """Its state in a few words."""
        if self.version is None:
            return "not installed"
        if self.broken:
            return f"{self.version} does not import ({self.broken})"
        return self.version if self.fits else f"{self.version}, {self.wanted} is required"


@dataclass(frozen=True)
class RequirementFile:
    """One of the files requirements*.txt, or a package that a flag needs."""

    name: str
    purpose: str  # what needs it: its first comment
    packages: tuple[Package, ...]
    install: str  # the command


def read_requirements(root: Path = ROOT) -> list[RequirementFile]:
    """The requirements of a checkout with the versions that are installed, `requirements.txt` first.

    What `requirements.txt` names is imported, too. Raises FileNotFoundError where that file is absent.
    """
    files = sorted(root.glob("requirements-*.txt"))
    others = [_read(path) for path in files if path.name != "requirements-dev.txt"]
    package = _package(TENSORBOARD, imported=False)
    logs = RequirementFile(package.name, "For train.py --tensorboard", (package,), f"pip install {package.name}")
    return [_read(root / "requirements.txt", imported=True), *others, logs]


def _read(path: Path, *, imported: bool = False) -> RequirementFile:
    """A file of requirements; where `imported`, its packages are."""
    lines = path.read_text(encoding="utf-8").splitlines()
    purpose = next((line for line in lines if line.startswith("#")), "").strip("# .")
    words = [line.split("#")[0].strip() for line in lines]
    packages = tuple(_package(line, imported=imported) for line in words if line and not line.startswith("-"))
    return RequirementFile(path.name, purpose, packages, f"pip install -r {path.name}")


def _package(line: str, *, imported: bool) -> Package:
    """The package of a line such as `numpy>=1.26`."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # an empty environment: pip has its own
        from pip._vendor.packaging.requirements import Requirement
    requirement = Requirement(line)
    name, wanted = requirement.name, str(requirement.specifier)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name, wanted, None, fits=False)
    fits = requirement.specifier.contains(version, prereleases=True)
    broken = _import_error(name) if imported and name not in NOT_IMPORTED else ""
    return Package(name, wanted, version, fits, broken)


def _import_error(name: str) -> str:
    """Why a package does not import; empty where it does."""
    try:
        importlib.import_module(MODULES.get(name, name.replace("-", "_")))
    except Exception as error:  # whatever a damaged package raises is what is told
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def installation_problems(files: Sequence[RequirementFile], root: Path = ROOT) -> list[str]:
    """Sentences about what keeps the commands from running, each with what to do.

    Args:
        files: of `read_requirements`.
        root: the checkout, whose pyproject.toml names the versions of Python.
    """
    problems = []
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    oldest = re.search(r'requires-python = ">=([\d.]+)"', text)[1]
    if sys.version_info < tuple(map(int, oldest.split("."))):
        problems.append(f"Python {sys.version.split()[0]}: {oldest} or newer is required: make a new environment.")
    for file in files:
        wrong = [package for package in file.packages if _is_wrong(package, needed=file is files[0])]
        problems += [f"{package.name}: {package.describe()}: {file.install}" for package in wrong]
    if len(several := [name for name in OPENCV if any(metadata.distributions(name=name))]) > 1:
        problems.append(f"{' and '.join(several)} overwrite each other: uninstall them, then {files[0].install}")
    return problems


def _is_wrong(package: Package, *, needed: bool) -> bool:
    """Whether a package keeps something from running: one that is optional may be absent, but not too old."""
    if package.version is None:
        return needed and package.name not in NOT_IMPORTED
    return not package.fits or bool(package.broken)
