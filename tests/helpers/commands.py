"""Commands as a shell runs them, in this process."""

from collections.abc import Sequence
from types import ModuleType

from sam_med2d.runtime import cli


def run_command(script: ModuleType, words: Sequence[object]) -> int:
    """The exit code of a script with these words."""
    return cli.run_main(script.main, script.parse_args([str(word) for word in words]))
