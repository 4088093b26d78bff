"""Which photographs make up the batches of an epoch, for one process or for several."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

# what a stream is for, the last of the numbers that seed it: NumPy takes missing numbers for 0
ORDER, PHOTOGRAPH, STEP, SHARE = 0, 1, 2, 3


class Draw(NamedTuple):
    """One photograph of an epoch: its place in the epoch's order and its index in the data."""

    epoch: int
    place: int
    index: int

    def stream(self, seed: int) -> np.random.Generator:
        """Random numbers for all that happens to the photograph."""
        return np.random.default_rng([seed, self.epoch, self.place, PHOTOGRAPH])


def step_stream(seed: int, step: int) -> torch.Generator:
    """Random numbers for what a step decides for all its masks, the same in all processes.

    A CPU generator reads no more than 32 bits of its seed, therefore they are mixed.
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step, 0, STEP]).generate_state(1)[0]))


class EpochBatches(Sampler[list[Draw]]):
    """Shuffled batches; seed and epoch alone decide them, so that a run can go on in the middle of an epoch.

    An epoch is `draws` draws, or `size` of them: each index equally often, or with `weights` so often as its share of
    their sum says.
    `processes` share each batch of `batch_size * processes` draws, so that they see together what one process
    with batches of that size sees. A last, shorter batch is divided as evenly as possible; where it has fewer
    draws than there are processes it is left out: another order brings other photographs to the end.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        weights: np.ndarray | None = None,
        draws: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """
        Args:
            size: photographs in the data.
            batch_size: of each process.
            seed: of the order.
            weights: how often each photograph is drawn, float [size], none negative.
            draws: of an epoch; 0 for as many as there are photographs.
            rank: of this process among `processes`.
            processes: that share a batch.

        Raises:
            ValueError: the weights cannot be used, or there are fewer photographs than processes.
        """
        if min(size, draws or size) < processes:
            raise ValueError(
                f"{min(size, draws or size)} photographs cannot be divided among {processes} processes: start fewer."
            )
        if weights is not None and not _usable(weights, size):
            raise ValueError(f"weights of {size} photographs must be {size} finite numbers from 0 up, not all 0.")
        self.size = size
        self.draws = draws or size
        self.seed = seed
        self.weights = weights
        self.rank = rank
        self.processes = processes
        self._together = batch_size * processes
        self.set_position(0)

    def set_position(self, epoch: int, *, skip: int = 0) -> None:
        """The epoch to give next, without its first `skip` batches (a run that goes on has seen them)."""
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        """Batches of a whole epoch, the same for every process."""
        full, rest = divmod(self.draws, self._together)
        return full + (rest >= self.processes)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order()
        for batch in range(self.skip, len(self)):
            start = batch * self._together
            places = np.arange(start, min(start + self._together, self.draws))
            mine = np.array_split(places, self.processes)[self.rank]
            yield [Draw(self.epoch, int(place), int(order[place])) for place in mine]

    def _order(self) -> np.ndarray:
        """Index of each draw of the epoch: int [draws]."""
        rng = np.random.default_rng([self.seed, self.epoch, 0, ORDER])
        if self.weights is None:
            rounds = -(-self.draws // self.size)
            return np.concatenate([rng.permutation(self.size) for _ in range(rounds)])[: self.draws]
        return rng.permutation(systematic_draws(self.weights, self.draws, rng))


def nested_share(size: int, share: float, seed: int) -> list[int]:
    """Indexes, in order, of a random share of `size` photographs, at least one; small shares lie in larger ones."""
    order = np.random.default_rng([seed, 0, 0, SHARE]).permutation(size)
    return sorted(order[: max(1, round(share * size))].tolist())


def _usable(weights: np.ndarray, size: int) -> bool:
    return len(weights) == size and bool(np.isfinite(weights).all() and np.min(weights) >= 0 and np.sum(weights) > 0)


def systematic_draws(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` indexes, int64, in order; each comes floor or ceil of count * w / sum(w) times, that on average.

    Systematic resampling (Kitagawa 1996): equally spaced marks with one random start, on the cumulated weights, [N].
    """
    edges = np.cumsum(weights, dtype=np.float64)
    marks = (rng.random() + np.arange(count)) * (edges[-1] / count)
    # rounding can put the last mark on the last edge
    return np.minimum(np.searchsorted(edges, marks, side="right"), np.flatnonzero(weights)[-1])


def structure_weights(structures: Sequence[Sequence[str]]) -> np.ndarray:
    """How often to draw each of N photographs so that rare structures come more often: float64 [N], of sum 1.

    A photograph's weight is the mean over its masks of 1 / (masks of that structure in all the data); one without a
    mask has the mean weight of the others. Given are the structures of the masks of each photograph.
    """
    counts = Counter(name for names in structures for name in names)
    rarity = [float(np.mean([1 / counts[name] for name in names])) for names in structures if names]
    usual = float(np.mean(rarity)) if rarity else 1.0
    found = iter(rarity)
    weights = np.array([next(found) if names else usual for names in structures])
    return weights / weights.sum()
