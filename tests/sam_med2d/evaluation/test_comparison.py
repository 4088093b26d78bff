"""Comparing two runs: differences and counts against NumPy, pairing, what is left out, bad input."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sam_med2d.evaluation.bootstrap import Bootstrap, mean_and_interval
from sam_med2d.evaluation.comparison import compare_runs
from sam_med2d.evaluation.comparison_report import differences_table
from sam_med2d.evaluation.report import write_cases
from scripts import compare
from tests.helpers.case_rows import case_row
from tests.helpers.commands import run_command

STRUCTURES, PROMPTS = ("optic_disc", "vessel"), ("box", "1")
SETTINGS = {"--seed": 0, "--prompts": ["box", "1"], "preprocessing": {"image_size": 64}, "weights": "aa", "data": "dd"}
FLAGS = {"sam_checkpoint": "models/x", "data_path": ["demo"]}


def make_rows(photographs: int = 40, *, seed: int = 0, shift: float = 0.0) -> list[dict]:
    """Rows of a run; how hard a photograph is does not depend on the seed, its noise does."""
    ease, noise = np.random.default_rng(99).uniform(0.2, 0.9, photographs), np.random.default_rng(seed)
    rows = []
    for i in range(photographs):
        for j in range(1 + i % 3):
            for prompt in PROMPTS:
                dice = float(ease[i] + shift + noise.normal(0, 0.01))
                row = {"mask": f"{i}_{j}.png", "image": f"{i}.jpg", "data_set": "ab"[i % 2]}
                row |= {"structure": STRUCTURES[j % 2], "prompt": prompt, "dice": dice, "hd95": 30 - 20 * dice}
                rows.append(row | {"cldice": math.nan, "predicted_iou": 0.5, "area": 7, "seconds": 0.1})
    return rows


def write_run(folder: Path, rows: list[dict], **settings) -> Path:
    write_cases(folder / "cases.csv", map(case_row, rows))
    (folder / "summary.json").write_text(json.dumps({"settings": SETTINGS | settings, "flags": FLAGS}))
    return folder


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    return (
        write_run(tmp_path / "first", make_rows(seed=1)),
        write_run(tmp_path / "second", make_rows(seed=2, shift=0.02)),
    )


def entries(found: dict) -> dict[tuple[str, str], dict]:
    """The entries of all structures and of the whole, by name and prompt."""
    everything = found["structures"] | {"all": found["overall"]}
    return {(name, prompt): entry for name, prompts in everything.items() for prompt, entry in prompts.items()}


def key(row: dict) -> tuple[str, str, str]:
    return row["data_set"], row["mask"], row["prompt"]


def interval_of(rows: list[dict], values: list[float]) -> list[float]:
    """The bootstrap interval of the mean of values that belong to `rows`."""
    bootstrap = Bootstrap()
    for row, value in zip(rows, values, strict=True):
        bootstrap.add(row["image"], {"sum": value, "count": 1.0})
    return mean_and_interval(bootstrap.sums(["sum"]), bootstrap.sums(["count"]))[1]


# --- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "scale", "better"), [("dice", 100, 1), ("hd95", 1, -1)])
def test_differences_and_counts_are_those_of_numpy(tmp_path, metric, scale, better):
    before = make_rows(seed=1)
    after = [row | {"dice": row["dice"] + 0.005, "hd95": row["hd95"] - 0.1} for row in make_rows(seed=2)]
    for row, other in list(zip(before, after, strict=True))[::7]:
        other[metric] = row[metric]
    order = np.random.default_rng(0).permutation(len(before))  # pairs are found by name, not by line
    runs = write_run(tmp_path / "a", [before[i] for i in order]), write_run(tmp_path / "b", after)
    found = compare_runs(runs, metric)
    assert set(entries(found)) == {(name, prompt) for name in (*STRUCTURES, "all") for prompt in PROMPTS}
    for (name, prompt), entry in entries(found).items():
        chosen = [i for i, row in enumerate(after) if row["prompt"] == prompt and name in (row["structure"], "all")]
        values = np.array([scale * (after[i][metric] - before[i][metric]) for i in chosen])
        assert entry["difference"] == pytest.approx(values.mean(), abs=1e-12)
        assert entry["ci95"] == pytest.approx(interval_of([after[i] for i in chosen], list(values)), abs=1e-12)
        counts = entry["better"], entry["equal"], entry["worse"]
        assert counts == ((better * values > 0).sum(), (values == 0).sum(), (better * values < 0).sum())
        assert min(counts) > 0 and entry["pairs"] == len(chosen) == sum(counts)
        assert entry["photographs"] == len({after[i]["image"] for i in chosen})
    assert found["lower_is_better"] == (better < 0)


def test_the_paired_interval_is_much_narrower_than_the_unpaired_one(runs):
    entry = compare_runs(runs, "dice")["overall"]["box"]
    before, after = ([row for row in rows if row["prompt"] == "box"] for rows in (make_rows(seed=1), make_rows(seed=2)))
    widths = [np.ptp(interval_of(rows, [100 * row["dice"] for row in rows])) for rows in (before, after)]
    assert 0 < np.ptp(entry["ci95"]) < np.hypot(*widths) / 10
    assert entry["excludes_0"] and entry["difference"] == pytest.approx(2, abs=0.5)


def test_swapping_the_runs_mirrors_the_result(runs):
    there, back = (entries(compare_runs(pair, "dice")) for pair in (runs, runs[::-1]))
    for place, entry in there.items():
        mirrored = back[place]
        assert mirrored["difference"] == pytest.approx(-entry["difference"], abs=1e-12)
        assert mirrored["ci95"] == pytest.approx([-bound for bound in reversed(entry["ci95"])], abs=1e-12)
        assert [mirrored[name] for name in ("worse", "better")] == [entry[name] for name in ("better", "worse")]
        assert [mirrored[name] for name in ("equal", "pairs", "photographs", "excludes_0")] == [
            entry[name] for name in ("equal", "pairs", "photographs", "excludes_0")
        ]


def test_runs_with_the_same_scores_do_not_differ(tmp_path):
    runs = write_run(tmp_path / "a", make_rows()), write_run(tmp_path / "b", make_rows())
    for entry in entries(compare_runs(runs, "dice")).values():
        assert (entry["difference"], entry["ci95"], entry["excludes_0"]) == (0, [0, 0], False)
        assert entry["equal"] == entry["pairs"] > 0


@pytest.mark.parametrize(("photographs", "marked"), [(1, False), (5, False), (6, True)])
def test_few_photographs_are_never_marked(tmp_path, photographs, marked):
    before, after = (make_rows(photographs, seed=1, shift=shift) for shift in (0, 0.1))
    runs = write_run(tmp_path / "a", before), write_run(tmp_path / "b", after)
    found = compare_runs(runs, "dice")
    entry = found["overall"]["box"]
    assert entry["photographs"] == photographs and entry["excludes_0"] is marked
    assert math.isnan(entry["ci95"][0]) == (photographs == 1)
    assert ("**+10.00 [+10.00, +10.00]**" in differences_table(found)) is marked


# --- what is left out -----------------------------------------------------------------------------------------


def test_cases_without_a_pair_are_counted(tmp_path, capsys):
    before, after = make_rows(seed=1), make_rows(seed=2)
    before[3]["dice"] = before[8]["dice"] = math.nan
    after[8]["dice"] = after[9]["dice"] = after[10]["dice"] = math.nan
    same_names = [row | {"data_set": "c"} for row in after[20:25]]  # another data set's masks are other masks
    runs = write_run(tmp_path / "a", before[:-4]), write_run(tmp_path / "b", after[1:] + same_names)
    assert run_command(compare, runs) == 0
    found = json.loads((runs[1] / "compare_a" / "compare.json").read_text())
    assert found["cases"] == {
        "pairs": len(before) - 9,
        "only_first": 1,
        "only_second": 9,
        "undefined_first": 1,
        "undefined_second": 2,
        "undefined_both": 1,
    }
    assert sum(entry["pairs"] for entry in found["overall"].values()) == len(before) - 9
    assert (
        f"{len(before) - 9} pairs. Only in a: 1 cases; only in b: 9. "
        "Undefined in a alone: 1; in b alone: 2; in both: 1." in capsys.readouterr().out
    )


# --- files and settings ---------------------------------------------------------------------------------------


def test_the_files_of_a_comparison(runs, capsys):
    assert run_command(compare, runs) == 0
    out = runs[1] / "compare_first"
    assert {path.name for path in out.iterdir()} == {"compare.md", "compare.json", "compare.png"}
    text, printed = (out / "compare.md").read_text(), capsys.readouterr().out
    assert text in printed and str(out) in printed
    assert "# second minus first: Dice" in text and "![differences](compare.png)" in text
    assert "None." in text and "Warning" not in text and "higher is better" in text
    found = json.loads((out / "compare.json").read_text())
    assert found["structures"]["vessel"]["1"]["pairs"] > 0 and found["runs"] == ["first", "second"]


def test_distances_are_in_pixels(runs, tmp_path, capsys, saved_figures):
    out = tmp_path / "out"
    assert run_command(compare, [*map(str, runs), "--metric", "hd95", "--out", str(out)]) == 0
    text = (out / "compare.md").read_text()
    assert "in pixels (lower is better)" in text and "Difference, pixels" in text and "points" not in text
    label = saved_figures[0].axes[0].get_xlabel()
    assert "HD95 (lower is better), pixels" in label and (out / "compare.png").exists()


def test_what_differs_is_said(tmp_path, capsys):
    other = {"--seed": 1, "weights": "bb", "data": "ee", "preprocessing": {"image_size": 128}, "--use_amp": True}
    first = write_run(tmp_path / "x" / "run", make_rows(seed=1))
    second = write_run(tmp_path / "y" / "run", make_rows(seed=2), **other)
    assert run_command(compare, [str(first), str(second)]) == 0
    found = json.loads((second / "compare_run" / "compare.json").read_text())
    assert found["runs"] == [str(first), str(second)]  # one name would not tell them apart
    assert found["differing_settings"] == {
        "--seed": [0, 1],
        "preprocessing.image_size": [64, 128],
        "weights": ["models/x (aa)", "models/x (bb)"],
        "data": ["demo (dd)", "demo (ee)"],
        "--use_amp": [None, True],
    }
    text = capsys.readouterr().out
    assert "| preprocessing.image_size | 64 | 128 |" in text
    assert "Warning: the runs differ in data: only what both have is compared." in text
    assert "Warning: the runs differ in --seed, preprocessing.image_size, so their clicks do" in text
    assert "differ in --prompts" not in text


# --- bad input ------------------------------------------------------------------------------------------------


def test_scores_of_other_pixels_are_not_compared_in_silence(tmp_path, capsys):
    """Without the flag that is the photograph, which a run may also have been told."""
    runs = {
        region: write_run(tmp_path / str(region), make_rows(), **{"--region": region})
        for region in (None, "photograph", "field_of_view")
    }
    for second, warned in (("photograph", False), ("field_of_view", True)):
        assert run_command(compare, [str(runs[None]), str(runs[second])]) == 0
        assert ("Warning: the runs differ in --region: their scores" in capsys.readouterr().out) == warned


def refuse(capsys, *words: object) -> str:
    """The one message of a comparison that ends with exit code 2."""
    assert run_command(compare, words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", ["cases.csv", "summary.json"])
def test_a_folder_that_is_no_run(runs, capsys, name):
    (runs[0] / name).unlink()
    assert f"{runs[0] / name} is missing" in refuse(capsys, *runs)
    assert f"{runs[0] / name} is missing" in refuse(capsys, *runs[::-1])


def test_the_same_folder_twice(runs, capsys):
    assert "are the same folder" in refuse(capsys, runs[0], runs[0].parent / "second" / ".." / "first")


@pytest.mark.parametrize("metric", ["nsd", "area"])
def test_a_metric_that_a_run_lacks(runs, capsys, metric):
    message = refuse(capsys, *runs, "--metric", metric)
    assert f"--metric {metric}: {runs[0] / 'cases.csv'} has dice, hd95, cldice;" in message


def test_runs_without_a_common_case(runs, tmp_path, capsys):
    other = write_run(tmp_path / "other", [row | {"data_set": "z"} for row in make_rows()])
    message = refuse(capsys, runs[0], other)
    assert f"{runs[0]} begins with a, 0_0.png, box; {other} begins with z, 0_0.png, box" in message


def test_a_metric_without_values(runs, capsys):
    message = refuse(capsys, *runs, "--metric", "cldice")
    assert f"cldice is undefined in one run or both for all {len(make_rows())} common cases" in message
    assert not (runs[1] / "compare_first").exists()


def test_damaged_files(runs, capsys):
    path = runs[0] / "cases.csv"
    whole = path.read_text()
    path.write_text(whole[: whole.index("5.jpg")])
    number = path.read_text().count("\n") + 1
    assert f"{path}, line {number} is damaged" in refuse(capsys, *runs)
    path.write_text(whole.replace("data_set", "folder"))
    assert "has no column data_set" in refuse(capsys, *runs)
    path.write_bytes(b"\x89PNG\xff\xfe\n")
    assert "has no column data_set, image, mask, structure, prompt" in refuse(capsys, *runs)
    path.write_text(whole)
    (runs[1] / "summary.json").write_text("{")
    assert "summary.json is damaged" in refuse(capsys, *runs)


@pytest.mark.parametrize(
    "content", [{}, [], None, 3, {"flags": []}, {"flags": {"data_path": []}}, {"flags": FLAGS, "settings": []}]
)
def test_a_summary_that_is_json_but_none_of_a_run(runs, capsys, content):
    (runs[1] / "summary.json").write_text(json.dumps(content))
    assert f"{runs[1] / 'summary.json'} is damaged (not the flags and settings" in refuse(capsys, *runs)
    assert "is damaged" in refuse(capsys, *runs[::-1])


def test_a_folder_that_cannot_be_written(runs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert f"--out: cannot write to {tmp_path / 'file'}" in refuse(capsys, *runs, "--out", tmp_path / "file")
