"""The example notebook runs: with a tiny model always, with the weights that ship where they are there."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts import run_notebook
from segment_anything.build_sam import build_network
from segment_anything.checkpoint import model_metadata, save_weights
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import TINY_SPEC

NOTEBOOK = ROOT / "examples/predictor_example.ipynb"
WEIGHTS = ROOT / "pretrain_model/fundus_vit_t.safetensors"
MAX_BYTES = 1_500_000


@pytest.fixture
def tiny_weights(tmp_path, tiny_type):
    torch.manual_seed(0)
    structures = ["optic_disc", "vessel"]
    model = build_network(TINY_SPEC, image_size=64, encoder_adapter=False, structures=structures, detail=True)
    save_weights(tmp_path / "tiny.safetensors", model.state_dict(), model_metadata(model, "vit_t"))
    return tmp_path / "tiny.safetensors"


def pictures(notebook: dict) -> list[bytes]:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    return [base64.b64decode(o["data"]["image/jpeg"]) for o in outputs if o["output_type"] == "display_data"]


def test_every_cell_runs_on_any_weights(tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOK.parent)
    out = tmp_path / "out.ipynb"
    assert run_notebook.main([str(NOTEBOOK), "--out", str(out), "--set", f"WEIGHTS={str(tiny_weights)!r}"]) == 0
    before, after = (json.loads(path.read_text()) for path in (NOTEBOOK, out))
    assert [cell["source"] for cell in after["cells"]] == [cell["source"] for cell in before["cells"]]
    drawn = pictures(after)
    assert len(drawn) == 7 and all(picture.startswith(b"\xff\xd8") for picture in drawn)
    text = "".join(line for cell in after["cells"] for o in cell.get("outputs", ()) for line in o.get("text", ()))
    assert "structures: optic_disc, vessel" in text and "an input of 64 x 64" in text
    assert "out.ipynb" in capsys.readouterr().out


@pytest.mark.slow
def test_on_the_shipped_weights():
    if not WEIGHTS.is_file():
        pytest.skip(f"NO WEIGHTS ({WEIGHTS.relative_to(ROOT)}): the notebook is not run on them")
    names = run_notebook.execute(run_notebook.read_notebook(NOTEBOOK))
    assert names["dice"] > 0.8
    assert np.array(names["disc"]).shape == names["image"].shape[:2]


def test_the_stored_notebook_is_small():
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def notebook_of(tmp_path: Path, *sources: str) -> Path:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": [source]} for source in sources]
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_cell_that_fails_is_named_and_nothing_is_written(tmp_path):
    path = notebook_of(tmp_path, "a = 1", "b = 1 / 0")
    before = path.read_text()
    with pytest.raises(ZeroDivisionError) as caught:
        run_notebook.main([str(path)])
    assert caught.value.__notes__ == ["in code cell 2"] and path.read_text() == before


def test_values_take_the_place_of_assignments(tmp_path, capsys):
    path = notebook_of(tmp_path, "a = 1\nb = a + 1", "print(a, b)")
    assert run_notebook.main([str(path), "--set", "a=5"]) == 0
    content = json.loads(path.read_text())
    assert content["cells"][1]["outputs"][0]["text"] == ["5 6\n"] and content["cells"][0]["source"] == [
        "a = 1\nb = a + 1"
    ]
    for words, message in (
        ([str(path), "--set", "c=1"], "--set c: no cell of the notebook assigns this name"),
        ([str(path), "--set", "a=1 +"], "--set a=1 +: the value is no Python expression"),
        ([str(NOTEBOOK.parent.parent / "README.md")], "README.md is no notebook"),
        ([str(tmp_path / "absent.ipynb")], "absent.ipynb"),
    ):
        capsys.readouterr()
        assert run_notebook.main(words) == 2
        assert message in capsys.readouterr().err
