"""A stream of cases -> means, their bootstrap intervals, histograms; its memory does not grow with the cases.

The bootstrap resamples photographs, not masks: masks of one photograph are alike. Each photograph gets a Poisson(1)
number of copies in each replicate, from a stream of its own, which needs no second pass (Chamandy et al. 2012,
"Estimating uncertainty for massive data streams").
"""

import heapq
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from sam_med2d.evaluation.bootstrap import Bootstrap, mean_and_interval, photograph_key
from sam_med2d.evaluation.case_row import CaseRow

BINS = 1000  # of a histogram over [0, 1]
CALIBRATION_BINS = 50
LOWER_IS_BETTER = ("hd95", "hd95_pooled", "assd", "vcdr")  # of the metrics
FALSE_POSITIVE = "false_positive"
MEDIAN_SAMPLE = 1000  # cases of a structure among which its median case is looked for


class CaseGroup(NamedTuple):
    """Cases that share a mean."""

    data_set: str
    structure: str
    prompt: str


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN, NaN when there is none; the order changes nothing."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else float("nan")


class RunningSummary:
    """Means by data set, structure and prompt, with histograms and representative cases.

    Rows that are `absent`, of structures that are not in their photograph, count for the false-positive rate alone.

    Attributes:
        main: the metric by which representative cases are chosen: Dice, or the first one.
        histograms: {structure: {prompt: int64 [BINS]}}, cases by Dice.
        calibration: int64 [CALIBRATION_BINS, CALIBRATION_BINS], cases by predicted and by true IoU.
        images: number of photographs.
    """

    def __init__(self, metrics: Sequence[str], *, seed: int = 0, data_path: str | Sequence[str] = ()) -> None:
        """Begin without a case.

        Args:
            metrics: scores of the rows, and CEILING, to take means of.
            seed: of the bootstrap.
            data_path: folders of the data: the bootstrap knows photographs by their paths below these.
        """
        self.metrics = list(metrics)
        self.main = "dice" if "dice" in metrics else self.metrics[0]
        self.bootstrap, self.data_path = Bootstrap(seed), data_path
        self.counts: dict[CaseGroup, Counter[str]] = {}
        self.histograms: dict[str, dict[str, np.ndarray]] = {}
        self.calibration = np.zeros((CALIBRATION_BINS, CALIBRATION_BINS), np.int64)
        self.representatives: dict[str, RepresentativeCases] = {}
        self._photographs: dict[CaseGroup, set[str]] = {}  # the first two of each group
        self.absent: set[str] = set()
        self.images = 0

    def add(self, number: int, rows: Sequence[CaseRow]) -> None:
        """Take in a photograph.

        Args:
            number: of the photograph; representative cases are told by it.
            rows: all rows of the photograph, at least one.
        """
        present = [row for row in rows if not row.absent]
        sums = self._false_positive_sums([row for row in rows if row.absent])
        for row in present:
            self._count(row)
            self._add_to_histograms(row)
        key = photograph_key(rows[0].image, self.data_path)
        self.bootstrap.add(key, sums | self._metric_sums(present))
        for mask, own in groupby(present, key=lambda row: row.mask):
            cases = list(own)
            value = mean([row.score(self.main) for row in cases]) * (-1 if self.main in LOWER_IS_BETTER else 1)
            if not math.isnan(value):
                known = self.representatives.setdefault(cases[0].structure, RepresentativeCases())
                known.add(value, number, mask)
        self.images += 1

    def _false_positive_sums(self, rows: Sequence[CaseRow]) -> dict[Any, float]:
        """The bootstrap's columns of structures that are known not to be there."""
        self.absent.update(row.structure for row in rows)
        sums: dict[Any, float] = {}
        for row in rows:
            sums["count", FALSE_POSITIVE, row.structure] = 1.0
            sums["sum", FALSE_POSITIVE, row.structure] = float(row.predicted_area > 0)
        return sums

    def _metric_sums(self, rows: Sequence[CaseRow]) -> dict[Any, float]:
        """The bootstrap's columns of the metrics: sum and number of the values that are defined, in each group."""
        sums: dict[Any, float] = {}
        for row in rows:
            group = _group(row)
            for metric in self.metrics:
                if not math.isnan(value := row.score(metric)):
                    for kind, term in (("sum", value), ("count", 1.0)):
                        sums[kind, metric, group] = sums.get((kind, metric, group), 0.0) + term
        return sums

    def _count(self, row: CaseRow) -> None:
        """Count a row in its group."""
        group = _group(row)
        counts = self.counts.setdefault(group, Counter())
        counts.update(masks=1, vanished=row.vanished, missed=row.missed)
        counts.update({metric: not math.isnan(row.score(metric)) for metric in self.metrics})
        photographs = self._photographs.setdefault(group, set())
        if len(photographs) < 2:
            photographs.add(row.image)

    def _add_to_histograms(self, row: CaseRow) -> None:
        """Count a row in the histogram of Dice and in the calibration."""
        dice, iou = (row.scores.get(name, math.nan) for name in ("dice", "iou"))
        if not math.isnan(dice):
            prompts = self.histograms.setdefault(row.structure, {})
            prompts.setdefault(row.prompt, np.zeros(BINS, np.int64))[_bin(dice, BINS)] += 1
        if not math.isnan(iou) and not math.isnan(row.predicted_iou):
            self.calibration[_bin(row.predicted_iou, CALIBRATION_BINS), _bin(iou, CALIBRATION_BINS)] += 1

    def summary(self) -> dict[str, Any]:
        """The means of all cases so far.

        Returns:
            {"overall": {prompt: means}, "structures": {name: the same}, "data_sets": {name: the same and
            "structures"}, "absent": {structure: false positives}}.

            Means: each metric, its `<metric>_ci95`, the numbers of masks, of vanished and of missed ones, and of the
            values that were `excluded` from each metric because they are undefined. False positives: number of
            photographs without the structure, share of these in which it was predicted, with interval.
        """
        data_sets, structures = (sorted({group[part] for group in self.counts}) for part in (0, 1))
        return {
            "overall": self._means(),
            "structures": {name: self._means(structure=name) for name in structures},
            "data_sets": {
                data_set: self._means(data_set)
                | {"structures": {s: means for s in structures if (means := self._means(data_set, s))}}
                for data_set in data_sets
            },
            "absent": {name: self._false_positives(name) for name in sorted(self.absent)},
        }

    def _false_positives(self, structure: str) -> dict[str, Any]:
        """Share of the photographs without a structure in which it was predicted."""
        sums, counts = (self.bootstrap.sums([(kind, FALSE_POSITIVE, structure)]) for kind in ("sum", "count"))
        share, interval = mean_and_interval(sums, counts)
        return {"photographs": int(counts[0]), FALSE_POSITIVE: share, f"{FALSE_POSITIVE}_ci95": interval}

    def _means(self, data_set: str | None = None, structure: str | None = None) -> dict[str, dict[str, Any]]:
        """Means of each prompt over the cases of a data set or structure, or over all."""
        groups = [g for g in self.counts if data_set in (None, g.data_set) and structure in (None, g.structure)]
        prompts = dict.fromkeys(group.prompt for group in groups)
        return {prompt: self._entry([group for group in groups if group.prompt == prompt]) for prompt in prompts}

    def _entry(self, groups: Sequence[CaseGroup]) -> dict[str, Any]:
        """Means over the cases of some groups."""
        counts = sum((self.counts[group] for group in groups), Counter())
        single = len(set().union(*(self._photographs[group] for group in groups))) < 2  # nothing to resample
        entry: dict[str, Any] = {}
        for metric in self.metrics:
            sums, numbers = (self.bootstrap.sums((kind, metric, g) for g in groups) for kind in ("sum", "count"))
            entry[metric], entry[f"{metric}_ci95"] = mean_and_interval(sums, numbers)
            if single:
                entry[f"{metric}_ci95"] = [math.nan, math.nan]
        entry |= {name: counts[name] for name in ("masks", "vanished", "missed")}
        return entry | {"excluded": {metric: counts["masks"] - counts[metric] for metric in self.metrics}}

    def representative_cases(self) -> list[tuple[int, str]]:
        """Photograph's number and mask of the best, median and worst case of each structure; none twice."""
        found = (cases for _, cases in sorted(self.representatives.items()))
        return list(dict.fromkeys(case for cases in found for case in cases.chosen()))


def _group(row: CaseRow) -> CaseGroup:
    """The group that a row belongs to."""
    return CaseGroup(row.data_set, row.structure, row.prompt)


def summarise(
    rows: Sequence[CaseRow], metrics: Sequence[str], *, data_path: str | Sequence[str] = ()
) -> dict[str, Any]:
    """`RunningSummary.summary` of rows that are in memory, whatever their order."""
    running = RunningSummary(metrics, data_path=data_path)
    rows = sorted(rows, key=lambda row: (row.data_set, row.image, row.mask))
    for number, (_, own) in enumerate(groupby(rows, key=lambda row: (row.data_set, row.image))):
        running.add(number, list(own))
    return running.summary()


class RepresentativeCases:
    """The best and the worst of a stream of cases, and the median of MEDIAN_SAMPLE of them, sampled by their names."""

    def __init__(self) -> None:
        self._sample: list[tuple[int, float, int, str]] = []
        self._best: tuple[float, int, str] | None = None
        self._worst: tuple[float, int, str] | None = None

    def add(self, value: float, number: int, mask: str) -> None:
        """Take in a case; of equal values the first one stays.

        Args:
            value: how good the case is; more is better.
            number: of its photograph.
            mask: name of its mask.
        """
        case = value, number, mask
        if self._best is None or value > self._best[0]:
            self._best = case
        if self._worst is None or value < self._worst[0]:
            self._worst = case
        push = heapq.heappush if len(self._sample) < MEDIAN_SAMPLE else heapq.heappushpop
        push(self._sample, (-zlib.crc32(mask.encode()), *case))

    def chosen(self) -> Iterator[tuple[int, str]]:
        """Number and mask of the best, the median and the worst case."""
        middle = sorted(case[1:] for case in self._sample)[len(self._sample) // 2]
        for _, number, mask in (self._best, middle, self._worst):
            yield number, mask


def _bin(value: float, bins: int) -> int:
    """Bin of a value; those outside [0, 1] go into the outer ones."""
    return min(bins - 1, max(0, int(value * bins)))
