"""What the pages name exists: files, headings, commands, flags, targets of make, names to import."""

import ast
import importlib
import re
from functools import cache

import pytest

from docs.make_flags_reference import COMMANDS, flags_of, parser_of, subcommands_of
from tests.helpers.pages import PAGES, anchors, code_lines, commands, inline_code, known_files, links, read, script_of
from tests.helpers.paths import ROOT

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
NOT_OURS = {"--flag", "--nproc_per_node", "--signal"}  # flags of other programs
EXAMPLE = "examples/SAM-Med2D-onnxruntime"


@cache
def flags(command: str) -> set[str]:
    """The flags of a command, those of its sub-commands among them."""
    parser = parser_of(command)
    return flags_of(parser).union(*map(flags_of, subcommands_of(parser).values()))


def command_named(script: str) -> str | None:
    """The command of COMMANDS that a script's name stands for; a bare main.py is that of the example."""
    script = {"main.py": f"{EXAMPLE}/main.py"}.get(script, script)
    short = [command for command in COMMANDS if command == script or command.endswith(f"/{script}")]
    return short[0] if short else None


def problems_of(script: str, words: list[str]) -> list[str]:
    """What is wrong with a command line: a script or flags that do not exist."""
    command = command_named(script)
    if command is None:
        return [] if (ROOT / script).is_file() else [f"there is no {script}"]
    given = {word.partition("=")[0] for word in words if re.match("--[a-z]", word)}
    return [f"{script} has no {flag}" for flag in sorted(given - flags(command))]


def test_the_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/reference/flags.md"} <= set(NAMES)


def test_links_lead_somewhere():
    wrong = []
    for page, name in zip(PAGES, NAMES, strict=True):
        for link in links(read(page)):
            path, _, anchor = link.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                wrong.append(f"{name}: {link}: there is no such file")
            elif anchor and anchor not in anchors(read(file)):
                wrong.append(f"{name}: {link}: there is no such heading")
    assert not wrong, "\n".join(wrong)


def test_commands_exist():
    wrong, seen = [], set()
    for page, name in zip(PAGES, NAMES, strict=True):
        for program, words in commands(read(page)):
            if program == "make":
                wrong += [f"{name}: make {word}" for word in words if "=" not in word and word not in make_targets()]
            elif found := script_of(words):
                wrong += [f"{name}: {problem}" for problem in problems_of(*found)]
                seen.add(command_named(found[0]))
    assert not wrong, "\n".join(wrong)
    assert len(seen) > 10


def test_flags_exist():
    """Also those that are named in prose, of whatever command."""
    every = NOT_OURS.union(*map(flags, COMMANDS))
    wrong = []
    for page, name in zip(PAGES, NAMES, strict=True):
        found = {flag for code in inline_code(read(page)) for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)}
        wrong += [f"{name}: no command has {flag}" for flag in sorted(found - every)]
    assert not wrong, "\n".join(wrong)


def test_modules_exist():
    """Files of ours that a page names with their folder, and folders of the package."""
    files, wrong = known_files(), []
    for page, name in zip(PAGES, NAMES, strict=True):
        for code in inline_code(read(page)):
            for path in re.findall(r"(?<![\w/.])(?:[\w-]+/)+[\w-]+\.py\b", code):
                wrong += [f"{name}: {path}"] * (path not in files)
            for path in re.findall(r"^(?:sam_med2d|segment_anything|app|benchmarks|tests)/[\w/-]*$", code):
                wrong += [f"{name}: {path}"] * (not (ROOT / path).exists())
    assert not wrong, "\n".join(wrong)


def test_the_tree_of_files_is_whole():
    """README's tree names what exists, and all commands and packages."""
    named, folders = set(), []
    for line in read(ROOT / "README.md").split("## Files")[1].split("## ")[0].splitlines():
        if entry := re.match(r"    ( *)(\S+)", line):
            folders = [*folders[: len(entry[1]) // 2], entry[2]]
            named.add("".join(folders).rstrip("/"))
    packages = [path.parent for path in (ROOT / "sam_med2d").glob("*/__init__.py")]
    there = {*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py"), *packages}
    missing = {path.relative_to(ROOT).as_posix() for path in there} - named
    assert not missing
    assert not [path for path in named if not (ROOT / path).exists()]


def test_troubleshooting_quotes_real_messages(said):
    """What its tables quote is in the code; "..." stands for a file, flag or value."""
    sections = read(ROOT / "docs" / "troubleshooting.md").split("\n## ")[1:]
    lines = [line for section in sections if not section.startswith("Installation") for line in section.splitlines()]
    quoted = [
        code
        for line in lines
        if line.startswith("| `") and not line.startswith("| `amg.py`")
        for code in re.findall("`([^`]+)`", line.split(" | ")[0])
    ]
    assert len(quoted) > 40
    missing = [code for code in quoted for part in code.split("...") if part.strip() not in said]
    assert not missing, "\n".join(missing)


@pytest.fixture(scope="module")
def said() -> str:
    """All strings of the product's code, a line each; values that are filled in are "..."."""
    found = []
    for file in known_files():
        if not file.startswith(("tests/", "docs/", "benchmarks/")):
            for node in ast.walk(ast.parse(read(ROOT / file))):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_python_examples_import_what_exists():
    """Blocks of Python are Python, and import names that there are."""
    wrong, imported = [], 0
    for page, name in zip(PAGES, NAMES, strict=True):
        for block in re.findall(r"^```python\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("segment_anything", "sam_med2d"):
                    module = importlib.import_module(node.module)
                    imported += 1
                    wrong += [f"{name}: {node.module}.{a.name}" for a in node.names if not hasattr(module, a.name)]
    assert not wrong, "\n".join(wrong)
    assert imported


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


# --- the checks can fail ------------------------------------------------------------------------------------------

PAGE = """\
# A page: with `code` & more

    $ python train.py --data_path A \\
        --epochs 3  # a comment --none

See [this](other.md#part), `python test.py --prompts box`, and `make test`.

```python
from segment_anything import sam_model_registry
```

```
torchrun --nproc_per_node 2 train.py --resume X && python -m benchmarks encoder --threads 1
```

## A page: with `code` & more
"""


def test_pages_are_taken_apart():
    assert links(PAGE) == ["other.md#part"]
    assert anchors(PAGE) == {"a-page-with-code--more", "a-page-with-code--more-1"}
    found = list(commands(PAGE))
    assert ("python", ["train.py", "--data_path", "A", "--epochs", "3"]) in found
    assert ("python", ["test.py", "--prompts", "box"]) in found and ("make", ["test"]) in found
    assert any(
        program == "torchrun" and script_of(words) == ("train.py", ["--resume", "X"]) for program, words in found
    )
    assert script_of(["-m", "benchmarks", "encoder"]) == ("-m benchmarks", ["encoder"])
    assert script_of(["-c", "import torch"]) is None
    assert "from segment_anything import sam_model_registry" in list(code_lines(PAGE))


def test_a_script_is_known_by_its_name():
    assert command_named("main.py") == f"{EXAMPLE}/main.py" and command_named("predict.py") == "scripts/predict.py"
    assert command_named("pretrain_mae.py") is None


def test_wrong_commands_are_found():
    assert problems_of("train.py", ["--data_path", "A", "--epochs=3", "--no_such_flag"]) == [
        "train.py has no --no_such_flag"
    ]
    assert problems_of("scripts/no_such.py", []) == ["there is no scripts/no_such.py"]
