"""Digests, by which files, settings and weights are told from changed ones (BLAKE2b)."""

import hashlib
from collections.abc import Iterable

import numpy as np

Content = bytes | np.ndarray


def digest(content: Content | Iterable[Content], *, size: int = 16) -> str:
    """2 * size hexadecimal digits of a digest of bytes.

    Args:
        content: bytes, a contiguous array, or several of them, which count as if joined; they are taken one by one.
        size: bytes of the digest.
    """
    parts = [content] if isinstance(content, Content) else content
    found = hashlib.blake2b(digest_size=size)
    for part in parts:
        found.update(part)
    return found.hexdigest()
