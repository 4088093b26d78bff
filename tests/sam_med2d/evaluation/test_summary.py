"""Streams of cases against NumPy on all cases at once."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from sam_med2d.evaluation import bootstrap, summary
from sam_med2d.evaluation.bootstrap import Bootstrap, mean_and_interval, photograph_key
from sam_med2d.evaluation.case_row import CaseRow
from sam_med2d.evaluation.summary import RepresentativeCases, RunningSummary, summarise
from tests.helpers.case_rows import case_row

PROMPTS, STRUCTURES, DATA_SETS = ("box", "1"), ("optic_disc", "vessel"), ("a", "b")


def make_rows(count: int, seed: int = 0) -> list[list[CaseRow]]:
    """Rows of `count` photographs with 1 to 3 masks each."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(count):
        ease, rows = rng.uniform(0.2, 0.9), []
        for j in range(rng.integers(1, 4)):
            for prompt in PROMPTS:
                dice = float(np.clip(ease + rng.normal(0, 0.05), 0, 1))
                row = {"mask": f"{i}_{j}.png", "image": f"{i}.jpg", "data_set": DATA_SETS[i % 2]}
                row |= {"structure": STRUCTURES[j % 2], "prompt": prompt, "dice": dice, "iou": dice / (2 - dice)}
                row |= {"predicted_iou": float(rng.uniform()), "vanished": j == 2, "missed": dice < 0.3}
                rows.append(case_row(row))
        images.append(rows)
    return images


def without_dice(rows: list[CaseRow]) -> list[CaseRow]:
    return [replace(row, scores={**row.scores, "dice": math.nan}) for row in rows]


def summarised(images: list[list[CaseRow]], metrics=("dice", "iou")) -> RunningSummary:
    found = RunningSummary(metrics)
    for number, rows in enumerate(images):
        found.add(number, rows)
    return found


def test_means_and_counts_are_those_of_all_cases_at_once():
    images = make_rows(150)
    everything = [row for rows in images for row in rows]
    summary = summarised(images).summary()

    def check(means, *, prompt, **wanted):
        rows = [r for r in everything if r.prompt == prompt and all(getattr(r, k) == v for k, v in wanted.items())]
        entry = means[prompt]
        assert entry["masks"] == len(rows) > 10
        assert entry["vanished"] == sum(r.vanished for r in rows)
        assert entry["missed"] == sum(r.missed for r in rows)
        for metric in ("dice", "iou"):
            assert entry[metric] == pytest.approx(np.mean([r.scores[metric] for r in rows]), abs=1e-12)
            low, high = entry[f"{metric}_ci95"]
            assert low < entry[metric] < high

    for prompt in PROMPTS:
        check(summary["overall"], prompt=prompt)
        for structure in STRUCTURES:
            check(summary["structures"][structure], prompt=prompt, structure=structure)
        for name in DATA_SETS:
            check(summary["data_sets"][name], prompt=prompt, data_set=name)
            for structure in STRUCTURES:
                means = summary["data_sets"][name]["structures"][structure]
                check(means, prompt=prompt, data_set=name, structure=structure)


def test_the_interval_is_that_of_a_bootstrap_over_photographs():
    """Against resampling with replacement; masks of a photograph are alike, so resampling masks is far too sure."""
    images = make_rows(120, seed=3)
    low, high = summarised(images).summary()["overall"]["box"]["dice_ci95"]
    rng = np.random.default_rng(1)
    values = [[r.scores["dice"] for r in rows if r.prompt == "box"] for rows in images]
    sums, counts = np.array([sum(v) for v in values]), np.array([len(v) for v in values])
    draws = rng.integers(0, 120, (5000, 120))
    expected = np.percentile(sums[draws].sum(1) / counts[draws].sum(1), (2.5, 97.5))
    width = expected[1] - expected[0]
    assert (low, high) == pytest.approx(tuple(expected), abs=0.12 * width)
    flat = np.concatenate(values)
    masks = np.percentile(flat[rng.integers(0, len(flat), (5000, len(flat)))].mean(1), (2.5, 97.5))
    assert high - low > 1.2 * (masks[1] - masks[0])


def test_undefined_values_are_excluded_and_counted():
    images = make_rows(30)
    images = [*map(without_dice, images[:10]), *images[10:]]
    summary = summarised(images).summary()["overall"]["box"]
    known = [r.scores["dice"] for rows in images[10:] for r in rows if r.prompt == "box"]
    lost = sum(r.prompt == "box" for rows in images[:10] for r in rows)
    assert summary["dice"] == pytest.approx(np.mean(known)) and summary["excluded"] == {"dice": lost, "iou": 0}


def test_nothing_defined_is_no_number():
    images = [without_dice(rows) for rows in make_rows(3)]
    entry = summarised(images).summary()["overall"]["box"]
    assert math.isnan(entry["dice"]) and all(map(math.isnan, entry["dice_ci95"]))


def test_order_and_blocks_change_nothing(monkeypatch):
    images = make_rows(70)
    expected = summarised(images).summary()
    monkeypatch.setattr(bootstrap, "PHOTOGRAPHS_AT_ONCE", 7)
    found = summarised(images[::-1]).summary()
    for prompt in PROMPTS:
        for key in ("dice", "dice_ci95", "iou_ci95"):
            assert found["overall"][prompt][key] == pytest.approx(expected["overall"][prompt][key], abs=1e-12)
    flat = [row for rows in images for row in rows]
    assert summarise(flat, ["dice", "iou"]) == summarise(flat[::-1], ["dice", "iou"])


def test_one_photograph_has_a_mean_and_no_interval():
    images = make_rows(2)
    entry = summarised(images[:1]).summary()["overall"]["box"]
    assert 0 < entry["dice"] < 1 and all(map(math.isnan, entry["dice_ci95"]))
    assert not any(map(math.isnan, summarised(images).summary()["overall"]["box"]["dice_ci95"]))


def test_the_best_case_of_a_distance_is_the_nearest():
    images = [[replace(row, scores={"hd95": float(i)}) for row in rows] for i, rows in enumerate(make_rows(9))]
    chosen = summarised(images, ["hd95"]).representative_cases()
    assert chosen[0][0] == 0 and 8 in [number for number, _ in chosen]


def test_intervals_do_not_depend_on_where_the_data_lie():
    def interval(folder: str, data_set: str) -> list[float]:
        found = RunningSummary(["dice"], data_path=[folder])
        for number, rows in enumerate(make_rows(20)):
            moved = [replace(row, image=f"{folder}/images/{row.image}", data_set=data_set) for row in rows]
            found.add(number, moved)
        return found.summary()["overall"]["box"]["dice_ci95"]

    assert interval("data_demo", "data_demo") == interval("/mnt/disk/copy", "copy")


def test_photographs_of_a_name_in_other_places_are_others():
    folders = ["a", "/b"]
    places = ["a/images/1.png", "a/other/1.png", "/b/images/1.png", "/elsewhere/1.png"]
    assert len({photograph_key(place, folders) for place in places}) == 4
    assert photograph_key("a/1.png", "a") == photograph_key("./a/1.png", ["a/"])


def test_columns_that_come_late_begin_at_zero():
    sums = Bootstrap()
    for i in range(200):
        sums.add(str(i), {"first": 1.0} | ({"late": 2.0} if i >= 150 else {}))
    assert sums.sums(["first"])[0] == 200 and sums.sums(["late"])[0] == 100 and not sums.sums(["never"]).any()
    assert sums.sums(["first"])[1:].mean() == pytest.approx(200, rel=0.02)


def test_mean_and_interval_leave_out_empty_replicates():
    sums, counts = np.array([3.0, 0.0, 6.0, 3.0]), np.array([3.0, 0.0, 6.0, 3.0])
    assert mean_and_interval(sums, counts) == (1.0, [1.0, 1.0])


def test_histograms_and_calibration_hold_every_case():
    images = make_rows(40)
    found = summarised(images)
    for structure in STRUCTURES:
        for prompt in PROMPTS:
            values = [
                r.scores["dice"] for rows in images for r in rows if (r.structure, r.prompt) == (structure, prompt)
            ]
            expected = np.histogram(values, summary.BINS, (0, 1))[0]
            assert np.abs(found.histograms[structure][prompt] - expected).sum() <= 2  # rounding at the edge of a bin
            assert found.histograms[structure][prompt].sum() == len(values)
    assert found.calibration.sum() == sum(map(len, images))
    assert summary._bin(1.0, 50) == summary._bin(1.3, 50) == 49 and summary._bin(-0.1, 50) == 0


def test_best_median_and_worst_are_picked():
    cases = RepresentativeCases()
    values = np.random.default_rng(0).permutation(101) / 100
    for number, value in enumerate(values):
        cases.add(float(value), number, f"{number}.png")
    numbers = [number for number, _ in cases.chosen()]
    assert [values[number] for number in numbers] == [1.0, 0.5, 0.0]


def test_the_median_of_many_is_close():
    cases = RepresentativeCases()
    values = np.random.default_rng(0).permutation(20_000) / 20_000
    for number, value in enumerate(values):
        cases.add(float(value), number, f"{number}.png")
    assert values[list(cases.chosen())[1][0]] == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_cases():
    found = RunningSummary(["dice", "iou"])

    images = make_rows(3000)

    def add(rounds):
        for number in range(rounds * len(images)):
            found.add(number, images[number % len(images)])
        found.summary()  # empties the block

    add(1)
    tracemalloc.start()
    add(1)
    before = tracemalloc.get_traced_memory()[0]
    add(3)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 500_000  # the 36,000 rows of these 9,000 photographs would take more than 10 MB
