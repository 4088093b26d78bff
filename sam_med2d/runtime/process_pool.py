"""A function applied to many items in several processes: in order, few at a time, whatever becomes of a process."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

import cv2

from sam_med2d.notes import REMARKS, Found

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK = 16  # items that a process takes at once


def in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, *, died: Callable[[Item], Result]
) -> Iterator[Result]:
    """Apply a function to items in several processes. Memory is bounded: 2 * workers + 1 chunks are on their way.

    Args:
        function: what each process applies; an error that it raises ends the iteration.
        items: read as they are needed.
        workers: number of processes.
        died: gives the result of an item whose process was killed, or crashed, when it worked on this item alone.

    Yields:
        The results, in the items' order.
    """
    with REMARKS.collected():
        yield from _in_processes(function, items, workers, died)


def _in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, died: Callable[[Item], Result]
) -> Iterator[Result]:
    """`in_processes`, without the notes being told."""
    cv2.setNumThreads(0)  # OpenCV's own threads do not survive a fork
    items = iter(items)
    pool = _pool(workers)
    pending: deque[tuple[list[Item], Future[tuple[list[Result], Found]]]] = deque()
    try:
        while True:
            while len(pending) <= 2 * workers and (chunk := list(islice(items, CHUNK))):
                pending.append((chunk, _submit(pool, function, chunk)))
            if not pending:
                return
            chunk, future = pending.popleft()
            try:
                results, remarks = future.result()
                REMARKS.merge(remarks)
            except BrokenProcessPool:
                pool.shutdown()
                results = [_alone(function, item, died) for item in chunk]
                pool = _pool(workers)
                pending = deque((others, _submit(pool, function, others)) for others, _ in pending)
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], chunk: list[Item]
) -> Future[tuple[list[Result], Found]]:
    """A chunk on its way to a process; a pool that has broken is found out when the results are taken."""
    try:
        return pool.submit(_apply, function, chunk)
    except BrokenProcessPool as error:
        future: Future[tuple[list[Result], Found]] = Future()
        future.set_exception(error)
        return future


def _apply(function: Callable[[Item], Result], chunk: list[Item]) -> tuple[list[Result], Found]:
    """The results of a chunk, in a worker, and what is to be told of its files."""
    REMARKS.take()  # those of the process that started this one
    with REMARKS.collected():
        return [function(item) for item in chunk], REMARKS.take()


def _alone(function: Callable[[Item], Result], item: Item, died: Callable[[Item], Result]) -> Result:
    """The result of one item, from a process of its own."""
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return died(item)


def _pool(workers: int) -> ProcessPoolExecutor:
    """New processes."""
    return ProcessPoolExecutor(workers, initializer=_begin_worker, initargs=(os.getpid(),))


def _begin_worker(parent: int) -> None:
    """A worker leaves the keyboard to its parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
