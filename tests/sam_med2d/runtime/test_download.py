"""Downloads from a server on this machine that breaks off, has no ranges, sends other bytes, or none."""

import errno
import hashlib
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sam_med2d.runtime import download
from sam_med2d.runtime.public_checkpoints import SOURCES, Source
from scripts import download_checkpoint
from tests.helpers.commands import run_command

CONTENT = bytes(range(256)) * 5000  # 1.28 MB, more than a block
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """What it sends, and what it was asked for. stop: breaks off after so many bytes."""

    content, etag, ranges, stop, kind, status = CONTENT, '"one"', True, None, "application/octet-stream", 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        first = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(server.content):
            self.send_error(416)
            return
        self.send_response(server.status if not first else 206)
        body = server.content[first:]
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, *more: str) -> int:
    return run_command(download_checkpoint, [server.url, "--out", str(folder), *more])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_is_fetched_once(server, tmp_path, capsys):
    assert fetch(server, tmp_path / "new", "--sha256", DIGEST) == 0
    assert (tmp_path / "new/weights.pth").read_bytes() == CONTENT and names(tmp_path / "new") == ["weights.pth"]
    assert f"sha256 {DIGEST} (as expected)" in capsys.readouterr().out
    assert fetch(server, tmp_path / "new", "--sha256", DIGEST) == 0
    assert server.asked == [None]


def test_a_hash_that_is_not_known_is_printed(server, tmp_path, capsys):
    assert fetch(server, tmp_path) == 0
    assert f"sha256 {DIGEST} (not known before: write it down" in capsys.readouterr().out


def test_an_interrupted_download_goes_on(server, tmp_path, capsys):
    """Twice: only what is missing is asked for."""
    for stop in (300_000, 500_000):
        server.stop = stop
        assert fetch(server, tmp_path, "--sha256", DIGEST) == 2
        assert "start again" in capsys.readouterr().err
        assert names(tmp_path) == ["weights.pth.part", "weights.pth.part.json"]
    assert (tmp_path / "weights.pth.part").read_bytes() == CONTENT[:800_000]
    server.stop = None
    assert fetch(server, tmp_path, "--sha256", DIGEST) == 0
    assert server.asked == [None, "bytes=300000-", "bytes=800000-"]
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT and names(tmp_path) == ["weights.pth"]


@pytest.mark.parametrize("change", ["no ranges", "another file", "no version"])
def test_a_download_that_cannot_go_on_starts_anew(server, tmp_path, change):
    server.stop = 300_000
    server.etag = None if change == "no version" else server.etag
    assert fetch(server, tmp_path) == 2
    server.stop, server.ranges = None, change != "no ranges"
    if change == "another file":
        server.content, server.etag = CONTENT[::-1], '"two"'
    assert fetch(server, tmp_path) == 0
    assert (tmp_path / "weights.pth").read_bytes() == server.content
    assert server.asked[1] == (None if change == "no version" else "bytes=300000-")


def test_a_part_that_is_too_long_starts_anew(server, tmp_path):
    server.stop = 300_000
    assert fetch(server, tmp_path) == 2
    server.stop = None
    (tmp_path / "weights.pth.part").write_bytes(CONTENT + b"more")
    assert fetch(server, tmp_path) == 0
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_wrong_hash_never_gets_the_name(server, tmp_path, capsys):
    assert fetch(server, tmp_path, "--sha256", "0" * 64) == 2
    assert f"the sha256 is {DIGEST}, not {'0' * 64}" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_a_present_file_with_another_hash_is_left_alone(server, tmp_path, capsys):
    (tmp_path / "weights.pth").write_bytes(b"mine")
    assert fetch(server, tmp_path, "--sha256", DIGEST) == 2
    assert "remove it first" in capsys.readouterr().err
    assert (tmp_path / "weights.pth").read_bytes() == b"mine" and not server.asked


def test_another_size_is_noticed_before_the_bytes_come(server, tmp_path, monkeypatch, capsys):
    source = Source("weights.pth", server.url, 99, DIGEST)
    monkeypatch.setitem(SOURCES, "tiny", source)
    assert run_command(download_checkpoint, ["tiny", "--out", str(tmp_path)]) == 2
    assert f"has {len(CONTENT)} bytes, not 99" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_a_whole_part_is_only_checked(server, tmp_path, monkeypatch):
    """Killed between the last byte and the renaming."""
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    monkeypatch.setitem(SOURCES, "tiny", Source("weights.pth", server.url, len(CONTENT), DIGEST))
    assert run_command(download_checkpoint, ["tiny", "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == ["weights.pth"] and not server.asked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": 404}, "the server answers 404"),
        ({"kind": "text/html"}, "answers with a web page"),
    ],
)
def test_answers_that_are_no_file(server, tmp_path, capsys, change, message):
    for name, value in change.items():
        setattr(server, name, value)
    assert fetch(server, tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error and server.url in error and names(tmp_path) == []


def test_a_server_that_is_not_there(server, tmp_path, capsys):
    url = server.url
    server.server_close()
    server.shutdown()
    assert run_command(download_checkpoint, [url, "--out", str(tmp_path)]) == 2
    assert "refused" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(server, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert fetch(server, tmp_path / "file/folder") == 2
    assert "cannot be written (Not a directory): choose another --out" in capsys.readouterr().err


def test_a_full_disk_keeps_what_came(server, tmp_path, monkeypatch, capsys):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "write_text", lambda *_: full(_))
        assert fetch(server, tmp_path) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert "weights.pth" not in names(tmp_path)
    assert fetch(server, tmp_path) == 0


@pytest.mark.parametrize("sha256", [None, DIGEST, "0" * 64])
def test_the_hub_package_is_used_where_it_is_installed(tmp_path, monkeypatch, capsys, sha256):
    def hf_hub_download(repository, file, local_dir):
        path = Path(local_dir) / file
        path.write_bytes(CONTENT)
        return str(path)

    hub, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    hub.hf_hub_download, errors.HfHubHTTPError = hf_hub_download, RuntimeError
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    flags = ["--sha256", sha256] if sha256 else []
    code = run_command(download_checkpoint, ["sam-med2d_b", "--hub", "--out", str(tmp_path), *flags])
    wrong = sha256 == "0" * 64
    assert code == (2 if wrong else 0) and names(tmp_path) == ([] if wrong else ["sam-med2d_b.pth"])
    printed = capsys.readouterr()
    assert DIGEST in (printed.err if wrong else printed.out)


def test_without_the_hub_package_the_message_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert run_command(download_checkpoint, ["sam-med2d_b", "--hub", "--out", str(tmp_path)]) == 2
    assert "pip install huggingface_hub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sam_vit_x"], "sam_vit_x: give one of sam_vit_b"),
        ([], "NAME: give one of"),
        (["sam_vit_b", "--sha256", "12"], "give 64 hexadecimal digits"),
        (["sam_vit_b", "--sha256", "0" * 64], "the known one of sam_vit_b_01ec64.pth is ec2df6"),
        (["sam_vit_b", "--hub"], "--hub"),
    ],
)
def test_flags_that_cannot_work(words, message, tmp_path, capsys):
    assert run_command(download_checkpoint, [*words, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err and names(tmp_path) == []


def test_the_table_says_what_is_not_known(capsys):
    assert run_command(download_checkpoint, ["--list"]) == 0
    printed = capsys.readouterr().out
    for source in SOURCES.values():
        assert source.url in printed and source.note and (source.sha256 or "sha256 unknown") in printed
        assert source.sha256 is None or (len(source.sha256) == 64 and source.size)
    assert "unknown bytes, sha256 unknown" in printed.partition("sam-med2d_b")[2]


@pytest.mark.parametrize("name", ["https://example.org/my weights.bin", "https://example.org/gewichte_für_augen.bin"])
def test_an_address_with_letters_that_none_has_is_named(name, tmp_path, capsys):
    assert run_command(download_checkpoint, [name, "--out", str(tmp_path)]) == 2
    assert f"{name}: an address has no space" in capsys.readouterr().err
