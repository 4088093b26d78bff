"""Many items in several processes."""

import os
import signal
from collections.abc import Iterator

import pytest

from sam_med2d.notes import REMARKS
from sam_med2d.runtime.process_pool import CHUNK, in_processes


def square(item: int) -> int:
    return item * item


def fragile(item: int) -> int:
    """Kills its process on two of the items."""
    if item in (5, 77):
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def failing(item: int) -> int:
    if item == 30:
        raise ValueError("thirty")
    return item


def remarking(item: int) -> int:
    REMARKS.add("odd", f"file {item:02d}", "seen")
    return item


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, CHUNK, 5 * CHUNK + 3])
def test_results_come_in_order(workers, count):
    assert list(in_processes(square, range(count), workers, died=abs)) == [i * i for i in range(count)]


def test_an_item_that_kills_its_process_is_told_and_the_others_are_done():
    found = list(in_processes(fragile, range(120), 2, died=lambda item: -item))
    assert found == [-i if i in (5, 77) else i for i in range(120)]


def test_errors_of_the_function_are_raised():
    with pytest.raises(ValueError, match="thirty"):
        list(in_processes(failing, range(60), 2, died=abs))


def test_few_items_are_taken_ahead():
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for i in range(10_000):
            taken += 1
            yield i

    results = in_processes(square, items(), 1, died=abs)
    next(results)
    assert taken <= 4 * CHUNK
    results.close()


def test_remarks_of_the_processes_are_told_together(caplog):
    REMARKS.forget()
    list(in_processes(remarking, range(3, 2 * CHUNK), 2, died=abs))
    assert [record.message for record in caplog.records] == [f"note: odd: file 03 (seen) and {2 * CHUNK - 4} more"]
