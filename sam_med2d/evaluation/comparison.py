"""Two evaluations compared: their cases and settings read back, paired differences with intervals."""

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sam_med2d.choices import METRICS
from sam_med2d.errors import UsageError
from sam_med2d.evaluation.bootstrap import Bootstrap, mean_and_interval, photograph_key
from sam_med2d.evaluation.summary import LOWER_IS_BETTER
from sam_med2d.visualization.labels import IN_PIXELS

DIGEST_FLAGS = {"weights": "sam_checkpoint", "data": "data_path"}  # where the settings hold a digest alone
Runs = tuple[Path, Path]


class CaseScore(NamedTuple):
    """What a line of cases.csv says of one metric; `value` is NaN where it is undefined."""

    data_set: str
    image: str
    mask: str
    structure: str
    prompt: str
    value: float


def check_runs(runs: Runs) -> None:
    """Refuse folders (UsageError) that are one, or lack a file of a finished run."""
    if runs[0].resolve() == runs[1].resolve():
        raise UsageError(f"{runs[0]} and {runs[1]} are the same folder: give two runs.")
    for path in (run / name for run in runs for name in ("cases.csv", "summary.json")):
        if not path.is_file():
            raise UsageError(f"{path} is missing: give folders of finished runs of test.py, <work_dir>/<run_name>.")


def _read_cases(run: Path, metric: str) -> Iterator[CaseScore]:
    """The cases of a run with their values of a metric, in the order of the file.

    Raises:
        UsageError: cases.csv is damaged, or lacks the metric.
    """
    path = run / "cases.csv"
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        *columns, _ = CaseScore._fields
        if missing := [name for name in columns if name not in names]:
            raise UsageError(f"{path} has no column {', '.join(missing)}: run test.py again.")
        if metric not in METRICS or metric not in names:
            known = ", ".join(name for name in METRICS if name in names)
            raise UsageError(f"--metric {metric}: {path} has {known}; others need test.py --metrics.")
        places = [names.index(name) for name in (*columns, metric)]
        for cells in lines:
            try:
                *place, value = (cells[i] for i in places)
                case = CaseScore(*place, float(value))
            except (IndexError, ValueError) as error:
                raise UsageError(f"{path}, line {lines.line_num} is damaged ({error}): run test.py again.") from error
            yield case


def _read_summary(run: Path) -> dict[str, Any]:
    """What summary.json of a run holds, with its "flags" and "settings". Raises UsageError where it is damaged."""
    path = run / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): run test.py again.") from error
    flags, settings = (summary.get(name, {}) if isinstance(summary, dict) else None for name in ("flags", "settings"))
    if not isinstance(flags, dict) or not isinstance(settings, dict) or not flags.keys() >= set(DIGEST_FLAGS.values()):
        raise UsageError(f"{path} is damaged (not the flags and settings of a run): run test.py again.")
    return summary


def _differing_settings(runs: Runs) -> dict[str, list[Any]]:
    """{name: values of both} of what decided two runs' numbers and differs; None for what a run does not know."""
    summaries = [_read_summary(run) for run in runs]
    first, second = (_flat(summary.get("settings", {})) for summary in summaries)
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    differing = {name: [first.get(name), second.get(name)] for name in names}
    for name in DIGEST_FLAGS.keys() & differing.keys():
        labels = [summary["flags"][DIGEST_FLAGS[name]] for summary in summaries]
        differing[name] = [
            f"{setting_text(label)} ({digest})" for label, digest in zip(labels, differing[name], strict=True)
        ]
    return differing


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without inner dicts: {"a": {"b": 1}} becomes {"a.b": 1}."""
    flat = {}
    for name, value in settings.items():
        flat |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def setting_text(value: Any) -> str:
    """A setting in words; the items of a list with spaces between."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


# n photographs without a difference are of one sign by chance in 2 ** (1 - n): below 5 % from 6 on
FEWEST_PHOTOGRAPHS = 6
StructureAndPrompt = tuple[str | None, str]  # structure: None for all of them


class _PairedDifferences:
    """Sums and counts of paired differences, second run minus first, by structure and prompt.

    Attributes:
        scale: what a difference is multiplied with: of a share it is in points (hundredths), of a distance in pixels.
        better: sign of a difference that is an improvement.
        counts: pairs and photographs of each structure and prompt, and how many pairs are better, equal and worse.
        cases: number of "pairs", of cases "only_first" or "only_second", and of those that are undefined in one run or
            in both.
    """

    def __init__(self, metric: str) -> None:
        """Begin without a case of the metric."""
        self.scale = 1 if metric in IN_PIXELS else 100
        self.better = -1 if metric in LOWER_IS_BETTER else 1
        self.bootstrap = Bootstrap()
        self.counts: dict[StructureAndPrompt, Counter[str]] = {}
        self.cases: Counter[str] = Counter()

    def add(self, image: str, pairs: Iterable[tuple[float | None, CaseScore]]) -> None:
        """Take in a photograph: each case that it has in the second run, after its value in the first run or None."""
        found: dict[StructureAndPrompt, list[float]] = {}
        for value, case in pairs:
            kind = _kind(value, case.value)
            self.cases[kind] += 1
            if kind == "pairs":
                for structure in (case.structure, None):
                    found.setdefault((structure, case.prompt), []).append(self.scale * (case.value - value))
        for place, differences in found.items():
            counts = self.counts.setdefault(place, Counter(better=0, equal=0, worse=0))
            signs = np.sign(self.better * np.array(differences)).astype(int)
            counts.update(("equal", "better", "worse")[sign] for sign in signs)
            counts.update(photographs=1, pairs=len(differences))
        sums = {("sum", *place): math.fsum(differences) for place, differences in found.items()}
        self.bootstrap.add(image, sums | {("count", *place): len(found[place]) for place in found})

    def entries(self, structure: str | None = None) -> dict[str, dict[str, Any]]:
        """The differences of a structure, or of all of them.

        Returns:
            {prompt: mean "difference", "ci95", whether that "excludes_0", and the counts}.
        """
        return {prompt: self._entry((name, prompt)) for name, prompt in self.counts if name == structure}

    def structures(self) -> list[str]:
        """Names of all structures that have a pair."""
        return sorted({name for name, _ in self.counts if name is not None})

    def _entry(self, place: StructureAndPrompt) -> dict[str, Any]:
        """Mean, interval and counts of a structure and prompt."""
        counts = self.counts[place]
        mean, interval = mean_and_interval(*(self.bootstrap.sums([(kind, *place)]) for kind in ("sum", "count")))
        if counts["photographs"] == 1:  # each replicate is the same
            interval = [math.nan, math.nan]
        excludes_0 = counts["photographs"] >= FEWEST_PHOTOGRAPHS and (interval[0] > 0 or interval[1] < 0)
        return {"difference": mean, "ci95": interval, "excludes_0": excludes_0, **counts}


def _kind(first: float | None, second: float) -> str:
    """What a case of the second run and its value in the first one are counted as."""
    if first is None:
        return "only_second"
    undefined = math.isnan(first), math.isnan(second)
    return {(False, False): "pairs", (True, True): "undefined_both"}.get(
        undefined, "undefined_first" if undefined[0] else "undefined_second"
    )


def _paired_differences(runs: Runs, metric: str) -> _PairedDifferences:
    """Pair the cases of two runs by data set, mask and prompt. Raises UsageError without a pair."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for case in _read_cases(runs[0], metric):
        # a mask's name is kept once for all its prompts
        values.setdefault((case.data_set, case.prompt), {})[sys.intern(case.mask)] = case.value
    differences, data_path = _PairedDifferences(metric), _read_summary(runs[1])["flags"]["data_path"]
    for (_, image), cases in groupby(_read_cases(runs[1], metric), key=lambda case: (case.data_set, case.image)):
        pairs = [(values.get((case.data_set, case.prompt), {}).pop(case.mask, None), case) for case in cases]
        differences.add(photograph_key(image, data_path), pairs)
    differences.cases["only_first"] = sum(map(len, values.values()))
    if not differences.counts:
        raise UsageError(_why_no_pairs(runs, metric, differences.cases))
    return differences


def _why_no_pairs(runs: Runs, metric: str, cases: Counter[str]) -> str:
    """A sentence on two runs without a common case that is defined in both."""
    if undefined := sum(number for kind, number in cases.items() if kind.startswith("undefined")):
        return f"{metric} is undefined in one run or both for all {undefined} common cases: give another --metric."
    heads = [next(_read_cases(run, metric), None) for run in runs]
    keys = [f"{case.data_set}, {case.mask}, {case.prompt}" if case else "nothing" for case in heads]
    starts = [f"{run} begins with {key}" for run, key in zip(runs, keys, strict=True)]
    return f"no case is in both runs; data set, mask and prompt must agree: {'; '.join(starts)}."


def compare_runs(runs: Runs, metric: str) -> dict[str, Any]:
    """Compare two runs.

    Args:
        runs: result folders, before and after.
        metric: whose values are compared.

    Returns:
        What compare.json holds: the differences of each structure and of all of them, the numbers of cases, and the
        settings that differ.

    Raises:
        UsageError: there is no pair, or a file cannot be read.
    """
    differences = _paired_differences(runs, metric)
    names = [run.resolve().name for run in runs]
    return {
        "runs": names if names[0] != names[1] else [str(run) for run in runs],
        "metric": metric,
        "unit": "pixels" if metric in IN_PIXELS else "points",
        "lower_is_better": metric in LOWER_IS_BETTER,
        "cases": dict(differences.cases),
        "differing_settings": _differing_settings(runs),
        "structures": {name: differences.entries(name) for name in differences.structures()},
        "overall": differences.entries(),
    }
