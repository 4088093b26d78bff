"""The comparison of two evaluations as Markdown, JSON and a picture."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from sam_med2d.choices import REGIONS
from sam_med2d.evaluation.comparison import FEWEST_PHOTOGRAPHS, Runs, check_runs, compare_runs, setting_text
from sam_med2d.evaluation.metrics import SOFT
from sam_med2d.runtime.json_files import write_json
from sam_med2d.runtime.run_folder import make_folder
from sam_med2d.visualization import evaluation_plots
from sam_med2d.visualization.labels import IN_PIXELS, WITH_TOLERANCE, metric_title, prompt_heading
from sam_med2d.visualization.tables import markdown_table
from segment_anything.utils.atomic import write_text

# settings on which the clicks depend, besides the predictions
CLICK_SETTINGS = ("--seed", "--point_num", "--prompt_path", "preprocessing.image_size", "preprocessing.mode")


def differences_table(found: dict[str, Any]) -> str:
    """What `compare_runs` found as a table: a line for each structure and prompt, bold where that `excludes_0`."""
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


def _as_markdown(found: dict[str, Any]) -> str:
    """What `compare_runs` found as text: the table, what belongs to reading it, and how the runs differ."""
    first, second = found["runs"]
    direction = "lower is better" if found["lower_is_better"] else "higher is better"
    title = metric_title(found["metric"]) + " in pixels" * (found["metric"] in IN_PIXELS)
    settings = [[name, *map(setting_text, values)] for name, values in found["differing_settings"].items()]
    parts = [
        f"# {second} minus {first}: {title}",
        *(f"Warning: {line}" for line in _warnings(found)),
        f"Mean differences in {found['unit']} ({direction}), in brackets 95 % intervals from a paired bootstrap over "
        "photographs. A difference is bold where the interval excludes 0 and there are at least "
        f"{FEWEST_PHOTOGRAPHS} photographs; of many rows without any difference about one in twenty has such an "
        "interval by chance.",
        differences_table(found),
        _counts(found),
        "## Settings that differ",
        markdown_table(["Setting", first, second], settings) if settings else "None.",
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
    if names := [name for name in CLICK_SETTINGS if name in differing]:
        lines.append(f"the runs differ in {', '.join(names)}, so their clicks do: part of the differences is theirs.")
    if found["metric"] in WITH_TOLERANCE and "--nsd_tolerance" in differing:
        lines.append("the runs differ in --nsd_tolerance: their NSD cannot be compared.")
    usual = REGIONS[found["metric"] in SOFT]
    if len({region or usual for region in differing.get("--region", [])}) > 1:
        lines.append("the runs differ in --region: their scores are of other pixels and cannot be compared.")
    return lines


def _draw(path: Path, found: dict[str, Any]) -> bool:
    """Draw the differences that `compare_runs` found, if there are any: whether there are."""
    rows = found["structures"] | {"all": found["overall"]}
    dots = {
        name: {p: (entry["difference"], *entry["ci95"], entry["pairs"]) for p, entry in prompts.items()}
        for name, prompts in rows.items()
    }
    title = metric_title(found["metric"]) + " (lower is better)" * found["lower_is_better"]
    return evaluation_plots.plot_differences(path, dots, title, unit=found["unit"], runs=tuple(found["runs"]))


def write_comparison(runs: Runs, metric: str, out: Path | None = None) -> None:
    """Compare two runs by one of METRICS that both have, print the table, and write it with its picture.

    Args:
        runs: result folders of test.py, before and after.
        metric: what is compared.
        out: folder of compare.md, compare.json and compare.png; None for one in the second run.

    Raises:
        UsageError: for folders that are no runs, or lack the metric.
    """
    check_runs(runs)
    found = compare_runs(runs, metric)
    out = make_folder(out or runs[1] / f"compare_{runs[0].resolve().name}", "--out")
    text = _as_markdown(found)
    write_json(out / "compare.json", found)
    files = ["compare.md", "compare.json"]
    if _draw(out / "compare.png", found):
        files.append("compare.png")
        text += "\n![differences](compare.png)\n"
    write_text(out / "compare.md", text)
    print(f"{text}\nresults: {out}/{', '.join(files)}")
