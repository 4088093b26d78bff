"""What a check of a data set found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: its kind (such as "cup_outside_disc"), the files concerned, and a sentence on what to do.

    The first file is the one to look at. A finding that is no fault (`warning`) does not fail the check.
    """

    kind: str
    files: tuple[str, ...]
    message: str
    warning: bool = False
