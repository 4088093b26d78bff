"""test.py as a whole: one pass over the photographs, files that cannot be read, and what is written."""

import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.choices import METRICS
from sam_med2d.evaluation import evaluator
from segment_anything.modeling import ImageEncoderViT
from tests.helpers.evaluation_runs import cases, make_data, run, summary

PROMPTS = ("box", "1", "3", "5")
pytestmark = pytest.mark.usefixtures("tiny_type", "quick_figures")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_one_row_a_mask_and_prompt_in_the_order_of_the_map(checkpoint, data, tmp_path, monkeypatch):
    encoded, encode = [], ImageEncoderViT.forward
    monkeypatch.setattr(
        ImageEncoderViT, "forward", lambda self, image: (encoded.append(len(image)), encode(self, image))[1]
    )
    monkeypatch.setattr(evaluator.Evaluator, "_contact_sheet", lambda self, _: np.zeros((4, 4, 3), np.uint8))
    assert run(checkpoint, data, "out", "--batch_size", "3") == 0
    assert encoded == [3, 3, 1]
    rows = cases(tmp_path / "out")
    names = [Path(name).name for name in json.loads((data / "label2image_test.json").read_text())]
    assert [(row["mask"], row["prompt"]) for row in rows] == [(name, prompt) for name in names for prompt in PROMPTS]
    assert {row["data_set"] for row in rows} == {"data"}
    for row in rows:
        assert int(row["area"]) == (cv2.imread(str(data / "masks" / row["mask"]), 0) > 0).sum()
    means = summary(tmp_path / "out")
    for prompt in PROMPTS:
        own = [row for row in rows if row["prompt"] == prompt]
        assert means["overall"][prompt]["dice"] == pytest.approx(np.mean([float(row["dice"]) for row in own]))
        assert means["overall"][prompt]["missed"] == sum(row["missed"] == "True" for row in own)


def test_the_batch_changes_nothing(checkpoint, data, tmp_path):
    for size in ("1", "7"):
        assert run(checkpoint, data, size, "--batch_size", size, "--prompts", "box", "1") == 0
    for first, second in zip(cases(tmp_path / "1"), cases(tmp_path / "7"), strict=True):
        assert float(first["dice"]) == pytest.approx(float(second["dice"]), abs=1e-3)


def test_prompts_are_on_disk_before_anything_is_predicted(checkpoint, data, tmp_path, monkeypatch):
    seen, predict = [], evaluator.predict_batch

    def watched(*args, **options):
        seen.append(json.loads((tmp_path / "64_prompt.json").read_text()))
        return predict(*args, **options)

    monkeypatch.setattr(evaluator, "predict_batch", watched)
    assert run(checkpoint, data, "out") == 0
    assert set(seen[0]) == {row["mask"] for row in cases(tmp_path / "out")} and all(s == seen[0] for s in seen)


@pytest.mark.slow
def test_a_prompt_file_is_replayed(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "first", "--seed", "5") == 0
    (tmp_path / "64_prompt.json").rename(tmp_path / "own.json")
    assert run(checkpoint, data, "second", "--seed", "5", "--prompt_path", str(tmp_path / "own.json")) == 0
    assert cases(tmp_path / "first") == cases(tmp_path / "second") and not (tmp_path / "64_prompt.json").exists()
    assert run(checkpoint, data, "third", "--seed", "6", "--prompt_path", str(tmp_path / "own.json")) == 0
    first, third = ([row for row in cases(tmp_path / name) if row["prompt"] in "box 1"] for name in ("first", "third"))
    assert first == third  # what the file holds does not depend on the seed


def points_of(rows: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["prompt"] for row in rows))


@pytest.mark.slow
def test_columns_count_the_points_of_a_prompt_file(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "first", "--boxes_prompt", "False", "--point_num", "3") == 0
    (tmp_path / "64_prompt.json").rename(tmp_path / "own.json")
    assert run(checkpoint, data, "second", "--prompt_path", str(tmp_path / "own.json")) == 0
    assert points_of(cases(tmp_path / "first")) == ["3"]
    assert points_of(cases(tmp_path / "second")) == ["box", "3", "5", "7"]
    three = [row for row in cases(tmp_path / "second") if row["prompt"] == "3"]
    assert three == cases(tmp_path / "first")


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"boxes": []}, "data_2_optic_cup_000.png has no boxes"),
        ({"point_coords": [], "point_labels": []}, "data_2_optic_cup_000.png has no point_labels"),
        ({"point_coords": [[24, 22]] * 2, "point_labels": [1, 1]}, "1, 2 points: give all the same number"),
    ],
)
def test_a_prompt_that_a_column_needs_is_missed(checkpoint, data, tmp_path, capsys, entry, part):
    assert run(checkpoint, data, "first", "--prompts", "box") == 0
    prompts = json.loads((tmp_path / "64_prompt.json").read_text())
    prompts["data_2_optic_cup_000.png"] |= entry
    (tmp_path / "own.json").write_text(json.dumps(prompts))
    assert run(checkpoint, data, "second", "--prompt_path", str(tmp_path / "own.json")) == 2
    assert part in capsys.readouterr().err


# --- files that cannot be read ---------------------------------------------------------------------------------


def test_what_loader_processes_remark_on_files_is_told_once(checkpoint, data, capsys):
    for path in sorted((data / "images").iterdir())[2:5]:
        deep = cv2.imread(str(path)).astype(np.uint16) << 4
        path.write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    assert run(checkpoint, data, "deep", "--prompts", "box", "--num_workers", "1") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: read as")]
    assert len(notes) == 1 and "12 bits" in notes[0] and "data_2.jpg" in notes[0] and "and 2 more" in notes[0]


def test_an_unreadable_photograph_is_left_out_and_named(checkpoint, data, tmp_path, capsys):
    prompts = ("--prompts", "box", "1")  # a last bit that depends on the number of masks may move a later click
    assert run(checkpoint, data, "whole", *prompts) == 0
    cut(data / "images/data_3.jpg")
    cut(data / "masks/data_5_vessel_000.png")
    assert run(checkpoint, data, "rest", *prompts) == 1
    assert run(checkpoint, data, "rest", *prompts, "--resume") == 1  # finished, and not whole
    lost = {f"data_3_{structure}_000.png" for structure in ("optic_disc", "optic_cup", "vessel")}
    lost |= {"data_5_vessel_000.png"}
    expected = [row for row in cases(tmp_path / "whole") if row["mask"] not in lost]
    for found, row in zip(cases(tmp_path / "rest"), expected, strict=True):
        assert (found["mask"], found["prompt"]) == (row["mask"], row["prompt"])
        assert float(found["dice"]) == pytest.approx(float(row["dice"]), abs=1e-3)
    report, failed = (tmp_path / "rest/report.md").read_text(), summary(tmp_path / "rest")["failed"]
    printed = capsys.readouterr().out
    assert len(failed) == 2 and all(line in report and line in printed for line in failed)
    assert all(any(name in line for line in failed) for name in lost) and "data_3.jpg" in failed[0]
    assert not lost & set(json.loads((tmp_path / "64_prompt.json").read_text()))


def test_a_mask_of_another_size_ends_the_run_before_work(checkpoint, data, tmp_path, capsys):
    small = cv2.imread(str(data / "masks/data_3_vessel_000.png"), 0)[:-3]
    cv2.imwrite(str(data / "masks/data_3_vessel_000.png"), small)
    cut(data / "images/data_5.jpg")
    assert run(checkpoint, data, "out") == 2
    message = capsys.readouterr().err
    assert "data_3_vessel_000.png is 80 x 60 pixels" in message and "80 x 63" in message
    assert not list((tmp_path / "out").iterdir())


def test_nothing_readable_is_an_error(checkpoint, data, tmp_path, capsys):
    for path in (data / "images").iterdir():
        cut(path)
    assert run(checkpoint, data, "out") == 2
    message = capsys.readouterr().err
    assert "7 problem(s)" in message and all(f"data_{i}.jpg is not a whole picture" in message for i in range(7))


# --- what is written ------------------------------------------------------------------------------------------


def test_saved_masks_and_probabilities_are_those_that_were_scored(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "out", "--prompts", "box", "3", "--save_pred", "--save_prob") == 0
    folders = {"box": "boxes_prompt", "3": "iter3_prompt"}
    for row in cases(tmp_path / "out"):
        folder = tmp_path / "out" / folders[row["prompt"]]
        mask = cv2.imread(str(folder / row["mask"]), cv2.IMREAD_UNCHANGED)
        prob = cv2.imread(str(tmp_path / "out" / f"{folder.name}_prob" / row["mask"]), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(str(data / "masks" / row["mask"]), 0) > 0
        assert set(np.unique(mask)) <= {0, 255} and prob.dtype == np.uint16 and prob.shape == mask.shape == truth.shape
        unsure = np.abs(prob - 32767.5) < 2  # a probability of one half is rounded to either side
        assert ((prob > 32767) == (mask > 0))[~unsure].all()
        overlap = ((mask > 0) & truth).sum()
        assert float(row["dice"]) == pytest.approx(2 * overlap / ((mask > 0).sum() + truth.sum()), abs=1e-6)


@pytest.mark.slow
def test_the_cup_to_disc_error_is_that_of_the_saved_masks(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "out", "--metrics", "dice", "vcdr", "--save_pred") == 0
    rows = cases(tmp_path / "out")
    assert all((row["structure"] == "optic_cup") != (row["vcdr"] == "nan") for row in rows)

    def height(path):
        lines = np.flatnonzero((cv2.imread(str(path), 0) > 0).any(1))
        return lines[-1] - lines[0] + 1 if len(lines) else 0

    folders = {"box": "boxes_prompt", "1": "iter1_prompt", "3": "iter3_prompt", "5": "iter5_prompt"}
    checked = 0
    for row in rows:
        if row["structure"] == "optic_cup":
            disc = row["mask"].replace("cup", "disc")
            folder = tmp_path / "out" / folders[row["prompt"]]
            found, truth = ([height(f / name) for name in (row["mask"], disc)] for f in (folder, data / "masks"))
            ratio = found[0] / found[1] if found[1] else 0.0
            assert float(row["vcdr"]) == pytest.approx(abs(ratio - truth[0] / truth[1]), abs=1e-9)
            checked += 1
    assert checked == 7 * 4


@pytest.mark.slow
def test_several_folders_give_a_table_of_data_sets(checkpoint, tmp_path):
    folders = [make_data(tmp_path / "north", 3), make_data(tmp_path / "south", 5, seed=1)]
    for folder in folders:
        assert run(checkpoint, folder, folder.name) == 0
    assert run(checkpoint, folders, "both") == 0
    both = summary(tmp_path / "both")
    total = weight = 0.0
    for folder in folders:
        alone = summary(tmp_path / folder.name)["overall"]
        joint = both["data_sets"][folder.name]
        for prompt in PROMPTS:
            assert joint[prompt]["dice"] == pytest.approx(alone[prompt]["dice"], abs=1e-12)
        total, weight = total + alone["box"]["dice"] * alone["box"]["masks"], weight + alone["box"]["masks"]
    assert both["overall"]["box"]["dice"] == pytest.approx(total / weight)
    text = (tmp_path / "both/report.md").read_text()
    assert re.search(r"\| north \| 7 \|", text) and re.search(r"\| weighted sum \| 19 \|", text)
    assert {row["mask"].split("/")[0] for row in cases(tmp_path / "both")} == {"north", "south"}


def test_the_index_of_a_folder_names_its_data_sets(checkpoint, data, tmp_path):
    rows = "".join(f"images/data_{i}.jpg,{'drive' if i < 4 else 'stare'}\n" for i in range(7))
    (data / "index.csv").write_text(f"image,dataset\n{rows}")
    assert run(checkpoint, data, "out", "--prompts", "box") == 0
    found = summary(tmp_path / "out")["data_sets"]
    assert {name: entry["box"]["masks"] for name, entry in found.items()} == {"drive": 10, "stare": 7}
    assert set(found["drive"]["structures"]) == {"optic_disc", "optic_cup", "vessel"}


def test_all_metrics_at_once(checkpoint, data, tmp_path):
    names = METRICS
    assert run(checkpoint, data, "out", "--metrics", *names) == 0
    rows = cases(tmp_path / "out")
    assert all(name in rows[0] for name in names)
    vessels = [row for row in rows if row["structure"] == "vessel"]
    assert vessels and all((row["cldice"] != "nan") == (row["structure"] == "vessel") for row in rows)
    assert all(0 <= float(row["auc"]) <= 1 and float(row["hd95"]) >= 0 for row in rows)
    assert all(0 <= float(row["boundary_iou"]) <= float(row["accuracy"]) <= 1 for row in rows)
    text = (tmp_path / "out/report.md").read_text()
    assert "HD95 in pixels" in text and "left out of the mean of cldice" in text
    assert not math.isnan(summary(tmp_path / "out")["overall"]["box"]["vcdr"])


def test_folders_of_one_name_stay_apart(checkpoint, tmp_path):
    folders = [make_data(tmp_path / name / "test", 2, seed=seed) for seed, name in enumerate(("drive", "stare"))]
    assert run(checkpoint, folders, "both", "--prompts", "box") == 0
    names = list(summary(tmp_path / "both")["data_sets"])
    assert len(names) == 2 and names[0].endswith("drive/test") and names[1].endswith("stare/test")


def test_masks_that_would_be_saved_under_one_name_are_refused(checkpoint, data, tmp_path, capsys):
    pairs = json.loads((data / "label2image_test.json").read_text())
    (data / "masks/data_0_optic_disc_000.png").rename(data / "masks/data_0_optic_cup_000.bmp")
    pairs["masks/data_0_optic_cup_000.bmp"] = pairs.pop("masks/data_0_optic_disc_000.png")
    (data / "label2image_test.json").write_text(json.dumps(pairs))
    assert run(checkpoint, data, "out", "--save_pred") == 2
    assert "data_0_optic_cup_000.png" in capsys.readouterr().err
    assert run(checkpoint, data, "out") == 0


def test_a_metric_that_no_case_has_leaves_a_report_without_pictures_of_cases(checkpoint, data, tmp_path):
    pairs = json.loads((data / "label2image_test.json").read_text())
    vessels = {name: image for name, image in pairs.items() if "vessel" in name}
    (data / "label2image_test.json").write_text(json.dumps(vessels))
    assert run(checkpoint, data, "out", "--metrics", "vcdr") == 0
    assert "overlay.png" not in (tmp_path / "out/report.md").read_text()
    assert not (tmp_path / "out/overlay.png").exists()


def test_a_number_of_points_is_one_column_however_it_is_written(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "out", "--prompts", "3", "03", "3") == 0
    assert points_of(cases(tmp_path / "out")) == ["3"]


def test_one_photograph_has_no_interval(checkpoint, tmp_path):
    assert run(checkpoint, make_data(tmp_path / "data", 1), "out", "--prompts", "box") == 0
    assert summary(tmp_path / "out")["overall"]["box"]["dice_ci95"] == [None, None]
    assert "[" not in (tmp_path / "out/report.md").read_text().split("by structure")[1].split("##")[0]
