"""Means and 95 % intervals from a bootstrap over photographs."""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

REPLICATES = 1000
BLOCK = 64  # photographs whose sums are added together


def copies(seed: int, image: str) -> np.ndarray:
    """How often a photograph is in each replicate: float64 [REPLICATES], from the seed and its name alone."""
    return np.random.default_rng([seed, zlib.crc32(image.encode())]).poisson(1.0, REPLICATES).astype(np.float64)


class Bootstrap:
    """Sums of named columns over photographs: the sum itself and that of each bootstrap replicate."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.columns: dict[Any, int] = {}
        self._sums = np.zeros((1 + REPLICATES, 0))
        self._block: list[tuple[str, dict[int, float]]] = []

    def add(self, image: str, values: dict[Any, float]) -> None:
        """Add a photograph's values; columns that it does not name get nothing. Give each photograph once."""
        self._block.append((image, {self.columns.setdefault(k, len(self.columns)): v for k, v in values.items()}))
        if len(self._block) == BLOCK:
            self._flush()

    def sums(self, names: Iterable[Any]) -> np.ndarray:
        """Total of the named columns: float64 [1 + REPLICATES], the true sum first."""
        self._flush()
        return self._sums[:, [self.columns[name] for name in names if name in self.columns]].sum(1)

    def _flush(self) -> None:
        if not self._block:
            return
        weights = np.stack([np.append(1.0, copies(self.seed, image)) for image, _ in self._block])
        values = np.zeros((len(self._block), len(self.columns)))
        for line, (_, entries) in zip(values, self._block, strict=True):
            line[list(entries)] = list(entries.values())
        self._sums = np.pad(self._sums, ((0, 0), (0, len(self.columns) - self._sums.shape[1])))
        self._sums += weights.T @ values
        self._block = []


def mean_and_interval(sums: np.ndarray, counts: np.ndarray) -> tuple[float, list[float]]:
    """Mean and its 95 % percentile interval, from `Bootstrap.sums` of values and of their numbers; NaN without any."""
    if not counts[0]:
        return float("nan"), [float("nan")] * 2
    filled = counts > 0
    low, high = np.percentile(sums[filled][1:] / counts[filled][1:], (2.5, 97.5)) if filled[1:].any() else (np.nan,) * 2
    return float(sums[0] / counts[0]), [float(low), float(high)]
