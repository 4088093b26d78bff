"""Summaries and rows of an evaluation -> cases.csv, plots and report.md."""

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from sam_med2d.evaluation.case_row import CEILING, CaseRow
from sam_med2d.evaluation.summary import RunningSummary
from sam_med2d.visualization import evaluation_plots
from sam_med2d.visualization.labels import IN_PIXELS, WITH_TOLERANCE, metric_title, prompt_heading
from sam_med2d.visualization.tables import markdown_table, write_csv
from segment_anything.utils.atomic import write_text

RESOLUTION_LIMIT = "Resolution limit"
RESOLUTION_LIMIT_NOTE = (
    f"{RESOLUTION_LIMIT}: Dice of the true masks themselves, drawn on the grid that the model writes on and brought "
    "back."
)
Means = dict[str, dict[str, Any]]  # of each prompt


def write_cases(path: Path, rows: Iterable[CaseRow]) -> None:
    """Write one CSV line for each row, atomically; the rows are taken one by one.

    Args:
        path: of the file.
        rows: at least one, all with the same metrics.
    """
    columns = (row.as_columns() for row in rows)
    first = next(columns)
    write_csv(path, list(first), chain([first], columns))


def draw(out: Path, running: RunningSummary, summary: dict[str, Any]) -> list[str]:
    """Draw the plots that the metrics allow, and remove the others of an earlier run.

    Args:
        out: folder of the plots.
        running: the histograms and the calibration.
        summary: `running.summary()`.

    Returns:
        File names of the plots.
    """
    kinds = {
        "boxes.png": lambda path: evaluation_plots.plot_boxes(path, running.histograms),
        "clicks.png": lambda path: evaluation_plots.plot_clicks(path, summary, running.main),
        "calibration.png": lambda path: evaluation_plots.plot_calibration(path, running.calibration),
    }
    drawn = []
    for name, plot in kinds.items():
        if plot(out / name):
            drawn.append(name)
        else:
            (out / name).unlink(missing_ok=True)
    return drawn


def write_report(path: Path, summary: dict[str, Any], pictures: Sequence[str]) -> None:
    """Write the tables and pictures of a run in Markdown.

    Args:
        path: of the file.
        summary: what summary.json holds: the means of `RunningSummary.summary`, with flags and settings of the run.
        pictures: file names, below the folder of `path`.
    """
    flags, metrics = summary["flags"], summary["flags"]["metrics"]
    main = "dice" if "dice" in metrics else metrics[0]
    data, region = flags["data_path"], flags.get("region")
    parts = [
        f"# {flags['run_name']}",
        f"Data: {', '.join(data) if isinstance(data, list) else data}. "
        f"Weights: {flags['sam_checkpoint']}.\nMeans over masks, in % if nothing else is said; in brackets 95 % "
        f"intervals from a bootstrap over the {summary['images']} photographs."
        + (f" All metrics count the pixels of the {region.replace('_', ' ')}." if region else ""),
        *_scores(summary, main),
    ]
    if failed := summary["failed"]:
        parts.append("**Files that could not be read:**\n\n" + "\n".join(f"- {line}" for line in failed))
    parts += _data_sets(summary, main) + _false_positives(summary["absent"])
    parts += ["## Pictures", *(f"![{Path(name).stem}]({name})" for name in pictures)]
    write_text(path, "\n\n".join(parts) + "\n")


def _system_table(name: str, resolution: int, summary: dict[str, Any], metric: str = "dice") -> str:
    """SAM-Med2D's table of one system: the score of each prompt of summary["overall"], and images per second."""
    prompts = summary["overall"]
    headings = ["Model", "Resolution", *map(prompt_heading, prompts), "FPS"]
    scores = [number(means[metric], metric) for means in prompts.values()]
    return markdown_table(headings, [[name, f"{resolution}x{resolution}", *scores, f"{summary['fps']:.1f}"]])


def _means_table(title: str, entries: dict[str, Means], metric: str) -> str:
    """A line for each entry: number of masks that have the metric, mean and interval of each prompt.

    For Dice also the resolution limit where it was computed.
    """
    prompts = list(dict.fromkeys(prompt for means in entries.values() for prompt in means))
    limits = metric == "dice" and all(CEILING in entry for means in entries.values() for entry in means.values())
    lines = []
    for name, means in entries.items():
        masks = max(entry["masks"] - entry["excluded"][metric] for entry in means.values())
        lines.append([name, str(masks), *(_with_interval(means[p], metric) if p in means else "-" for p in prompts)])
        lines[-1] += [_resolution_limit(means)] if limits else []
    return markdown_table([title, "Masks", *map(prompt_heading, prompts), *[RESOLUTION_LIMIT] * limits], lines)


def number(value: float, metric: str) -> str:
    """A score as it stands in a table.

    Args:
        value: the score.
        metric: which one it is.

    Returns:
        Two decimals, in percent but for metrics in pixels; "-" for NaN.
    """
    return "-" if math.isnan(value) else f"{value if metric in IN_PIXELS else 100 * value:.2f}"


def _resolution_limit(means: Means) -> str:
    """The limit, or that of each prompt where they differ: of one mask or all of a structure, of windows."""
    values = {prompt: number(entry[CEILING], CEILING) for prompt, entry in means.items()}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    prompts_of = {value: [prompt_heading(p) for p, v in values.items() if v == value] for value in values.values()}
    return ", ".join(f"{value} ({', '.join(prompts)})" for value, prompts in prompts_of.items())


def _defined(means: Means, metric: str) -> bool:
    """Whether any case has the metric."""
    return not all(math.isnan(entry[metric]) for entry in means.values())


def _with_interval(entry: dict[str, Any], metric: str) -> str:
    """A mean with its interval in brackets, if it has one."""
    mean, (low, high) = entry[metric], entry[f"{metric}_ci95"]
    interval = "" if math.isnan(low) else f" [{number(low, metric)}, {number(high, metric)}]"
    return number(mean, metric) + interval


def _scores(summary: dict[str, Any], main: str) -> list[str]:
    """The tables of scores; none where healthy photographs alone were tested."""
    size, overall, flags = summary["preprocessing"]["image_size"], summary["overall"], summary["flags"]
    windows = [summary["windows"]] if summary["windows"] else []
    if not overall:
        return windows
    system = _system_table(flags["run_name"], size, summary, main)
    parts = [f"## {_title(main)}", system, f"FPS: {summary['fps_covers']}.", *windows, *_notes(overall, size)]
    for metric in dict.fromkeys([main, *flags["metrics"]]):
        entries = {name: m for name, m in summary["structures"].items() if _defined(m, metric)} | {"all": overall}
        unit = f"\n\nTolerance: {summary['nsd_tolerance']:g} pixels." if metric in WITH_TOLERANCE else ""
        parts += [f"## {_title(metric)} by structure{unit}", _means_table("Structure", entries, metric)]
        parts += [RESOLUTION_LIMIT_NOTE] if metric == "dice" and CEILING in next(iter(overall.values())) else []
    return parts


def _data_sets(summary: dict[str, Any], metric: str) -> list[str]:
    """Sections for several data sets: each one with the sum weighted by masks, then each structure in each."""
    sets = summary["data_sets"]
    if len(sets) < 2:
        return []
    whole = {name: {p: means for p, means in entry.items() if p != "structures"} for name, entry in sets.items()}
    parts = {f"{s}, {name}": means for name, entry in sets.items() for s, means in entry["structures"].items()}
    return [
        f"## {_title(metric)} by data set",
        _means_table("Data set", whole | {"weighted sum": summary["overall"]}, metric),
        f"## {_title(metric)} by structure and data set",
        _means_table("Structure, data set", dict(sorted(parts.items())), metric),
    ]


def _false_positives(absent: dict[str, dict[str, Any]]) -> list[str]:
    """A section on structure prompts on photographs that are known to be without the structure."""
    if not absent:
        return []
    lines = [
        [name, str(entry["photographs"]), _with_interval(entry, "false_positive")] for name, entry in absent.items()
    ]
    return [
        "## False positives on photographs without the structure",
        "Photographs known to be without the structure, and the share of them in which the predicted mask is not "
        "empty.",
        markdown_table(["Structure", "Photographs", "False positives, %"], lines),
    ]


def _notes(overall: Means, size: int) -> list[str]:
    """What a reader must know of the cases behind the means."""
    entries = overall.items()
    notes = []
    if vanished := max(entry["vanished"] for _, entry in entries):
        notes.append(f"{vanished} mask(s) vanished at {size} px: scored as empty predictions, no prompt was given.")
    if any(entry["missed"] for _, entry in entries):
        missed = ", ".join(f"{entry['missed']} of {entry['masks']} ({prompt_heading(p)})" for p, entry in entries)
        notes.append(f"Missed, that is predicted empty (Dice 0, HD95 the photograph's diagonal): {missed}.")
    for metric in next(iter(overall.values()))["excluded"]:
        counts = ", ".join(f"{entry['excluded'][metric]} ({prompt_heading(p)})" for p, entry in entries)
        if any(entry["excluded"][metric] for _, entry in entries):
            notes.append(f"Undefined and left out of the mean of {metric}: {counts}.")
    return notes


def _title(metric: str) -> str:
    """A metric's name as a heading, with its unit."""
    return metric_title(metric) + " in pixels" * (metric in IN_PIXELS)
