"""The direction of imports, and the size of files and functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.paths import ROOT

FOLDERS = ("segment_anything", "sam_med2d", "scripts", "app", "benchmarks", "examples", "tests")
FILES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
PRODUCT = [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

MODEL, OURS = "segment_anything", "sam_med2d"
# Packages by layer: each imports itself and the layers before it, and nothing else of this project.
LAYERS = (
    (MODEL,),
    (f"{OURS}.errors", f"{OURS}.choices", f"{OURS}.notes"),
    (f"{OURS}.visualization", f"{OURS}.runtime", f"{OURS}.data"),
    (f"{OURS}.prompts", f"{OURS}.dataset_conversion", f"{OURS}.dataset_checks"),
    (f"{OURS}.dicom_seg",),
    (f"{OURS}.evaluation", f"{OURS}.inference", f"{OURS}.annotation_export"),
    (f"{OURS}.training", f"{OURS}.export", f"{OURS}.measurement", f"{OURS}.doctor"),
    ("utils", "metrics"),  # SAM-Med2D's names, which its DataLoader imports
    ("app", "benchmarks", "scripts", "examples", "train", "test", "DataLoader"),
)
# Rooms of the model package, and what else of it they may import.
MODEL_ROOMS = {
    f"{MODEL}.choices": (),
    f"{MODEL}.errors": (),
    f"{MODEL}.modeling": (),
    f"{MODEL}.utils": (f"{MODEL}.modeling",),
    f"{MODEL}.preprocessing": (f"{MODEL}.choices", f"{MODEL}.modeling", f"{MODEL}.utils"),
}
HELPERS = "tests.helpers"
AT_ROOT = {"train", "test", "DataLoader", "metrics", "utils"}


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


def layer_of(module: str) -> tuple[int, str]:
    """The number of a module's layer, and its package. Raises AssertionError where no layer holds it."""
    found = [(i, name) for i, row in enumerate(LAYERS) for name in row if within(module, name)]
    assert found, f"{module} is in no layer: add its package to LAYERS"
    return found[0]


def ours(path: Path) -> set[str]:
    """The modules of this project that a file imports."""
    known = {module_name(other) for other in FILES}
    return {name for name in imports(path) if name in known}


MODULES = {module_name(path): path for path in PRODUCT}


def test_imports_go_one_way():
    wrong = []
    for module in MODULES.keys() - {OURS}:
        own_layer, own_package = layer_of(module)
        for name in ours(MODULES[module]) - {OURS}:
            layer, package = layer_of(name)
            if package != own_package and layer >= own_layer:
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_root_holds_what_the_card_names():
    assert {path.stem for path in ROOT.glob("*.py")} == AT_ROOT


def test_the_model_package_stands_alone():
    """Nothing in segment_anything knows of data sets, reports or scripts, not even inside a function."""
    outside = {module.split(".")[0] for module in MODULES} - {MODEL}
    assert {*AT_ROOT, OURS} <= outside
    for module, path in MODULES.items():
        if within(module, MODEL):
            assert not {name.split(".")[0] for name in imports(path)} & outside, module


def test_rooms_of_the_model_package():
    wrong = []
    for room, others in MODEL_ROOMS.items():
        for module in (module for module in MODULES if within(module, room)):
            names = ours(MODULES[module]) - {MODEL}
            wrong += [f"{module} imports {n}" for n in names if not any(within(n, r) for r in (room, *others))]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle():
    graph = {module: ours(path) & MODULES.keys() - {module} for module, path in MODULES.items()}
    while free := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for module in free:
            del graph[module]
    assert not graph, f"these import each other: {sorted(graph)}"


def test_torchvision_is_imported_where_it_is_used():
    """Its wheel does not import beside a CPU-only torch: never when a module is imported."""
    assert not [p for p in FILES if any(within(name, "torchvision") for name in imports(p, top_level=True))]


def test_files_and_functions_stay_short():
    wrong = []
    for path in PRODUCT:
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        wrong += [f"{path}: {lines} lines"] if lines >= MAX_FILE_LINES else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                wrong += [f"{path}: {node.name}: {length} lines"] if length >= MAX_FUNCTION_LINES else []
    assert not wrong, "\n".join(wrong)


def test_each_file_says_what_it_is():
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    assert not [path for path, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))]


def test_the_reader_of_imports_sees_them(tmp_path, monkeypatch):
    """The checks above can fail: relative, nested and conditional imports are found."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "sam_med2d" / "training" / "x.py"
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
        "sam_med2d.modeling.Sam",
        "DataLoader.Batch",
        "torchvision.ops",
    } <= everything
    top = set(imports(path, top_level=True))
    assert "torchvision" in top and "DataLoader" not in top and "torchvision.ops" not in top


def test_tests_share_helpers_alone():
    """What several tests use lies in tests/helpers, never in a test module or in conftest."""
    wrong = []
    for path in (path for path in FILES if path.relative_to(ROOT).parts[0] == "tests"):
        wrong += [f"{path}: {n}" for n in ours(path) if within(n, "tests") and n != "tests" and not within(n, HELPERS)]
    assert not wrong, "\n".join(wrong)


def test_a_module_defines_each_function_and_class_once():
    """A second definition of a name silently replaces the first one, also for the code above it."""
    wrong = []
    for path in FILES:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        wrong += [f"{path}: {name}" for name in sorted(set(names)) if names.count(name) > 1]
    assert not wrong, "\n".join(wrong)
