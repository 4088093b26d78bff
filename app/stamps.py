"""Whether a file is still the one that was read."""

from pathlib import Path
from typing import NamedTuple

from segment_anything.utils.digest import digest

Stamp = tuple[int, int, int]
AT_ONCE = 2**20  # bytes that are read together


class Version(NamedTuple):
    """A file as it was read: its stamp, and the digest of its bytes where that cannot tell."""

    stamp: Stamp
    digest: str


def stamp_of(path: Path) -> Stamp | None:
    """What changes whenever a file does: its time, its number on the disk and its size; None without a file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino, about.st_size


def version_of(path: Path) -> Version | None:
    """The version of a file, all of which is read: also one of the same time and size is told; None without a file."""
    stamp = stamp_of(path)
    if stamp is None:
        return None
    with path.open("rb") as file:
        return Version(stamp, digest(iter(lambda: file.read(AT_ONCE), b"")))
