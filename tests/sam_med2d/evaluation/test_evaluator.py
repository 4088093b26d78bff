"""test.py as a whole: one pass, taken up again, shared by processes, with files that cannot be read."""

import json
import math
import os
import random
import re
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.evaluation import evaluator
from sam_med2d.runtime import cli
from segment_anything.checkpoint import model_metadata, save_weights
from segment_anything.modeling import Sam
from tests.helpers.evaluation_runs import cases, make_data, words
from tests.helpers.tiny_models import make_tiny_model
from tests.helpers.tiny_scripts import fork, fork_together
from tests.helpers.training_runs import load_test_script

script = load_test_script()
PROMPTS = ("box", "1", "3", "5")
pytestmark = pytest.mark.usefixtures("tiny_type")


@pytest.fixture
def checkpoint(tmp_path):
    model = make_tiny_model()
    for parameter in model.mask_decoder.output_hypernetworks_mlps.parameters():
        parameter.data.mul_(1.5)  # larger logits: masks of all sizes
    save_weights(tmp_path / "w.safetensors", model.state_dict(), model_metadata(model, "vit_t"))
    return tmp_path / "w.safetensors"


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data")


def run(checkpoint, data, run_name, *more) -> int:
    return cli.run_main(script.main, script.parse_args(words(checkpoint, data, run_name, *more)))


def summary(folder: Path) -> dict:
    """The numbers of a run that do not depend on the clock or on the command line."""
    content = json.loads((folder / "summary.json").read_text())
    return {name: content[name] for name in ("overall", "structures", "data_sets", "images", "failed", "settings")}


def same_run(first: Path, second: Path) -> None:
    assert cases(first) == cases(second) and summary(first) == summary(second)
    for name in ("boxes.png", "clicks.png", "calibration.png", "overlay.png"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_one_row_a_mask_and_prompt_in_the_order_of_the_map(checkpoint, data, tmp_path, monkeypatch):
    encoded, encode = [], Sam.encode
    monkeypatch.setattr(Sam, "encode", lambda self, image: (encoded.append(len(image)), encode(self, image))[1])
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


def test_a_run_does_not_go_on_with_a_changed_prompt_file(checkpoint, data, tmp_path, capsys):
    assert run(checkpoint, data, "first", "--prompts", "box") == 0
    own = (tmp_path / "64_prompt.json").rename(tmp_path / "own.json")
    assert run(checkpoint, data, "second", "--prompts", "box", "--prompt_path", str(own)) == 0
    own.write_text(own.read_text() + " ")
    assert run(checkpoint, data, "second", "--prompts", "box", "--prompt_path", str(own), "--resume") == 2
    assert "--prompt_path" in capsys.readouterr().err


# --- interruption and several processes -----------------------------------------------------------------------


def test_an_interrupted_run_goes_on_and_computes_nothing_twice(checkpoint, data, tmp_path, monkeypatch, capsys):
    assert run(checkpoint, data, "whole") == 0
    done, predict = [], evaluator.predict_batch

    def interrupted(model, batch, *args, **options):
        if len(done) == 3 and "go on" not in done:
            done.append("go on")
            signal.raise_signal(signal.SIGTERM)
        done.append(batch.records[0].image.name)
        return predict(model, batch, *args, **options)

    monkeypatch.setattr(evaluator, "predict_batch", interrupted)
    monkeypatch.setattr(evaluator.Evaluator, "_contact_sheet", lambda self, _: np.zeros((4, 4, 3), np.uint8))
    assert run(checkpoint, data, "cut") == 130
    assert "--resume True" in capsys.readouterr().out and not (tmp_path / "cut/cases.csv").exists()
    assert run(checkpoint, data, "cut") == 2  # it would be lost
    assert run(checkpoint, data, "cut", "--resume") == 0
    assert sorted(set(done) - {"go on"}) == sorted(path.name for path in (data / "images").iterdir())
    assert len(done) == 7 + 1
    assert cases(tmp_path / "cut") == cases(tmp_path / "whole")
    assert not (tmp_path / "cut/unfinished").exists()
    assert run(checkpoint, data, "cut", "--resume") == 0 and len(done) == 8  # there is nothing left to do


def test_what_a_killed_run_was_writing_is_tidied(checkpoint, data, tmp_path, monkeypatch):
    def interrupted(self, cases):
        raise KeyboardInterrupt

    flags = ("--prompts", "box", "--save_pred")
    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Evaluator, "_contact_sheet", interrupted)
        assert run(checkpoint, data, "out", *flags) == 130
    masks = sorted((tmp_path / "out/boxes_prompt").iterdir())
    (tmp_path / "out/boxes_prompt/.data_0_vessel_000.x1y2.png").write_bytes(b"half a picture")
    assert run(checkpoint, data, "out", *flags, "--resume") == 0
    assert sorted((tmp_path / "out/boxes_prompt").iterdir()) == masks != []


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "whole", "--metrics", "dice", "iou", "hd95", "vcdr") == 0
    argv = words(checkpoint, data, "cut", "--metrics", "dice", "iou", "hd95", "vcdr", "--resume")
    rng, kills = random.Random(0), 0
    while True:
        process = fork(argv, tmp_path / "log", script="test")
        process.join(rng.uniform(0.05, 0.5 + 0.2 * kills))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if (tmp_path / "cut/report.md").exists() and not (tmp_path / "cut/unfinished").exists():
            break
        assert kills < 60, (tmp_path / "log").read_text()
    assert kills >= 2
    same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flag", [("--seed", "9"), ("--metrics", "dice"), ("--mask_rule", "dice"), ("--prompts", "box")]
)
def test_a_run_does_not_go_on_with_other_flags(checkpoint, data, tmp_path, monkeypatch, capsys, flag):
    def interrupted(self, cases):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Evaluator, "_contact_sheet", interrupted)
        assert run(checkpoint, data, "out") == 130
    capsys.readouterr()
    assert run(checkpoint, data, "out", "--resume", *flag) == 2
    message = capsys.readouterr().err
    assert flag[0] in message and "--run_name" in message
    assert run(checkpoint, data, "out", "--resume") == 0


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_the_work(checkpoint, data, tmp_path, count):
    assert run(checkpoint, data, "one") == 0
    processes = fork_together(count, words(checkpoint, data, "all"), tmp_path / "log", script="test")
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * count, (tmp_path / "log").read_text()
    same_run(tmp_path / "one", tmp_path / "all")


@pytest.mark.slow
def test_another_number_of_processes_may_go_on(checkpoint, data, tmp_path):
    assert run(checkpoint, data, "one") == 0
    argv = words(checkpoint, data, "all", "--resume")
    processes = fork_together(2, argv, tmp_path / "log", script="test")
    lines = tmp_path / "all/unfinished/cases"
    while sum(path.read_bytes().count(b"\n") for path in lines.glob("*.jsonl")) < 2:
        time.sleep(0.01)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert run(checkpoint, data, "all", "--resume") == 0
    same_run(tmp_path / "one", tmp_path / "all")


def test_a_new_run_that_was_interrupted_early_is_not_taken_for_the_old_one(checkpoint, data, tmp_path, monkeypatch):
    assert run(checkpoint, data, "out", "--prompts", "box") == 0

    def interrupted(self, index):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.OpeningPrompts, "__getitem__", interrupted)
        assert run(checkpoint, data, "out", "--prompts", "box") == 130
    seen, predict = [], evaluator.predict_batch
    monkeypatch.setattr(evaluator, "predict_batch", lambda *a, **k: (seen.append(0), predict(*a, **k))[1])
    assert run(checkpoint, data, "out", "--prompts", "box", "--resume") == 0 and len(seen) >= 7


def test_results_that_are_there_twice_or_not_at_all_are_never_merged(checkpoint, data, tmp_path, monkeypatch, capsys):
    def interrupted(self, cases):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Evaluator, "_contact_sheet", interrupted)
        assert run(checkpoint, data, "out") == 130
    folder = tmp_path / "out/unfinished/cases"
    (path,) = folder.glob("*.jsonl")
    (folder / "other.jsonl").write_bytes(path.read_bytes().splitlines(keepends=True)[2])
    assert run(checkpoint, data, "out", "--resume") == 2
    message = capsys.readouterr().err
    assert "1 photographs" in message and "data_2.jpg" in message and "another run" in message
    (folder / "other.jsonl").unlink()
    assert run(checkpoint, data, "out", "--resume") == 0


# --- files that cannot be read, a full disk -------------------------------------------------------------------


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


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_run_goes_on_later(checkpoint, data, tmp_path, monkeypatch, capsys):
    assert run(checkpoint, data, "whole") == 0
    written, write = [], os.write

    def fill_up(descriptor, content):
        if content.startswith(b"[") and b'"dice"' in content:
            written.append(content)
            if len(written) > 3:
                write(descriptor, content[:10])
                raise OSError(28, "No space left on device")
        return write(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill_up)
        assert run(checkpoint, data, "out") == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message and str(tmp_path / "out") in message and "--resume" in message
    assert run(checkpoint, data, "out", "--resume") == 0
    same_run(tmp_path / "whole", tmp_path / "out")


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
    names = ["iou", "dice", "hd95", "nsd", "sensitivity", "specificity", "auc", "aupr", "cldice", "vcdr"]
    assert run(checkpoint, data, "out", "--metrics", *names) == 0
    rows = cases(tmp_path / "out")
    assert all(name in rows[0] for name in names)
    vessels = [row for row in rows if row["structure"] == "vessel"]
    assert vessels and all((row["cldice"] != "nan") == (row["structure"] == "vessel") for row in rows)
    assert all(0 <= float(row["auc"]) <= 1 and float(row["hd95"]) >= 0 for row in rows)
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
