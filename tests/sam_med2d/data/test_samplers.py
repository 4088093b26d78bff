"""The batches of an epoch: who gets which photograph, and how often."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_med2d.data.samplers import Draw, EpochBatches, nested_share, structure_weights, systematic_draws

SIZES = st.integers(1, 60)
PROCESSES = st.integers(1, 5)
BATCHES = st.integers(1, 6)
WEIGHTS = st.lists(st.floats(0, 100), min_size=1, max_size=40).filter(lambda w: sum(w) > 1e-3)


def batches_of(size: int, batch_size: int, *, epoch: int = 0, skip: int = 0, **kwargs) -> list[list[Draw]]:
    batches = EpochBatches(size, batch_size, **({"seed": 0} | kwargs))
    batches.set_position(epoch, skip=skip)
    return list(batches)


def joined(batches: Iterable[list[Draw]]) -> list[Draw]:
    return [draw for batch in batches for draw in batch]


@given(SIZES, BATCHES, st.integers(0, 3), st.integers(0, 3))
def test_one_process_sees_every_index_once(size, batch_size, seed, epoch):
    batches = batches_of(size, batch_size, seed=seed, epoch=epoch)
    draws = joined(batches)
    assert sorted(draw.index for draw in draws) == list(range(size))
    assert [draw.place for draw in draws] == list(range(size))
    assert {draw.epoch for draw in draws} == {epoch}
    assert all(len(batch) == batch_size for batch in batches[:-1]) and 0 < len(batches[-1]) <= batch_size


@given(SIZES, BATCHES, st.integers(1, 200))
def test_an_epoch_of_so_many_draws_sees_every_index_equally_often(size, batch_size, count):
    draws = joined(batches_of(size, batch_size, draws=count))
    assert len(draws) == count == len(set(draw.place for draw in draws))
    times = [sum(draw.index == i for draw in draws) for i in range(size)]
    assert max(times) - min(times) <= 1


@given(SIZES, BATCHES, PROCESSES, st.booleans())
def test_processes_see_together_what_one_sees(size, batch_size, processes, weighted):
    """P processes of batch B: each batch of theirs is, in this order, one batch of B * P."""
    if size < processes:
        return
    weights = np.arange(1, size + 1) if weighted else None
    whole = batches_of(size, batch_size * processes, weights=weights)
    parts = [batches_of(size, batch_size, weights=weights, rank=rank, processes=processes) for rank in range(processes)]
    together = [joined(batches) for batches in zip(*parts, strict=True)]
    left_out = joined(whole[len(together) :])
    assert together == whole[: len(together)]
    assert len(left_out) < processes, "only a rest that cannot be divided is left out"
    sizes = [[len(batch) for batch in batches] for batches in zip(*parts, strict=True)]
    assert all(max(row) - min(row) <= 1 and min(row) >= 1 for row in sizes)


@given(SIZES, BATCHES, PROCESSES, st.integers(0, 70))
def test_the_length_is_that_of_a_whole_epoch_and_skip_leaves_its_tail(size, batch_size, processes, skip):
    if size < processes:
        return
    kwargs = {"rank": processes - 1, "processes": processes, "epoch": 2}
    everything = batches_of(size, batch_size, **kwargs)
    assert batches_of(size, batch_size, skip=skip, **kwargs) == everything[skip:]
    assert len(EpochBatches(size, batch_size, seed=0, processes=processes)) == len(everything)


def test_seed_and_epoch_decide_the_order():
    orders = [
        [draw.index for draw in joined(batches_of(30, 4, seed=seed, epoch=epoch))]
        for seed, epoch in ((0, 3), (0, 3), (0, 4), (1, 3))
    ]
    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]


def test_photographs_of_a_left_out_rest_come_in_other_epochs():
    seen = {
        draw.index
        for epoch in range(5)
        for rank in range(3)
        for draw in joined(batches_of(10, 1, epoch=epoch, rank=rank, processes=3))
    }
    assert seen == set(range(10))


@given(WEIGHTS, st.integers(1, 200), st.integers(0, 5))
def test_an_index_is_drawn_as_often_as_its_weight_says(weights, count, seed):
    """Floor or ceil of the expected count; rounding may move a mark that lies on an edge, so 1e-9 is left."""
    drawn = systematic_draws(np.array(weights), count, np.random.default_rng(seed))
    assert len(drawn) == count
    expected = count * np.array(weights) / sum(weights)
    realised = np.bincount(drawn, minlength=len(weights))
    assert (realised >= np.floor(expected - 1e-9)).all() and (realised <= np.ceil(expected + 1e-9)).all()
    assert not realised[np.array(weights) == 0].any()


def test_weights_hold_on_average():
    weights = np.array([0.1, 0.25, 0.3, 2.0, 1.35])
    counts = Counter(
        draw.index for epoch in range(2000) for draw in joined(batches_of(5, 2, epoch=epoch, weights=weights))
    )
    assert np.allclose([counts[i] / 2000 for i in range(5)], 5 * weights / weights.sum(), atol=0.04)


def test_equal_weights_are_like_none():
    for epoch in range(20):
        batches = batches_of(9, 2, epoch=epoch, weights=np.full(9, 0.1))
        assert sorted(draw.index for draw in joined(batches)) == list(range(9))


def test_draws_of_one_photograph_are_told_apart():
    draws = joined(batches_of(4, 2, weights=np.array([97.0, 1, 1, 1])))
    assert [draw.index for draw in draws].count(0) >= 3 and len(set(draws)) == 4


def test_weighted_order_is_shuffled():
    drawn = [joined(batches_of(9, 3, epoch=epoch, weights=np.arange(1, 10))) for epoch in range(5)]
    orders = [tuple(draw.index for draw in draws) for draws in drawn]
    assert len(set(orders)) == 5 and not any(list(order) == sorted(order) for order in orders)


def test_too_few_photographs_are_refused():
    with pytest.raises(ValueError, match="2 photographs.*3 processes"):
        EpochBatches(2, 1, seed=0, processes=3)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [0.0] * 3, [1, np.nan, 1], [-1.0, 2, 3]])
def test_unusable_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        EpochBatches(3, 1, seed=0, weights=np.array(weights))


def test_a_photograph_without_a_mask_has_the_usual_weight():
    weights = structure_weights([["disc"], [], ["disc", "cup"]])
    assert weights == pytest.approx(np.array([0.5, 0.625, 0.75]) / 1.875)
    assert structure_weights([[], []]) == pytest.approx([0.5, 0.5])


def test_weights_of_structures_by_hand():
    """Four vessels, one lesion: a vessel counts 1/4, the lesion 1; a photograph the mean of its masks."""
    structures = [["vessel"], ["vessel", "lesion"], ["vessel"], ["vessel"]]
    assert np.allclose(structure_weights(structures), np.array([0.25, 0.625, 0.25, 0.25]) / 1.375)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=20))
def test_weights_of_structures_sum_to_one(structures):
    weights = structure_weights(structures)
    assert np.isclose(weights.sum(), 1) and (weights > 0).all()


def test_shares_are_nested_and_decided_by_the_seed():
    shares = [nested_share(100, share, seed=3) for share in (0.001, 0.1, 0.25, 0.5, 1.0)]
    assert [len(share) for share in shares] == [1, 10, 25, 50, 100]
    assert all(set(small) < set(large) for small, large in pairwise(shares))
    assert shares[1] == nested_share(100, 0.1, seed=3) != nested_share(100, 0.1, seed=4)
