"""Which prompt of each page is wanted, and how far its prediction is."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple


class Dropped(Exception):
    """A prompt is not predicted: a newer one of the same page came, or the user has cancelled it."""


class Step(NamedTuple):
    """Where a prediction is."""

    kind: str  # of views, such as tiles
    done: int  # of them
    total: int


class Turn:
    """A prompt between its request and its answer; `name` is what the page calls it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.step: Step | None = None  # None while it waits
        self._reason = ""  # why it is dropped

    def report(self, kind: str, done: int, total: int) -> None:
        """Note where the prediction is. Raises Dropped where it is not wanted any more."""
        self.step = Step(kind, done, total)
        self.check()

    def check(self) -> None:
        """Raise Dropped where the prompt is not wanted any more."""
        if self._reason:
            raise Dropped(self._reason)

    def drop(self, reason: str) -> None:
        """End the prediction at its next step, or before it begins."""
        self._reason = reason


class Turns:
    """The newest prompts of pages, which are known by a name; from several threads."""

    def __init__(self) -> None:
        self._newest: dict[str, Turn] = {}
        self._lock = Lock()

    @contextmanager
    def take(self, page: str, name: str) -> Iterator[Turn]:
        """The turn of a prompt, which drops the one before it of its page.

        Args:
            page: that asks; "" for a program that is no page, whose prompts drop no other.
            name: of the prompt.
        """
        turn = Turn(name)
        with self._lock:
            if page in self._newest:
                self._newest[page].drop("A newer prompt came.")
            if page:
                self._newest[page] = turn
        try:
            yield turn
        finally:
            with self._lock:
                if self._newest.get(page) is turn:
                    del self._newest[page]

    def find(self, page: str, name: str) -> Turn | None:
        """The newest prompt of a page if it has this name and is not yet answered."""
        with self._lock:
            turn = self._newest.get(page)
        return turn if turn and turn.name == name else None
