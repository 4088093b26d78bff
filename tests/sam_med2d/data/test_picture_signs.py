"""Which pictures of a folder are photographs: masks are known by maps, names, folders and content, and told."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage

from sam_med2d.data.mask_folder import records_in
from sam_med2d.data.photographs import find_photographs, photographs_in, pictures_in
from sam_med2d.data.picture_signs import content_sign
from sam_med2d.errors import UsageError
from tests.helpers.cases import check_all
from tests.helpers.dicom_files import dataset, written
from tests.helpers.input_forms import deep, plain_picture, tiff
from tests.helpers.paths import ROOT

PICTURE = plain_picture()
DRAWN = (PICTURE[..., 0] > 120).astype(np.uint8)


def save(path: Path, pixels: np.ndarray = PICTURE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def told(caplog: pytest.LogCaptureFixture) -> str:
    """The one line about what is passed over."""
    (record,) = caplog.records
    assert record.message.startswith("note: passed over: ") and "\n" not in record.message
    return record.message


def test_the_masks_of_the_demo_data_are_no_photographs(caplog):
    found = find_photographs([str(ROOT / "data_demo")])
    assert len(found) == 12 and all(photograph.path.parent.name == "images" for photograph in found)
    assert "58 masks, such as" in told(caplog) and "a map lists it" in told(caplog)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("masks/eye.png", "its folder masks"),
        ("1st_manual/eye.tif", "its folder 1st_manual"),
        ("Optic Disc Labels/eye.jpg", "its folder Optic Disc Labels"),
        ("eye_mask.png", "its name"),
        ("mask_eye.png", "its name"),
        ("eye-Segmentation_002.bmp", "its name"),
        ("gt_eye.jpg", "its name"),
    ],
)
def test_folders_and_names_tell_masks(tmp_path, caplog, name, seen):
    eye = save(tmp_path / "eye.png")
    save(tmp_path / name)
    assert photographs_in(tmp_path) == [eye] and len(pictures_in(tmp_path)) == 2
    assert f"1 masks, such as {tmp_path / name} ({seen})" in told(caplog)


@pytest.mark.parametrize(
    "name", ["masked_eye.png", "seguin_1.png", "labelled/eye.png", "eye_target.png", "eye manual.png"]
)
def test_names_that_only_look_alike_are_photographs(tmp_path, caplog, name):
    assert photographs_in(save(tmp_path / name).parent) == [tmp_path / name] and not caplog.records


def test_the_name_of_the_folder_itself_says_nothing(tmp_path):
    eye = save(tmp_path / "masks of my study/eye.png")
    assert photographs_in(eye.parent) == [eye]
    assert [found.path for found in find_photographs([f"{eye.parent}/*.png"])] == [eye]


def test_two_values_tell_masks(tmp_path):
    """Of any depth and compression; photographs and pictures of one value are none."""
    colours = np.where(DRAWN[..., None], np.array([200, 0, 0], np.uint8), np.array([0, 0, 40], np.uint8))
    large = np.kron(DRAWN, np.ones((20, 20), np.uint8))
    masks = {"0 1": DRAWN, "0 255": DRAWN * 255, "colours": colours, "bits": DRAWN.astype(bool), "large": large * 255}

    def check(name: str, suffix: str) -> None:
        if (name, suffix) != ("bits", ".ppm"):
            assert content_sign(save(tmp_path / f"picture{suffix}", masks[name])) == "two values"

    check_all(check, ((name, suffix) for name in masks for suffix in (".png", ".tif", ".bmp", ".ppm")))
    for number, values in enumerate((deep(DRAWN * 255, 16), DRAWN.astype(np.float32), large.astype(np.uint16) * 65535)):
        (tmp_path / f"{number}.tif").write_bytes(tiff(values))
        assert content_sign(tmp_path / f"{number}.tif") == "two values"
    others = (PICTURE, PICTURE[..., 0], np.zeros((40, 50), np.uint8))
    for pixels in others:
        assert not any(content_sign(save(tmp_path / f"other{suffix}", pixels)) for suffix in (".png", ".tif", ".bmp"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert not content_sign(tmp_path / "broken.png")


def test_maps_of_classes_and_masks_with_soft_edges_are_no_photographs(tmp_path):
    """A mask that was saved as JPEG, a map of grey values, of colours and of a palette."""
    eye = save(tmp_path / "eye.jpg", np.kron(PICTURE, np.ones((8, 8, 1), np.uint8)))
    large = np.kron(DRAWN, np.ones((8, 8), np.uint8))
    save(tmp_path / "disc.jpg", np.roll(large, 3, (0, 1)) * 255)
    classes = large + np.roll(large, 40, axis=1)
    save(tmp_path / "grey.png", classes * 127)
    save(tmp_path / "colours.bmp", np.array([(0, 0, 0), (250, 50, 83), (36, 179, 83)], np.uint8)[classes])
    palette = Image.fromarray(classes).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "palette.png")
    assert photographs_in(tmp_path) == [eye]
    signs = {path.name: content_sign(path) for path in tmp_path.iterdir()}
    three = dict.fromkeys(("grey.png", "colours.bmp", "palette.png"), "3 values")
    assert signs == {"eye.jpg": "", "disc.jpg": "black and white"} | three


def test_a_large_photograph_is_not_decoded_to_look_for_two_values(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    monkeypatch.setattr("sam_med2d.data.picture_signs.decode", lambda *_, **__: pytest.fail("decoded"))
    for suffix in (".png", ".tif", ".bmp"):
        assert not content_sign(save(tmp_path / f"noise{suffix}", noise))


def test_what_a_map_calls_a_photograph_is_one(tmp_path, caplog):
    eye, mask = save(tmp_path / "images/eye_mask.png"), save(tmp_path / "drawn/eye.png")
    (tmp_path / "image2label_train.json").write_text(json.dumps({"images/eye_mask.png": ["drawn/eye.png"]}))
    assert photographs_in(tmp_path) == [eye] and f"{mask} (a map lists it)" in told(caplog)
    assert [found.path for found in find_photographs([f"{tmp_path}/*/*.png"])] == [eye]
    (tmp_path / "image2label_train.json").write_text("no map")
    assert photographs_in(tmp_path) == [mask]


def test_other_pictures_are_counted_and_other_files_are_not(tmp_path, caplog):
    eye = save(tmp_path / "eye.png")
    for name in ("b.gif", "c.heic", "notes.txt", "table.csv", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("IM0001", "a.dcm"):
        (tmp_path / name).write_bytes(written(dataset(np.zeros((4, 4), np.uint8), kind=CTImageStorage, Modality="CT")))
    (tmp_path / "README").write_text("eyes")
    assert photographs_in(tmp_path, below=False) == [eye]
    assert "2 DICOM files that are no photographs" in told(caplog) and "CT Image Storage (modality CT)" in told(caplog)
    assert "2 other files" in told(caplog) and "notes" not in told(caplog)
    assert [record.image for record in records_in(tmp_path)] == [eye]


def test_a_mask_that_is_named_itself_is_taken(tmp_path):
    mask = save(tmp_path / "eye_mask.png", DRAWN * 255)
    assert [found.path for found in find_photographs([str(mask)])] == [mask]
    with pytest.raises(UsageError, match="no photograph there"):
        find_photographs([str(tmp_path)])


@pytest.fixture(autouse=True)
def all_levels(caplog):
    caplog.set_level(logging.WARNING)
