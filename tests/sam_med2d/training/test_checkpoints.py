"""Checkpoint folders and their links: whole whenever the run is killed, pruned, and named when damaged."""

import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sam_med2d.training.checkpoints import load_state, save_checkpoint
from segment_anything.checkpoint import CheckpointError
from tests.helpers.endless_writers import kill_while, save, save_again_and_again
from tests.helpers.paths import entries


def saved_step(folder: Path) -> int:
    """The step of a checkpoint, which every number in it must agree with."""
    state, weights = load_state(folder), load_file(folder / "model.safetensors")
    tensors = [*weights.values(), state["moment"]]
    assert len(tensors) == 3 and all((tensor == state["step"]).all() for tensor in tensors)
    return state["step"]


def test_links_point_to_whole_checkpoints_whenever_the_run_is_killed(tmp_path):
    run, chance, before = tmp_path / "run", random.Random(1), 0
    for _ in range(8):
        moved_on = lambda before=before: _last(run) > before  # noqa: E731
        kill_while(save_again_and_again, run, ready=moved_on, delay=chance.uniform(0, 0.04))
        last, best = (saved_step(run / link) for link in ("last", "best"))
        assert last > before and 1 <= best <= last + 1
        before = last
    final = save(run, before + 1, ["last"])
    linked = {link: os.readlink(run / link) for link in ("last", "best")}
    assert linked["last"] == final.name
    assert entries(run) == {"last", "best", *linked.values()}  # nor do killed runs leave anything behind


def _last(run: Path) -> int:
    link = run / "last"
    return int(os.readlink(link)[5:12]) if link.is_symlink() else 0


def test_unlinked_checkpoints_are_removed_and_others_kept(tmp_path):
    run = tmp_path / "models" / "run"
    for step in (1, 2, 3, 4):
        save(run, step, ["last", "best"] if step == 2 else ["last"])
    (run / "notes").mkdir()
    assert save(run, 5, ["last"]) == run / "step-0000005"
    assert entries(run) == {"last", "best", "notes", "step-0000002", "step-0000005"}
    assert (saved_step(run / "last"), saved_step(run / "best")) == (5, 2)


def test_the_same_step_again_removes_nothing_before_it_is_replaced(tmp_path):
    first = save(tmp_path, 1, ["last", "best"])
    second = save(tmp_path, 1, ["last"])
    assert first != second and saved_step(first) == saved_step(second) == 1
    assert (tmp_path / "last").resolve() == second and (tmp_path / "best").resolve() == first


def test_a_failed_save_leaves_the_run_as_it_was(tmp_path):
    save(tmp_path, 1, ["last", "best"])
    before = entries(tmp_path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(tmp_path, "step-0000002", {"weight": torch.ones(2)}, {}, {"step": lambda: None}, ["last"])
    assert entries(tmp_path) == before and saved_step(tmp_path / "last") == 1


def test_leftovers_of_a_killed_run_do_not_keep_checkpoints_alive(tmp_path):
    save(tmp_path, 1, ["last"])
    (tmp_path / ".last.12345").symlink_to("step-0000001")
    (tmp_path / ".step-0000002.12345.tmp").mkdir()
    save(tmp_path, 2, ["last"])
    assert entries(tmp_path) == {"last", "step-0000002"}


def test_what_a_user_puts_beside_the_checkpoints_stays(tmp_path):
    strangers = {"step-1-notes", "step-0000001-good", ".step-notes.tmp", ".profile"}
    for name in strangers - {".profile"}:
        (tmp_path / name).mkdir()
    (tmp_path / ".profile").symlink_to("elsewhere")
    for step in (1, 2):
        save(tmp_path, step, ["last"])
    assert entries(tmp_path) == {"last", "step-0000002", *strangers}


@pytest.mark.parametrize("keep", [0, 1, 2, 9])
def test_the_newest_checkpoints_without_a_link_are_kept_on_request(tmp_path, keep):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, ["last"], keep=keep)
    assert entries(tmp_path) == {"last"} | {f"step-{step:07d}" for step in range(max(1, 4 - keep), 5)}


def test_a_run_killed_between_its_links_finds_its_best_again(tmp_path, monkeypatch):
    save(tmp_path, 1, ["last", "best"])
    replaced, original = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (replaced.append(Path(b).name), original(a, b)))
    save(tmp_path, 2, ["last", "best"])
    assert [name for name in replaced if name in ("last", "best")] == ["best", "last"]


@pytest.mark.parametrize("damage", [b"", b"text instead", None], ids=["empty", "other", "cut"])
def test_damaged_state_is_named(tmp_path, damage):
    folder = save(tmp_path, 1, ["last"])
    path = folder / "state.pt"
    path.write_bytes(path.read_bytes()[:-1000] if damage is None else damage)
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged"):
        load_state(folder)


def test_a_state_with_one_changed_bit_is_named(tmp_path):
    folder = save(tmp_path, 1, ["last"])
    content = bytearray((folder / "state.pt").read_bytes())
    place = content.rindex(b"step")  # a name in the pickle, which stays readable
    content[place] ^= 1
    (folder / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged"):
        load_state(folder)


def test_a_file_in_the_place_of_a_checkpoint_folder_is_named(tmp_path):
    folder = save(tmp_path, 1, ["last"])
    with pytest.raises(CheckpointError, match="give a checkpoint folder"):
        load_state(folder / "state.pt")


@pytest.mark.parametrize("content", [{"weight": torch.ones(2)}, [1, 2], {"flags": 3}])
def test_a_file_that_is_no_state_is_named(tmp_path, content):
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt is not the state of a training run"):
        load_state(tmp_path)


def test_missing_state_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no state\.pt"):
        load_state(tmp_path)
