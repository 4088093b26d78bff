"""Errors of the model package that a user can mend."""

from collections.abc import Iterable


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the keys and what to do."""


def listing(items: Iterable[str], limit: int = 8) -> str:
    """Items for a message.

    Args:
        items: all of them.
        limit: how many are shown.

    Returns:
        The first items, comma-separated, and how many more there are.
    """
    items = list(items)
    rest = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + rest
