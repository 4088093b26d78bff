"""Errors of the model package that a user can mend."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the keys and what to do."""
