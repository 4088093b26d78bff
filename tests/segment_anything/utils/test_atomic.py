"""Files that are whole or absent, also when the writer is killed."""

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segment_anything.utils import atomic
from segment_anything.utils.atomic import atomic_folder, atomic_path, leftovers, naming, write_text
from tests.helpers.endless_writers import BIG, kill_while, write_again_and_again, write_slowly
from tests.helpers.paths import entries


def test_new_content_replaces_the_old(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    for text in ("first", "second, Größe"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text and entries(path.parent) == {"file.txt"}
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_full_disk_is_named(tmp_path):
    """/dev/full takes nothing; what is raised says which file was to be written, and its kind stays."""
    file = tmp_path / "file.txt"
    with pytest.raises(OSError, match=r"No space left on device: .*file\.txt") as caught, naming(file):
        Path("/dev/full").write_text("text")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match=r"No space left on device: .*file\.txt"), atomic_path(file) as path:
        path.unlink()
        path.symlink_to("/dev/full")
        path.write_text("text")
    assert entries(tmp_path) == set()
    with pytest.raises(FileNotFoundError, match="absent"), naming(tmp_path):
        (tmp_path / "absent").read_text()


def test_temporary_name_is_beside_the_file_and_keeps_its_suffix(tmp_path):
    with atomic_path(tmp_path / f"{'long' * 50}.png") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png" and temporary.name.startswith(".")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path, existed, error):
    path = tmp_path / "file.bin"
    if existed:
        path.write_bytes(b"old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error
    assert entries(tmp_path) == ({"file.bin"} if existed else set())
    assert not existed or path.read_bytes() == b"old"


def test_a_writer_that_removes_its_file_is_told(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), atomic_path(path) as temporary:
        temporary.unlink()
    assert path.read_bytes() == b"old" and entries(tmp_path) == {"file.bin"}


def half_written(path: Path) -> bool:
    return any(other != path and other.stat().st_size for other in path.parent.iterdir())


@pytest.mark.parametrize("delay", [0, 0.02])
def test_killed_in_the_middle_the_old_content_stays(tmp_path, delay):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    kill_while(write_slowly, path, ready=lambda: half_written(path), delay=delay)
    assert path.read_bytes() == b"old"


def test_killed_at_any_moment_the_content_is_whole(tmp_path):
    path, chance = tmp_path / "file.bin", random.Random(0)
    for _ in range(5):
        path.unlink(missing_ok=True)
        kill_while(write_again_and_again, path, ready=path.exists, delay=chance.uniform(0, 0.05))
        content = path.read_bytes()
        assert len(content) == BIG and content == content[:1] * BIG


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "new/made") as folder:
        (folder / "inner").mkdir()
        (folder / "inner/file").write_text("text")
        assert entries(tmp_path / "new") == {folder.name}
    assert (tmp_path / "new/made/inner/file").read_text() == "text" and entries(tmp_path / "new") == {"made"}
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "new/made").stat().st_mode & 0o777 == 0o777 & ~umask
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "other") as folder:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "file").write_text("text")
    assert entries(tmp_path) == {"new", "empty"} and entries(tmp_path / "empty") == {"file"}


KILLED = """
import os, pathlib, runpy, signal, sys
atomic = runpy.run_path(sys.argv[1])
with atomic["atomic_path"](sys.argv[2]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["eye_vessel_000.png", "index.csv", "plain", "a" * 60 + ".json"])
def test_what_a_killed_writer_leaves_is_found_and_nothing_else(tmp_path, name):
    path, others = (
        tmp_path / name,
        [".eye_vessel_000.png", ".other_vessel_000.abcdefgh.png", ".eye_vessel_000.old_one.png"],
    )
    for other in (
        *others,
        "eye_vessel_000.abcdefgh.png",
        ".eye_vessel_000.ABCDEFGH.png",
        ".eye_vessel_000.abcdefgh.csv",
    ):
        (tmp_path / other).touch()
    (tmp_path / ".eye_vessel_000.abcdefg1.png").mkdir()
    (tmp_path / ".eye_vessel_000.abcdefg2.png").symlink_to("eye_vessel_000.abcdefgh.png")
    before = set(tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", KILLED, atomic.__file__, str(path)])
    assert done.returncode == -signal.SIGKILL
    (left,) = set(tmp_path.iterdir()) - before
    assert left.read_text() == "half" and not path.exists()
    assert leftovers([path, tmp_path / "missing/eye.png"]) == [left]
