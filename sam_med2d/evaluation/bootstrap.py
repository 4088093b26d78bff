"""Means and 95 % intervals from a bootstrap over photographs."""

import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

REPLICATES = 1000
PHOTOGRAPHS_AT_ONCE = 64  # photographs whose sums are added together


def photograph_key(image: str, data_path: str | Sequence[str]) -> str:
    """Path of a photograph below its folder of --data_path, wherever that is; as it is where it lies elsewhere."""
    for number, folder in enumerate([data_path] if isinstance(data_path, str) else data_path):
        with suppress(ValueError):
            return f"{number}/{Path(image).resolve().relative_to(Path(folder).resolve()).as_posix()}"
    return image


class Bootstrap:
    """Sums of named columns over photographs: the sum itself and that of each bootstrap replicate."""

    def __init__(self, seed: int = 0) -> None:
        """Begin without a photograph; `seed` is that of the replicates."""
        self.seed = seed
        self.columns: dict[Any, int] = {}
        self._sums = np.zeros((1 + REPLICATES, 0))
        self._block: list[tuple[str, dict[int, float]]] = []

    def add(self, image: str, values: dict[Any, float]) -> None:
        """Add a photograph; each one once.

        Args:
            image: its name.
            values: {column: value}; columns that it does not name get nothing.
        """
        self._block.append((image, {self.columns.setdefault(k, len(self.columns)): v for k, v in values.items()}))
        if len(self._block) == PHOTOGRAPHS_AT_ONCE:
            self._flush()

    def sums(self, names: Iterable[Any]) -> np.ndarray:
        """Total of some columns, 0 for unknown ones: float64 [1 + REPLICATES], the true sum first."""
        self._flush()
        return self._sums[:, [self.columns[name] for name in names if name in self.columns]].sum(1)

    def _flush(self) -> None:
        """Add the block's photographs to the sums."""
        if not self._block:
            return
        # a photograph is in each replicate as often as its seed and its name alone say
        streams = [np.random.default_rng([self.seed, zlib.crc32(image.encode())]) for image, _ in self._block]
        weights = np.stack([np.append(1.0, stream.poisson(1.0, REPLICATES)) for stream in streams])
        values = np.zeros((len(self._block), len(self.columns)))
        for line, (_, entries) in zip(values, self._block, strict=True):
            line[list(entries)] = list(entries.values())
        self._sums = np.pad(self._sums, ((0, 0), (0, len(self.columns) - self._sums.shape[1])))
        self._sums += weights.T @ values
        self._block = []


def mean_and_interval(sums: np.ndarray, counts: np.ndarray) -> tuple[float, list[float]]:
    """A mean and the bounds of its 95 % percentile interval; NaN without a value.

    Args:
        sums: float64 [1 + REPLICATES], `Bootstrap.sums` of the values.
        counts: float64 [1 + REPLICATES], that of their numbers; replicates without a value are left out.
    """
    if not counts[0]:
        return float("nan"), [float("nan")] * 2
    filled = counts > 0
    low, high = np.percentile(sums[filled][1:] / counts[filled][1:], (2.5, 97.5)) if filled[1:].any() else (np.nan,) * 2
    return float(sums[0] / counts[0]), [float(low), float(high)]
