"""Write docs/reference/flags.md: every command's flags, read from the argument parser of the command itself.

    python docs/make_flags_reference.py

Takes a few seconds. Run it after a change of a flag; tests/docs/test_flags_reference.py fails until then.
"""

import argparse
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "flags.md"
# command as it is typed: (file, guide)
COMMANDS = {
    "train.py": ("train.py", "../how-to/train.md"),
    "test.py": ("test.py", "../how-to/evaluate.md"),
    "scripts/predict.py": ("scripts/predict.py", "../how-to/predict.md"),
    "app/server.py": ("app/server.py", "../how-to/annotate.md"),
    "scripts/amg.py": ("scripts/amg.py", "../how-to/automatic-masks.md"),
    "scripts/prepare_dataset.py": ("scripts/prepare_dataset.py", "../how-to/add-a-dataset.md"),
    "scripts/check_dataset.py": ("scripts/check_dataset.py", "../how-to/add-a-dataset.md"),
    "scripts/export_annotations.py": ("scripts/export_annotations.py", "../how-to/exchange.md"),
    "scripts/export_dicom_seg.py": ("scripts/export_dicom_seg.py", "../how-to/exchange.md#dicom-segmentations"),
    "scripts/make_demo_data.py": ("scripts/make_demo_data.py", "../../data_demo/README.md"),
    "scripts/measure.py": ("scripts/measure.py", "../how-to/measure.md"),
    "scripts/compare.py": ("scripts/compare.py", "../how-to/compare.md"),
    "scripts/convert_checkpoint.py": ("scripts/convert_checkpoint.py", "checkpoints.md"),
    "scripts/download_checkpoint.py": ("scripts/download_checkpoint.py", "checkpoints.md"),
    "scripts/export_onnx_encoder_model.py": ("scripts/export_onnx_encoder_model.py", "../how-to/deploy.md"),
    "scripts/export_onnx_model.py": ("scripts/export_onnx_model.py", "../how-to/deploy.md"),
    "examples/SAM-Med2D-onnxruntime/main.py": ("examples/SAM-Med2D-onnxruntime/main.py", "../how-to/deploy.md"),
    "-m sam_med2d.doctor": ("sam_med2d/doctor.py", "../getting-started.md#is-everything-there"),
    "-m benchmarks": ("benchmarks/__main__.py", "../experiments/speed.md"),
}
HEAD = """\
# Flags

Every flag of every command, with its default. This page is made from the commands' own argument parsers by
`python docs/make_flags_reference.py`; `--help` prints the same. The guides explain how the flags are used.

- A flag whose value is BOOL can be written `--flag`, `--flag True` or `--flag False`.
- "-" as a default means that the flag is not set; what happens then stands in the last column.
- Exit codes: 0 all done, 1 done with findings or with files left out, 2 the command cannot work as given (one message
  says what to change), 130 interrupted (what is done is kept), 141 nothing reads the output any more.
"""


class ParserFound(Exception):
    """Carries an argument parser out of the function that builds it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def load(path: Path) -> ModuleType:
    """Import a script by its file, as Python runs it: its own folder and the repository are searched for modules."""
    spec = importlib.util.spec_from_file_location(f"flags_of_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(ROOT), str(path.parent), *sys.path]):
        spec.loader.exec_module(module)
    return module


def parser_of(command: str) -> argparse.ArgumentParser:
    """The argument parser that a command of COMMANDS builds; nothing is parsed, and the command does not run."""
    module = load(ROOT / COMMANDS[command][0])
    build: Callable[..., Any] = getattr(module, "parse_args", None) or module.main

    def stop(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise ParserFound(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            build([])
        except ParserFound as found:
            return found.parser
    raise AssertionError(f"{command} parses no flags")


def subcommands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a command's sub-commands, by name; empty for most commands."""
    kinds = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: sub for action in kinds for name, sub in action.choices.items()}


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """All spellings of all flags of a command, such as --sam_checkpoint, without those of its sub-commands."""
    return {flag for action in parser._actions for flag in action.option_strings}


# --- the page -----------------------------------------------------------------------------------------------------


def render() -> str:
    """The text of docs/reference/flags.md."""
    parts = [HEAD]
    for command, (_, guide) in COMMANDS.items():
        parser = parser_of(command)
        first = (parser.description or "").strip().split("\n\n")[0].replace("\n", " ")
        parts += [f"## python {command}\n", f"{cell(first)} [Guide]({guide}).\n"]
        parts += tables(parser)
        for name, sub in subcommands_of(parser).items():
            parts += [f"### {name}\n", *tables(sub)]
    return "\n".join(parts)


def tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A table of what belongs to no group of its own, arguments first, then one for each group."""
    groups: dict[str, list[str]] = {}
    for group in parser._action_groups:
        title = "" if group.title in ("options", "positional arguments") else cell(group.title)
        lines = [line_of(action, parser) for action in group._group_actions if is_shown(action)]
        groups[title] = groups.get(title, []) + lines
    for title, lines in groups.items():
        if lines:
            yield from [f"**{title}**\n"] * bool(title)
            yield "| flag | default | meaning |\n| --- | --- | --- |"
            yield "\n".join(lines) + "\n"


def is_shown(action: argparse.Action) -> bool:
    hidden = isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    return not hidden and action.help is not argparse.SUPPRESS


def line_of(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    names = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.metavar or action.dest}`"
    values = value_of(action)
    meaning = (action.help or "") % {**vars(action), "prog": parser.prog}
    return f"| {names}{f' {values}' if values else ''} | {default_of(action)} | {cell(meaning)} |"


def value_of(action: argparse.Action) -> str:
    """What is written after a flag: its choices, or the name of its value; empty for a switch or a bare argument."""
    if action.nargs == 0 or not action.option_strings:
        return ""
    if action.choices is not None:
        return " \\| ".join(f"`{choice}`" for choice in action.choices)
    names = action.metavar or (action.type.__name__ if action.type in (int, float) else action.dest).upper()
    several = " ..." if action.nargs in ("+", "*") else ""
    return f"{' '.join(names) if isinstance(names, tuple) else cell(names)}{several}"


def default_of(action: argparse.Action) -> str:
    """A default as it would be typed; paths of this repository are relative to it."""
    value = action.default
    if value is None or value == {} or value == [] or value is argparse.SUPPRESS:
        return "required" if action.required else "-"
    if action.nargs == 0:
        return "-"
    words = [str(word).removeprefix(f"{ROOT}/") for word in (value if isinstance(value, list | tuple) else [value])]
    return f"`{' '.join(words)}`"


def cell(text: str) -> str:
    """Text for a cell of a table: nothing in it is read as Markdown's own signs."""
    return re.sub(r"[|<*]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def main() -> None:
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(COMMANDS)} commands")


if __name__ == "__main__":
    main()
