"""A source as a person has it -> the tree of its files: archives are unpacked, and what they hold is not trusted.

Nothing an archive says of itself counts: bytes and members are counted while they are written, places are checked,
and only plain files and folders are made.
"""

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from sam_med2d.data.file_tree import Tree
from sam_med2d.errors import DataError
from segment_anything.utils.digest import digest

ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
FOREIGN = re.compile(r"\.(7z|rar|z\d\d|part\d+\.rar|(zip|7z|rar|tar|tar\.gz|tgz)\.\d{2,3})$", re.IGNORECASE)
DEPTH = 2  # an archive, and archives in it
MAX_BYTES = 500 << 30  # of a source, unpacked; and what is free on the disk
RESERVE = 1 << 30  # stays free on the disk
FREE_BYTES = 1 << 30  # of an archive, unpacked; beyond, the ratio counts
MAX_RATIO = 500  # of bytes unpacked to the archive's own: drawings have up to some hundreds, photographs about 1
MAX_MEMBERS = 500_000  # of a source
MAX_HEADER = 16 << 20  # bytes that describe one member of a tar archive
CHUNK = 1 << 20
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
SINGLE = (".json", ".xml", ".csv")  # files that may be given as a source
BROKEN = (
    EOFError, IndexError, KeyError, NotImplementedError, OverflowError, RuntimeError, ValueError,
    lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def unpacked(source: Path, scratch: Path) -> Tree:
    """Files of a folder, or of an archive; archives in it, and archives in those, are unpacked below `scratch`.

    A file's name in the tree begins with its archive's path without the suffix. An archive beside a folder of its
    name is taken for unpacked; one that was wholly unpacked before, of the same size and time, is not again. A file of
    annotations (SINGLE) stands for itself and the photographs in its folder.

    Args:
        source: a folder, an archive or a file of annotations.
        scratch: a folder for what is unpacked; made where it is missing.

    Raises:
        DataError: names an archive that cannot be unpacked, and its member.
    """
    if source.suffix.lower() in SINGLE and source.is_file():
        tree = Tree(source.parent)
        tree.files = {name: path for name, path in tree.files.items() if path.suffix.lower() not in SINGLE}
        tree.files[source.name] = source
        tree.scratch = scratch
        return tree
    budget = _Budget.of(scratch)
    if source.is_dir():
        trees, folders = [Tree(source)], [source]
    else:
        folders = [_unpacked(source, _stem(source.name), scratch, budget)]
        trees = [Tree(*folders)]
    for _ in range(DEPTH if source.is_dir() else DEPTH - 1):
        found = [place_and_path for tree in trees for place_and_path in _archives(tree)]
        inner = [_unpacked(path, place, scratch, budget) for place, path in found]
        trees, folders = [Tree(folder) for folder in inner], folders + inner
    if deeper := [path for tree in trees for _, path in _archives(tree)]:
        raise DataError(f"{deeper[0]} is an archive in an archive in an archive: unpack it by hand")
    tree = Tree(*folders)
    tree.scratch = scratch
    return tree


def _archives(tree: Tree) -> list[tuple[str, Path]]:
    """Archives of a tree that have no unpacked folder beside them, each with its place in the tree.

    The place is the archive's path without the suffix; with it where two archives would have the same.
    """
    unpacked_by_hand = {str(parent) for name in tree.files for parent in Path(name).parents}
    found = {name: path for name, path in tree.files.items() if ARCHIVE.search(name) or FOREIGN.search(name)}
    stems = Counter(_stem(name).casefold() for name in found)
    return [
        (_stem(name) if stems[_stem(name).casefold()] == 1 else name, path)
        for name, path in found.items()
        if _stem(name) not in unpacked_by_hand
    ]


def _stem(name: str) -> str:
    return FOREIGN.sub("", ARCHIVE.sub("", name))


@dataclass(slots=True)
class _Budget:
    """Bytes and members that a source may still unpack to."""

    bytes: int
    members: int

    @classmethod
    def of(cls, scratch: Path) -> "_Budget":
        there = next(folder for folder in (scratch, *scratch.absolute().parents) if folder.exists())
        return cls(min(MAX_BYTES, shutil.disk_usage(there).free - RESERVE), MAX_MEMBERS)


def _unpacked(archive: Path, place: str, scratch: Path, budget: _Budget) -> Path:
    """The folder below scratch that holds, at this place, what an archive holds."""
    if not ARCHIVE.search(archive.name):
        kind = "unpack it by hand, and give the folder" if FOREIGN.search(archive.name) else "give a folder"
        raise DataError(
            f"{archive} is no archive that is unpacked here (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz): {kind}"
        )
    with _problems(archive):
        about = archive.stat()
    key = digest(f"{place}|{about.st_size}|{about.st_mtime_ns}".encode(), size=12)
    whole, part = scratch / key, scratch / f"{key}.part"
    if whole.is_dir():
        return whole
    shutil.rmtree(part, ignore_errors=True)
    try:
        with _problems(archive):
            part.mkdir(parents=True)
            _Unpacking(archive, part / place, budget).run()
            part.rename(whole)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return whole


@contextmanager
def _problems(archive: Path) -> Iterator[None]:
    """Errors of reading an archive or writing its members, as a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error
    except BROKEN as error:
        raise DataError(f"{archive} is not a whole archive ({error}): download or copy it again") from error


class _Unpacking:
    """One archive on its way to a folder."""

    def __init__(self, archive: Path, folder: Path, budget: _Budget) -> None:
        self.archive, self.folder, self.budget = archive, folder, budget
        self.allowed = max(FREE_BYTES, MAX_RATIO * archive.stat().st_size)
        self.files: set[str] = set()
        self.folders: set[str] = set()

    def run(self) -> None:
        self.folder.mkdir(parents=True)
        members = _zip_members if self.archive.name.lower().endswith(".zip") else _tar_members
        bar = tqdm(desc=f"unpacking {self.archive.name}", unit="file", leave=False)
        with bar, self.archive.open("rb") as file:
            for member, opened in members(file, self._refuse):
                bar.update()
                self.budget.members -= 1
                if self.budget.members < 0:
                    self._refuse(member, f"the source has more than {MAX_MEMBERS} members")
                place = self._place(member, opened is not None)
                if opened is not None:
                    self._write(member, opened, self.folder / place)

    def _refuse(self, member: str, why: str) -> None:
        raise DataError(f"{self.archive}, member {member!r}: {why}; nothing of it is kept")

    def _place(self, member: str, is_file: bool) -> Path:
        """A member's path in the folder, checked. Names that differ in case alone are equal."""
        words = member.replace("\\", "/").split("/")
        if words[0] == "" or ".." in words or "\0" in member or any(re.match("[A-Za-z]:", word) for word in words):
            self._refuse(member, "its path leaves the archive's folder")
        parts = [word for word in words if word not in ("", ".")]
        keys = [unicodedata.normalize("NFC", "/".join(parts[: i + 1])).casefold() for i in range(len(parts))]
        parents = keys[:-1] if is_file else keys
        clash = self.files.intersection(parents) or (is_file and keys[-1:] and keys[-1] in self.files | self.folders)
        if clash or (is_file and not parts):
            self._refuse(member, "its name occurs twice, or differs in upper and lower case alone")
        self.folders.update(parents)
        if is_file:
            self.files.add(keys[-1])
        return Path(*parts)

    def _write(self, member: str, opened: Callable[[], IO[bytes]], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened() as source, path.open("xb") as target:
            while chunk := source.read(CHUNK):
                self.budget.bytes -= len(chunk)
                self.allowed -= len(chunk)
                if self.allowed < 0:
                    self._refuse(member, f"the archive unpacks to more than {MAX_RATIO} times its own size")
                if self.budget.bytes < 0:
                    self._refuse(member, f"the source unpacks to more than {MAX_BYTES >> 30} GB, or than the disk has")
                target.write(chunk)


Refuse = Callable[[str, str], None]
Members = Iterator[tuple[str, Callable[[], IO[bytes]] | None]]


def _zip_members(file: IO[bytes], refuse: Refuse) -> Members:
    """Names of a zip archive's members and how each is opened, None for a folder."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                refuse(info.filename, "it is a link or a device, no plain file")
            if info.flag_bits & 1:
                refuse(info.filename, "it is encrypted: unpack the archive by hand, and give the folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                refuse(info.filename, "its compression is not read here: unpack the archive by hand")
            folder = info.is_dir() or kind == stat.S_IFDIR or info.filename.endswith("\\")
            yield info.filename, None if folder else lambda info=info: archive.open(info)


def _tar_members(file: IO[bytes], refuse: Refuse) -> Members:
    """The same of a tar archive of any compression."""
    head = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in COMPRESSED.items() if head.startswith(magic)), None)
    stream = _Careful(opener(file) if opener else file)
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        while member := stream.header(archive.next):
            if member.issparse() or not (member.isreg() or member.isdir()):
                refuse(member.name, "it is a link, a device or a file with holes, no plain file")
            yield member.name, (lambda member=member: archive.extractfile(member)) if member.isreg() else None
            archive.members.clear()
        # tarfile takes a damaged header for the end
        if stream.last.strip(b"\0") or len(stream.last) != tarfile.BLOCKSIZE:
            raise EOFError("it ends too early")
        stream.left = MAX_HEADER
        while stream.read(CHUNK):  # to the end, where the checksum is
            pass


class _Careful:
    """A tar archive's bytes, from first to last.

    A member's description has a limit, and skipping does: false ones would fill the memory or take forever.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.left: float = MAX_HEADER
        self.last = b""
        self.tell = stream.tell

    def header(self, following: Callable[[], tarfile.TarInfo | None]) -> tarfile.TarInfo | None:
        """The next member, None at the end."""
        self.left = MAX_HEADER
        member = following()
        self.left = float("inf")
        return member

    def read(self, size: int) -> bytes:
        self.last = self.stream.read(int(min(size, self.left + 1)))
        self.left -= len(self.last)
        if self.left < 0:
            raise tarfile.ReadError("a member's description is longer than any")
        return self.last

    def seek(self, position: int) -> None:
        if not 0 <= position - self.tell() <= tarfile.BLOCKSIZE:
            raise tarfile.ReadError("a member is not where it should be")
        self.stream.seek(position)
