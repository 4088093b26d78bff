"""Every form of input tried with every command: the table of docs/reference/inputs.md.

A pair is "read" where the pixels that the command goes on with are those of the plain picture, whatever the command
prints or returns; "refused" where it ends with a message that names the file; anything else is WRONG.
"""

import contextlib
import io
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

import train
from app.annotator import Annotator
from sam_med2d.data.photographs import find_photographs
from sam_med2d.inference.prompt_sources import Prompt
from sam_med2d.runtime import cli
from scripts import check_dataset, measure, predict
from segment_anything.preprocessing import Preprocessing
from segment_anything.refinement.refine import NO_REFINEMENT
from tests.helpers.dicom_files import dicom_forms, other_dicom
from tests.helpers.input_forms import SIZE, Form, input_forms, plain_picture
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import make_tiny_model, save_model, tiny_vit_t
from tests.helpers.training_runs import load_test_script

READ, REFUSED, WRONG = "read", "refused", "WRONG"
DICOM = """RGB; RGB in planes; RGB of 12 bits; YBR_FULL; YBR_FULL_422; RGB of two frames; VL Photographic;
Secondary Capture; MONOCHROME1 of 12 bits; MONOCHROME2 of 12 bits; PALETTE COLOR of 8 bits; JPEG, YBR_FULL_422;
JPEG, RGB; JPEG 2000, YBR_RCT; JPEG 2000, YBR_ICT; JPEG-LS, RGB of 16 bits; RLE, RGB""".replace("\n", " ").split("; ")
HEAD = """\
# Inputs

What each command makes of each form of photograph. "read": the pixels that the model or the measurement sees are those
of the plain picture of 8 bits; "refused": the command names the file and says what to do.
[Photographs](../how-to/predict.md#photographs) tells the rules, and how `--page` chooses among pages. This page is made
by trying all pairs: `python docs/make_inputs_reference.py` (two minutes).

DICOM is read where `requirements-dicom.txt` is installed: [what of it](../how-to/predict.md#dicom). `scripts/amg.py`,
`scripts/prepare_dataset.py`, the exports and the notebook read as `predict.py` does. The ONNX
example, which stands alone, reads JPEG, PNG, BMP and TIFF of 8 or 16 bits; `scripts/prepare_dataset.py` makes such
files of the others.
"""


class Seen(Exception):
    """Carries the pixels that a command goes on with out of it."""


def _seen(*values: object) -> None:
    raise Seen(next(value for value in values if isinstance(value, np.ndarray)))


class Trial:
    """A file of one form, in a data set of its own."""

    def __init__(self, folder: Path, form: Form, weights: Path) -> None:
        self.folder, self.weights = folder, weights
        self.photograph = folder / f"eye{form.suffix}"
        self.photograph.write_bytes(form.content)
        mask = np.zeros(SIZE if form.expected is None else form.expected.shape[:2], np.uint8)
        mask[12:30, 14:32] = 255
        cv2.imwrite(str(folder / "eye_disc_000.png"), mask)
        for split in ("train", "test"):
            pairs = {self.photograph.name: ["eye_disc_000.png"]}
            (folder / f"image2label_{split}.json").write_text(json.dumps(pairs))

    def train(self) -> int:
        words = f"--data_path {self.folder} --sam_checkpoint none --model_type vit_t --encoder_adapter False --epochs 1"
        words += f" --train_encoder full --image_size 64 --iter_point 0 --num_workers 0 --work_dir {self.folder}/out"
        words += " --device cpu"
        return cli.run_main(train.main, train.parse_args(words.split()))

    def test(self) -> int:
        script = load_test_script()
        words = f"--data_path {self.folder} --sam_checkpoint {self.weights} --work_dir {self.folder}/out --run_name t"
        return cli.run_main(script.main, script.parse_args(f"{words} --num_workers 0 --device cpu".split()))

    def predict(self) -> int:
        words = f"{self.photograph} --sam_checkpoint {self.weights} --out {self.folder}/out --box 14 12 32 30"
        code = cli.run_main(predict.main, predict.parse_args(words.split()))
        print((self.folder / "out/predictions.csv").read_text())
        return code

    def measure(self) -> int:
        words = f"{self.folder} --split test --disc disc --out {self.folder}/out"
        return cli.run_main(measure.main, measure.parse_args(words.split()))

    def annotate(self) -> int:
        photographs = find_photographs([str(self.photograph)])
        annotator = Annotator(make_tiny_model(), photographs, multimask=False, max_pixels=10**6)
        try:
            annotator.predict(0, Prompt("disc", box=(14, 12, 32, 30)), NO_REFINEMENT)
        except ValueError as error:
            print(error)
            return 2
        return 0

    def check(self) -> int:
        words = f"{self.folder} --out {self.folder.parent}/check --num_workers 1"
        return cli.run_main(check_dataset.main, check_dataset.parse_args(words.split()))

    def onnx(self) -> int:
        with mock.patch.object(sys, "path", [str(ROOT / "examples/SAM-Med2D-onnxruntime"), *sys.path]):
            import med2d_onnx
        try:
            _seen(med2d_onnx.read_photograph(self.photograph))
        except ValueError as error:
            print(error)
        return 2


COMMANDS: dict[str, Callable[[Trial], int]] = {
    "`train.py`": Trial.train,
    "`test.py`": Trial.test,
    "`predict.py`": Trial.predict,
    "`measure.py`": Trial.measure,
    "`app/server.py`": Trial.annotate,
    "`check_dataset.py`": Trial.check,
    "ONNX example": Trial.onnx,
}


def outcome(form: Form, command: Callable[[Trial], int], folder: Path, weights: Path) -> str:
    """What a command makes of a form."""
    folder.mkdir()
    trial, said = Trial(folder, form, weights), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _watched():
            code = command(trial)
    except Seen as seen:
        pixels, expected = seen.args[0], form.expected
        alike = expected is not None and pixels.shape == expected.shape
        near = alike and np.abs(pixels.astype(int) - expected).max() <= form.tolerance + 1
        return READ if near else WRONG
    return REFUSED if code and trial.photograph.name in said.getvalue() else f"{WRONG}: {said.getvalue()}"


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """The pixels that are brought into the model's frame, or of which the field of view is measured, end a command."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with (
        mock.patch.object(Preprocessing, "frame", _seen),
        mock.patch("sam_med2d.measurement.command.find_field_of_view", _seen),
        tiny_vit_t(),
    ):
        yield
    root.handlers[:], root.level = handlers, level


def forms() -> list[Form]:
    """All forms; of DICOM those that are decoded in different ways."""
    own = dicom_forms(plain_picture())
    return [*input_forms(), *(form for form in own if form.name.removeprefix("DICOM, ") in DICOM), other_dicom()]


def table() -> dict[str, dict[str, str]]:
    """{form: {command: what it makes of it}}."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = save_model(make_tiny_model(), folder / "w.safetensors")
        return {
            form.name: {
                command: outcome(form, call, folder / f"{i}_{j}", weights)
                for j, (command, call) in enumerate(COMMANDS.items())
            }
            for i, form in enumerate(forms())
        }


def render() -> str:
    """The text of docs/reference/inputs.md."""
    lines = [f"| | {' | '.join(COMMANDS)} |", f"| --- |{' --- |' * len(COMMANDS)}"]
    lines += [f"| {form} | {' | '.join(cells.values())} |" for form, cells in table().items()]
    return HEAD + "\n" + "\n".join(lines) + "\n"
