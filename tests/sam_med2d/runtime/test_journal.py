"""Journal of an unfinished evaluation: written by several processes, torn, and read in order."""

import errno
import os

import pytest

from sam_med2d.runtime.journal import Journal


def test_lines_of_several_writers_come_in_order(tmp_path):
    journal = Journal(tmp_path / "journal")
    with journal.writer() as first, journal.writer() as second:
        for number in range(10):
            (second if number % 3 else first).add(number, {"value": number / 7})
    assert list(journal.values()) == [(number, {"value": number / 7}) for number in range(10)]
    assert journal.numbers() == set(range(10))


def test_a_line_that_was_cut_off_does_not_count_wherever_it_ends(tmp_path):
    journal = Journal(tmp_path)
    with journal.writer() as writer:
        writer.add(7, {"a": "x"})
        writer.add(12, {"b": "yy"})
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        expected = [(7, {"a": "x"})] * (end >= first) + [(12, {"b": "yy"})] * (end == len(whole))
        assert list(journal.values()) == expected and journal.numbers() == {number for number, _ in expected}


def test_nothing_written_is_nothing(tmp_path):
    assert Journal(tmp_path / "none").numbers() == set() and list(Journal(tmp_path / "none").values()) == []


def test_a_full_disk_is_named_and_keeps_what_was_written(tmp_path, monkeypatch):
    journal, write = Journal(tmp_path), os.write

    def fill_up(descriptor, data):
        if len(data) < 40:
            return write(descriptor, data)
        write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with journal.writer() as writer:
        monkeypatch.setattr(os, "write", fill_up)
        writer.add(0, "short")
        with pytest.raises(OSError, match=rf"No space left on device.*{tmp_path.name}.*jsonl"):
            writer.add(1, "long" * 20)
        monkeypatch.undo()
    assert list(journal.values()) == [(0, "short")]
