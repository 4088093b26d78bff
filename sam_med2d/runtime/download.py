"""Files of a known hash from a web server: resumed where they were interrupted, under their name only when whole."""

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam_med2d.errors import UsageError
from sam_med2d.runtime.public_checkpoints import Source
from segment_anything.utils.atomic import sync, write_text

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte


def download(source: Source, folder: Path) -> tuple[Path, str]:
    """Fetch a file, unless it is there.

    What came so far stays in `<file>.part`, with the server's mark of its version beside it, and the next call goes on
    with it. A file with another hash than the known one is removed.

    Args:
        source: the file.
        folder: where it goes; made if needed.

    Returns:
        Its path and its sha256 in hexadecimal digits.

    Raises:
        UsageError: for a file that cannot be had; the message names it and says what to do.
    """
    target = folder / source.file
    part, mark = target.with_name(f"{source.file}.part"), target.with_name(f"{source.file}.part.json")
    if target.is_file():
        found = _sha256_of(target)
        if source.sha256 not in (None, found):
            raise UsageError(f"{target} is there and has the sha256 {found}, not {source.sha256}: remove it first.")
        return target, found
    with _explained(source.url, target):
        folder.mkdir(parents=True, exist_ok=True)
        if not (source.size and part.is_file() and part.stat().st_size == source.size):
            _fetch(source, part, mark)
        found = _sha256_of(part)
        if source.sha256 not in (None, found):
            part.unlink()
            mark.unlink(missing_ok=True)
            raise UsageError(f"{source.url}: the sha256 is {found}, not {source.sha256}: removed; try again later.")
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
            raise UsageError(f"{source.url} has {total} bytes, not {source.size}: it is another file.")
        write_text(mark, json.dumps({"url": source.url, "version": _version(answer)}) + "\n")
        bar = tqdm(total=total, initial=begin, desc=source.file, unit="B", unit_scale=True, unit_divisor=1000)
        with part.open("r+b" if begin else "wb") as file, bar:
            file.seek(begin)
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
            file.flush()
            got = file.tell()
    if got != (total or source.size or got):
        raise UsageError(f"{source.url} ended after {got} of {total} bytes: start again, it goes on from there.")


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
    """From which byte on the answer is; 0 for a whole file. Raises UsageError for a page instead of a file."""
    if answer.headers.get_content_type() == "text/html":
        raise UsageError(f"{answer.url} answers with a web page and not with a file: open it in a browser.")
    if answer.status != 206:
        return 0
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    if unit != "bytes" or not first.isdecimal() or int(first) > part.stat().st_size:
        raise UsageError(f"{answer.url} answers with bytes that were not asked for ({unit} {rest}).")
    return int(first)


def _version(answer: Any) -> str | None:
    """What the server calls this version of the file; a weak mark does not tell its bytes apart."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _known_version(mark: Path, url: str) -> str | None:
    """The version of what came so far; None where that is not known."""
    try:
        about = json.loads(mark.read_text(encoding="utf-8"))
        return about["version"] if about["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _explained(url: str, target: Path) -> Iterator[None]:
    """Errors of the network and of the disk as UsageError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise UsageError(f"{url}: the server answers {error.code} {error.reason}: is the address right?") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise UsageError(f"{url}: {reason}: start again, what came so far is kept.") from error
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror}): choose another --out.") from error


def _sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def from_hub(source: Source, folder: Path) -> tuple[Path, str]:
    """Fetch a file by the package huggingface_hub, which has its own way to resume and its users' access rights.

    Args:
        source: the file.
        folder: where it goes.

    Returns:
        Its path and its sha256 in hexadecimal digits.

    Raises:
        UsageError: for a file that cannot be had, or where the package is missing.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UsageError("--hub: install it with pip install huggingface_hub, or leave --hub out.") from error
    if not source.hub:
        raise UsageError(f"--hub: {source.file} is not on the HuggingFace hub; leave --hub out.")
    try:
        path = Path(hf_hub_download(source.hub, source.file, local_dir=folder))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UsageError(f"{source.hub}/{source.file}: {str(error).splitlines()[0]}") from error
    found = _sha256_of(path)
    if source.sha256 not in (None, found):
        path.unlink()
        raise UsageError(f"{source.hub}/{source.file}: the sha256 is {found}, not {source.sha256}: removed.")
    return path, found
