"""What a prediction from several views tells before each of them, and where it can be ended."""

from collections.abc import Callable

# Is given the kind of views, how many of them are done, and how many there are; what it raises ends the prediction.
Report = Callable[[str, int, int], None]


def no_report(kind: str, done: int, total: int) -> None:
    """Tell nobody."""
