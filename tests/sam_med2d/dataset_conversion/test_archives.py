"""Archives of a source: unpacked once, wholly or not at all, and never outside their folder."""

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion import archives
from sam_med2d.dataset_conversion.archives import unpacked
from sam_med2d.errors import DataError

FILES = {"DRIVE/images/1.png": b"one", "DRIVE/images/2.png": b"two" * 1000, "DRIVE/read me.txt": b""}
TARS = {
    ".tar": None,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}


def zipped(members: dict[str, bytes] = FILES, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes] = FILES, *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def everything_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def contents(tree: Tree) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in tree.files.items()}


def refused(folder: Path, name: str, archive: bytes, message: str) -> str:
    """The message for an archive that is refused; nothing of it is left, and nothing appeared elsewhere."""
    (folder / name).write_bytes(archive)
    (folder / "deep" / "scratch").mkdir(parents=True, exist_ok=True)
    before = everything_below(folder)
    with pytest.raises(DataError, match=message) as caught:
        unpacked(folder / name, folder / "deep" / "scratch")
    assert str(folder / name) in str(caught.value)
    assert everything_below(folder) == before
    return str(caught.value)


# --- what is unpacked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".zip", ".ZIP", *TARS])
def test_an_archive_is_a_tree_with_its_name_in_front(tmp_path, suffix):
    archive = tmp_path / f"data set{suffix}"
    archive.write_bytes(zipped() if suffix.lower() == ".zip" else (TARS[suffix] or bytes)(tarred()))
    tree = unpacked(archive, tmp_path / "scratch")
    assert contents(tree) == {f"data set/{name}": content for name, content in FILES.items()}
    assert len(tree.match(r"images/(?P<id>\d)\.png")) == 2


def test_a_tar_is_read_whatever_its_compression_is_called(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(lzma.compress(tarred()))
    (tmp_path / "b.tgz").write_bytes(tarred())
    assert len(unpacked(tmp_path, tmp_path / ".scratch").match(r".*\.png")) == 4


def test_archives_in_folders_and_in_archives(tmp_path):
    source, scratch = tmp_path / "source", tmp_path / "scratch"
    (source / "part").mkdir(parents=True)
    (source / "part" / "outer.zip").write_bytes(zipped({"a/inner.tar.gz": gzip.compress(tarred({"x.png": b"x"}))}))
    (source / "train.zip").write_bytes(zipped({"images/1.png": b"1"}))
    (source / "test.zip").write_bytes(zipped({"images/1.png": b"other"}))
    tree = unpacked(source, scratch)
    found = {name: content for name, content in contents(tree).items() if name.endswith(".png")}
    assert found == {"part/outer/a/inner/x.png": b"x", "train/images/1.png": b"1", "test/images/1.png": b"other"}
    assert len(tree.folders) == 5 and tree.folders[0] == source


def test_two_archives_of_one_stem_stay_apart(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"x.png": b"zip"}))
    (tmp_path / "A.tar").write_bytes(tarred({"x.png": b"tar"}))
    tree = unpacked(tmp_path, tmp_path / ".scratch")
    assert tree.files["a.zip/x.png"].read_bytes() == b"zip" and tree.files["A.tar/x.png"].read_bytes() == b"tar"


def test_an_archive_beside_its_unpacked_folder_is_left_alone(tmp_path):
    (tmp_path / "DRIVE.zip").write_bytes(b"not even an archive")
    (tmp_path / "other.7z").write_bytes(b"")
    for folder in ("DRIVE", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(b"1")
    assert unpacked(tmp_path, tmp_path / ".scratch").folders == (tmp_path,)


def test_an_archive_too_deep_is_named(tmp_path):
    one = zipped({"x.png": b"x"})
    three = zipped({"two.zip": zipped({"one.zip": one})})
    refusal = "one.zip is an archive in an archive in an archive: unpack it by hand"
    (tmp_path / "three.zip").write_bytes(three)
    with pytest.raises(DataError, match=refusal):
        unpacked(tmp_path / "three.zip", tmp_path / ".scratch")
    with pytest.raises(DataError, match=refusal):
        unpacked(tmp_path, tmp_path / ".scratch")


def test_a_gzipped_picture_is_no_archive(tmp_path):
    (tmp_path / "im0001.ppm.gz").write_bytes(gzip.compress(b"P6 1 1 255 abc"))
    assert list(unpacked(tmp_path, tmp_path / ".scratch").files) == ["im0001.ppm.gz"]


def test_a_json_stands_for_itself_and_its_folder(tmp_path):
    for name in ("a.json", "b.json", "photos/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert set(unpacked(tmp_path / "b.json", tmp_path / ".scratch").files) == {"b.json", "photos/1.jpg"}


# --- once, and wholly -----------------------------------------------------------------------------------------


def test_an_archive_is_unpacked_once_and_again_when_it_changes(tmp_path):
    archive, scratch = tmp_path / "a.zip", tmp_path / "scratch"
    archive.write_bytes(zipped({"x.png": b"first"}))
    path = unpacked(archive, scratch).files["a/x.png"]
    path.write_bytes(b"not touched again")
    assert contents(unpacked(archive, scratch)) == {"a/x.png": b"not touched again"}
    about = archive.stat()
    os.utime(archive, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert contents(unpacked(archive, scratch)) == {"a/x.png": b"first"}


def test_an_interruption_leaves_nothing_that_counts_as_whole(tmp_path, monkeypatch):
    archive, scratch = tmp_path / "a.zip", tmp_path / "scratch"
    archive.write_bytes(zipped())
    write, done = archives._Unpacking._write, []

    def interrupted(self, *args):
        if done:
            raise KeyboardInterrupt
        done.append(write(self, *args))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archives._Unpacking, "_write", interrupted)
        unpacked(archive, scratch)
    assert done and not list(scratch.iterdir())
    # a power cut cannot tidy up
    whole = unpacked(archive, tmp_path / "other").folders[0]
    (scratch / f"{whole.name}.part" / "a").mkdir(parents=True)
    (scratch / f"{whole.name}.part" / "a" / "half.png").write_bytes(b"")
    assert set(unpacked(archive, scratch).files) == {f"a/{name}" for name in FILES}
    assert len(list(scratch.iterdir())) == 1


# --- what is refused ------------------------------------------------------------------------------------------

OUTSIDE = [
    "../evil.png",
    "a/../../evil.png",
    "/tmp/evil.png",
    "..\\evil.png",
    "C:\\evil.png",
    "c:evil.png",
    "\\\\x\\e",
    "a/..",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_members_that_lead_outside(tmp_path, name):
    for suffix, pack in ((".zip", zipped), (".tar", tarred)):
        archive = pack({"fine.png": b"1", name: b"evil"})
        message = refused(tmp_path, f"a{suffix}", archive, "leaves the archive's folder")
        assert repr(name) in message
    assert not Path("/tmp/evil.png").exists()


def test_back_slashes_are_separators(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"images\\": b"", "images\\1.png": b"1"}))
    assert contents(unpacked(tmp_path / "a.zip", tmp_path / "scratch")) == {"a/images/1.png": b"1"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(tmp_path, kind):
    archive = tarred({"fine.png": b"1"}, special("out", kind, "/etc/passwd"))
    refused(tmp_path, "a.tar.gz", gzip.compress(archive), "member 'out': it is a link")


def test_a_file_through_a_link(tmp_path):
    """The classic: a link to a folder elsewhere, then a file in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(special("here", tarfile.SYMTYPE, str(tmp_path)))
        info = tarfile.TarInfo("here/evil.png")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    refused(tmp_path, "a.tar", buffer.getvalue(), "it is a link")


def test_a_link_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("out.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path, "a.zip", buffer.getvalue(), "member 'out.png': it is a link")


def test_encrypted_and_oddly_compressed_members(tmp_path):
    archive = bytearray(zipped({"a.png": b"secret"}))
    archive[archive.find(b"PK\1\2") + 8] |= 1  # the flag, in the central directory
    refused(tmp_path, "a.zip", bytes(archive), "'a.png': it is encrypted: unpack")
    refused(tmp_path, "b.zip", zipped(method=zipfile.ZIP_LZMA), "compression is not read here: unpack")


@pytest.mark.parametrize(
    "names", [("a.png", "A.PNG"), ("a.png", "./a.png"), ("x/a.png", "X\\a.png"), ("a", "A/b.png"), ("a/b.png", "a"),
              ("\u00e9.png", "e\u0301.png")]
)  # fmt: skip
def test_names_that_collide(tmp_path, names):
    for suffix, pack in ((".zip", zipped), (".tar", tarred)):
        refused(tmp_path, f"c{suffix}", pack(dict.fromkeys(names, b"1")), "occurs twice")


def test_bombs(tmp_path, monkeypatch):
    bomb = {"0.bmp": bytes(3 << 20), "1.bmp": bytes(3 << 20)}
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    refused(tmp_path, "a.zip", zipped(bomb), "'1.bmp': the archive unpacks to more than 500 times")
    refused(tmp_path, "a.tar.xz", lzma.compress(tarred(bomb)), "more than 500 times its own size")
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 30)
    monkeypatch.setattr(archives, "MAX_BYTES", 5 << 20)
    refused(tmp_path, "a.zip", zipped(bomb), "'1.bmp': the source unpacks to more than")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    refused(tmp_path, "a.tar", tarred(dict.fromkeys("ab", b"")), "'b': the source has more than 1 members")


def test_the_limit_counts_all_archives_of_a_source(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 5 << 20)
    for name in "ab":
        (tmp_path / f"{name}.zip").write_bytes(zipped({"0.bmp": bytes(3 << 20)}))
    with pytest.raises(DataError, match=r"b\.zip, member '0\.bmp': the source"):
        unpacked(tmp_path, tmp_path / ".scratch")


def test_sizes_in_headers_are_not_believed(tmp_path, monkeypatch):
    """A header that says 5 bytes before megabytes: read as far as it says, and the checksum tells."""
    archive = zipped({"a.bmp": bytes(3 << 20)})
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = archive.find(signature) + offset
        archive = archive[:at] + (5).to_bytes(4, "little") + archive[at + 4 :]
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    refused(tmp_path, "a.zip", archive, "not a whole archive|500 times")


def test_a_tar_header_that_would_fill_the_memory(tmp_path):
    """A description ("pax header") of 64 MB zeros, small when compressed; and a size below zero."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 64 << 20
    archive = info.tobuf(tarfile.USTAR_FORMAT) + bytes(64 << 20) + tarred()
    refused(tmp_path, "a.tar.bz2", bz2.compress(archive), "description is longer than any")
    info = tarfile.TarInfo("a.png")
    info.size = -1024
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    refused(tmp_path, "b.tar", bytes(header) + bytes(1024), "not where it should be")


def test_every_truncation_is_found(tmp_path):
    for suffix, archive in {".zip": zipped(), ".tar": tarred(), ".tar.gz": gzip.compress(tarred())}.items():
        step = max(1, len(archive) // 25)
        # a tar ends with zeros, of which the first two blocks count
        end = len(archive.rstrip(b"\0")) if suffix == ".tar" else len(archive)
        for length in [*range(0, end, step), *([512, 1024] if suffix == ".tar" else [end - 1])]:
            refused(tmp_path, f"a{suffix}", archive[:length], "a whole archive|cannot be unpacked")


def test_damage_is_found(tmp_path):
    good = gzip.compress(tarred({"a.png": os.urandom(3000), "b.png": os.urandom(3000)}), mtime=0)
    for at in range(20, len(good), 300):
        refused(tmp_path, "a.tgz", good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :], r"a\.tgz")
    plain = bytearray(tarred({"a.png": bytes(512), "b.png": bytes(512)}))
    plain[1024 + 10] ^= 1  # the second header
    refused(tmp_path, "a.tar", bytes(plain), "it ends too early")


@pytest.mark.parametrize("name", ["a.7z", "a.rar", "a.zip.001", "a.part1.rar"])
def test_other_archives_are_unpacked_by_hand(tmp_path, name):
    assert "unpack it by hand" in refused(tmp_path, name, b"Rar!", "is no archive that is unpacked here")


def test_a_web_page_instead_of_an_archive(tmp_path):
    for suffix in (".zip", ".tar.gz"):
        refused(tmp_path, f"a{suffix}", b"<!DOCTYPE html><title>Log in</title>" * 30, "not a whole archive .*download")
    refused(tmp_path, "a.html", b"<!DOCTYPE html>", "give a folder")


def test_a_name_longer_than_the_disk_takes(tmp_path):
    refused(tmp_path, "a.zip", zipped({"x" * 300: b"1"}), "cannot be unpacked")


# --- a folder with links --------------------------------------------------------------------------------------


def test_linked_folders_are_read_and_loops_are_named(tmp_path):
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    for folder in (source, elsewhere):
        folder.mkdir()
    (elsewhere / "1.png").write_bytes(b"1")
    (source / "photos").symlink_to(elsewhere)
    assert list(unpacked(source, tmp_path / "scratch").files) == ["photos/1.png"]
    (source / "photos_again").symlink_to(elsewhere)
    assert list(unpacked(source, tmp_path / "scratch").files) == ["photos/1.png"]
    for target in (source, tmp_path, elsewhere):
        (source / "inside").mkdir()
        (source / "inside/back").symlink_to(target)
        if target == elsewhere:
            assert len(unpacked(source, tmp_path / "scratch").files) == 1
        else:
            with pytest.raises(DataError, match=r"back is a link to .* in which it lies itself: remove the link"):
                unpacked(source, tmp_path / "scratch")
        (source / "inside/back").unlink()
        (source / "inside").rmdir()
    (elsewhere / "back").symlink_to(elsewhere)
    with pytest.raises(DataError, match="in which it lies itself"):
        unpacked(source, tmp_path / "scratch")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Its files would be missing without a word. The rights of a folder do not hold for root, who may run the tests."""
    (tmp_path / "source/locked").mkdir(parents=True)
    (tmp_path / "source/lost+found").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith(("locked", "lost+found")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"source/locked cannot be read \(Permission denied\)"):
        unpacked(tmp_path / "source", tmp_path / "scratch")
    (tmp_path / "source/locked").rmdir()
    assert unpacked(tmp_path / "source", tmp_path / "scratch").files == {}
