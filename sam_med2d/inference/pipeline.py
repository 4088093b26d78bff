"""Reading, encoding and finishing photographs at the same time: the next ones are read and the last ones written by
threads while this one is encoded."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Coded = TypeVar("Coded")
Result = TypeVar("Result")


class Pipeline(Generic[Item, Read, Coded, Result]):
    """`finish(encode(read(item)))` of many items, in order: `workers` threads read, as many finish, and the caller's
    own thread encodes.

    The results of `read` and `encode` alone are kept for at most 2 * workers + 4 items at a time.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        encode: Callable[[Read], Coded],
        finish: Callable[[Coded], Result],
        *,
        workers: int,
    ) -> None:
        self._read, self._encode, self._finish, self._workers = read, encode, finish, workers
        self.encoding = self.seconds = 0.0

    @property
    def busy(self) -> float:
        """Share of the time from the first file's opening to the last result in which `encode` ran."""
        return self.encoding / self.seconds if self.seconds else 0.0

    def run(self, items: Sequence[Item]) -> Iterator[Result]:
        """Results in order. An error of any stage ends the iteration, after what was begun."""
        start = time.perf_counter()
        waiting: deque[Future[Read]] = deque()
        leaving: deque[Future[Result]] = deque()
        readers, finishers = ThreadPoolExecutor(self._workers), ThreadPoolExecutor(self._workers)
        upcoming = iter(items)
        try:
            for _ in items:
                while len(waiting) <= self._workers and (item := next(upcoming, None)) is not None:
                    waiting.append(readers.submit(self._read, item))
                leaving.append(finishers.submit(self._finish, self._timed(waiting.popleft().result())))
                while leaving and (len(leaving) > self._workers + 1 or leaving[0].done()):
                    yield leaving.popleft().result()
            while leaving:
                yield leaving.popleft().result()
        finally:
            for pool in (readers, finishers):
                pool.shutdown(cancel_futures=True)
            self.seconds += time.perf_counter() - start

    def _timed(self, read: Read) -> Coded:
        start = time.perf_counter()
        try:
            return self._encode(read)
        finally:
            self.encoding += time.perf_counter() - start
