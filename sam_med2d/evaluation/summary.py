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
from typing import Any

import numpy as np

from sam_med2d.evaluation.bootstrap import Bootstrap, mean_and_interval

BINS = 1000  # of a histogram over [0, 1]
CALIBRATION_BINS = 50
LOWER_IS_BETTER = ("hd95", "vcdr")  # of the metrics
ABSENT = "absent"
SAMPLE = 1000  # cases of a structure among which its median case is looked for

Row = dict[str, Any]
Place = tuple[str, str, str]  # data set, structure and prompt


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN, whatever their order; NaN when there is none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else float("nan")


class RunningSummary:
    """Means by data set, structure and prompt, with histograms and picked cases.

    A row has mask, image, data_set, structure, prompt, the metrics, predicted_iou, vanished and missed. Rows that are
    `absent`, of structures that are not in their photograph, count for the false-positive rate alone.
    """

    def __init__(self, metrics: Sequence[str], *, seed: int = 0) -> None:
        self.metrics = list(metrics)
        self.main = "dice" if "dice" in metrics else self.metrics[0]
        self.bootstrap = Bootstrap(seed)
        self.counts: dict[Place, Counter[str]] = {}
        self.histograms: dict[str, dict[str, np.ndarray]] = {}
        self.calibration = np.zeros((CALIBRATION_BINS, CALIBRATION_BINS), np.int64)
        self.representatives: dict[str, RepresentativeCases] = {}
        self._photographs: dict[Place, set[str]] = {}  # the first two of each place
        self.absent: set[str] = set()
        self.images = 0

    def add(self, number: int, rows: Sequence[Row]) -> None:
        """Add all rows of photograph `number`."""
        values: dict[Any, float] = {}
        for row in (row for row in rows if row.get("absent")):
            for kind, value in (("count", 1.0), ("sum", float(row["predicted_area"] > 0))):
                values[kind, ABSENT, row["structure"]] = value
            self.absent.add(row["structure"])
        drawn = [row for row in rows if not row.get("absent")]
        for row in drawn:
            place = row["data_set"], row["structure"], row["prompt"]
            counts = self.counts.setdefault(place, Counter())
            counts.update(masks=1, vanished=row["vanished"], missed=row["missed"])
            photographs = self._photographs.setdefault(place, set())
            if len(photographs) < 2:
                photographs.add(row["image"])
            for metric in self.metrics:
                known = not math.isnan(row[metric])
                counts[metric] += known
                if known:
                    for kind, value in (("sum", row[metric]), ("count", 1.0)):
                        values[kind, metric, place] = values.get((kind, metric, place), 0.0) + value
            self._draw(row)
        self.bootstrap.add(f"{rows[0]['data_set']}/{rows[0]['image']}", values)
        for mask, cases in groupby(drawn, key=lambda row: row["mask"]):
            cases = list(cases)
            value = mean([row[self.main] for row in cases]) * (-1 if self.main in LOWER_IS_BETTER else 1)
            if not math.isnan(value):
                self.representatives.setdefault(cases[0]["structure"], RepresentativeCases()).add(value, number, mask)
        self.images += 1

    def _draw(self, row: Row) -> None:
        """Take a row into the histograms."""
        if "dice" in row and not math.isnan(row["dice"]):
            prompts = self.histograms.setdefault(row["structure"], {})
            histogram = prompts.setdefault(row["prompt"], np.zeros(BINS, np.int64))
            histogram[_bin(row["dice"], BINS)] += 1
        if "iou" in row and not math.isnan(row["iou"]) and not math.isnan(row["predicted_iou"]):
            at = _bin(row["predicted_iou"], CALIBRATION_BINS), _bin(row["iou"], CALIBRATION_BINS)
            self.calibration[at] += 1

    def summary(self) -> dict[str, Any]:
        """{"overall": {prompt: means}, "structures": {name: the same}, "data_sets": {name: the same and "structures"}}.

        Means: each metric, its `<metric>_ci95`, the numbers of masks, of vanished and of missed ones, and of the
        values that were `excluded` from each metric because they are undefined. And "absent": {structure: photographs
        without it in which it was asked for, share of these in which it was `false_positive`, with interval}.
        """
        data_sets, structures = (sorted({place[part] for place in self.counts}) for part in (0, 1))
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
        sums, counts = (self.bootstrap.sums([(kind, ABSENT, structure)]) for kind in ("sum", "count"))
        share, interval = mean_and_interval(sums, counts)
        return {"photographs": int(counts[0]), "false_positive": share, "false_positive_ci95": interval}

    def _means(self, data_set: str | None = None, structure: str | None = None) -> dict[str, dict[str, Any]]:
        """Means of each prompt over the cases of a data set or structure, or over all."""
        places = [p for p in self.counts if data_set in (None, p[0]) and structure in (None, p[1])]
        prompts = dict.fromkeys(place[2] for place in places)
        return {prompt: self._entry([place for place in places if place[2] == prompt]) for prompt in prompts}

    def _entry(self, places: Sequence[Place]) -> dict[str, Any]:
        counts = sum((self.counts[place] for place in places), Counter())
        single = len(set().union(*(self._photographs[place] for place in places))) < 2  # nothing to resample
        entry: dict[str, Any] = {}
        for metric in self.metrics:
            sums, numbers = (self.bootstrap.sums((kind, metric, p) for p in places) for kind in ("sum", "count"))
            entry[metric], entry[f"{metric}_ci95"] = mean_and_interval(sums, numbers)
            if single:
                entry[f"{metric}_ci95"] = [math.nan, math.nan]
        entry |= {name: counts[name] for name in ("masks", "vanished", "missed")}
        return entry | {"excluded": {metric: counts["masks"] - counts[metric] for metric in self.metrics}}

    def representative_cases(self) -> list[tuple[int, str]]:
        """Photograph's number and mask of the best, the median and the worst case of each structure."""
        chosen = [
            case for structure in sorted(self.representatives) for case in self.representatives[structure].chosen()
        ]
        return list(dict.fromkeys(chosen))


def summarise(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Any]:
    """`RunningSummary.summary` of rows that are in memory, whatever their order."""
    running = RunningSummary(metrics)
    rows = sorted(rows, key=lambda row: (row["data_set"], row["image"], row["mask"]))
    for number, (_, own) in enumerate(groupby(rows, key=lambda row: (row["data_set"], row["image"]))):
        running.add(number, list(own))
    return running.summary()


class RepresentativeCases:
    """The best and the worst of a stream of cases, and the median of SAMPLE of them, chosen by their names."""

    def __init__(self) -> None:
        self._sample: list[tuple[int, float, int, str]] = []
        self._best: tuple[float, int, str] | None = None
        self._worst: tuple[float, int, str] | None = None

    def add(self, value: float, number: int, mask: str) -> None:
        """Take in a case; of equal values the first one stays."""
        case = value, number, mask
        if self._best is None or value > self._best[0]:
            self._best = case
        if self._worst is None or value < self._worst[0]:
            self._worst = case
        push = heapq.heappush if len(self._sample) < SAMPLE else heapq.heappushpop
        push(self._sample, (-zlib.crc32(mask.encode()), *case))

    def chosen(self) -> Iterator[tuple[int, str]]:
        """Number and mask of the best, the median and the worst case."""
        middle = sorted(case[1:] for case in self._sample)[len(self._sample) // 2]
        for _, number, mask in (self._best, middle, self._worst):
            yield number, mask


def _bin(value: float, bins: int) -> int:
    """Bin of a value; those outside [0, 1] go into the outer ones."""
    return min(bins - 1, max(0, int(value * bins)))
