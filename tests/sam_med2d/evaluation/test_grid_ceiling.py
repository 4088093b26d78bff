"""The best Dice that a grid of logits can hold: of analytic shapes, and in the report of an evaluation."""

import json
import math

import numpy as np
import pytest

from sam_med2d.evaluation.grid_ceiling import Ceilings, ceiling
from sam_med2d.runtime import cli
from segment_anything.checkpoint import model_metadata, save_weights
from segment_anything.preprocessing import Frame, window_around
from segment_anything.refinement.tiling import tiled_frame
from tests.helpers.evaluation_runs import cases, make_data, words
from tests.helpers.tiny_models import large_logits_model
from tests.helpers.training_runs import load_test_script

script = load_test_script()
FRAME = Frame(64, (128, 128), (0, 0, 128, 128), (0, 0, 64, 64))


def lines(period: int, thickness: int) -> np.ndarray:
    """Vertical lines in a picture of 128 pixels."""
    mask = np.zeros((128, 128), bool)
    mask[:, [x for x in range(128) if x % period < thickness]] = True
    return mask


def disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:128, :128] - 63.5
    return np.hypot(x, y) <= radius


def test_a_large_disc_loses_little_and_thin_lines_nearly_all():
    assert ceiling(disc(40), FRAME, 4) > 0.97 and ceiling(disc(40), FRAME) > 0.99
    # 1 of 4 pixels of a cell of 8 pixels each: grey all over, so that all or nothing is drawn
    assert ceiling(lines(4, 1), FRAME, 4) == pytest.approx(2 * 0.25 / 1.25, abs=0.01)
    assert ceiling(lines(16, 2), FRAME, 4) < 0.6 < ceiling(lines(16, 2), FRAME) == pytest.approx(1, abs=1e-6)


def test_without_a_change_of_size_nothing_is_lost():
    same = Frame(128, (128, 128), (0, 0, 128, 128), (0, 0, 128, 128))
    assert ceiling(lines(5, 1), same) == pytest.approx(1)
    assert math.isnan(ceiling(np.zeros((128, 128), bool), same))


def test_what_lies_outside_the_window_is_lost():
    window = window_around(FRAME, (10, 10, 30, 30))
    assert ceiling(disc(3), window) < 0.01
    assert ceiling(np.roll(disc(3), (-40, -40), (0, 1)), window, 4) > ceiling(np.roll(disc(3), -40), FRAME, 4)


def test_windows_are_finer():
    fine = tiled_frame(FRAME, 32)
    assert (fine.image_size, fine.inner) == (256, (0, 0, 256, 256))
    values = [ceiling(lines(16, 2), frame, 4) for frame in (FRAME, tiled_frame(FRAME, 64), fine)]
    assert values[0] < values[1] < values[2] == pytest.approx(1, abs=1e-6)
    odd = tiled_frame(Frame(64, (90, 200), (0, 10, 77, 190), (0, 0, 27, 64)), 50)
    assert odd.image_size % 4 == 0 and odd.inner[2:] == (round(77 * odd.image_size / 180), odd.image_size)


def test_each_ceiling_is_computed_once(monkeypatch):
    computed = []
    monkeypatch.setattr(
        "sam_med2d.evaluation.grid_ceiling.ceiling", lambda truth, frame, fineness: computed.append(fineness) or 0.5
    )
    own, truth = Ceilings(FRAME), disc(5)
    assert own.of(truth, None, 16) == own.of(truth, None, 16) == own.of(truth, FRAME, 16) == 0.5
    own.of(truth, None, 64), own.of(disc(6), None, 64)
    assert computed == [4, 1, 1]


# --- in an evaluation: ceiling, zoom, tiles and what is withheld --------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path, tiny_type):
    """Saves the weights with a presence threshold for all structures."""

    def save(level: float):
        model = large_logits_model()
        model.prompt_encoder.presence_thresholds |= dict.fromkeys(model.prompt_encoder.structures, level)
        path = tmp_path / f"level_{level:g}.safetensors"
        save_weights(path, model.state_dict(), model_metadata(model, "vit_t"))
        return path

    return save


def run(path, data, name, *more) -> int:
    return cli.run_main(script.main, script.parse_args(words(path, data, name, *more)))


WINDOWS = ("--prompts", "structure", "box", "2", "--mirror", "True", "--zoom", "True", "--tiles", "True")
WINDOWS += ("--tile_side", "32")


@pytest.mark.slow
def test_a_run_with_windows_says_so_and_is_not_taken_up_without(checkpoint, tmp_path, caplog):
    data, path = make_data(tmp_path / "data", 2), checkpoint(0)
    assert run(path, data, "near", *WINDOWS, "--metrics", "dice", "aupr") == 0
    assert run(path, data, "far", "--prompts", "structure", "box", "2", "--metrics", "dice", "aupr") == 0
    near, far = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("near", "far"))
    assert near["settings"]["--zoom"] and near["settings"]["--mirror"] and near["settings"]["--tiles"]["side"] == 32
    assert not far["settings"]["--zoom"] and far["settings"]["--tiles"] is None and not far["windows"]
    text = (tmp_path / "near" / "report.md").read_text()
    assert "Zoom: each prompt" in text and "windows of 32 pixels" in text and "1 for optic_disc" in text
    assert "Mirrored: structures" in text
    assert "all prompts and windows and mirror images" in text and "| Resolution limit |" in text
    rows = [{(r["mask"], r["prompt"]): r for r in cases(tmp_path / name)} for name in ("near", "far")]
    vessel = [own["data_1_vessel_000.png", "structure"] for own in rows]
    assert vessel[0]["predicted_area"] != vessel[1]["predicted_area"] and vessel[0]["aupr"] != vessel[1]["aupr"]
    assert float(vessel[0]["ceiling"]) > 0.95 and vessel[0]["presence"] == vessel[1]["presence"]
    assert all((row["mask"], "structure") not in rows[0] for row in rows[0].values() if row["structure"] == "optic_cup")
    caplog.clear()
    assert run(path, data, "near", *WINDOWS[:-4], "--metrics", "dice", "aupr", "--resume", "True") == 2
    assert run(path, data, "far", "--prompts", "box", "--tile_side", "32") == 2
    assert run(path, data, "far", "--prompts", "box", "--tiles", "True", "--tile_side", "15") == 2
    assert run(path, data, "far", "--prompts", "box", "--tiles", "True", "--tile_whole", "vessel=x") == 2


@pytest.mark.slow
def test_mirror_images_change_what_is_asked_for_by_name_alone(checkpoint, tmp_path, capsys):
    data, path = make_data(tmp_path / "data", 3), checkpoint(0)
    flags = ("--prompts", "structure", "box", "2", "--ceiling", "False", "--batch_size", "2")
    assert run(path, data, "once", *flags) == run(path, data, "turned", *flags, "--mirror", "True") == 0
    rows = [{(r["mask"], r["prompt"]): r for r in cases(tmp_path / name)} for name in ("once", "turned")]
    assert rows[0].keys() == rows[1].keys()
    for key, row in rows[0].items():
        turned = rows[1][key]
        assert (row == turned) == (key[1] != "structure") and row["presence"] == turned["presence"]
    assert run(path, data, "boxes", "--prompts", "box", "--mirror", "True") == 2
    assert "--mirror answers the column structure: add it to --prompts" in capsys.readouterr().err


@pytest.mark.parametrize("windows", [(), pytest.param(WINDOWS[4:], marks=pytest.mark.slow)])
def test_an_absent_answer_empties_the_mask_and_not_the_ranking(checkpoint, tmp_path, windows):
    data = make_data(tmp_path / "data", 2)
    flags = ("--prompts", "structure", "--metrics", "dice", "auc", "aupr", "--ceiling", "False", *windows)
    assert run(checkpoint(0), data, "kept", *flags) == run(checkpoint(1), data, "withheld", *flags) == 0
    kept, withheld = cases(tmp_path / "kept"), cases(tmp_path / "withheld")
    assert kept and "ceiling" not in kept[0]
    assert all(row["predicted_area"] == "0" for row in withheld) and any(row["predicted_area"] != "0" for row in kept)
    assert [(row["auc"], row["aupr"]) for row in kept] == [(row["auc"], row["aupr"]) for row in withheld]
