"""Many cases of one check in one test: all that fail are listed."""

from collections.abc import Callable, Iterable

import pytest


def check_all(check: Callable[..., None], cases: Iterable[tuple]) -> None:
    """Call `check` with each case's values; fail once, with every case that fails and what it said."""
    failures = []
    for case in cases:
        try:
            check(*case)
        except (Exception, SystemExit, pytest.fail.Exception) as error:
            failures.append(f"{case}: {type(error).__name__}: {error}")
    assert not failures, f"{len(failures)} cases fail:\n" + "\n".join(failures)
