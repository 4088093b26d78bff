"""Statistics of values in [0, 1] of which only histograms over equal bins are known."""

import math
from typing import Any

import numpy as np


def quantile(counts: np.ndarray, q: float) -> float:
    """Quantile `q` of values of which only counts, int [B], are known; NaN for an empty histogram.

    The two values that numpy.quantile interpolates between are taken to lie in the middle of their bins: the result
    is within half a bin of the quantile of the values themselves.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    rank = q * (total - 1)
    neighbours = (math.floor(rank), math.ceil(rank))
    low, high = (np.searchsorted(np.cumsum(counts), neighbours, side="right") + 0.5) / len(counts)
    return float(low + (high - low) * (rank - neighbours[0]))


def box_statistics(counts: np.ndarray) -> dict[str, Any]:
    """What matplotlib's Axes.bxp draws of counts, int [B], not all 0: quartiles, mean and Tukey's whiskers.

    The whiskers end at the last value within 1.5 interquartile ranges of the box; there are no outliers.
    """
    centres = (np.arange(len(counts)) + 0.5) / len(counts)
    q1, median, q3 = (quantile(counts, q) for q in (0.25, 0.5, 0.75))
    reach = 1.5 * (q3 - q1)
    inside = centres[(counts > 0) & (centres >= q1 - reach) & (centres <= q3 + reach)]
    whiskers = {"whislo": min(q1, inside.min()), "whishi": max(q3, inside.max())}
    return {"q1": q1, "med": median, "q3": q3, "mean": counts @ centres / counts.sum(), "fliers": []} | whiskers


def calibration_error(counts: np.ndarray) -> float:
    """Expected calibration error: the mean over predictions of |mean true - predicted| of their predicted bin.

    Of Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning"; each value is taken to lie
    in the middle of its bin. Counts are int [K, K], first the predicted, then the true bin; NaN without any.
    """
    centres = (np.arange(len(counts)) + 0.5) / len(counts)
    total = int(counts.sum())
    if not total:
        return float("nan")
    return float(np.abs(counts @ centres - counts.sum(axis=1) * centres).sum() / total)
