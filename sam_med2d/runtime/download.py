"""Files of a known hash from a web server: resumed where they were interrupted, under their name only when whole."""

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segment_anything.utils.atomic import sync, write_text

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte
META = "https://dl.fbaipublicfiles.com/segment_anything/"


class DownloadError(ValueError):
    """A file that cannot be had; the message names it and says what to do."""


@dataclass(frozen=True)
class Source:
    """A public file: its address, or its repository on the HuggingFace hub; size in bytes and sha256 where known.

    note: what the size and the hash rest on.
    """

    file: str
    url: str
    size: int | None = None
    sha256: str | None = None
    note: str = ""
    hub: str = ""


def _sam(file: str, size: int, sha256: str) -> Source:
    note = "as several independent projects record them; Meta publishes the file's name alone"
    return Source(file, META + file, size, sha256, note)


SOURCES = {
    "sam_vit_b": _sam(
        "sam_vit_b_01ec64.pth", 375042383, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "sam_vit_l": _sam(
        "sam_vit_l_0b3195.pth", 1249524607, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "sam_vit_h": _sam(
        "sam_vit_h_4b8939.pth", 2564550879, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
    "sam-med2d_b": Source(
        "sam-med2d_b.pth",
        "https://huggingface.co/OpenGVLab/SAM-Med2D/resolve/main/sam-med2d_b.pth",
        note="no hash is published, and this address is not verified; the authors' own link is on Google Drive",
        hub="OpenGVLab/SAM-Med2D",
    ),
}


def download(source: Source, folder: Path) -> tuple[Path, str]:
    """Fetch a file to `folder`, unless it is there; its path and sha256. Raises DownloadError.

    What came so far stays in `<file>.part`, with the server's mark of its version beside it, and the next call goes on
    with it. A file with another hash than the known one is removed.
    """
    target = folder / source.file
    part, mark = target.with_name(f"{source.file}.part"), target.with_name(f"{source.file}.part.json")
    if target.is_file():
        found = sha256_of(target)
        if source.sha256 not in (None, found):
            raise DownloadError(f"{target} is there and has the sha256 {found}, not {source.sha256}: remove it first.")
        return target, found
    with _explained(source.url, target):
        folder.mkdir(parents=True, exist_ok=True)
        if not (source.size and part.is_file() and part.stat().st_size == source.size):
            _fetch(source, part, mark)
        found = sha256_of(part)
        if source.sha256 not in (None, found):
            part.unlink()
            mark.unlink(missing_ok=True)
            raise DownloadError(f"{source.url}: the sha256 is {found}, not {source.sha256}: removed; try again later.")
        sync(part)
        os.replace(part, target)
        mark.unlink(missing_ok=True)
        sync(folder)
    return target, found


def _fetch(source: Source, part: Path, mark: Path) -> None:
    """Append to `part` what it lacks, or start it anew where the server cannot or the file there is another."""
    with _open(source.url, part, mark) as answer:
        begin = _begin(answer, part)
        total = begin + int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
        if source.size and total and total != source.size:
            raise DownloadError(f"{source.url} has {total} bytes, not {source.size}: it is another file.")
        write_text(mark, json.dumps({"url": source.url, "version": _version(answer)}) + "\n")
        with part.open("r+b" if begin else "wb") as file, _bar(source, total, begin) as bar:
            file.seek(begin)
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
            file.flush()
            got = file.tell()
    if got != (total or source.size or got):
        raise DownloadError(f"{source.url} ended after {got} of {total} bytes: start again, it goes on from there.")


def _open(url: str, part: Path, mark: Path) -> Any:
    """The server's answer, from the end of `part` on if its version is still the same there."""
    headers = {"User-Agent": "sam-med2d-fundus", "Accept-Encoding": "identity"}
    begun = part.stat().st_size if part.is_file() else 0
    version = _known_version(mark, url) if begun else None
    if version:
        headers |= {"Range": f"bytes={begun}-", "If-Range": version}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is as long as the file, or longer
            raise
        part.unlink()
        return _open(url, part, mark)


def _begin(answer: Any, part: Path) -> int:
    """From which byte on the answer is; 0 for a whole file. Raises DownloadError for a page instead of a file."""
    if answer.headers.get_content_type() == "text/html":
        raise DownloadError(f"{answer.url} answers with a web page and not with a file: open it in a browser.")
    if answer.status != 206:
        return 0
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    if unit != "bytes" or not first.isdecimal() or int(first) > part.stat().st_size:
        raise DownloadError(f"{answer.url} answers with bytes that were not asked for ({unit} {rest}).")
    return int(first)


def _version(answer: Any) -> str | None:
    """What the server calls this version of the file; a weak mark does not tell its bytes apart."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _known_version(mark: Path, url: str) -> str | None:
    try:
        about = json.loads(mark.read_text(encoding="utf-8"))
        return about["version"] if about["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _bar(source: Source, total: int | None, begin: int) -> tqdm:
    return tqdm(total=total, initial=begin, desc=source.file, unit="B", unit_scale=True, unit_divisor=1000)


@contextmanager
def _explained(url: str, target: Path) -> Iterator[None]:
    """Errors of the network and of the disk as DownloadError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}: is the address right?") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"{url}: {reason}: start again, what came so far is kept.") from error
    except OSError as error:
        raise DownloadError(f"{target}: cannot be written ({error.strerror}): choose another --out.") from error


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def from_hub(source: Source, folder: Path) -> tuple[Path, str]:
    """As `download`, by the package huggingface_hub, which has its own way to resume and its users' access rights."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise DownloadError("--hub: install it with pip install huggingface_hub, or leave --hub out.") from error
    if not source.hub:
        raise DownloadError(f"--hub: {source.file} is not on the HuggingFace hub; leave --hub out.")
    try:
        path = Path(hf_hub_download(source.hub, source.file, local_dir=folder))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DownloadError(f"{source.hub}/{source.file}: {str(error).splitlines()[0]}") from error
    found = sha256_of(path)
    if source.sha256 not in (None, found):
        path.unlink()
        raise DownloadError(f"{source.hub}/{source.file}: the sha256 is {found}, not {source.sha256}: removed.")
    return path, found
