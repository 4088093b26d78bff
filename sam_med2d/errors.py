"""Errors that a user can mend: each message names the file or flag and what to do."""


class UsageError(ValueError):
    """Flags or surroundings that cannot work; the message names the flag, its value and what to do."""
