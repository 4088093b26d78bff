"""Digests are written down in state files and caches: their values stay."""

import hashlib

import numpy as np
import pytest
import torch

from segment_anything.checkpoint import tensor_digest
from segment_anything.utils.digest import digest


@pytest.mark.parametrize("size", [12, 16, 24])
def test_a_digest_is_blake2b_of_all_bytes(size):
    whole = hashlib.blake2b(b"abcdef", digest_size=size).hexdigest()
    assert digest(b"abcdef", size=size) == digest([b"abc", b"", b"def"], size=size) == whole
    assert digest(np.frombuffer(b"abcdef", np.uint8), size=size) == whole
    assert digest((part for part in (b"ab", np.frombuffer(b"cdef", np.uint8))), size=size) == whole


def test_digests_of_earlier_versions_are_found_again():
    assert digest(b"") == "cae66941d9efbd404e4d88758ea67670"
    weights = {"a": torch.arange(3, dtype=torch.float32), "b": torch.ones(2, 1, dtype=torch.int64)}
    assert tensor_digest(weights) == "7bee5d9da49c30fb808caed7dca3b418"


def test_names_types_shapes_and_values_count():
    zeros = torch.zeros(2, 3)
    others = [{"w": zeros + 1}, {"v": zeros}, {"w": zeros.int()}, {"w": zeros.view(3, 2)}, {}]
    assert len({tensor_digest(tensors) for tensors in ({"w": zeros}, *others)}) == 1 + len(others)
    assert tensor_digest({"w": torch.arange(6.0).view(2, 3).T}) == tensor_digest(
        {"w": torch.tensor([[0.0, 3], [1, 4], [2, 5]])}
    )
