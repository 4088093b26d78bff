"""Two evaluations compared: paired differences of their cases, with intervals."""

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from sam_med2d.choices import METRICS
from sam_med2d.errors import UsageError
from sam_med2d.evaluation.bootstrap import Bootstrap, mean_and_interval
from sam_med2d.evaluation.summary import LOWER_IS_BETTER
from sam_med2d.runtime.json_files import write_summary
from sam_med2d.runtime.run_folder import make_folder
from sam_med2d.visualization import evaluation_plots
from sam_med2d.visualization.labels import IN_PIXELS, metric_title, prompt_heading
from sam_med2d.visualization.tables import markdown_table
from segment_anything.utils.atomic import write_text

FEW = 6  # n photographs without a difference are of one sign by chance in 2 ** (1 - n): below 5 % from 6 on
# settings on which the clicks depend, besides the predictions
CLICKS = ("--seed", "--point_num", "--prompt_path", "preprocessing.image_size", "preprocessing.mode")
FLAGS = {"weights": "sam_checkpoint", "data": "data_path"}  # where the settings hold a digest alone
Runs = tuple[Path, Path]
Place = tuple[str | None, str]  # structure, None for all of them, and prompt


class CaseScore(NamedTuple):
    """A line of cases.csv; `value` is the metric's, NaN where it is undefined."""

    data_set: str
    image: str
    mask: str
    structure: str
    prompt: str
    value: float


def check_runs(runs: Runs) -> None:
    """Raise UsageError unless these are the result folders of two runs."""
    if runs[0].resolve() == runs[1].resolve():
        raise UsageError(f"{runs[0]} and {runs[1]} are the same folder: give two runs.")
    for path in (run / name for run in runs for name in ("cases.csv", "summary.json")):
        if not path.is_file():
            raise UsageError(f"{path} is missing: give folders of finished runs of test.py, <work_dir>/<run_name>.")


def read_cases(run: Path, metric: str) -> Iterator[CaseScore]:
    """Cases of a run, in its order. Raises UsageError for a file that is not test.py's or lacks the metric."""
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


def read_summary(run: Path) -> dict[str, Any]:
    """summary.json of a run. Raises UsageError for a damaged one."""
    path = run / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): run test.py again.") from error
    flags, settings = (summary.get(name, {}) if isinstance(summary, dict) else None for name in ("flags", "settings"))
    if not isinstance(flags, dict) or not isinstance(settings, dict) or not flags.keys() >= set(FLAGS.values()):
        raise UsageError(f"{path} is damaged (not the flags and settings of a run): run test.py again.")
    return summary


def differing_settings(runs: Runs) -> dict[str, list[Any]]:
    """{name: values of the two runs} of what decided their numbers and is not the same."""
    summaries = [read_summary(run) for run in runs]
    first, second = (_flat(summary.get("settings", {})) for summary in summaries)
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    differing = {name: [first.get(name), second.get(name)] for name in names}
    for name in FLAGS.keys() & differing.keys():
        labels = [summary["flags"][FLAGS[name]] for summary in summaries]
        differing[name] = [f"{_text(label)} ({digest})" for label, digest in zip(labels, differing[name], strict=True)]
    return differing


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without inner dicts: {"a": {"b": 1}} becomes {"a.b": 1}."""
    flat = {}
    for name, value in settings.items():
        flat |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


class Differences:
    """Sums and counts of paired differences, second run minus first, by structure and prompt.

    Those of a share are in points (hundredths), those of a distance in pixels. `cases` counts all cases: "pairs",
    "only_first", "only_second", and those that are undefined in one run or in both.
    """

    def __init__(self, metric: str) -> None:
        self.scale = 1 if metric in IN_PIXELS else 100
        self.better = -1 if metric in LOWER_IS_BETTER else 1  # sign of a difference that is an improvement
        self.bootstrap = Bootstrap()
        self.counts: dict[Place, Counter[str]] = {}
        self.cases: Counter[str] = Counter()

    def add(self, image: str, pairs: Iterable[tuple[float | None, CaseScore]]) -> None:
        """Add all cases that a photograph has in the second run, with their values in the first; None for none."""
        found: dict[Place, list[float]] = {}
        for value, case in pairs:
            kind = _kind(value, case.value)
            self.cases[kind] += 1
            if kind == "pairs":
                for structure in (case.structure, None):
                    found.setdefault((structure, case.prompt), []).append(self.scale * (case.value - value))
        for place, differences in found.items():
            counts = self.counts.setdefault(place, Counter(better=0, equal=0, worse=0))
            counts.update(("equal", "better", "worse")[_sign(self.better * value)] for value in differences)
            counts.update(photographs=1, pairs=len(differences))
        sums = {("sum", *place): math.fsum(differences) for place, differences in found.items()}
        self.bootstrap.add(image, sums | {("count", *place): len(found[place]) for place in found})

    def entries(self, structure: str | None = None) -> dict[str, dict[str, Any]]:
        """Mean difference, its interval and the counts of each prompt of a structure, or of all structures."""
        return {prompt: self._entry((name, prompt)) for name, prompt in self.counts if name == structure}

    def structures(self) -> list[str]:
        return sorted({name for name, _ in self.counts if name is not None})

    def _entry(self, place: Place) -> dict[str, Any]:
        counts = self.counts[place]
        mean, interval = mean_and_interval(*(self.bootstrap.sums([(kind, *place)]) for kind in ("sum", "count")))
        if counts["photographs"] == 1:  # each replicate is the same
            interval = [math.nan, math.nan]
        excludes_0 = counts["photographs"] >= FEW and (interval[0] > 0 or interval[1] < 0)
        return {"difference": mean, "ci95": interval, "excludes_0": excludes_0, **counts}


def _kind(first: float | None, second: float) -> str:
    """What a case of the second run and its value in the first one are counted as."""
    if first is None:
        return "only_second"
    undefined = math.isnan(first), math.isnan(second)
    return {(False, False): "pairs", (True, True): "undefined_both"}.get(
        undefined, "undefined_first" if undefined[0] else "undefined_second"
    )


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def pair(runs: Runs, metric: str) -> Differences:
    """Differences of all pairs. Raises UsageError where there is none."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for case in read_cases(runs[0], metric):
        # a mask's name is kept once for all its prompts
        values.setdefault((case.data_set, case.prompt), {})[sys.intern(case.mask)] = case.value
    differences = Differences(metric)
    for image, cases in groupby(read_cases(runs[1], metric), key=lambda case: (case.data_set, case.image)):
        pairs = [(values.get((case.data_set, case.prompt), {}).pop(case.mask, None), case) for case in cases]
        differences.add("/".join(image), pairs)
    differences.cases["only_first"] = sum(map(len, values.values()))
    if not differences.counts:
        raise UsageError(_why_no_pairs(runs, metric, differences.cases))
    return differences


def _why_no_pairs(runs: Runs, metric: str, cases: Counter[str]) -> str:
    if undefined := sum(number for kind, number in cases.items() if kind.startswith("undefined")):
        return f"{metric} is undefined in one run or both for all {undefined} common cases: give another --metric."
    heads = [next(read_cases(run, metric), None) for run in runs]
    starts = [f"{run} begins with {_key(case)}" for run, case in zip(runs, heads, strict=True)]
    return f"no case is in both runs; data set, mask and prompt must agree: {'; '.join(starts)}."


def _key(case: CaseScore | None) -> str:
    return f"{case.data_set}, {case.mask}, {case.prompt}" if case else "nothing"


def comparison(runs: Runs, metric: str) -> dict[str, Any]:
    """All results of two runs, as in compare.json."""
    differences = pair(runs, metric)
    names = [run.resolve().name for run in runs]
    return {
        "runs": names if names[0] != names[1] else [str(run) for run in runs],
        "metric": metric,
        "unit": "pixels" if metric in IN_PIXELS else "points",
        "lower_is_better": metric in LOWER_IS_BETTER,
        "cases": dict(differences.cases),
        "differing_settings": differing_settings(runs),
        "structures": {name: differences.entries(name) for name in differences.structures()},
        "overall": differences.entries(),
    }


def differences_table(found: dict[str, Any]) -> str:
    """A line for each structure and prompt; bold where the interval excludes 0."""
    lines = []
    for name, prompts in (found["structures"] | {"all": found["overall"]}).items():
        for prompt, entry in prompts.items():
            low, high = entry["ci95"]
            interval = "-" if math.isnan(low) else f"[{low:+.2f}, {high:+.2f}]"
            difference = f"{entry['difference']:+.2f} {interval}"
            marked = f"**{difference}**" if entry["excludes_0"] else difference
            counts = [str(entry[count]) for count in ("better", "equal", "worse", "pairs", "photographs")]
            lines.append([name, prompt_heading(prompt), marked, *counts])
    headings = ["Structure", "Prompt", f"Difference, {found['unit']}", "Better", "Equal", "Worse"]
    return markdown_table([*headings, "Pairs", "Photographs"], lines)


def as_markdown(found: dict[str, Any]) -> str:
    """The table, what belongs to reading it, and how the runs differ."""
    first, second = found["runs"]
    direction = "lower is better" if found["lower_is_better"] else "higher is better"
    title = metric_title(found["metric"]) + " in pixels" * (found["metric"] in IN_PIXELS)
    parts = [
        f"# {second} minus {first}: {title}",
        *(f"Warning: {line}" for line in _warnings(found)),
        f"Mean differences in {found['unit']} ({direction}), in brackets 95 % intervals from a paired bootstrap over "
        f"photographs. A difference is bold where the interval excludes 0 and there are at least {FEW} photographs; "
        "of many rows without any difference about one in twenty has such an interval by chance.",
        differences_table(found),
        _counts(found),
        "## Settings that differ",
        _settings_table(found) if found["differing_settings"] else "None.",
    ]
    return "\n\n".join(parts) + "\n"


def _counts(found: dict[str, Any]) -> str:
    """A sentence for the cases that are in no pair."""
    cases, (first, second) = Counter(found["cases"]), found["runs"]
    return (
        f"{cases['pairs']} pairs. Only in {first}: {cases['only_first']} cases; only in {second}: "
        f"{cases['only_second']}. Undefined in {first} alone: {cases['undefined_first']}; in {second} alone: "
        f"{cases['undefined_second']}; in both: {cases['undefined_both']}."
    )


def _warnings(found: dict[str, Any]) -> list[str]:
    """What is not due to the models alone."""
    differing = found["differing_settings"]
    lines = [
        f"the runs differ in {name}: only what both have is compared."
        for name in ("data", "--prompts")
        if name in differing
    ]
    if names := [name for name in CLICKS if name in differing]:
        lines.append(f"the runs differ in {', '.join(names)}, so their clicks do: part of the differences is theirs.")
    if found["metric"] == "nsd" and "--nsd_tolerance" in differing:
        lines.append("the runs differ in --nsd_tolerance: their NSD cannot be compared.")
    return lines


def _settings_table(found: dict[str, Any]) -> str:
    lines = [[name, *map(_text, values)] for name, values in found["differing_settings"].items()]
    return markdown_table(["Setting", *found["runs"]], lines)


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def draw(path: Path, found: dict[str, Any]) -> bool:
    """Draw the differences; False where there is none to draw."""
    rows = found["structures"] | {"all": found["overall"]}
    dots = {
        name: {p: (entry["difference"], *entry["ci95"], entry["pairs"]) for p, entry in prompts.items()}
        for name, prompts in rows.items()
    }
    title = metric_title(found["metric"]) + " (lower is better)" * found["lower_is_better"]
    return evaluation_plots.plot_differences(path, dots, title, unit=found["unit"], runs=tuple(found["runs"]))


def write_comparison(runs: Runs, metric: str, out: Path | None = None) -> None:
    """Compare two runs, print the table, and write it with its picture.

    Args:
        runs: result folders of test.py, before and after.
        metric: one of METRICS that both runs have.
        out: folder of compare.md, compare.json and compare.png; None for one in the second run.

    Raises:
        UsageError: for folders that are no runs, or lack the metric.
    """
    check_runs(runs)
    found = comparison(runs, metric)
    out = make_folder(out or runs[1] / f"compare_{runs[0].resolve().name}", "--out")
    text = as_markdown(found)
    write_summary(out / "compare.json", found)
    files = ["compare.md", "compare.json"]
    if draw(out / "compare.png", found):
        files.append("compare.png")
        text += "\n![differences](compare.png)\n"
    write_text(out / "compare.md", text)
    print(f"{text}\nresults: {out}/{', '.join(files)}")
