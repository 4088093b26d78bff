"""SIGINT and SIGTERM as a request to stop."""

import signal


class StopSignals:
    """A context in which SIGINT and SIGTERM only set `requested`, so that a run can stop where it is whole."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self.requested = True
