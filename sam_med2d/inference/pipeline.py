"""Several photographs at the same time, each taken by one thread from its file to its results."""

import threading
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
    """`finish(encode(read(item)))` of many items by `threads` threads, `encoders` of which encode at a time.

    One encoder for a GPU, which the others feed; as many as threads where they are the cores that encode. What `read`
    and `encode` return is kept for at most `threads` items at a time.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        encode: Callable[[Read], Coded],
        finish: Callable[[Coded], Result],
        *,
        threads: int,
        encoders: int = 1,
    ) -> None:
        self._read, self._encode, self._finish = read, encode, finish
        self._threads, self._encoders = threads, encoders
        self._turns, self._times = threading.Semaphore(encoders), []
        self.seconds = 0.0

    @property
    def encoding(self) -> float:
        """Seconds in which an encoder was busy, the mean of all of them."""
        return sum(self._times) / self._encoders

    def run(self, items: Sequence[Item]) -> Iterator[Result]:
        """Results in order. An error of any stage ends the iteration, after what was begun."""
        start = time.perf_counter()
        begun: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(self._threads)
        try:
            for item in items:
                begun.append(pool.submit(self._whole, item))
                while begun and (len(begun) > 2 * self._threads or begun[0].done()):
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            self.seconds += time.perf_counter() - start

    def _whole(self, item: Item) -> Result:
        """All stages of an item."""
        return self._finish(self._timed(self._read(item)))

    def _timed(self, read: Read) -> Coded:
        with self._turns:
            start = time.perf_counter()
            try:
                return self._encode(read)
            finally:
                self._times.append(time.perf_counter() - start)
