"""The example that needs no PyTorch: the same numbers as this project, and clear words for bad input."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from sam_med2d.export.onnx_parts import synthetic_picture
from segment_anything import SamPredictor
from segment_anything.build_sam import MODEL_SPECS
from segment_anything.preprocessing import Preprocessing
from tests.helpers.cases import check_all
from tests.helpers.exports import export
from tests.helpers.input_forms import Form, input_forms
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import TINY_SPEC, lively, make_tiny_model, save_model, structured

FOLDER = ROOT / "examples" / "SAM-Med2D-onnxruntime"
RETINA = ROOT / "data_demo" / "images" / "retina.jpg"
WITHOUT_TORCH = """
import runpy, sys
for name in ("torch", "segment_anything", "onnx", "matplotlib"):
    sys.modules[name] = None  # importing it fails
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module", autouse=True)
def example_modules():
    """The example's modules can be imported, as they are where its folder is copied to."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def module(name: str):
    return importlib.import_module(name)


def tiny(*, detail: str | None = None, mode: str = "fundus", order: str = "rgb", size: int = 64):
    model = lively(structured(detail=detail, image_size=size))
    model.preprocessing = replace(model.preprocessing, mode=mode, channel_order=order)
    model.prompt_encoder.presence_thresholds |= {"optic_disc": 1.0, "vessel": 0.0}
    return model


def exported(model, folder: Path, *encoder_flags: str) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    weights = save_model(model, folder / "w.safetensors")
    assert export("encoder", weights, folder / "e.onnx", *encoder_flags) == 0
    assert export("decoder", weights, folder / "d.onnx") == 0
    return folder / "e.onnx", folder / "d.onnx"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Encoder and decoder files of a tiny model with a detail head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODEL_SPECS, "vit_t", TINY_SPEC)
        return exported(tiny(detail="light"), tmp_path_factory.mktemp("pair"))


def disc_photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A bright disc on black, off the middle: RGB uint8."""
    photograph = synthetic_picture(height, width, seed)
    inside = np.zeros((height, width), np.uint8)
    cv2.circle(inside, (int(0.45 * width), int(0.55 * height)), int(0.4 * min(height, width)), 1, -1)
    return photograph * inside[..., None]


# --- preprocessing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "scale"), [("rgb", "sam"), ("bgr", "sam"), ("rgb", "unit")])
@pytest.mark.parametrize("mode", ["fundus", "sam_med2d"])
def test_preprocessing_is_the_projects_own(mode, order, scale):
    frames = module("med2d_frames")
    shapes = [(40, 50), (64, 64), (300, 211), (700, 1100), (33, 900)]
    photographs = [
        make(*shape) for shape in shapes for make in (disc_photograph, lambda h, w: synthetic_picture(h, w, 1))
    ]
    whitened = disc_photograph(300, 400)
    whitened[whitened.max(axis=2) == 0] = 255
    photographs += [whitened, np.zeros((50, 60, 3), np.uint8), cv2.cvtColor(cv2.imread(str(RETINA)), cv2.COLOR_BGR2RGB)]
    for size in (64, 256):
        rule = Preprocessing(size, mode=mode, channel_order=order, pixel_scale=scale)
        for photograph in photographs:
            frame, where = rule.frame(photograph), frames.place(photograph, size, mode)
            assert (where.used, where.inner, where.shape) == (frame.crop, frame.inner, frame.original)
            found = frames.model_input(photograph, where, mode, order, scale)[0]
            assert np.array_equal(found, rule.image(photograph, frame))
            xy = np.array([[0.0, 0], [17.3, 4], [photograph.shape[1] - 1, photograph.shape[0] - 1]])
            np.testing.assert_allclose(where.points(xy), frame.points_to_model(xy), atol=1e-9)
            np.testing.assert_allclose(where.edges(xy[:2]).ravel(), frame.boxes_to_model(xy[:2].ravel()), atol=1e-9)


@pytest.mark.photographs
def test_field_of_view_of_real_photographs(fundus):
    frames = module("med2d_frames")
    for path in sorted((fundus / "images").glob("*.jpg"))[::40]:
        photograph = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert frames.place(photograph, 256, "fundus").used == Preprocessing(256).frame(photograph).crop


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fundus", pytest.param("sam_med2d", marks=pytest.mark.slow)])
def test_the_predictor_answers_as_the_projects_own(tmp_path, tiny_type, mode):
    model = tiny(mode=mode, detail="light" if mode == "fundus" else None, order="rgb" if mode == "fundus" else "bgr")
    ours, theirs = SamPredictor(model), module("med2d_onnx").OnnxPredictor(*exported(model, tmp_path / "o"))
    photograph = disc_photograph(150, 190)
    for predictor in (ours, theirs):
        predictor.set_image(photograph)
    points = {"point_coords": np.array([[70.0, 80], [20, 30]]), "point_labels": np.array([1, 0])}
    low_res = ours.predict(**points)[2]
    for prompt in (
        points,
        {"box": np.array([30, 40, 120, 130])},
        points | {"box": np.array([30, 40, 120, 130])},
        points | {"mask_input": low_res[:1]},
    ):
        expected, found = (predictor.predict(**prompt, return_logits=True) for predictor in (ours, theirs))
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
    for structure in model.prompt_encoder.structures:
        expected, found = (predictor.predict_structure(structure) for predictor in (ours, theirs))
        assert np.array_equal(expected[0], found[0]) and abs(expected[1] - found[1]) < 1e-4
    assert not theirs.predict_structure("optic_disc")[0].any(), "held to be absent"


def test_pixels_in_0_to_1_are_read_from_the_file(tmp_path, tiny_type):
    model = tiny()
    model.preprocessing = replace(model.preprocessing, pixel_scale="unit")
    predictor = module("med2d_onnx").OnnxPredictor(*exported(model, tmp_path / "o"))
    ours, photograph = SamPredictor(model), disc_photograph(80, 90)
    for each in (ours, predictor):
        each.set_image(photograph)
    box = np.array([20, 20, 60, 70])
    expected, found = (each.predict(box=box, return_logits=True)[0] for each in (ours, predictor))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert predictor.about["format_version"] == 2, "so that programs that do not heed it refuse the file"


def test_files_in_sams_own_form_are_refused(tmp_path, tiny_type):
    weights = save_model(tiny(), tmp_path / "weights.safetensors")
    assert export("encoder", weights, tmp_path / "plain.onnx", "--plain") == 0
    with pytest.raises(ValueError, match="export both files without --plain"):
        module("med2d_onnx").OnnxPredictor(tmp_path / "plain.onnx", tmp_path / "plain.onnx")


@pytest.mark.slow
def test_preprocessing_in_the_file_answers_alike(tmp_path, tiny_type):
    model = tiny()
    predictor = module("med2d_onnx").OnnxPredictor(*exported(model, tmp_path / "o", "--use-preprocess"))
    ours, photograph = SamPredictor(model), disc_photograph(150, 190)
    for each in (ours, predictor):
        each.set_image(photograph)
    box = np.array([30, 40, 120, 130])
    expected, found = (each.predict(box=box, return_logits=True)[0] for each in (ours, predictor))
    inside = expected > -20
    assert np.abs(expected - found)[inside].max() < 0.1 * expected[inside].std()


@pytest.mark.slow
def test_a_picture_too_large_is_refused_from_its_header(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import med2d_onnx; med2d_onnx.read_photograph(sys.argv[2])"
    words = [sys.executable, "-c", code, str(FOLDER), str(tmp_path / "huge.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "huge.png cannot be read" in done.stderr and "100 million pixels" in done.stderr


def test_grey_and_16_bit_photographs(pair, tmp_path):
    onnx_module = module("med2d_onnx")
    grey = disc_photograph(80, 90)[..., 0]
    deep = grey.astype(np.uint16) << 8
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), np.repeat(deep[..., None], 3, axis=2))
    expected = np.repeat(grey[..., None], 3, axis=2)
    for name in ("grey.png", "deep.png"):
        assert np.array_equal(onnx_module.read_photograph(tmp_path / name), expected)
    predictor, answers = onnx_module.OnnxPredictor(*pair), []
    for photograph in (expected, grey, deep):
        predictor.set_image(photograph)
        answers.append(predictor.predict(box=[20, 20, 60, 60], return_logits=True)[0])
    assert np.array_equal(answers[0], answers[1]) and np.array_equal(answers[0], answers[2])
    with pytest.raises(ValueError, match=r"float64 \[8, 8, 4\]"):
        predictor.set_image(np.zeros((8, 8, 4)))
    with pytest.raises(ValueError, match=r"uint8 \[0, 8, 3\]: give .* not empty"):
        predictor.set_image(np.zeros((0, 8, 3), np.uint8))


def test_every_form_is_read_right_or_refused(tmp_path):
    read_photograph, read = module("med2d_onnx").read_photograph, []

    def check(form: Form) -> None:
        path = tmp_path / f"form{form.suffix}"
        path.write_bytes(form.content)
        try:
            pixels = read_photograph(path)
        except ValueError as error:
            assert str(path) in str(error)
            return
        read.append(form.name)
        assert form.expected is not None and pixels.shape == form.expected.shape
        assert np.abs(pixels.astype(int) - form.expected).max() <= form.tolerance + 1

    check_all(check, ((form,) for form in input_forms()))
    assert {"JPEG", "PNG", "grey PNG", "BMP", "TIFF", "TIFF of 12 bits", "PNG with a palette"} < set(read)
    assert "JPEG to be turned by its EXIF tag" in read


def test_16_bits_that_are_fewer_are_refused(pair):
    with pytest.raises(ValueError, match="brightest value of 4080, as with less than 16 bits: scale it to 8 bits"):
        module("med2d_onnx").OnnxPredictor(*pair).set_image(np.full((8, 8), 4080, np.uint16))


def test_bgr_is_said_not_guessed(pair):
    predictor, photograph = module("med2d_onnx").OnnxPredictor(*pair), disc_photograph(80, 90)
    predictor.set_image(photograph)
    first = predictor.embedding["image_embeddings"]
    predictor.set_image(photograph[..., ::-1], image_format="BGR")
    assert np.array_equal(first, predictor.embedding["image_embeddings"])


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "No prompt"),
        ({"point_coords": [[90, 5]], "point_labels": [1]}, r"point 90 5 lies outside .* \(90 x 80 pixels\)"),
        ({"point_coords": [[-1, 5]], "point_labels": [0]}, "point -1 5 lies outside"),
        ({"box": [10, 10, 91, 50]}, "box corner 91 50 lies outside"),
        ({"box": [50, 10, 40, 50]}, "x0 < x1 and y0 < y1; if these are x, y, width and height: 50 10 90 60"),
        ({"box": [0.2, 0.3, 0.8, 0.9]}, "box corner 0.2 0.3 0.8 0.9: these look like shares of the photograph"),
        ({"box": [0, 0, 1, 1]}, "these look like shares of the photograph"),
        ({"point_coords": [[0.5, 0.4]], "point_labels": [1]}, "point 0.5 0.4: these look like shares"),
        ({"point_coords": [[np.nan, 5]], "point_labels": [1]}, "point nan 5 lies outside"),
        ({"box": [50, 10, 40]}, r"box has shape \[3\]: give \[4\]"),
        ({"point_coords": [[1, 5, 6]], "point_labels": [1]}, r"point_coords has shape \[1, 3\]: give \[P, 2\]"),
        ({"box": [5, 5, 9, 9], "mask_input": np.zeros((3, 16, 16))}, r"mask_input .*: give \[16, 16\]"),
        ({"point_coords": [[1, 5]]}, "go together"),
        ({"point_coords": [[1, 5]], "point_labels": [2]}, r"point_labels \[2.0\]"),
        ({"structure": "fovea"}, "'fovea' is unknown.*optic_cup, optic_disc, vessel"),
    ],
)
def test_prompts_that_cannot_be(pair, prompt, message):
    predictor = module("med2d_onnx").OnnxPredictor(*pair)
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict(box=[0, 0, 5, 5])
    predictor.set_image(disc_photograph(80, 90))
    with pytest.raises(ValueError, match=message):
        predictor.predict(**prompt)


@pytest.mark.slow
def test_files_that_do_not_belong_together(pair, tmp_path, tiny_type):
    onnx_module = module("med2d_onnx")
    encoder, decoder = pair
    other = exported(make_tiny_model(), tmp_path / "other")
    large = exported(make_tiny_model(image_size=96), tmp_path / "large")
    bare = tmp_path / "bare.onnx"
    model = onnx.load(encoder)
    del model.metadata_props[:]
    onnx.save(model, bare)
    two = tmp_path / "two.onnx"
    assert export("encoder", encoder.with_name("w.safetensors"), two, "--batch-size", "2") == 0
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(encoder.read_bytes()[:5000])
    for files, message in (
        ((encoder, other[1]), "have different weights"),
        ((encoder, large[1]), "are for 64 and 96 px"),
        ((bare, decoder), "bare.onnx does not say how it was made"),
        ((decoder, encoder), "d.onnx is a decoder, where the encoder is asked for"),
        ((two, decoder), "two.onnx takes 2 pictures at a time: export it without --batch_size"),
        ((damaged, decoder), "damaged.onnx cannot be loaded"),
        ((tmp_path / "none.onnx", decoder), "none.onnx does not exist"),
    ):
        with pytest.raises(onnx_module.ModelFileError, match=message):
            onnx_module.OnnxPredictor(*files)


# --- the script ---------------------------------------------------------------------------------------------------


def run_main(pair, work_dir: Path, *flags: str) -> subprocess.CompletedProcess:
    words = ["--encoder_model", pair[0], "--decoder_model", pair[1], "--work_dir", work_dir, *flags]
    command = [sys.executable, "-c", WITHOUT_TORCH, str(FOLDER / "main.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_main_needs_no_pytorch(pair, tmp_path):
    result = run_main(pair, tmp_path)
    assert result.returncode == 0, result.stderr
    names = {path.name for path in (tmp_path / "ort_demo_results").iterdir()}
    assert names == {"retina_point1.png", "retina_point2.png", "retina_box.png"}
    shape = cv2.imread(str(RETINA)).shape
    assert all(cv2.imread(str(tmp_path / "ort_demo_results" / name)).shape == shape for name in names)


def test_main_answers_prompts_of_the_command_line(pair, tmp_path):
    cv2.imwrite(str(tmp_path / "eye.png"), disc_photograph(80, 90))
    flags = ["--img_path", str(tmp_path / "eye.png"), "--point", "30", "40", "--structure", "vessel", "optic_disc"]
    result = run_main(pair, tmp_path, *flags)
    assert result.returncode == 0, result.stderr
    names = {path.name for path in (tmp_path / "ort_demo_results").iterdir()}
    assert names == {"eye_point1.png", "eye_vessel.png", "eye_optic_disc.png"}
    assert "optic_disc: 0 pixels" in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--img_path", str(RETINA)], "No prompt: give --point, --box or --structure"),
        (["--img_path", "nowhere.jpg", "--point", "1", "2"], "nowhere.jpg cannot be read"),
        (["--img_path", __file__, "--point", "1", "2"], "is not a picture"),
        (["--point", "1"], "--point 1: give x y"),
        (["--point", "9999", "2"], "point 9999 2 lies outside the photograph"),
        (["--structure", "fovea"], "'fovea' is unknown"),
    ],
)
def test_main_says_what_is_wrong(pair, tmp_path, flags, message, capsys):
    sys.modules.pop("main", None)
    words = ["--encoder_model", pair[0], "--decoder_model", pair[1], "--work_dir", tmp_path / "out", *flags]
    assert module("main").main(list(map(str, words))) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
