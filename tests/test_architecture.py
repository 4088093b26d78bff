"""The direction of imports, and the size of files and functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

FOLDERS = ("segment_anything", "preparation", "checking", "exporting", "prediction")
FOLDERS += ("scripts", "app", "examples", "tests")
FILES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
PRODUCT = [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

MODELING, TRANSFORMS = "segment_anything.modeling", "segment_anything.utils"
PACKAGE = "segment_anything"
DATA = (PACKAGE, "maps", "DataLoader")
CASES = (*DATA, "metrics", "ceiling", "cup_to_disc", "figures", "prompt_file", "evaluation")
SCRIPT = (*CASES, "tally", "plots", "report", "utils")
# Each room and the rooms it may import from, besides itself.
ROOMS = {
    MODELING: (),
    TRANSFORMS: (MODELING,),
    f"{PACKAGE}.checkpoint": (MODELING, TRANSFORMS),
    f"{PACKAGE}.conversion": (f"{PACKAGE}.checkpoint", TRANSFORMS),
    f"{PACKAGE}.build_sam": (f"{PACKAGE}.checkpoint", MODELING, TRANSFORMS),
    f"{PACKAGE}.mirrors": (MODELING,),
    f"{PACKAGE}.windows": (f"{PACKAGE}.mirrors", MODELING, TRANSFORMS),
    f"{PACKAGE}.predictor": (
        f"{PACKAGE}.build_sam",
        f"{PACKAGE}.checkpoint",
        f"{PACKAGE}.mirrors",
        f"{PACKAGE}.windows",
        MODELING,
        TRANSFORMS,
    ),
    f"{PACKAGE}.predictor_sammed": (f"{PACKAGE}.predictor",),
    f"{PACKAGE}.automatic_mask_generator": (f"{PACKAGE}.predictor", MODELING, TRANSFORMS),
    f"{PACKAGE}.training.prompts": (MODELING, TRANSFORMS),
    f"{PACKAGE}.training.losses": (MODELING, TRANSFORMS),
    f"{PACKAGE}.training.augmentation": (MODELING, TRANSFORMS),
    f"{PACKAGE}.training.sampling": (),
    f"{PACKAGE}.training.interactive": (f"{PACKAGE}.training.prompts", MODELING, TRANSFORMS),
    f"{PACKAGE}.training": (f"{PACKAGE}.checkpoint", MODELING, TRANSFORMS),
    PACKAGE: (PACKAGE,),
    "metrics": (),
    "ceiling": (PACKAGE, "metrics"),
    "cup_to_disc": ("metrics",),
    "maps": (PACKAGE,),
    "DataLoader": (PACKAGE, "maps"),
    "figures": (PACKAGE,),
    "plots": ("figures",),
    "tally": (),
    "results": (PACKAGE,),
    "report": (PACKAGE, "tally", "figures", "plots"),
    "prompt_file": DATA,
    "evaluation": CASES,
    "utils": DATA,
    "validation": CASES,
    "tester": (*SCRIPT, "results"),
    "runlog": (PACKAGE, "figures", "utils"),
    "trainer": (*SCRIPT, "validation", "runlog"),
    "train": (*SCRIPT, "trainer"),
    "test": (*SCRIPT, "tester"),
    "mask_folder": ("maps", "sam_med2d.data.file_tree"),
    "measurement": (PACKAGE, "maps", "metrics", "figures"),
    "parallel": (),
    "downloading": (f"{PACKAGE}.utils",),
    "checking": (PACKAGE, "maps", "figures", "report", "parallel"),
    "preparation": (PACKAGE, "maps", "results", "parallel"),
    "exporting": (*CASES, "utils"),
    "prediction": (PACKAGE, "maps", "figures", "prompt_file", "results", "preparation", "utils"),
    "app": (*SCRIPT, "prediction", "preparation"),
    "scripts": (
        *SCRIPT,
        "preparation",
        "checking",
        "mask_folder",
        "measurement",
        "exporting",
        "prediction",
        "downloading",
    ),
    "examples": (PACKAGE,),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Absolute names of the modules that a file imports; `from a import b` gives a and a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in outside_functions(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from outside_functions(child)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str | None:
    """The smallest room that holds a module; None for modules that are not ours."""
    return max((room for room in ROOMS if within(module, room)), key=len, default=None)


def ours(path: Path) -> set[str]:
    """The modules of this project that a file imports."""
    known = {module_name(other) for other in FILES}
    return {name for name in imports(path) if name in known}


MODULES = {module_name(path): path for path in PRODUCT}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    room = room_of(module)
    assert room, f"{module} is in no room: add it to ROOMS with what it may import"
    allowed = (room, *ROOMS[room])
    # a package's own name comes with `from . import x` and says nothing: its __init__ re-exports
    packages = {PACKAGE} if module.startswith(PACKAGE) else set()
    wrong = {name for name in ours(MODULES[module]) - packages if not any(within(name, r) for r in allowed)}
    if module == "scripts.benchmark":
        wrong -= {
            "tests",
            "benchmarks.reference_encoder",
            "benchmarks.reference_training",
            "benchmarks.reference_evaluation",
        }
    assert not wrong, f"{module} may import {allowed}, not {sorted(wrong)}"


def test_the_model_package_stands_alone():
    """Nothing in segment_anything knows of data sets, reports or scripts, not even inside a function."""
    outside = {module.split(".")[0] for module in MODULES} - {PACKAGE}
    assert {"DataLoader", "report", "train", "test", "utils"} <= outside
    for module, path in MODULES.items():
        if within(module, PACKAGE):
            assert not {name.split(".")[0] for name in imports(path)} & outside, module


def test_there_is_no_circle():
    graph = {module: ours(path) & MODULES.keys() - {module} for module, path in MODULES.items()}
    while free := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for module in free:
            del graph[module]
    assert not graph, f"these import each other: {sorted(graph)}"


def test_entry_points_are_imported_by_tests_only():
    for module, path in MODULES.items():
        for entry in ("train", "test", "scripts", "app"):
            if not within(module, entry):
                assert not [name for name in ours(path) if within(name, entry)], f"{module} imports {entry}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_torchvision_is_imported_where_it_is_used(path):
    """Its wheel does not import beside a CPU-only torch: never when a module is imported."""
    assert not [name for name in imports(path, top_level=True) if within(name, "torchvision")]


@pytest.mark.parametrize("path", PRODUCT, ids=module_name)
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MAX_FILE_LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: length for name, length in lengths.items() if length >= MAX_FUNCTION_LINES}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_each_file_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_the_reader_of_imports_sees_them(tmp_path, monkeypatch):
    """The checks above can fail: relative, nested and conditional imports are found."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "segment_anything" / "training" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import os.path\nfrom . import losses\nfrom ..modeling import Sam\n"
        "if 1:\n    import torchvision\n"
        "def f():\n    from DataLoader import Batch\n    import torchvision.ops\n"
    )
    everything = set(imports(path))
    assert {
        "os.path",
        "sam_med2d.training.losses",
        "segment_anything.modeling.Sam",
        "sam_med2d.data.dataset.Batch",
        "torchvision.ops",
    } <= everything
    top = set(imports(path, top_level=True))
    assert "torchvision" in top and "DataLoader" not in top and "torchvision.ops" not in top
