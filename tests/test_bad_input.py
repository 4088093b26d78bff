"""What a user can get wrong ends train.py and test.py with exit code 2 and one message that says what to mend."""

import csv
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydicom.uid import OphthalmicTomographyImageStorage
from safetensors.torch import load_file

import train
from sam_med2d.data.dataset import FundusDataset
from sam_med2d.data.record_checks import load_checked
from sam_med2d.runtime import cli
from sam_med2d.training.checkpoints import load_state
from segment_anything.build_sam import MODEL_SPECS
from segment_anything.checkpoint import model_metadata, read_checkpoint, save_weights
from segment_anything.preprocessing import Preprocessing
from tests.helpers import dicom_files
from tests.helpers.input_forms import tiff
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model
from tests.helpers.training_runs import load_test_script

SCRIPTS = {"train": train, "test": load_test_script()}
BOTH = pytest.mark.parametrize("script", SCRIPTS)
IMAGE, DISC, VESSEL = "images/eye.png", "masks/eye_optic_disc_000.png", "masks/eye_vessel_000.png"
VOLUME = dicom_files.dataset(
    np.zeros((8, 8), np.uint8), kind=OphthalmicTomographyImageStorage, Modality="OPT", NumberOfFrames=128
)
KEY = "mask_decoder.iou_token.weight"


@pytest.fixture(autouse=True)
def tiny_and_quiet(monkeypatch):
    """vit_t is a tiny model, there is no GPU, and the scripts' log handlers end with the test."""
    monkeypatch.setitem(MODEL_SPECS, "vit_t", TINY_SPEC)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def data(tmp_path):
    """A good data set of one photograph with two masks, in all three splits."""
    folder = tmp_path / "data"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    image = np.random.default_rng(0).integers(40, 255, (60, 80, 3), np.uint8)
    write(folder / IMAGE, image)
    for name, side in ((DISC, 20), (VESSEL, 35)):
        mask = np.zeros((60, 80), np.uint8)
        mask[10 : 10 + side, 15 : 15 + side] = 255
        write(folder / name, mask)
    for split in ("train", "val"):
        (folder / f"image2label_{split}.json").write_text(json.dumps({IMAGE: [DISC, VESSEL]}))
    (folder / "label2image_test.json").write_text(json.dumps({DISC: IMAGE, VESSEL: IMAGE}))
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    model = make_tiny_model()
    path = tmp_path / "tiny.safetensors"
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t"))
    return path


def write(path: Path, array: np.ndarray) -> None:
    assert cv2.imwrite(str(path), array)


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def argv_of(script: str, data: Path, checkpoint: Path) -> list[str]:
    """A command line that works; later words override earlier ones."""
    common = f"--data_path {data} --work_dir {data.parent / 'out'} --run_name run --num_workers 0 --device cpu".split()
    own = {
        "train": "--sam_checkpoint none --model_type vit_t --train_encoder full --encoder_adapter False "
        "--image_size 64 --epochs 1 --iter_point 0 --augment none",
        "test": f"--sam_checkpoint {checkpoint} --prompts box",
    }
    return common + own[script].split()


def written(data: Path) -> set[str]:
    """Files under the work folder, hidden ones too; the log of a failed training is no result."""
    out = data.parent / "out"
    return {str(p.relative_to(out)) for p in out.rglob("*") if not p.is_dir()} - {"models/run/train.log"}


def refuse(script: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a script in this process; checks exit code 2 and returns its one message."""
    module = SCRIPTS[script]
    assert cli.run_main(module.main, module.parse_args(argv)) == 2
    error = capsys.readouterr().err
    message = error[error.index("error: ") :]  # before it stand progress bars and OpenCV's own warnings
    assert message.count("error: ") == 1 and "Traceback" not in error
    return message


@BOTH
def test_good_input_works(script, data, checkpoint):
    """The cases below fail for what is broken in them, and for nothing else."""
    module = SCRIPTS[script]
    assert cli.run_main(module.main, module.parse_args(argv_of(script, data, checkpoint))) == 0
    expected = {"train": "models/run/config.json", "test": "run/summary.json"}
    assert expected[script] in written(data)


# --- pictures -----------------------------------------------------------------------------------------------------


def paint(name: str, value: int) -> Callable[[Path], None]:
    """Put a patch of another grey value into a mask."""

    def change(folder: Path) -> None:
        mask = cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE)
        mask[40:50, 60:70] = value
        write(folder / name, mask)

    return change


PICTURES = {
    "missing image": (lambda d: (d / IMAGE).unlink(), [IMAGE, "cannot be opened", "check the path"]),
    "truncated image": (lambda d: cut(d / IMAGE), [IMAGE, "not a whole picture"]),
    "empty image file": (lambda d: (d / IMAGE).write_bytes(b""), [IMAGE, "not a whole picture"]),
    "text as image": (lambda d: (d / IMAGE).write_text("hello"), [IMAGE, "not a whole picture"]),
    "image of two pages": (
        lambda d: (d / IMAGE).write_bytes(tiff(*np.full((2, 60, 80, 3), 90, np.uint8))),
        [IMAGE, "holds 2 pages or frames", "save the one that is meant"],
    ),
    "transparent image": (
        lambda d: write(d / IMAGE, np.dstack([np.full((60, 80, 3), 90, np.uint8), np.zeros((60, 80), np.uint8)])),
        [IMAGE, "is transparent everywhere", "without its alpha channel"],
    ),
    "normalised image": (
        lambda d: (d / IMAGE).write_bytes(tiff(np.linspace(-2, 2, 60 * 80 * 3, dtype=np.float32).reshape(60, 80, 3))),
        [IMAGE, "holds values from -2 to 2", "save it with 8 or 16 bits"],
    ),
    "DICOM volume": (
        lambda d: (d / IMAGE).write_bytes(dicom_files.written(VOLUME)),
        [IMAGE, "is a DICOM file of Ophthalmic Tomography Image Storage (modality OPT, 128 frames)", "leave it out"],
    ),
    "truncated DICOM": (
        lambda d: (d / IMAGE).write_bytes(
            dicom_files.written(dicom_files.dataset(np.full((60, 80), 90, np.uint8)))[:-100]
        ),
        [IMAGE, "not a whole picture"],
    ),
    "missing mask": (lambda d: (d / DISC).unlink(), [DISC, "cannot be opened"]),
    "truncated mask": (lambda d: cut(d / DISC), [DISC, "not a whole picture"]),
    "folder as mask": (lambda d: ((d / DISC).unlink(), (d / DISC).mkdir()), [DISC, "cannot be opened"]),
    "mask of three values": (paint(DISC, 128), [DISC, "not binary", "0, 128, 255", "a mask holds 0 and 1"]),
    "mask of classes": (lambda d: write(d / DISC, np.eye(60, 80, dtype=np.uint8) * 3), [DISC, "not binary", "0, 3"]),
    "empty mask": (lambda d: write(d / DISC, np.zeros((60, 80), np.uint8)), [DISC, "is empty", "leave it out"]),
    "mask of another size": (
        lambda d: write(d / DISC, np.eye(30, 40, dtype=np.uint8)),
        [DISC, "40 x 30 pixels", IMAGE, "80 x 60", "same picture"],
    ),
}


@BOTH
@pytest.mark.parametrize("case", PICTURES)
def test_bad_pictures_are_named(script, case, data, checkpoint, capsys):
    damage, parts = PICTURES[case]
    damage(data)
    if (script, case) == ("test", "truncated mask"):  # the other mask is evaluated
        (data / "label2image_test.json").write_text(json.dumps({DISC: IMAGE}))
    message = refuse(script, argv_of(script, data, checkpoint), capsys)
    for part in ["1 problem(s)", *parts]:
        assert part in message
    assert VESSEL not in message, "what is right is not blamed"
    assert not written(data)


@BOTH
def test_all_problems_are_reported_in_one_go(script, data, checkpoint, capsys):
    cut(data / IMAGE)
    paint(DISC, 128)(data)
    (data / VESSEL).unlink()
    message = refuse(script, argv_of(script, data, checkpoint), capsys)
    assert "3 problem(s)" in message and all(name in message for name in (IMAGE, DISC, VESSEL))


def test_many_problems_are_counted(data, checkpoint, capsys):
    names = {f"masks/none{i}.png": IMAGE for i in range(230)}
    (data / "label2image_test.json").write_text(json.dumps(names))
    message = refuse("test", argv_of("test", data, checkpoint), capsys)
    assert "230 problem(s)" in message and "... and 30 more" in message and message.count("\n") < 205


def test_validation_data_is_checked_before_training(data, checkpoint, capsys):
    (data / "image2label_val.json").write_text(json.dumps({IMAGE: ["masks/none.png"]}))
    assert "masks/none.png" in refuse("train", argv_of("train", data, checkpoint), capsys)
    assert not written(data)


def test_without_a_validation_map_the_last_checkpoint_is_the_best(data, checkpoint, capsys):
    (data / "image2label_val.json").unlink()
    assert train.main(train.parse_args(argv_of("train", data, checkpoint))) == 0
    assert "no validation map" in capsys.readouterr().out
    run = data.parent / "out/models/run"
    assert (run / "best").resolve() == (run / "last").resolve()


def test_a_run_is_not_overwritten(data, checkpoint, capsys):
    argv = argv_of("train", data, checkpoint)
    assert train.main(train.parse_args(argv)) == 0
    before = written(data)
    message = refuse("train", argv, capsys)
    assert "holds a run" in message and "--resume" in message and written(data) == before


@pytest.mark.parametrize("times", [2, 3])
def test_a_mask_listed_twice_is_named(data, checkpoint, capsys, times):
    (data / "image2label_train.json").write_text(json.dumps({IMAGE: [DISC] * times}))
    assert f"{DISC} is listed {times} times" in refuse("train", argv_of("train", data, checkpoint), capsys)


# --- maps ---------------------------------------------------------------------------------------------------------

TRAIN_MAP, TEST_MAP = "image2label_train.json", "label2image_test.json"


@pytest.mark.parametrize(
    ("script", "name", "content", "parts"),
    [
        ("train", TRAIN_MAP, "[1, 2]", ["JSON list", "give an object"]),
        ("test", TEST_MAP, '"text"', ["JSON str", "give an object"]),
        ("train", TRAIN_MAP, json.dumps({IMAGE: DISC}), [IMAGE, DISC, "give a list of mask paths"]),
        ("train", TRAIN_MAP, json.dumps({IMAGE: [DISC, 3]}), [IMAGE, "3", "give a list of mask paths"]),
        ("train", TRAIN_MAP, json.dumps({IMAGE: None}), [IMAGE, "null", "give a list of mask paths"]),
        ("test", TEST_MAP, json.dumps({DISC: [IMAGE]}), [DISC, IMAGE, "path as a string"]),
        ("train", TRAIN_MAP, json.dumps({IMAGE: DISC, "other.png": 5}), ["2 problem(s)", IMAGE, "other.png"]),
        ("train", TRAIN_MAP, '{"a": ', ["cannot be read as JSON"]),
        ("test", TEST_MAP, "", ["cannot be read as JSON"]),
        ("train", TRAIN_MAP, "{}", ["lists no mask"]),
        ("train", TRAIN_MAP, json.dumps({IMAGE: []}), ["lists no mask"]),
        ("test", TEST_MAP, "{}", ["lists no mask"]),
        ("train", TRAIN_MAP, "[" * 200_000, ["cannot be read as JSON"]),
    ],
)
def test_bad_maps_are_named(script, name, content, parts, data, checkpoint, capsys):
    (data / name).write_text(content)
    message = refuse(script, argv_of(script, data, checkpoint), capsys)
    assert all(part in message for part in [str(data / name), *parts])
    assert not written(data)


@pytest.mark.parametrize("name", ["images/a\0b.png", "images/" + 5000 * "x"])
def test_what_is_no_path_is_named(name, data, checkpoint, capsys):
    (data / TRAIN_MAP).write_text(json.dumps({name: [DISC]}))
    message = refuse("train", argv_of("train", data, checkpoint), capsys)
    assert str(data) in message and ("cannot be opened" in message or "too long" in message)


@pytest.mark.parametrize("table", [b"image,dataset\n\xe9,b\n", b"image,dataset\n" + b"x" * 200_000 + b",b\n"])
def test_an_index_that_is_no_table_is_named(table, data, checkpoint, capsys):
    (data / "index.csv").write_bytes(table)
    message = refuse("train", argv_of("train", data, checkpoint), capsys)
    assert str(data / "index.csv") in message and "CSV UTF-8" in message


def test_what_a_loader_process_finds_is_told_in_one_line(data, checkpoint, capsys, monkeypatch):
    """Also errors of the kinds of DataError: here the photograph is gone when the process reads it."""
    monkeypatch.setattr("sam_med2d.training.trainer.check_records", lambda *_: (data / IMAGE).unlink())
    monkeypatch.setattr("sam_med2d.training.trainer.data_digest", lambda _: "")
    monkeypatch.setattr("sam_med2d.training.data_splits.has_map", lambda *_: False)
    message = refuse("train", [*argv_of("train", data, checkpoint), "--num_workers", "1"], capsys)
    assert message.startswith(f"error: {data / IMAGE} cannot be opened") and message.strip().count("\n") == 0


@BOTH
def test_a_folder_without_maps_is_named(script, data, checkpoint, capsys):
    for path in data.glob("*.json"):
        path.unlink()
    message = refuse(script, argv_of(script, data, checkpoint), capsys)
    names = [f"image2label_{script}.json", f"label2image_{script}.json"]
    assert all(part in message for part in [str(data), *names, "--data_path"])


# --- checkpoints --------------------------------------------------------------------------------------------------


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Rewrite a checkpoint with a changed state dict."""

    def damage(path: Path) -> None:
        model = make_tiny_model()
        state = dict(model.state_dict())
        change(state)
        save_weights(path, state, model_metadata(model, "vit_t"))

    return damage


class Code:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


CHECKPOINTS = {
    "missing": (Path.unlink, ["does not exist", "--sam_checkpoint"]),
    "truncated": (cut, ["is damaged", "copy it again"]),
    "text": (lambda path: path.write_text("404: not found"), ["is damaged"]),
    "key missing": (edited(lambda state: state.pop(KEY)), ["1 keys", f"missing {KEY}", "--model_type"]),
    "key unexpected": (edited(lambda state: state.update({"new.weight": torch.zeros(1)})), ["unexpected new.weight"]),
    "key of another shape": (
        edited(lambda state: state.update({KEY: torch.zeros(2, 256)})),
        [KEY, "[2, 256] in the file", "[1, 256] in the model"],
    ),
    "no state dict": (lambda path: save_weights(path, {"a": torch.zeros(1)}, {}), ["is not a SAM"]),
}


@BOTH
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_bad_checkpoints_are_named(script, case, data, checkpoint, capsys):
    damage, parts = CHECKPOINTS[case]
    damage(checkpoint)
    argv = [*argv_of(script, data, checkpoint), "--sam_checkpoint", str(checkpoint)]
    message = refuse(script, argv, capsys)
    assert all(part in message for part in [str(checkpoint), *parts])
    assert not written(data)


@BOTH
def test_a_pickle_with_code_is_never_run(script, data, checkpoint, tmp_path, capsys):
    trap, path = tmp_path / "trap", tmp_path / "bad.pth"
    torch.save({"model": make_tiny_model().state_dict(), "optimizer": Code(trap)}, path)
    message = refuse(script, [*argv_of(script, data, checkpoint), "--sam_checkpoint", str(path)], capsys)
    assert f"scripts/convert_checkpoint.py --trust {path}" in message
    assert not trap.exists() and not written(data)


# --- flags and surroundings ---------------------------------------------------------------------------------------

FLAGS = [
    ("train", "--image_size 250", ["image_size 250", "use 256"]),
    ("train", "--image_size 0", ["image_size 0"]),
    ("train", "--image_size 80 --encoder_adapter True", ["image_size 80", "multiple of 32"]),
    ("test", "--image_size 250", ["image_size 250", "use 256"]),
    ("train", "--device cuda", ["--device cuda", "use --device cpu"]),
    ("test", "--device cuda:3", ["--device cuda:3", "use --device cpu"]),
    ("test", "--device toaster", ["--device toaster", "use cpu, cuda"]),
    ("train", "--device mps", ["--device mps", "use cpu"]),
    ("train", "--num_workers -1", ["--num_workers -1", "0 or more"]),
    ("test", "--num_workers -1", ["--num_workers -1", "0 or more"]),
    ("train", "--model_type vit_b --train_encoder adapter", ["random image encoder frozen", "--sam_checkpoint"]),
    ("train", "--model_type vit_b --train_encoder none", ["--train_encoder none", "--sam_checkpoint"]),
    ("train", "--metrics dice hausdorf", ["--metrics", "hausdorf", "choose from iou, dice"]),
    ("test", "--metrics hausdorf", ["--metrics hausdorf", "choose from iou, dice"]),
    ("test", "--prompts circle", ["--prompts", "'circle'", "use box"]),
    ("test", "--batch_size 0", ["--batch_size 0", "1 or more"]),
    ("train", "--batch_size -1", ["--batch_size -1", "1 or more"]),
    ("train", "--resume nowhere", ["--resume nowhere", "state.pt"]),
    ("train", "--seed -1", ["--seed -1", "from 0"]),
    ("test", f"--seed {2**32}", [f"--seed {2**32}", "from 0"]),
    ("train", "--clip_grad -1", ["--clip_grad -1", "0 or more"]),
    ("train", "--weight_decay -1", ["--weight_decay -1", "0 or more"]),
    ("train", "--accumulate 0", ["--accumulate 0", "1 or more"]),
    ("train", f"--batch_size {10**20}", [f"--batch_size {10**20}", "at most"]),
    ("train", "--device meta", ["--device meta", "use cpu"]),
    ("train", "--image_size 100000000", ["memory is full", "--image_size"]),
    ("train", "--run_name ..", ["--run_name '..'", "a folder of its own"]),
    ("train", "--run_name /tmp/elsewhere", ["--run_name '/tmp/elsewhere'", "below --work_dir"]),
    ("test", "--run_name a/../..", ["--run_name 'a/../..'", "a folder of its own"]),
    ("train", "--pyramid_epochs 1", ["--pyramid_epochs 1", "--detail pyramid"]),
    ("train", "--pyramid_epochs 1 --detail pyramid --pyramid_weights none", ["no structures: add --structures"]),
    ("train", "--complete dat=vessel", ["--complete dat", "there are data"]),
    ("test", "--complete dat=vessel", ["--complete dat", "there are data"]),
    ("train", "--structures optic_disc vesel", ["--structures 'vesel'", "data: optic_disc, vessel"]),
    ("test", "--prompts structure", ["--prompts structure", "know no structure by name", "optic_disc, vessel"]),
    ("test", "--tiles", ["--tiles answers the column structure"]),
    ("test", "--prompts structure --tiles --tile_whole vesel=0.3", ["--tile_whole vesel", "no structure of these"]),
    ("test", "--data_path nowhere", ["nowhere", "--data_path"]),
    ("train", "--data_path nowhere", ["nowhere", "--data_path"]),
]


@pytest.mark.parametrize(("script", "flags", "parts"), FLAGS, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_flags_are_named(script, flags, parts, data, checkpoint, capsys):
    message = refuse(script, [*argv_of(script, data, checkpoint), *flags.split()], capsys)
    assert all(part in message for part in parts)
    assert not written(data)


def test_adapters_cannot_train_where_there_are_none(data, checkpoint, capsys):
    flags = ["--train_encoder", "adapter", "--sam_checkpoint", str(checkpoint)]
    message = refuse("train", [*argv_of("train", data, checkpoint), *flags], capsys)
    assert "--train_encoder adapter needs adapters" in message and "--encoder_adapter True" in message


def test_testing_random_weights_is_refused(data, checkpoint, capsys):
    message = refuse("test", [*argv_of("test", data, checkpoint), "--sam_checkpoint", ""], capsys)
    assert "--sam_checkpoint is needed" in message


@pytest.mark.parametrize(
    ("script", "at"),
    [("train", "out"), ("train", "out/models"), ("train", "out/models/run"), ("test", "out"), ("test", "out/run")],
)
def test_a_file_in_the_way_of_the_work_folder_is_named(script, at, data, checkpoint, capsys):
    """Known before the work, not after it."""
    path = data.parent / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    message = refuse(script, argv_of(script, data, checkpoint), capsys)
    assert "--work_dir" in message and str(path) in message and "choose another folder" in message
    assert path.read_text() == "mine"


# --- while training -----------------------------------------------------------------------------------------------


def train_here(data: Path, checkpoint: Path, *flags: str) -> Path:
    """Train in this process, to the end and with finite numbers; the run's folder."""
    argv = [*argv_of("train", data, checkpoint), *flags]
    assert cli.run_main(train.main, train.parse_args(argv)) == 0
    folder = data.parent / "out/models/run"
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert all(np.isfinite(float(row[name])) for row in rows for name in ("loss", "focal", "dice", "iou"))
    assert all(tensor.isfinite().all() for tensor in load_file(folder / "last/model.safetensors").values())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["none", "structure"])
def test_a_structure_with_one_mask_trains(data, checkpoint, balance):
    """So does a single photograph, and a batch that is larger than the data."""
    train_here(data, checkpoint, "--balance", balance, "--batch_size", "8", "--mask_num", "1", "--epochs", "3")


@pytest.mark.slow
def test_a_photograph_whose_masks_vanish_in_the_model_frame_trains(data, checkpoint):
    """They lie beside the retina, outside the part of the photograph that is used."""
    y, x = np.mgrid[:120, :200]
    retina = (y - 60) ** 2 + (x - 100) ** 2 < 50**2
    write(data / "images/wide.png", np.where(retina, 150, 0).astype(np.uint8)[..., None].repeat(3, 2))
    names = ["masks/wide_vessel_000.png", "masks/wide_vessel_001.png"]
    for name, column in zip(names, (4, 190), strict=True):
        mask = np.zeros((120, 200), np.uint8)
        mask[60:63, column : column + 3] = 255
        write(data / name, mask)
    (data / TRAIN_MAP).write_text(json.dumps({IMAGE: [DISC, VESSEL], "images/wide.png": names}))
    item = FundusDataset(load_checked(data, "train"), Preprocessing(image_size=64, mode="fundus"), drop_vanished=True)[
        1
    ]
    assert len(item["mask"]) == 2 and not item["mask"].any() and not item["box"].any()
    train_here(data, checkpoint, "--batch_size", "1", "--iter_point", "2", "--epochs", "2")


def test_a_loss_that_is_no_number_stops_the_run(data, checkpoint, capsys):
    argv = [*argv_of("train", data, checkpoint), "--lr", "1e30", "--epochs", "50", "--save_every", "1"]
    message = refuse("train", argv, capsys)
    last = data.parent / "out/models/run/last"
    assert all(part in message for part in [str(data / IMAGE), "the loss is", str(last), "lower --lr"])
    state = load_state(last)
    assert f"at step {state['step']} " in message and state["step"] > 0
    assert all(tensor.isfinite().all() for tensor in state["trained"].values())


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_the_checkpoint_before(data, checkpoint, capsys, monkeypatch):
    save, calls = torch.save, []

    def fills_up(content, path):
        calls.append(path)
        save(content, path)
        if len(calls) == 3:
            cut(path)
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    monkeypatch.setattr(torch, "save", fills_up)
    argv = [*argv_of("train", data, checkpoint), "--epochs", "9", "--save_every", "1"]
    message = refuse("train", argv, capsys)
    monkeypatch.undo()
    run = data.parent / "out/models/run"
    assert "cannot save" in message and "free some space" in message
    assert load_state(run / "last")["step"] == read_step(run / "last") > 0
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def read_step(last: Path) -> int:
    """The step in the name of a checkpoint whose weights are readable."""
    assert read_checkpoint(last).state
    return int(last.resolve().name.rstrip("+").removeprefix("step-"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--model_type vit_b", ["--model_type vit_b (was vit_t)"]),
        ("--lr 0.5 --loss bce", ["--lr 0.5 (was 0.0001)", "--loss bce (was focal)"]),
        ("--accumulate 2", ["--accumulate 2 (was 1)"]),
    ],
)
def test_a_run_does_not_go_on_with_other_flags(flags, parts, data, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(MODEL_SPECS, "vit_b", TINY_SPEC)
    folder = train_here(data, checkpoint)
    before = (folder / "last/state.pt").read_bytes()
    argv = [*argv_of("train", data, checkpoint), "--resume", str(folder / "last"), *flags.split()]
    message = refuse("train", argv, capsys)
    assert all(part in message for part in parts)
    assert (folder / "last/state.pt").read_bytes() == before


def test_a_run_does_not_go_on_with_other_structures(data, checkpoint, capsys):
    folder = train_here(data, checkpoint, "--structures")
    (data / TRAIN_MAP).write_text(json.dumps({IMAGE: [DISC]}))
    argv = [*argv_of("train", data, checkpoint), "--structures", "--resume", str(folder / "last")]
    message = refuse("train", argv, capsys)
    assert "--structures ['optic_disc'] (was ['optic_disc', 'vessel'])" in message


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["no weights", "no step", "other optimizer"])
def test_a_damaged_checkpoint_to_resume_is_named(damage, data, checkpoint, capsys):
    last = train_here(data, checkpoint) / "last"
    if damage == "no weights":
        (last / "model.safetensors").unlink()
    else:
        state = load_state(last)
        state.pop("step") if damage == "no step" else state.update(optimizer=3)
        torch.save(state, last / "state.pt")
    message = refuse("train", [*argv_of("train", data, checkpoint), "--resume", str(last)], capsys)
    assert "--resume" in message and str(last) in message


def test_tensorboard_without_its_package_is_named(data, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    message = refuse("train", [*argv_of("train", data, checkpoint), "--tensorboard"], capsys)
    assert "--tensorboard" in message and "pip install tensorboard" in message


def test_files_of_a_checkpoint_agree_and_are_no_larger_than_their_tensors(data, checkpoint):
    last = train_here(data, checkpoint, "--save_pth", "--epochs", "2") / "last"
    weights = load_file(last / "model.safetensors")
    pth = torch.load(last / "model.pth", weights_only=True)
    assert pth["model"].keys() == weights.keys()
    assert all(torch.equal(pth["model"][name], tensor) for name, tensor in weights.items())
    state = load_state(last)
    moments = [tensor for moment in state["optimizer"]["state"].values() for tensor in moment.values()]
    contents = {
        "model.safetensors": weights.values(),
        "model.pth": pth["model"].values(),
        "state.pt": [*state["trained"].values(), *moments],
    }
    for name, tensors in contents.items():
        tensors = list(tensors)
        payload = sum(tensor.nbytes for tensor in tensors)
        size = (last / name).stat().st_size
        assert payload <= size < payload + 1000 * len(tensors), name
        assert size < 1.05 * payload, name


@pytest.mark.slow
def test_a_compiled_encoder_trains(data, checkpoint, monkeypatch):
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("NO C++ COMPILER: --compile is not tested")
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    (data / "image2label_val.json").unlink()  # the encoder is compiled once for training, once more for validation
    torch._dynamo.utils.counters.clear()
    folder = train_here(data, checkpoint, "--compile")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert load_file(folder / "last/model.safetensors").keys() == make_tiny_model().state_dict().keys()


# --- prompt files -------------------------------------------------------------------------------------------------

ENTRY = {"boxes": [[5, 5, 20, 20]], "point_coords": [[9, 9]], "point_labels": [1]}
NAMES = [Path(name).name for name in (DISC, VESSEL)]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["cannot be read"]),
        ("{", ["cannot be read as JSON"]),
        ([], ["JSON list"]),
        ({}, ["no entry for 2 mask(s)", *NAMES]),
        ({NAMES[0]: ENTRY}, ["no entry for 1 mask(s)", NAMES[1]]),
        ({NAMES[0]: ENTRY, NAMES[1]: {"boxes": [[5, 5, 20, 20]]}}, [NAMES[1], "point_coords"]),
        ({NAMES[0]: ENTRY, NAMES[1]: [1, 2]}, [NAMES[1], "point_coords"]),
        ({NAMES[0]: ENTRY, NAMES[1]: ENTRY | {"boxes": [[5, 5, 20]]}}, [NAMES[1], "x0, y0, x1, y1"]),
        ({NAMES[0]: ENTRY, NAMES[1]: ENTRY | {"point_labels": [1, 0]}}, [NAMES[1], "point_labels"]),
        ({NAMES[0]: ENTRY, NAMES[1]: ENTRY | {"point_labels": [4]}}, [NAMES[1], "point_labels"]),
        ({NAMES[0]: ENTRY, NAMES[1]: ENTRY | {"boxes": [[5, 5, 20, 999]]}}, [NAMES[1], "outside 0..64"]),
        ({NAMES[0]: ENTRY, NAMES[1]: ENTRY | {"point_coords": [[-4, 9]]}}, [NAMES[1], "outside 0..64"]),
    ],
)
def test_bad_prompt_files_are_named(content, parts, data, checkpoint, tmp_path, capsys):
    path = tmp_path / "prompts.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    argv = [*argv_of("test", data, checkpoint), "--prompts", "box", "1", "--prompt_path", str(path)]
    message = refuse("test", argv, capsys)
    assert all(part in message for part in ["--prompt_path", str(path), *parts])
    assert not written(data)


# --- as a process -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("train.py --image_size 250 --train_encoder full --device cpu", ["image_size 250", "use 256"]),
        ("test.py --sam_checkpoint nowhere.pth --device cpu", ["nowhere.pth", "does not exist"]),
    ],
)
def test_a_process_ends_with_one_line_and_no_traceback(command, parts, data):
    out = data.parent / "out"
    words = [sys.executable, *command.split(), "--data_path", str(data), "--work_dir", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in parts)
