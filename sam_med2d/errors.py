"""Errors that a user can mend: each message names the file or flag and what to do."""

from collections.abc import Sequence


class UsageError(ValueError):
    """Flags or surroundings that cannot work; the message names the flag, its value and what to do."""


MAX_PROBLEMS_SHOWN = 200


class DataError(ValueError):
    """Data that cannot be used; the message lists every problem with its file."""


class MissingError(DataError):
    """A file that cannot be opened; the message names it."""


class UnreadableError(DataError):
    """A file that is there and is not a whole picture; the message names it."""


class UnclearError(DataError):
    """A photograph that can be read in more than one way; the message names it and how to say which."""


class ValuesError(DataError):
    """A mask with more than one meaning; the message names it and how to say which."""


class EmptyMaskError(DataError):
    """A mask without foreground; the message names it."""


class SizeError(DataError):
    """A mask of another size than its photograph; the message names both."""


def raise_problems(problems: Sequence[str], advice: str = "") -> None:
    """Raise a DataError that lists the problems and ends with the advice, if there are any."""
    if problems:
        shown = problems[:MAX_PROBLEMS_SHOWN]
        rest = len(problems) - len(shown)
        tail = [f"... and {rest} more"] if rest else []
        tail += [advice] if advice else []
        raise DataError("\n  ".join([f"{len(problems)} problem(s) in the data:", *shown, *tail]))
