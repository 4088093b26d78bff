"""Image embeddings on disk: looked up by the photograph's bytes, bounded in size, shared by several processes."""

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from segment_anything.checkpoint import tensor_digest
from segment_anything.utils.atomic import atomic_path
from segment_anything.utils.digest import digest

logger = logging.getLogger("predict")
SUFFIX = ".safetensors"
LOCK_SECONDS = 60.0
VERSION = 2  # of what an entry means


class EmbeddingCache:
    """Embeddings in `folder`, one file each, at most `max_bytes` of them; those not used for longest go first.

    about: what else decides an embedding (weights, preprocessing, precision), as JSON values. Several processes may
    use a folder at the same time: entries appear whole, one process at a time makes room. An entry that is damaged, or
    whose checksum is wrong, counts as absent.
    """

    def __init__(self, folder: Path, max_bytes: int, about: Mapping[str, Any]) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._about = json.dumps({"version": VERSION, **about}, sort_keys=True).encode()
        self._lock, self._own = FileLock(folder / ".lock"), threading.Lock()
        self.hits = self.damaged = 0
        self._works = True

    def key(self, content: bytes) -> str:
        """Name of the entry of a photograph file's bytes."""
        return digest([self._about, content], size=24)

    def get(self, key: str) -> Tensor | None:
        """The embedding [1, C, s, s] on the CPU, None where there is no sound one. Makes it the latest used."""
        path = self.folder / (key + SUFFIX)
        try:
            embedding = _read(path.read_bytes(), key)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            with self._own:
                self.damaged += 1
            logger.warning(f"--embedding_cache: {path} is damaged ({error}) and computed again")
            return None
        with self._own:
            self.hits += 1
        return embedding

    def put(self, key: str, embedding: Tensor) -> None:
        """Keep an embedding, and drop the oldest ones to make room. A full disk ends the caching, not the run."""
        if not self._works:
            return
        value = {"embedding": embedding.detach().cpu().contiguous()}
        content = safetensors.torch.save(value, {"of": f"{key} {tensor_digest(value)}"})
        try:
            with self._lock.acquire(LOCK_SECONDS):
                if self._make_room(len(content)):
                    with atomic_path(self.folder / (key + SUFFIX)) as temporary:
                        temporary.write_bytes(content)
        except (OSError, Timeout) as error:
            self._works = False
            logger.warning(f"--embedding_cache {self.folder}: nothing more is kept ({error})")

    def _make_room(self, size: int) -> bool:
        """Remove the oldest entries until `size` bytes fit; whether they can. Only with the lock."""
        entries = []
        for entry in os.scandir(self.folder):
            if entry.name.startswith(".") and entry.name.endswith(SUFFIX):
                os.unlink(entry.path)  # of a process that was killed while it wrote, as it held the lock
            elif entry.name.endswith(SUFFIX):
                about = entry.stat()
                entries.append((about.st_mtime_ns, about.st_size, entry.path))
        total = size + sum(entry[1] for entry in entries)
        for _, length, path in sorted(entries):
            if total <= self.max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            total -= length
        return total <= self.max_bytes


def _read(content: bytes, key: str) -> Tensor:
    """The embedding of an entry's bytes. Raises ValueError or SafetensorError for a damaged one."""
    value = safetensors.torch.load(content)
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    if set(value) != {"embedding"} or about.get("of") != f"{key} {tensor_digest(value)}":
        raise ValueError("its checksum is wrong")
    if not torch.isfinite(value["embedding"]).all():
        raise ValueError("it has values that are no numbers")
    return value["embedding"]
