"""The results of two evaluations, read back to compare them: their cases and their settings."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sam_med2d.choices import METRICS
from sam_med2d.errors import UsageError

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
    """Refuse what are not the result folders of two runs.

    Args:
        runs: the folders.

    Raises:
        UsageError: they are one folder, or a file is missing.
    """
    if runs[0].resolve() == runs[1].resolve():
        raise UsageError(f"{runs[0]} and {runs[1]} are the same folder: give two runs.")
    for path in (run / name for run in runs for name in ("cases.csv", "summary.json")):
        if not path.is_file():
            raise UsageError(f"{path} is missing: give folders of finished runs of test.py, <work_dir>/<run_name>.")


def read_cases(run: Path, metric: str) -> Iterator[CaseScore]:
    """Read the cases of a run, one by one.

    Args:
        run: its folder.
        metric: whose values are read.

    Yields:
        The cases in the order of the file.

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


def read_summary(run: Path) -> dict[str, Any]:
    """Read the summary of a run.

    Args:
        run: its folder.

    Returns:
        What summary.json holds; "flags" are there.

    Raises:
        UsageError: it is damaged.
    """
    path = run / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): run test.py again.") from error
    flags, settings = (summary.get(name, {}) if isinstance(summary, dict) else None for name in ("flags", "settings"))
    if not isinstance(flags, dict) or not isinstance(settings, dict) or not flags.keys() >= set(DIGEST_FLAGS.values()):
        raise UsageError(f"{path} is damaged (not the flags and settings of a run): run test.py again.")
    return summary


def differing_settings(runs: Runs) -> dict[str, list[Any]]:
    """What decided the numbers of two runs and is not the same.

    Args:
        runs: their folders.

    Returns:
        {name: values of both}; None for a setting that a run does not know.

    Raises:
        UsageError: a summary is damaged.
    """
    summaries = [read_summary(run) for run in runs]
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
    """A setting in words.

    Args:
        value: of the setting.

    Returns:
        The text; of a list the items with spaces between.
    """
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
