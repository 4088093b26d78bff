"""Which prompt of each page is wanted, and how far its prediction is."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple

NEWER, CANCELLED = "A newer prompt came.", "The prompt was cancelled."
LATE = "A newer prompt came before this one, or it was cancelled."


class Dropped(Exception):
    """A prompt is not predicted: a newer one of the same page came, or the user has cancelled it."""


class Step(NamedTuple):
    """Where a prediction is."""

    kind: str  # of views, such as tiles
    done: int  # of them
    total: int


class Turn:
    """A prompt between its request and its answer."""

    def __init__(self, number: int) -> None:
        self.number = number  # of the page's prompts
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
    """The newest prompts of pages, which are known by a name and number their prompts; from several threads.

    Requests may arrive in another order than they were sent: the numbers tell which prompt is the newest.
    """

    def __init__(self) -> None:
        self._newest: dict[str, Turn] = {}
        self._lowest: dict[str, int] = {}  # number of each page's prompts that is still wanted
        self._lock = Lock()

    @contextmanager
    def take(self, page: str, number: int | None) -> Iterator[Turn]:
        """The turn of a prompt, which drops those before it of its page.

        Args:
            page: that asks; "" for a program that is no page, whose prompts drop no other.
            number: of the prompt; higher ones are newer. None: it is newer than what came before.

        Raises:
            Dropped: a newer prompt came before this one, or this one was cancelled.
        """
        with self._lock:
            turn = Turn(self._lowest.get(page, 0) if number is None else number)
            if page:
                self._begin(page, turn)
        try:
            yield turn
        finally:
            with self._lock:
                if self._newest.get(page) is turn:
                    del self._newest[page]

    def _begin(self, page: str, turn: Turn) -> None:
        if turn.number < self._lowest.get(page, 0):
            raise Dropped(LATE)
        if page in self._newest:
            self._newest[page].drop(NEWER)
        self._lowest[page], self._newest[page] = turn.number, turn

    def find(self, page: str, number: int) -> Turn | None:
        """The newest prompt of a page if it has this number and is not yet answered."""
        with self._lock:
            turn = self._newest.get(page)
        return turn if turn and turn.number == number else None

    def cancel(self, page: str, number: int) -> None:
        """Drop a prompt of a page, also one that has not yet arrived, and those before it."""
        with self._lock:
            self._lowest[page] = max(number + 1, self._lowest.get(page, 0))
            turn = self._newest.get(page)
            if turn and turn.number <= number:
                turn.drop(CANCELLED)
