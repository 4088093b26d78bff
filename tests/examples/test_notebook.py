"""The example notebook runs: on a tiny model, and on the shipped weights."""

import base64
from pathlib import Path

import nbformat
import pytest

from sam_med2d.runtime.model_flags import SHIPPED_WEIGHTS
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import save_model, structured

NOTEBOOK = ROOT / "examples/predictor_example.ipynb"
MAX_BYTES = 1_500_000
TINY = """
from segment_anything.build_sam import MODEL_SPECS
from tests.helpers.tiny_models import TINY_SPEC

MODEL_SPECS["vit_t"] = TINY_SPEC
WEIGHTS = {path!r}
"""


def execute(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run all cells as `make notebook` does; a cell that fails raises."""
    from nbclient import NotebookClient  # of requirements-dev.txt, as ipykernel, which it starts

    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return NotebookClient(notebook, timeout=300, resources=place).execute()


def outputs(notebook: nbformat.NotebookNode, kind: str) -> list[nbformat.NotebookNode]:
    return [one for cell in notebook.cells for one in cell.get("outputs", ()) if one.output_type == kind]


def weights_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell that says which weights are used."""
    (cell,) = [cell for cell in notebook.cells if cell.source.startswith("WEIGHTS = ")]
    return cell


def check_outputs(notebook: nbformat.NotebookNode) -> str:
    """Seven small JPEG pictures, and what was printed."""
    drawn = [base64.b64decode(one.data["image/jpeg"]) for one in outputs(notebook, "display_data")]
    assert len(drawn) == 7 and all(picture.startswith(b"\xff\xd8") for picture in drawn)
    return "".join(one.text for one in outputs(notebook, "stream"))


@pytest.mark.slow
def test_every_cell_runs_on_any_weights(tmp_path):
    path = save_model(structured(detail="light", structures=("optic_disc", "vessel")), tmp_path / "tiny.safetensors")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    weights_cell(notebook).source = TINY.format(path=str(path))
    text = check_outputs(execute(notebook))
    assert "structures: optic_disc, vessel" in text and "an input of 64 x 64" in text


@pytest.mark.slow
def test_on_the_shipped_weights():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("assert dice > 0.8 and disc.shape == image.shape[:2]"))
    check_outputs(execute(notebook))


def test_the_stored_notebook_is_small_and_was_executed_on_the_shipped_weights():
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert (ROOT / weights_cell(notebook).source.split('"')[1]) == Path(SHIPPED_WEIGHTS)
    assert "structures: " in check_outputs(notebook)
