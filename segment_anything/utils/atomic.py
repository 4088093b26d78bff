"""Files that appear whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give an OSError that names no file, as that of a full disk, this one's name."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    After an error or a crash `path` still holds what it held before. The temporary name keeps the suffix, so
    writers that choose a format by suffix work. Creates the parent folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is renamed to `path`, else it is removed.

    `path` is not there, or an empty folder. Creates the parent folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", dir=path.parent))
    try:
        with naming(path):
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            for folder, _, names in os.walk(temporary):
                for name in names:
                    sync(Path(folder, name))
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def leftovers(paths: Iterable[Path]) -> list[Path]:
    """Temporary files that `atomic_path` has left beside these paths as its process was killed, or still writes."""
    own: dict[Path, set[tuple[str, str]]] = {}
    for path in paths:
        own.setdefault(path.parent, set()).add((_prefix(path), path.suffix))
    hidden = ((file, names) for folder, names in own.items() for file in sorted(folder.glob(".*")))
    return [file for file, names in hidden if _named_by(file) in names and file.is_file() and not file.is_symlink()]


def _prefix(path: Path) -> str:
    """How the temporary name begins; 8 random characters and the suffix follow."""
    return f".{path.stem[:40]}."


def _named_by(file: Path) -> tuple[str, str] | None:
    """Prefix and suffix of a temporary name; None for another name."""
    found = re.fullmatch(r"(\..*\.)[a-z0-9_]{8}(\.[^.]*)?", file.name, re.DOTALL)
    return (found[1], found[2] or "") if found else None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Ask the operating system to put a file's bytes, or a folder's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
