"""The cache of embeddings: found again, never damaged or of other weights, never larger than its limit."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sam_med2d.inference.embedding_cache import EmbeddingCache
from segment_anything.modeling import HEADS
from tests.helpers.predicting import contents, rows_of, run, write_folder, write_weights
from tests.helpers.tiny_models import watch_encodings

SHAPE = (1, 256, 4, 4)
ENTRY = 4 * 256 * 16
LIMIT = 10 * (ENTRY + 400)


@pytest.fixture
def folder(tmp_path, tiny_type):
    """Three photographs."""
    return write_folder(tmp_path / "in")


def embedding(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def cache_in(path: Path, limit: int = LIMIT, **about: object) -> EmbeddingCache:
    path.mkdir(exist_ok=True)
    return EmbeddingCache(path, limit, about)


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def test_what_was_put_is_found(tmp_path):
    cache = cache_in(tmp_path)
    cache.put(cache.key(b"photograph"), embedding(0))
    other = cache_in(tmp_path)
    assert torch.equal(other.get(other.key(b"photograph")), embedding(0)) and other.hits == 1
    assert other.get(other.key(b"another")) is None and other.hits == 1


def test_other_weights_or_preprocessing_have_other_keys(tmp_path):
    caches = [cache_in(tmp_path, weights=weights, size=size) for weights in "ab" for size in (1, 2)]
    assert len({cache.key(content) for cache in caches for content in (b"x", b"y")}) == 8


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other entry", "no numbers", "another file"])
def test_a_damaged_entry_counts_as_absent(tmp_path, damage, caplog):
    cache = cache_in(tmp_path)
    key, other = cache.key(b"photograph"), cache.key(b"other")
    cache.put(key, embedding(0))
    cache.put(other, embedding(1))
    path = tmp_path / f"{key}.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # of one value's mantissa
    changed = {
        "cut": bytes(content[:1000]),
        "flipped": bytes(content),
        "empty": b"",
        "other entry": (tmp_path / f"{other}.safetensors").read_bytes(),
        "another file": safetensors.torch.save({"embedding": embedding(0)}),
    }
    if damage == "no numbers":
        cache.put(key, embedding(0) * torch.nan)
    else:
        path.write_bytes(changed[damage])
    assert cache.get(key) is None and cache.damaged == 1 and cache.hits == 0
    assert path.name in caplog.text and "computed again" in caplog.text
    cache.put(key, embedding(0))
    assert torch.equal(cache.get(key), embedding(0))


def test_the_least_recently_used_go_first(tmp_path):
    cache = cache_in(tmp_path)
    keys = [cache.key(bytes([number])) for number in range(12)]
    for number, key in enumerate(keys):
        cache.put(key, embedding(number))
        os.utime(tmp_path / f"{key}.safetensors", (1000 + number, 1000 + number))
        if number == 8:
            assert cache.get(keys[0]) is not None  # used now: it stays
    assert size_of(tmp_path) <= LIMIT
    assert [cache.get(key) is not None for key in keys] == [True, False, False, *[True] * 9]


def test_an_entry_larger_than_the_limit_is_not_kept(tmp_path):
    cache = cache_in(tmp_path, ENTRY)
    cache.put(cache.key(b"x"), embedding(0))
    assert size_of(tmp_path) == 0 and cache.get(cache.key(b"x")) is None


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".abc.x.safetensors"
    left.write_bytes(b"half")
    cache = cache_in(tmp_path)
    cache.put(cache.key(b"x"), embedding(0))
    assert not left.exists()


def test_a_disk_that_is_full_ends_the_caching_only(tmp_path, monkeypatch, caplog):
    cache = cache_in(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EmbeddingCache, "_make_room", full)
    for number in range(2):
        cache.put(cache.key(bytes([number])), embedding(0))
    assert caplog.text.count("nothing more is kept") == 1


def _hammer(place: Path, seed: int) -> None:
    """Put and get entries; what comes back must be what belongs to the key."""
    torch.set_num_threads(1)
    cache, chance = cache_in(place), random.Random(seed)
    for _ in range(80):
        number = chance.randrange(14)
        key = cache.key(bytes([number]))
        found = cache.get(key)
        assert found is None or torch.equal(found, embedding(number))
        cache.put(key, embedding(number))
    assert cache.damaged == 0 and cache.hits > 0


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path):
    """Entries are whole for both, and the folder is never larger than its limit."""
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=_hammer, args=(tmp_path, seed)) for seed in (1, 2)]
    for process in processes:
        process.start()
    largest = 0
    while any(process.is_alive() for process in processes):
        try:
            largest = max(largest, sum(entry.stat().st_size for entry in os.scandir(tmp_path) if entry.name[0] != "."))
        except FileNotFoundError:
            continue  # removed between the two calls
        time.sleep(0.005)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert 0 < largest <= LIMIT


# --- in a run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detail", [None, *HEADS])
def test_a_run_with_a_cache_encodes_nothing_twice(folder, tmp_path, monkeypatch, capsys, detail):
    """And writes the same; the detail head's features are derived again."""
    checkpoint = write_weights(tmp_path / "tiny.safetensors", detail=detail)
    encoded = watch_encodings(monkeypatch)
    words = ("--structures", "all", "--embedding_cache", tmp_path / "cache")
    assert run(folder, checkpoint, *words, out="first") == 0
    assert len(encoded) == 3 and "embeddings: 0 of 3 from" in capsys.readouterr().out
    assert run(folder, checkpoint, *words, out="second") == 0
    assert len(encoded) == 3 and "embeddings: 3 of 3 from" in capsys.readouterr().out
    assert run(folder, checkpoint, *words[:2], out="without") == 0
    assert contents(tmp_path / "first") == contents(tmp_path / "second") == contents(tmp_path / "without")


def test_a_run_computes_a_corrupt_entry_again(folder, tmp_path, capsys):
    weights = write_weights(tmp_path / "tiny.safetensors")
    words = ("--structures", "vessel", "--embedding_cache", tmp_path / "cache")
    assert run(folder, weights, *words, out="first") == 0
    entry = next((tmp_path / "cache").glob("*.safetensors"))
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-100])
    assert run(folder, weights, *words, out="second") == 0
    printed = capsys.readouterr().out
    assert "is damaged" in printed and "embeddings: 2 of 3" in printed
    assert entry.read_bytes() == whole and contents(tmp_path / "first") == contents(tmp_path / "second")
    assert run(folder, weights, *words, "--channel_order", "bgr", out="bgr") == 0
    assert "embeddings: 0 of 3" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "bgr")) == 3
