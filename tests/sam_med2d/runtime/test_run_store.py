"""The store of an interruptible run: settings, records, what is refused and what is tidied."""

import pytest

from sam_med2d.errors import UsageError
from sam_med2d.runtime.run_store import RunStore, changed_settings


def test_a_run_remembers_its_settings_until_it_is_removed(tmp_path):
    store = RunStore(tmp_path / "unfinished")
    assert store.settings() is None and store.journal("cases").is_empty
    store.begin({"--seed": 3})
    assert store.settings() == {"--seed": 3}
    with store.journal("cases").writer() as writer:
        writer.add(0, [])
    assert not RunStore(tmp_path / "unfinished").journal("cases").is_empty
    store.begin({"--seed": 4})
    assert store.settings() == {"--seed": 4} and not store.journal("cases").is_empty
    for _ in range(2):  # what is gone can be removed
        store.remove()
        assert not list(tmp_path.iterdir())


def test_a_record_in_a_file_of_its_own_is_replaced(tmp_path):
    store = RunStore(tmp_path / "state")
    with pytest.raises(FileNotFoundError):
        store.read("photographs", "left/eye")
    for record in ({"rows": [1]}, {"rows": []}):
        store.write("photographs", "left/eye", record)
        assert store.read("photographs", "left/eye") == record
    (tmp_path / "state/photographs/left/eye.json").write_text('{"rows": [')
    with pytest.raises(ValueError):
        store.read("photographs", "left/eye")


def test_other_settings_are_refused_with_both_values(tmp_path):
    store = RunStore(tmp_path)
    message = {"what": "--out x holds results with", "cure": "give another folder"}
    store.refuse_other({"--seed": 4}, **message)  # there is no run yet
    store.begin({"--seed": 3, "--zoom": True})
    store.refuse_other({"--seed": 3, "--zoom": True}, **message)
    with pytest.raises(UsageError, match=r"--out x holds results with other --seed \(3 there, 4 now\): give another"):
        store.refuse_other({"--seed": 4, "--zoom": True}, **message)


def test_temporary_files_go_and_results_stay(tmp_path):
    store = RunStore(tmp_path / "state")
    store.write("photographs", "a", {})
    masks = tmp_path / "masks" / "a"
    masks.mkdir(parents=True)
    for path in (tmp_path / "state/photographs/.b.x.json", masks / ".a_0.abc.png", masks / "a_0.png"):
        path.write_text("{}")
    store.tidy(tmp_path / "masks", tmp_path / "none")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.json", "a_0.png"]


def test_a_switch_that_a_run_did_not_know_was_off_in_it():
    old = {"--zoom": False, "--tiles": None}
    assert not changed_settings(old, old | {"--mirror": False})
    assert changed_settings(old, old | {"--mirror": True}) == ["--mirror (False there, True now)"]
    assert changed_settings({}, {"--point_num": 0}) == ["--point_num (None there, 0 now)"]
