"""docs/reference/flags.md says what the commands' parsers say, and can tell when it does not."""

import argparse

import pytest

from docs import make_flags_reference
from docs.make_flags_reference import COMMANDS, PAGE, ROOT, default_of, flags_of, line_of, parser_of, render, value_of


@pytest.fixture(scope="module")
def page():
    """What the page should be; all commands are imported for it, once."""
    return render()


def test_the_page_is_up_to_date(page):
    assert PAGE.read_text(encoding="utf-8") == page, "run: python docs/make_flags_reference.py"


def test_each_command_is_on_the_page():
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").glob("*.py")}
    scripts |= {"train.py", "test.py", "app/server.py", "benchmarks/__main__.py"}
    assert scripts <= {file for file, _ in COMMANDS.values()}


def test_parsers_are_found_without_running_a_command():
    parser = parser_of("train.py")
    assert {"--data_path", "--sam_checkpoint", "--resume", "-h"} <= flags_of(parser)
    assert "encoder" in make_flags_reference.subcommands_of(parser_of("-m benchmarks"))


def test_a_line_of_the_table():
    parser = argparse.ArgumentParser(prog="x")
    pair = parser.add_argument("--pair", "--two", nargs=2, type=int, metavar=("A", "B"), default=[1, 2], help="a|b <c>")
    assert line_of(pair, parser) == r"| `--pair`, `--two` A B | `1 2` | a\|b \<c> |"
    choice = parser.add_argument("--choice", choices=("one", "two"), required=True)
    assert (value_of(choice), default_of(choice)) == ("`one` \\| `two`", "required")
    place = parser.add_argument("--place", default=ROOT / "data_demo", help="of %(prog)s, %(default)s is 5 %%")
    assert default_of(place) == "`data_demo`" and line_of(place, parser).endswith("data_demo is 5 % |")
    switch = parser.add_argument("--switch", action="store_true")
    assert (value_of(switch), default_of(switch)) == ("", "-")
