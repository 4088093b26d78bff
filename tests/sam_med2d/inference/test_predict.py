"""scripts/predict.py: what it writes for each kind of prompt, what it refuses, how it goes on."""

import json
import os
import signal
import struct
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam_med2d.data.image_io import read_image
from sam_med2d.data.photographs import find_photographs
from sam_med2d.errors import UsageError
from sam_med2d.inference import batch_run as prediction_run
from sam_med2d.inference.pipeline import Pipeline
from segment_anything.checkpoint import model_metadata, read_checkpoint, save_weights
from segment_anything.modeling import ImageEncoderViT
from segment_anything.utils.rle import rle_to_mask
from tests.helpers.input_forms import tiff
from tests.helpers.photographs import photograph
from tests.helpers.predicting import (
    SIZE,
    STRUCTURES,
    best_of,
    contents,
    mask_of,
    predictor_of,
    rows_of,
    run,
    words_for,
    write_folder,
    write_picture,
    write_weights,
)
from tests.helpers.tiny_models import structured
from tests.helpers.tiny_scripts import fork, fork_together


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def folder(tmp_path, tiny_type):
    """Three photographs, two of one name."""
    return write_folder(tmp_path / "in")


# --- results ------------------------------------------------------------------------------------------------------


def test_structures_of_a_folder(folder, weights, monkeypatch):
    """Masks are the predictor's, each photograph is encoded once, the absent structure is empty and said to be so."""
    encoded = []
    encode = ImageEncoderViT.forward
    monkeypatch.setattr(
        ImageEncoderViT, "forward", lambda self, image: encoded.append(len(image)) or encode(self, image)
    )
    assert run(folder, weights, "--structures", "all") == 0
    assert encoded == [1, 1, 1]
    out = folder.parent / "out"
    rows = rows_of(out)
    assert [(row["name"], row["label"]) for row in rows] == [
        (name, label) for name in ("left/eye", "right/eye", "third") for label in STRUCTURES
    ]
    for row in rows:
        predictor = predictor_of(weights, Path(row["image"]))
        expected, iou = predictor.predict_structure(row["label"])
        mask = mask_of(out, row)
        np.testing.assert_array_equal(mask, expected)
        assert float(row["predicted_iou"]) == pytest.approx(iou, abs=1e-3) and int(row["area"]) == mask.sum()
        absent = row["label"] == "drusen"
        assert row["state"] == ("absent" if absent else "found" if mask.any() else "empty")
        assert ("held not to be in" in row["message"]) == absent and 0 <= float(row["presence"]) <= 1
        if not absent:
            y, x = np.nonzero(mask)
            assert [int(row[side]) for side in ("x0", "y0", "x1", "y1")] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert cv2.imread(str(out / "overlays/left/eye.png")).shape[1] == SIZE[1]


def test_coco_holds_the_masks(folder, weights):
    assert run(folder, weights, "--structures", "all") == 0
    out = folder.parent / "out"
    content = json.loads((out / "coco.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    images = {image["id"]: image for image in content["images"]}
    found = [row for row in rows_of(out) if row["state"] == "found"]
    assert len(images) == 3 and len(content["annotations"]) == len(found) > 0
    assert [annotation["id"] for annotation in content["annotations"]] == list(range(1, len(found) + 1))
    for annotation, row in zip(content["annotations"], found, strict=True):
        image = images[annotation["image_id"]]
        assert (out / image["file_name"]).resolve() == Path(row["image"]).resolve()
        mask = mask_of(out, row)
        assert (image["height"], image["width"]) == mask.shape and names[annotation["category_id"]] == row["label"]
        np.testing.assert_array_equal(rle_to_mask(annotation["segmentation"]), mask)
        assert annotation["area"] == mask.sum()


def test_a_box_and_clicks_on_the_command_line(folder, weights):
    picture = folder / "third.png"
    words = "--box 20 20 60 55 --point 40 40 --background 8 30.5 --label cup"
    assert run(picture, weights, *words.split(), out="../out") == 0
    (row,) = rows_of(folder.parent / "out")
    predictor = predictor_of(weights, picture)
    clicks = np.array([[40, 40], [8, 30.5]]), np.array([1, 0])
    np.testing.assert_array_equal(
        mask_of(folder.parent / "out", row), best_of(predictor.predict(*clicks, np.array([20, 20, 60, 55])))
    )
    assert row["mask"] == "masks/third/third_cup_000.png" and row["presence"] == ""


def test_several_boxes_with_zoom(folder, weights):
    picture = folder / "third.png"
    boxes = [[20, 20, 50, 45], [5, 8, 15, 20]]
    words = [word for box in boxes for word in ("--box", *box)]
    assert run(picture, weights, *words, "--zoom", out="../out") == 0
    rows = rows_of(folder.parent / "out")
    predictor = predictor_of(weights, picture)
    expected = [best_of(predictor.predict(box=np.array(box), zoom=True)) for box in boxes]
    for row, mask, plain in zip(rows, expected, predictor.predict(box=np.array(boxes))[0], strict=True):
        np.testing.assert_array_equal(mask_of(folder.parent / "out", row), mask)
        assert not any(np.array_equal(mask, other) for other in plain)  # the window changes the answer
    assert [row["number"] for row in rows] == ["0", "1"]


@pytest.mark.parametrize(
    "flags", [("tiles",), ("mirror",), ("tiles", "mirror"), pytest.param(("zoom", "mirror"), marks=pytest.mark.slow)]
)
def test_refined_structures(folder, weights, flags):
    picture = folder / "third.png"
    assert run(picture, weights, "--structures", "all", *(f"--{name}" for name in flags), out="../out") == 0
    rows = {row["label"]: row for row in rows_of(folder.parent / "out")}
    predictor = predictor_of(weights, picture)
    expected = predictor.predict_structures(list(rows), **dict.fromkeys(flags, True))
    plain = predictor.predict_structures(list(rows))
    for label, row in rows.items():
        np.testing.assert_array_equal(mask_of(folder.parent / "out", row), expected[label][0])
    assert not np.array_equal(expected["vessel"][0], plain["vessel"][0])  # they change the answer
    assert rows["drusen"]["state"] == "absent"


def test_tiles_of_weights_without_candidates(folder, tmp_path):
    model = structured(detail="light")
    torch.nn.init.normal_(model.mask_decoder.mask_tokens.weight, std=3)
    path = tmp_path / "single.safetensors"
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t") | {"multimask": False})
    assert run(folder / "third.png", path, "--structures", "vessel", "--tiles", out="../out") == 0
    (row,) = rows_of(folder.parent / "out")
    expected = predictor_of(path, folder / "third.png").predict_structures(
        ["vessel"], tiles=True, multimask_output=False
    )
    np.testing.assert_array_equal(mask_of(folder.parent / "out", row), expected["vessel"][0])
    assert float(row["predicted_iou"]) == pytest.approx(expected["vessel"][1], abs=1e-4)


def test_clicks_answered_by_the_single_mask(folder, tmp_path):
    """--multimask False, with weights whose candidates answer otherwise."""
    model = structured(detail="light")
    torch.nn.init.normal_(model.mask_decoder.mask_tokens.weight, std=3)
    path = tmp_path / "both.safetensors"
    save_weights(path, model.state_dict(), model_metadata(model, "vit_t"))
    predictor = predictor_of(path, folder / "third.png")
    clicks = {"point_coords": np.array([[20.0, 30.0]]), "point_labels": np.array([1])}
    words = "--point", 20, 30
    for flags, multimask in (((), True), (("--multimask", "False"), False)):
        out = folder.parent / f"out{len(flags)}"
        assert run(folder / "third.png", path, *words, *flags, out=f"../{out.name}") == 0
        masks, iou, _ = predictor.predict(**clicks, multimask_output=multimask)
        (row,) = rows_of(out)
        assert float(row["predicted_iou"]) == pytest.approx(iou.max(), abs=1e-4)
        np.testing.assert_array_equal(mask_of(out, row), masks[iou.argmax()])
    assert run(folder / "third.png", path, *words, out="../out2") == 2


@pytest.mark.parametrize("flag", ["--tiles", "--mirror"])
def test_windows_all_over_and_mirror_images_are_for_structures(folder, weights, capsys, flag):
    assert run(folder, weights, "--box", 1, 2, 30, 40, flag) == 2
    assert f"{flag} answers --structures, not --box" in capsys.readouterr().err


def test_boxes_of_a_detector(folder, weights, tmp_path, capsys):
    lines = ["image,x0,y0,x1,y1,score,label", "left/eye.png,10,10,40,40,0.5,disc A/B", "third.png,5,5,30,30,,"]
    lines += [f"{folder / 'third.png'},8,30,60,60,0.25,box", "other.png,1,1,2,2,1,x"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    assert run(folder, weights, "--boxes_csv", tmp_path / "boxes.csv") == 0
    printed = capsys.readouterr().out
    assert "1 images are not among the photographs: other.png" in printed and "1 photographs have no box" in printed
    rows = {(row["name"], row["number"]): row for row in rows_of(tmp_path / "out")}
    assert rows["right/eye", ""]["state"] == "no prompt"
    assert rows["left/eye", "0"]["mask"] == "masks/left/eye/eye_disc_A_B_000.png"
    assert [rows["third", number]["score"] for number in "01"] == ["", "0.25"]
    expected = best_of(predictor_of(weights, folder / "third.png").predict(box=np.array([8, 30, 60, 60])))
    np.testing.assert_array_equal(mask_of(tmp_path / "out", rows["third", "1"]), expected)


@pytest.mark.parametrize("frame", ["model", "photograph"])
def test_a_prompt_file(folder, weights, tmp_path, frame):
    """Keys are masks' names, as test.py writes them, in either frame; third.png is named itself."""
    empty = {"boxes": [], "point_coords": [], "point_labels": []}
    entries = {
        "left/eye.png": empty | {"boxes": [[10, 12, 40, 44]]},
        "right/eye.png": empty | {"point_coords": [[30, 30], [5, 6]], "point_labels": [1, 0]},
        "third_optic_disc_000.png": empty | {"point_coords": [[20, 30]], "point_labels": [1]},
        "third_optic_cup_001.png": empty,
    }
    (tmp_path / "prompts.json").write_text(json.dumps(entries))
    assert run(folder, weights, "--prompt_path", tmp_path / "prompts.json", "--prompt_frame", frame) == 0
    rows = rows_of(tmp_path / "out")
    assert [row["label"] for row in rows] == ["object", "object", "optic_disc"]
    predictor = predictor_of(weights, folder / "third.png")
    point = np.array([[20, 30]])
    point = predictor.frame.points_to_original(point) if frame == "model" else point
    np.testing.assert_array_equal(mask_of(tmp_path / "out", rows[2]), best_of(predictor.predict(point, np.array([1]))))


def test_names_never_collide(tmp_path):
    for name in ("a/Eye.png", "b/eye.png", "b/eye.jpg", "b/eye.jpg.png", "b/EYE.tif"):
        write_picture(tmp_path / name)
    found = find_photographs([str(tmp_path)])
    names = [p.name.casefold() for p in found]
    assert len(set(names)) == len(found) == 5 and "a/eye" in names and "b/eye.tif" in names
    patterns = find_photographs([str(tmp_path / "b/*.png"), str(tmp_path / "a")])
    assert [p.name for p in patterns] == ["a/Eye", "b/eye", "b/eye.jpg"]
    once = find_photographs([str(tmp_path / "a/Eye.png"), str(tmp_path / "a")])
    assert [p.name for p in once] == ["Eye"]


def test_photographs_in_a_linked_folder_are_found(tmp_path):
    write_picture(tmp_path / "elsewhere/a.png")
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs/clinic").symlink_to(tmp_path / "elsewhere")
    assert [p.name for p in find_photographs([str(tmp_path / "photographs")])] == ["clinic/a"]


def test_grey_and_16_bit_photographs(tmp_path):
    """16 bits become 8; those of a 12-bit camera by its 12 bits; grey has three equal channels."""
    ramp = np.tile(np.linspace(0, 1, 91), (73, 1))
    colour = np.stack([ramp, ramp[::-1], 1 - ramp], -1)
    expected = np.round(colour * 255)
    for name, top in (("deep.png", 65535), ("deep.tif", 65535), ("camera.png", 4095)):
        pixels = read_image(write_picture(tmp_path / name, np.round(colour * top).astype(np.uint16)))
        assert pixels.dtype == np.uint8 and np.abs(pixels - expected).max() <= 1, name
    grey = read_image(write_picture(tmp_path / "grey.png", np.round(ramp * 65535).astype(np.uint16)))
    assert grey.shape == (73, 91, 3) and np.abs(grey[..., 1] - ramp * 255).max() <= 1
    assert (grey[..., 0] == grey[..., 2]).all()


def test_a_page_is_chosen(tmp_path, weights, tiny_type, capsys):
    pages = [photograph(*SIZE), photograph(SIZE[0] + 9, SIZE[1])]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "eyes.tif").write_bytes(tiff(*pages))
    prompt = ["--box", 20, 20, 60, 78]  # which only the second page is high enough for
    assert run(folder, weights, *prompt) == 1 and "holds 2 pages" in rows_of(tmp_path / "out")[0]["message"]
    cache = ["--embedding_cache", tmp_path / "cache"]
    for page, out in ((1, "first"), (2, "second"), (2, "again")):
        box = prompt if page == 2 else ["--structures", "vessel"]
        assert run(folder, weights, *box, *cache, "--page", page, out=out) == 0
        (row,) = rows_of(tmp_path / out)
        assert mask_of(tmp_path / out, row).shape == pages[page - 1].shape[:2]
    assert np.array_equal(*(mask_of(tmp_path / out, rows_of(tmp_path / out)[0]) for out in ("second", "again")))
    assert run(folder, weights, "--structures", "vessel", "--page", 3, out="third") == 1
    assert "--page 3: " in rows_of(tmp_path / "third")[0]["message"]


def test_a_guess_of_the_depth_and_what_is_passed_over_are_told_in_a_line_each(folder, weights, capsys):
    for path in folder.rglob("*.png"):
        write_picture(path, cv2.imread(str(path))[..., ::-1].astype(np.uint16) << 4)
    write_picture(folder / "masks/eye.png")
    assert run(folder, weights, "--structures", "vessel") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2 and "1 masks, such as" in notes[0]
    assert "read as 12 bits" in notes[1] and "left/eye.png (brightest value" in notes[1] and "and 2 more" in notes[1]


# --- bad input ----------------------------------------------------------------------------------------------------


def header_only(path: Path, side: int) -> Path:
    """A PNG that claims side x side pixels and has none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    begun = struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 100) + b"IDAT"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + begun)
    return path


def test_one_bad_photograph_does_not_stop_the_rest(folder, weights, capsys):
    (folder / "middle.png").write_bytes(b"no picture")
    header_only(folder / "huge.png", 20_000)
    (folder / "cut.png").write_bytes((folder / "third.png").read_bytes()[:300])
    assert run(folder, weights, "--structures", "vessel") == 1
    errors = capsys.readouterr().out
    rows = {row["name"]: row for row in rows_of(folder.parent / "out")}
    assert [name for name, row in rows.items() if row["state"] == "failed"] == ["cut", "huge", "middle"]
    assert "20000 x 20000 pixels, more than --max_pixels 100000000" in rows["huge"]["message"]
    assert f"{folder / 'cut.png'} is not a whole picture" in rows["cut"]["message"]
    assert "3 failed" in errors and rows["third"]["mask"]
    for name in ("cut", "huge", "middle"):
        write_picture(folder / f"{name}.png")
    assert run(folder, weights, "--structures", "vessel") == 0
    assert "3 of 6 photographs are done already, 3 to do" in capsys.readouterr().out
    assert not [row for row in rows_of(folder.parent / "out") if row["state"] == "failed"]


BAD = {
    "--label x": "no prompt: say what to segment",
    "--structures vessel --point 3 3": "--structures and --box, --point: give one kind",
    "--structures vessel macula": "--structures macula: these weights know optic_disc, vessel, drusen",
    "--point 200 10": r"point 200, 10 lies outside",
    "--point 10 -1": r"point 10, -1 lies outside",
    "--box 10 10 92 20": r"box 10, 10, 92, 20 lies outside",
    "--box 30 10 20 20": "box 30, 10, 20, 20: these look like x, y, width, height, then give 30, 10, 50, 30",
    "--box 80 10 20 20": "box 80, 10, 20, 20: give x0, y0, x1, y1 (x0 < x1 and y0 < y1)",
    "--box 0.2 0.1 0.7 0.9": "box 0.2, 0.1, 0.7, 0.9: these look like shares of the photograph, give pixels",
    "--box 0 0 1 1": "these look like shares of the photograph",
    "--point 0.5 0.4": "point 0.5, 0.4: these look like shares of the photograph",
    "--point nan 4": "point nan, 4: give finite numbers",
    "--box 0 0 inf 4": "box 0, 0, inf, 4: give finite numbers",
    "--background 3 3": "give --point or --box too",
    "--box 1 1 9 9 --box 2 2 9 9 --point 3 3": "the points of which box",
    "--structures vessel --max_pixels 0": "--max_pixels 0: give 1 to",
    "--structures vessel --embedding_cache cache --cache_gb 0": "--cache_gb 0.0: give more",
    "--structures vessel --embedding_cache cache --cache_gb inf": "--cache_gb inf: give more than 0, and no more than",
    "--structures vessel --cache_gb nan": "--cache_gb nan: give more",
    "--structures vessel --num_workers -1": "--num_workers -1",
    "--structures vessel --image_size 100": "image_size 100",
    "--structures vessel --sam_checkpoint no.pth": "no.pth does not exist",
}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_work_is_refused_before_work(folder, weights, capsys, words):
    assert run(folder, weights, *words.split()) == 2
    error = capsys.readouterr().err
    assert BAD[words] in error and error.count("\n") == 1
    assert not list(folder.parent.glob("out/*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,xmin,ymin,xmax,ymax\n", "unknown xmin, ymin, xmax, ymax; missing x0, y0, x1, y1"),
        ("image,x0,y0,x1,y1,colour\n", "its columns (unknown colour) must be image, x0, y0, x1, y1"),
        ("image,x0,y0,x1,y1,x0\n", "one is there twice"),
        ("image,x0,y0,x1,y1\nthird.png,1,2,x,4\n", "line 2: could not convert string to float: 'x'"),
        (
            "image,x0,y0,x1,y1\nthird.png,1,2,1,4\n",
            "line 2: box 1, 2, 1, 4: these look like x, y, width, height, then give 1, 2, 2, 6",
        ),
        ("image,x0,y0,x1,y1\nthird.png,1,2\n", "boxes.csv, line 2 has 3 cells: give 5"),
        ("x0,y0,x1,y1,image\n1,2,3,4,third.png\n1,2,3,4\n", "boxes.csv, line 3 has 4 cells: give 5"),
        ("image,x0,y0,x1,y1\nthird.png,1,2,3,4,5,6\n", "boxes.csv, line 2 has 7 cells: give 5"),
        ("image,x0,y0,x1,y1,label\nthird.png,1,2,3,4\n", "boxes.csv, line 2 has 5 cells: give 6"),
        ("image,x0,y0,x1,y1\nother.png,1,2,3,4\n", "names none of the 3 photographs (it names other.png)"),
        ("image,x0,y0,x1,y1\neye.png,1,2,3,4\n", "2 photographs are called eye.png: write the folder too"),
        ("image,x0,y0,x1,y1\nthird.png,1,2,3,400\n", "boxes.csv, line 2: box 1, 2, 3, 400 lies outside"),
        (None, "cannot be read"),
    ],
)
def test_csv_files_that_cannot_work(folder, weights, tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "boxes.csv").write_text(content)
    assert run(folder, weights, "--boxes_csv", tmp_path / "boxes.csv") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"third.png": {"boxes": [[1, 2, 3, 4]], "point_coords": [], "point_labels": []}}, "no prompt for 2"),
        ({"third.png": {"boxes": [[1, 2]]}}, "the entry of third.png is not"),
        ({"third.png": {"boxes": [[9, 9, 4, 4]], "point_coords": [], "point_labels": []}}, "third.png: box 9, 9, 4, 4"),
        ([], "holds a JSON list"),
        ({"eye_disc_000.png": {"boxes": [], "point_coords": [], "point_labels": []}}, "may be of left/eye, right/eye"),
    ],
)
def test_prompt_files_that_cannot_work(folder, weights, tmp_path, capsys, entries, message):
    (tmp_path / "prompts.json").write_text(json.dumps(entries))
    assert run(folder, weights, "--prompt_path", tmp_path / "prompts.json") == 2
    assert message in capsys.readouterr().err


def test_inputs_without_photographs(folder, weights, capsys):
    for name, message in (("no", "does not exist"), ("*.jpg", "no photograph there")):
        assert run(folder / name, weights, "--structures", "vessel") == 2
        assert message in capsys.readouterr().err


def test_results_inside_the_folder_of_photographs_are_not_photographs(folder, weights):
    for _ in range(2):
        assert run(folder, weights, "--structures", "vessel", out=f"{folder.name}/out") == 0
    assert [row["name"] for row in rows_of(folder / "out")] == ["left/eye", "right/eye", "third"]
    own = folder / "out" / "overlays" / "third.png"
    assert [p.path for p in find_photographs([str(own)], [own.parent])] == [own]


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        (b"lat\xefn.png", "object", "lat\\udcefn.png: this name is no UTF-8 text"),
        (b"eye.png", "caf\udce9", "label caf\\udce9: this name is no UTF-8 text"),
        (b"e" * 245 + b".png", "object", "names of more than 255 bytes"),
        ("眼".encode() * 60 + b".png", "o" * 80, "names of more than 255 bytes"),
    ],
)
def test_names_that_results_cannot_have_are_refused_before_work(
    tmp_path, tiny_type, weights, capsys, name, label, message
):
    photograph = write_picture(tmp_path / "photographs" / "eye.png")
    photograph.rename(photograph.with_name(os.fsdecode(name)))
    assert run(photograph.parent, weights, "--point", 20, 30, "--label", label) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out" / "masks").exists()


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_input_is_not_the_current_folder(folder, monkeypatch, text):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="INPUT is empty"):
        find_photographs([text])
    assert len(find_photographs(["."])) == 3


# --- going on -----------------------------------------------------------------------------------------------------


def test_a_second_run_does_what_is_missing_and_refuses_other_settings(folder, weights, capsys):
    words = (folder, weights, "--structures", "vessel")
    assert run(*words) == 0
    before = contents(folder.parent / "out")
    assert run(*words) == 0
    assert "3 of 3 photographs are done already, 0 to do" in capsys.readouterr().out
    assert contents(folder.parent / "out") == before
    write_picture(folder / "third.png", seed=9)  # another one under its name
    write_picture(folder / "fourth.png", seed=4)
    assert run(*words) == 0
    assert "2 of 4 photographs are done already, 2 to do" in capsys.readouterr().out
    rows = rows_of(folder.parent / "out")
    assert [row["name"] for row in rows] == ["fourth", "left/eye", "right/eye", "third"]
    assert mask_of(folder.parent / "out", rows[3]).shape == (SIZE[0] + 9, SIZE[1])
    after = contents(folder.parent / "out")
    for more in (("--zoom",), ("--tiles",), ("--mirror",), ("--structures", "drusen"), ("--channel_order", "bgr")):
        assert run(*words, *more) == 2
        error = capsys.readouterr().err
        assert "holds results with other" in error and ("preprocessing" if "bgr" in more else more[0]) in error
    assert contents(folder.parent / "out") == after


@pytest.mark.parametrize(
    "name, change",
    [("mask rule", {"mask_rule": "dice"}), ("presence thresholds", {"presence_thresholds": {"vessel": 0.9}})],
)
def test_a_run_does_not_go_on_with_other_rules(folder, weights, tmp_path, capsys, name, change):
    checkpoint = read_checkpoint(weights)
    other = tmp_path / "other.safetensors"
    save_weights(other, checkpoint.state, checkpoint.metadata | change)
    assert run(folder, weights, "--structures", "vessel") == 0
    assert run(folder, other, "--structures", "vessel") == 2
    assert name in capsys.readouterr().err


@pytest.fixture
def many(folder):
    for number in range(9):
        write_picture(folder / f"more/{number}.png", seed=number)
    return folder


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_goes_on(many, weights, tmp_path, sent):
    """Stopped after the first photographs; what is done is not done again, and the end is as if undisturbed."""
    out, log = tmp_path / "stopped", tmp_path / "log"
    words = words_for(many, weights, out, "--structures", "all")
    process = fork(words, log, script="predict")
    done = out / "state/photographs"
    while len(list(done.rglob("[!.]*.json"))) < 2 and process.is_alive():
        time.sleep(0.002)
    os.kill(process.pid, sent)
    process.join(60)
    assert process.exitcode == (-signal.SIGKILL if sent == signal.SIGKILL else 130), log.read_text()
    kept = {path: path.stat().st_mtime_ns for path in done.rglob("[!.]*.json")}
    assert 2 <= len(kept) < 12 and not (out / "predictions.csv").exists()
    assert run(many, weights, "--structures", "all", out="stopped") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert run(many, weights, "--structures", "all", out="whole") == 0
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(out.rglob(".*"))


@pytest.mark.slow
def test_two_processes_share_the_photographs(many, weights, tmp_path):
    log = tmp_path / "log"
    words = words_for(many, weights, tmp_path / "two", "--structures", "all")
    (many / "more/3.png").write_bytes(b"no picture")
    processes = fork_together(2, words, log, script="predict")
    for process in processes:
        process.join(60)
        assert process.exitcode == 1, log.read_text()
    assert run(many, weights, "--structures", "all", out="one") == 1
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert "12 photographs in" in log.read_text() and log.read_text().count("results:") == 1


def test_a_full_disk_ends_the_run_with_a_message(folder, weights, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "masks/eye.png")

    monkeypatch.setattr(prediction_run.ResultFiles, "write", full)
    assert run(folder, weights, "--structures", "vessel") == 2
    assert "what is done is kept; free some space" in capsys.readouterr().err


# --- the pipeline -------------------------------------------------------------------------------------------------


def test_stages_overlap_and_results_keep_their_order():
    """One item is read while another is encoded and a third is finished: each of the three waits for the others."""
    together, first_encoded = threading.Barrier(3), threading.Event()

    def meet(item, chosen):
        if item == chosen:
            together.wait(30)
        return item

    def read(item):
        assert item != 1 or first_encoded.wait(30)
        return meet(item, 2)

    def encode(item):
        first_encoded.set()
        return meet(item, 1)

    def finish(item):
        return meet(item, 0)

    assert list(Pipeline(read, encode, finish, threads=3).run(range(9))) == list(range(9))


def test_the_busy_share_is_that_of_encoding():
    pipeline = Pipeline(lambda item: item, lambda item: time.sleep(0.02) or item, lambda item: item, threads=2)
    start = time.perf_counter()
    list(pipeline.run(range(10)))
    whole = time.perf_counter() - start
    assert 0.2 <= pipeline.encoding <= pipeline.seconds <= whole


def test_as_many_encode_at_a_time_as_there_are_encoders():
    together = threading.Barrier(2)
    pipeline = Pipeline(
        lambda item: item, lambda item: together.wait(30) and item, lambda item: item, threads=3, encoders=2
    )
    assert len(list(pipeline.run(range(8)))) == 8 and pipeline.encoding <= pipeline.seconds


def test_few_items_are_on_their_way():
    alive, most = set(), 0

    def read(item):
        nonlocal most
        alive.add(item)
        most = max(most, len(alive))
        return item

    def finish(item):
        time.sleep(0.003)
        alive.discard(item)

    list(Pipeline(read, lambda item: item, finish, threads=3).run(range(50)))
    assert most <= 3


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_error_of_a_stage_is_raised(stage):
    def fail(item):
        if item == 3:
            raise OSError("disk")
        return item

    stages = [lambda item: item] * 3
    stages[stage] = fail
    with pytest.raises(OSError, match="disk"):
        list(Pipeline(*stages, threads=3).run(range(10)))
