"""The Markdown pages of the repository, taken apart: links, headings, commands and the names in code."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from docs.make_flags_reference import COMMANDS
from tests.helpers.paths import ROOT

CODE = ("segment_anything", "sam_med2d", "app", "scripts", "benchmarks", "examples", "docs", "tests")
FOLDERS = (".", "docs", "data_demo", "pretrain_model", "findings")
PAGES = sorted({path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.md" if folder != "." else "*.md")})
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(
    r"(?:^|\s)(?:\S*/)?python3? (?P<python>.*)$|(?:^|\s)torchrun (?P<torchrun>.*)$|^make (?P<make>.*)$"
)


def without_code(text: str) -> str:
    """A page without its blocks of code and without `code`."""
    lines = FENCE.sub("", text).splitlines()
    return re.sub(r"`[^`]*`", "", "\n".join(line for line in lines if not line.startswith("    ")))


def links(text: str) -> list[str]:
    """Targets of a page's links and pictures that lie in this repository."""
    found = LINK.findall(re.sub(r"`[^`]*`", "code", FENCE.sub("", text)))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: dict[str, None] = {}
    for line in FENCE.sub("", text).splitlines():
        if heading := re.match(r"#{1,6} (.*)", line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
            names = (slug if number == 0 else f"{slug}-{number}" for number in range(100))
            found[next(name for name in names if name not in found)] = None
    return set(found)


def code_lines(text: str) -> Iterator[str]:
    """Lines of a page's code, those that end in a backslash joined with the next."""
    blocks = "\n".join(match[0].partition("\n")[2].rpartition("\n")[0] for match in FENCE.finditer(text))
    indented = "\n".join(line for line in FENCE.sub("", text).splitlines() if line.startswith("    "))
    yield from re.sub(r"\\\n\s*", " ", f"{blocks}\n{indented}").splitlines()


def inline_code(text: str) -> list[str]:
    """What stands between single back quotes in a page's prose."""
    prose = "\n".join(line for line in FENCE.sub("", text).splitlines() if not line.startswith("    "))
    return [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose)]


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """(program, its words) of each command of this project that a page's code or prose has.

    program: "python", "torchrun" or "make"; words: what follows it, without comments, up to a pipe or "&&".
    """
    for line in [*code_lines(text), *inline_code(text)]:
        line = line.strip().removeprefix("$ ")
        if not (found := PROGRAM.search(line)):
            continue
        program, rest = next((name, words) for name, words in found.groupdict().items() if words is not None)
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:  # prose, not a command
            continue
        end = next((i for i, word in enumerate(words) if word in ("&&", "|", ";", ">")), len(words))
        yield program, words[:end]


def script_of(words: list[str]) -> tuple[str, list[str]] | None:
    """(command of make_flags_reference.COMMANDS, its words); None where no script of ours is run."""
    if words[:1] == ["-m"] and " ".join(words[:2]) in COMMANDS:
        return " ".join(words[:2]), words[2:]
    for i, word in enumerate(words):
        if word.endswith(".py"):
            return word, words[i + 1 :]
    return None


def known_files() -> set[str]:
    """Paths of the repository's Python files, relative to it."""
    files = [*ROOT.glob("*.py"), *(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix() for file in files}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
