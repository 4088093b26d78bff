"""Remarks on files: told once a run, together where they are collected."""

from sam_med2d.notes import Notes


def told(caplog) -> list[str]:
    return [record.message for record in caplog.records]


def test_a_remark_is_told_at_once_and_its_kind_once(caplog):
    notes = Notes()
    notes.add("odd", "b.png", "12")
    notes.add("odd", "a.png", "13")
    notes.add("even", "a.png", "14")
    assert told(caplog) == ["note: odd: b.png (12)", "note: even: a.png (14)"]
    notes.forget()
    notes.add("odd", "a.png", "13")
    assert told(caplog)[2:] == ["note: odd: a.png (13)"]


def test_collected_remarks_are_told_together_each_file_once(caplog):
    notes = Notes()
    with notes.collected(), notes.collected():
        for file in ("b.png", "a.png", "b.png"):
            notes.add("odd", file, f"in {file}")
        assert not told(caplog)
    assert told(caplog) == ["note: odd: a.png (in a.png) and 1 more"]


def test_another_process_hands_its_remarks_over(caplog):
    ours, theirs = Notes(), Notes()
    with ours.collected():
        with theirs.collected():
            theirs.add("odd", "a.png", "12")
            ours.merge(theirs.take())
        ours.add("odd", "b.png", "12")
    assert told(caplog) == ["note: odd: a.png (12) and 1 more"]
