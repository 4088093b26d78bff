"""train.py and test.py, one after the other, on the demo photographs."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import train
from tests.helpers.training_runs import finished_run, load_test_script, train_args

QUICK = pytest.mark.usefixtures("quick_figures")  # of tests that look at no picture


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The work_dir of a finished training."""
    return finished_run(tmp_path_factory.mktemp("trained"))


def test_both_scripts_end_to_end(trained, tmp_path, tiny_type):
    run_folder = trained / "models" / "tiny"
    history = list(csv.DictReader((run_folder / "history.csv").open()))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert all(0 <= float(row["val_dice"]) <= 1 for row in history)
    assert json.loads((run_folder / "config.json").read_text())["flags"]["seed"] == 0

    script = load_test_script()
    flags = f"--data_path data_demo --work_dir {tmp_path} --run_name out --num_workers 0 --save_pred"
    assert script.main(script.parse_args([*flags.split(), "--sam_checkpoint", str(run_folder / "best")])) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["overall"]) == ["box", "1", "3", "5"]
    cases = list(csv.DictReader((tmp_path / "out" / "cases.csv").open()))
    masks = json.loads(Path("data_demo/label2image_test.json").read_text())
    assert len(cases) == 4 * len(masks)
    mean = np.mean([float(row["dice"]) for row in cases if row["prompt"] == "3"])
    assert summary["overall"]["3"]["dice"] == pytest.approx(mean)
    assert {path.name for path in (tmp_path / "out" / "iter5_prompt").iterdir()} == {Path(m).name for m in masks}
    assert "| Model | Resolution | Bbox | 1 pt | 3 pts | 5 pts | FPS |" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "overlay.png").stat().st_size > 10_000


@pytest.mark.slow
@QUICK
def test_saved_predictions_score_what_the_table_says(trained, tmp_path, tiny_type):
    script = load_test_script()
    flags = f"--data_path data_demo --work_dir {tmp_path} --run_name out --num_workers 0 --save_pred --prompts box"
    script.main(script.parse_args([*flags.split(), "--sam_checkpoint", str(trained / "models/tiny/last")]))
    for row in csv.DictReader((tmp_path / "out" / "cases.csv").open()):
        saved = cv2.imread(str(tmp_path / "out" / "boxes_prompt" / row["mask"]), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(f"data_demo/masks/{row['mask']}", cv2.IMREAD_UNCHANGED) > 0
        assert set(np.unique(saved)) <= {0, 255} and saved.shape == truth.shape
        overlap = 2 * ((saved > 0) & truth).sum() / max(1, (saved > 0).sum() + truth.sum())
        assert float(row["dice"]) == pytest.approx(overlap, abs=1e-6)


@pytest.mark.slow
@QUICK
def test_replayed_prompts_give_the_same_numbers(trained, tmp_path, tiny_type):
    script = load_test_script()
    common = f"--data_path data_demo --work_dir {tmp_path} --num_workers 0 --sam_checkpoint {trained}/models/tiny/last"
    script.main(script.parse_args([*common.split(), "--run_name", "first"]))
    replay = ["--run_name", "second", "--prompt_path", str(tmp_path / "64_prompt.json"), "--batch_size", "3"]
    script.main(script.parse_args([*common.split(), *replay]))
    first, second = ((tmp_path / name / "cases.csv").read_text() for name in ("first", "second"))
    for a, b in zip(csv.DictReader(first.splitlines()), csv.DictReader(second.splitlines()), strict=True):
        assert a["mask"] == b["mask"] and float(a["dice"]) == pytest.approx(float(b["dice"]), abs=2e-3)


def healthy_demo(folder: Path) -> Path:
    """The demo's photographs, of which one in each map has no mask, and no soft exudate either."""
    shutil.copytree("data_demo", folder)
    rows = ["image,dataset,absent"]
    for split, healthy in {"train": "images/synthetic_02.jpg", "val": "images/synthetic_08.jpg"}.items():
        path = folder / f"image2label_{split}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {healthy: []}))
        rows.append(f"{healthy},clinic,soft_exudate")
    (folder / "label2image_test.json").unlink()
    shutil.copy(folder / "image2label_val.json", folder / "image2label_test.json")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["none", "structure"])
@QUICK
def test_healthy_photographs_train_and_are_tested(tmp_path, tiny_type, capsys, balance):
    data = str(healthy_demo(tmp_path / "data"))
    names = ["--structures", "optic_disc", "soft_exudate"]
    flags = ["--data_path", data, "--epochs", "1", "--batch_size", "1", "--balance", balance]
    assert train.main(train_args(tmp_path, *flags, *names)) == 0
    assert "7 training images" in capsys.readouterr().out
    assert train.main(train_args(tmp_path, *flags, "--run_name", "clicks")) == 0
    out = capsys.readouterr().out
    assert "6 training images" in out and "2 photographs without a mask are left out" in out
    script = load_test_script()
    words = f"--data_path {data} --work_dir {tmp_path} --run_name out --num_workers 0 --prompts structure box --mirror"
    argv = [*words.split(), "--sam_checkpoint", str(tmp_path / "models/tiny/last")]
    assert script.main(script.parse_args(argv)) == 0
    cases = list(csv.DictReader((tmp_path / "out/cases.csv").open()))
    assert [row["prompt"] for row in cases if row["mask"] == "no soft_exudate"] == ["structure"]
    assert "| soft_exudate | 1 |" in (tmp_path / "out/report.md").read_text()
    (tmp_path / "data/image2label_test.json").write_text(json.dumps({"images/synthetic_08.jpg": []}))
    assert script.main(script.parse_args([*argv, "--run_name", "healthy"])) == 0
    report = (tmp_path / "healthy/report.md").read_text()
    assert "| soft_exudate | 1 |" in report and "Dice" not in report
