"""Records, less the files that could not be read."""

from pathlib import Path

from sam_med2d.data.records import MaskRef, Record
from sam_med2d.evaluation.readable_records import ReadableRecords


def record(number: int) -> Record:
    names = [f"{number}_{structure}_000.png" for structure in ("disc", "cup")]
    return Record(Path(f"{number}.jpg"), tuple(MaskRef(Path(name), name, name.split("_")[1]) for name in names))


def test_without_an_unreadable_file_nothing_is_left_out():
    readable = ReadableRecords([record(0), record(1)])
    assert readable.numbers() == [0, 1] and readable[1] == record(1)
    assert readable.reasons() == readable.failures() == []


def test_unreadable_files_are_left_out_and_named():
    readable = ReadableRecords([record(0), record(1), record(2)])
    readable.unreadable = {0: {"0.jpg": "0.jpg is cut off"}, 2: {"2_cup_000.png": "2_cup_000.png is damaged"}}
    assert readable.numbers() == [1, 2]
    assert [mask.structure for mask in readable[2].masks] == ["disc"]
    assert readable.reasons() == ["0.jpg is cut off", "2_cup_000.png is damaged"]
    assert readable.failures() == [
        "0.jpg is cut off; not evaluated: 0_disc_000.png, 0_cup_000.png",
        "2_cup_000.png is damaged; not evaluated: 2_cup_000.png",
    ]
