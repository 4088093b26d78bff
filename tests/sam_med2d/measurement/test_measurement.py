"""Measurements on shapes whose numbers are known, masks found by their names, and the script on the demo data."""

import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.image_io import read_image
from sam_med2d.data.mask_folder import records_in, with_masks
from sam_med2d.data.record_checks import load_checked
from sam_med2d.data.records import MaskRef, Record, load_index, saved_name
from sam_med2d.errors import DataError
from sam_med2d.measurement.photograph_measurement import (
    cell_text,
    columns,
    count_parts,
    draw,
    largest_part,
    load,
    measure,
)
from scripts import measure as script
from tests.helpers.commands import run_command

SIZE = 400
INSIDE = np.ones((SIZE, SIZE), bool)


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Pixels whose centres lie in an ellipse; centre x, y and radii horizontal, vertical, in edges of pixels."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def dots(count: int, side: int = 3) -> np.ndarray:
    """So many squares in rows, two pixels apart."""
    mask = np.zeros((SIZE, SIZE), bool)
    for i in range(count):
        top, left = 10 + i // 20 * (side + 2), 10 + i % 20 * (side + 2)
        mask[top : top + side, left : left + side] = True
    return mask


def write(path: Path, mask: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask.astype(np.uint8) * 255 if mask.dtype == bool else mask)
    return path


# --- numbers of known shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("disc", "cup"), [((60, 80), (30, 40)), ((75, 75), (45, 30)), ((100, 50), (12, 44))])
def test_ratios_and_diameters_of_ellipses(disc, cup):
    masks = {"optic_disc": ellipse((200, 190), disc), "optic_cup": ellipse((205, 188), cup)}
    row = measure(masks, INSIDE, mm_per_pixel=0.01)
    assert (row["disc_horizontal_px"], row["disc_vertical_px"]) == (2 * disc[0], 2 * disc[1])
    assert (row["disc_horizontal_mm"], row["disc_vertical_mm"]) == pytest.approx((0.02 * disc[0], 0.02 * disc[1]))
    assert row["vertical_cdr"] == pytest.approx(cup[1] / disc[1])
    assert row["area_cdr"] == pytest.approx(cup[0] * cup[1] / (disc[0] * disc[1]), rel=0.01)
    assert row["disc_area_px"] == pytest.approx(math.pi * disc[0] * disc[1], rel=0.005)
    assert row["notes"] == ""


def test_vessels_are_a_share_of_the_field_of_view():
    inside = ellipse((200, 200), (150, 150))
    vessel = np.zeros((SIZE, SIZE), bool)
    vessel[190:210] = True  # also outside the field of view, where it does not count
    row = measure({"vessel": vessel}, inside)
    assert row["vessel_fraction"] == pytest.approx(20 * 300 / (math.pi * 150**2), rel=0.01)
    assert row["fov_area_px"] == inside.sum()


def test_arteries_and_veins_are_vessels():
    artery, vein = np.zeros((2, SIZE, SIZE), bool)
    artery[:40], vein[20:80] = True, True
    row = measure({"artery": artery, "vein": vein}, INSIDE)
    assert (row["artery_fraction"], row["vein_fraction"], row["vessel_fraction"]) == pytest.approx((0.1, 0.15, 0.2))
    assert not [name for name in row if name.endswith("_count")]


@pytest.mark.parametrize("count", [1, 7, 33])
def test_lesions_are_counted_and_measured(count):
    disc = ellipse((300, 300), (50, 50))
    row = measure({"microaneurysm": dots(count), "optic_disc": disc}, INSIDE)
    assert (row["microaneurysm_count"], row["microaneurysm_area_px"]) == (count, 9 * count)
    assert row["microaneurysm_area_discs"] == pytest.approx(9 * count / disc.sum())


def test_pixels_that_touch_by_a_corner_are_one_lesion():
    mask = np.zeros((9, 9), bool)
    mask[2, 2] = mask[3, 3] = mask[6, 6] = True
    assert count_parts(mask) == 2 and count_parts(np.zeros((9, 9), bool)) == 0


def test_the_largest_part():
    disc, speck = ellipse((200, 200), (50, 60)), dots(1)
    np.testing.assert_array_equal(largest_part(disc | speck), disc)
    assert not largest_part(np.zeros_like(disc)).any()


# --- what is missing ------------------------------------------------------------------------------------------


def test_a_structure_without_a_mask_is_not_measured():
    disc, cup = ellipse((200, 200), (60, 60)), ellipse((200, 200), (20, 30))
    assert set(measure({}, INSIDE)) == {"fov_area_px", "notes"}
    assert set(measure({"optic_cup": cup}, INSIDE)) == {"cup_area_px", "fov_area_px", "notes"}
    alone = measure({"optic_disc": disc}, INSIDE)
    assert "vertical_cdr" not in alone and "area_cdr" not in alone and "disc_vertical_mm" not in alone
    assert "haemorrhage_area_discs" not in measure({"haemorrhage": dots(3)}, INSIDE)


def test_an_empty_mask_says_that_nothing_was_found():
    nothing, disc = np.zeros((SIZE, SIZE), bool), ellipse((200, 200), (60, 60))
    row = measure({"optic_disc": disc, "optic_cup": nothing, "haemorrhage": nothing}, INSIDE)
    assert (row["vertical_cdr"], row["area_cdr"], row["haemorrhage_count"], row["haemorrhage_area_px"]) == (0, 0, 0, 0)
    assert row["notes"] == "optic_cup not found"
    row = measure({"optic_disc": nothing, "optic_cup": disc}, INSIDE)
    assert row["disc_area_px"] == 0 and "vertical_cdr" not in row and "disc_vertical_px" not in row
    assert row["notes"] == "optic_disc not found"
    assert measure({}, INSIDE, absent=["haemorrhage"])["haemorrhage_count"] == 0


def test_doubtful_masks_are_noted():
    masks = {"optic_disc": ellipse((200, 200), (50, 50)) | dots(1), "optic_cup": ellipse((250, 200), (20, 20))}
    first, second = measure(masks, INSIDE)["notes"].split("; ")
    assert first == "optic_disc in 2 parts" and second.endswith("% of the cup outside the disc")
    assert 30 < float(second.split("%")[0]) < 70


def test_the_table_has_the_same_columns_in_the_same_order():
    disc = ellipse((200, 200), (50, 50))
    rows = [{"image": "a", **measure({"vessel": disc}, INSIDE)}, {"image": "b", **measure({"drusen": disc}, INSIDE)}]
    first = ["image", "vertical_cdr", "area_cdr", "disc_vertical_px", "disc_horizontal_px"]
    second = ["disc_area_px", "cup_area_px", "fov_area_px", "vessel_fraction"]
    assert columns(rows) == [*first, *second, "drusen_count", "drusen_area_px", "drusen_area_discs", "notes"]
    assert columns(rows[::-1]) == columns(rows)
    other = columns([{"image": "d", **measure({"cup": disc, "disc": disc}, INSIDE)}])
    assert len(other) == len(set(other))
    rows.append({"image": "c", **measure({"optic_disc": disc}, INSIDE, mm_per_pixel=1)})
    assert columns(rows)[5:7] == ["disc_vertical_mm", "disc_horizontal_mm"]
    assert (cell_text(math.nan), cell_text(0.123456789), cell_text(12)) == ("", "0.123457", "12")


# --- the picture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(60, 80), (1500, 1200)])
def test_the_picture_shows_each_structure_in_its_colour(size):
    image = np.zeros((*size, 3), np.uint8)
    disc, speck = np.zeros((2, *size), bool)
    disc[10:40, 20:60], speck[50, 5] = True, True  # a lesion of one pixel stays
    masks = {"optic_disc": disc, "microaneurysm": speck, "drusen": np.roll(disc, 15, axis=0)}
    picture = draw(image, masks, measure(masks, np.ones(size, bool)))
    assert max(picture.shape[:2]) >= 1024 and picture.dtype == np.uint8
    part = picture[: round(size[0] * 1024 / max(size)), : round(size[1] * 1024 / max(size))]
    for colour in ((86, 180, 233), (255, 255, 255), (213, 94, 0)):
        assert (part == colour).all(-1).any(), colour


# --- masks by their names -------------------------------------------------------------------------------------


def records_of(tmp_path: Path, *names: str) -> list[Record]:
    return [Record(write(tmp_path / "photos" / name, np.full((8, 8, 3), 90, np.uint8)), ()) for name in names]


@pytest.mark.parametrize(
    ("file", "image", "structure"),
    [
        ("eye7_optic_disc_000.png", "eye7.jpg", "optic_disc"),
        ("any/eye7_hard_exudate_012.png", "eye7.jpg", "hard_exudate"),
        ("optic-disc/eye7.png", "eye7.jpg", "optic_disc"),
        ("Optic Cup/eye7_001.tif", "eye7.jpg", "optic_cup"),
        ("optic-disc__eye7.png", "eye7.jpg", "optic_disc"),  # saved by test.py from optic-disc/eye7.png
        ("eye7_b_vessel_000.png", "eye7_b.jpg", "vessel"),  # the longest name wins
        ("vessel/eye7_b.png", "eye7_b.jpg", "vessel"),
    ],
)
def test_a_mask_finds_its_photograph(tmp_path, file, image, structure):
    records = records_of(tmp_path, "eye7.jpg", "eye7_b.jpg", "other.jpg")
    write(tmp_path / "masks" / file, dots(1))
    write(tmp_path / "masks" / "overlay.png", dots(1))
    found, rest = with_masks(records, tmp_path / "masks")
    assert [(r.image.name, m.structure) for r in found for m in r.masks] == [(image, structure)]
    assert [path.name for path in rest] == ["overlay.png"]


def test_masks_in_a_linked_folder_are_found_by_the_links_name(tmp_path):
    records = records_of(tmp_path, "eye7.jpg")
    write(tmp_path / "cups_of_may" / "eye7.png", dots(1))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/optic_cup").symlink_to(tmp_path / "cups_of_may")
    (found,), _ = with_masks(records, tmp_path / "masks")
    assert [mask.structure for mask in found.masks] == ["optic_cup"]


def test_predictions_of_a_map_are_found_by_the_names_that_test_gives_them(tmp_path):
    """Also where a name alone would not say the structure."""
    image = records_of(tmp_path, "eye7.jpg")[0].image
    record = Record(
        image, (MaskRef(Path("x/eye7.png"), "eye7.png", "vessel"), MaskRef(Path("y"), "../a/eye7.png", "d"))
    )
    for mask in record.masks:
        write(tmp_path / "boxes_prompt" / saved_name(mask.name), dots(1))
    (found,), _ = with_masks([record], tmp_path / "boxes_prompt")
    assert {(mask.path.name, mask.structure) for mask in found.masks} == {("eye7.png", "vessel"), ("a__eye7.png", "d")}


def test_results_of_two_prompts_are_not_mixed(tmp_path):
    records = records_of(tmp_path, "eye7.jpg")
    for folder in ("boxes_prompt", "iter1_prompt"):
        write(tmp_path / "run" / folder / "eye7_vessel_000.png", dots(1))
    with pytest.raises(DataError, match="second time.*give the folder of one result"):
        with_masks(records, tmp_path / "run")


def test_photographs_that_differ_in_their_suffix_have_masks_of_their_own(tmp_path):
    """As predict.py names them."""
    records = [Record(write(tmp_path / name, np.zeros((9, 9), bool)), (), "x") for name in ("a.jpg", "a.png")]
    for name in ("a.jpg", "a.png"):
        write(tmp_path / "masks" / name / f"{name}_optic_disc_000.png", np.ones((9, 9), bool))
    found, rest = with_masks(records, tmp_path / "masks")
    assert not rest
    for record in found:
        (mask,) = record.masks
        assert mask.structure == "optic_disc" and mask.path.name.startswith(record.image.name)


def test_photographs_of_one_name_cannot_be_told_apart(tmp_path):
    records = records_of(tmp_path, "a/eye7.jpg", "b/eye7.jpg")
    write(tmp_path / "masks" / "eye7_vessel_000.png", dots(1))
    with pytest.raises(DataError, match=r"may be of .*a/eye7.jpg or .*b/eye7.jpg"):
        with_masks(records, tmp_path / "masks")


def test_masks_beside_their_records_in(tmp_path):
    image = records_of(tmp_path, "eye7.png")[0].image
    write(image.parent / "optic_disc" / "eye7.png", dots(1))
    (record,), rest = with_masks(records_in(image.parent), image.parent)
    assert [mask.structure for mask in record.masks] == ["optic_disc"] and not rest


def test_several_masks_of_a_structure_are_joined(tmp_path):
    image = write(tmp_path / "eye.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    halves = [dots(5), ellipse((300, 300), (9, 9))]
    paths = [write(tmp_path / f"eye_haemorrhage_00{i}.png", half) for i, half in enumerate(halves)]
    _, masks = load(Record(image, tuple(MaskRef(path, path.name, "haemorrhage") for path in paths)))
    assert measure(masks, INSIDE)["haemorrhage_count"] == 6


# --- the script -----------------------------------------------------------------------------------------------


def table(path: Path) -> dict[str, dict[str, str]]:
    return {Path(row["image"]).stem: row for row in csv.DictReader((path / "measurements.csv").open())}


def test_the_demo_data(tmp_path, capsys):
    assert run_command(script, ["data_demo", "--split", "test", "--out", str(tmp_path)]) == 0
    rows = table(tmp_path)
    assert list(rows) == ["synthetic_10", "synthetic_11", "retina"]
    assert rows["retina"]["haemorrhage_count"] == rows["retina"]["vessel_fraction"] == rows["retina"]["area_cdr"] == ""
    record = load_checked("data_demo", "test")[0]
    _, masks = load(record)
    heights = {name: np.ptp(np.flatnonzero(masks[name].any(1))) + 1 for name in ("optic_cup", "optic_disc")}
    assert float(rows["synthetic_10"]["vertical_cdr"]) == pytest.approx(
        heights["optic_cup"] / heights["optic_disc"], abs=1e-5
    )
    assert "disc_vertical_mm" not in rows["retina"]
    assert cv2.imread(str(tmp_path / "pictures/retina.png")).shape[0] == 1024
    out = capsys.readouterr().out
    assert "3 photographs" in out and "disc_area_px                     3 values" in out


def test_predicted_masks_of_a_folder(tmp_path, capsys):
    """A disc that was not found, specks that --largest leaves out, other names, a photograph without masks."""
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for name in ("a", "b", "c"):
        write(photos / f"{name}.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    write(masks / "a_OD_000.png", ellipse((200, 200), (50, 60)) | dots(1))
    write(masks / "a_OC_000.png", ellipse((200, 200), (20, 30)))
    write(masks / "b_OD_000.png", np.zeros((SIZE, SIZE), bool))
    flags = [str(photos), "--masks", str(masks), "--out", str(tmp_path), "--disc", "OD", "--cup", "OC"]
    flags += ["--pictures", "False", "--mm_per_pixel", "0.2"]
    assert run_command(script, [*flags, "--largest"]) == 0
    rows = table(tmp_path)
    assert (rows["a"]["vertical_cdr"], rows["a"]["disc_vertical_px"], rows["a"]["disc_vertical_mm"]) == (
        "0.5",
        "120",
        "24",
    )
    assert (rows["b"]["disc_area_px"], rows["b"]["disc_vertical_px"], rows["b"]["notes"]) == (
        "0",
        "",
        "optic_disc not found",
    )
    assert rows["c"]["disc_area_px"] == rows["c"]["notes"] == "" and rows["c"]["fov_area_px"] == str(SIZE**2)
    assert not (tmp_path / "pictures").exists()
    assert "1 photographs have notes" in capsys.readouterr().out
    assert run_command(script, flags) == 0 and table(tmp_path)["a"]["notes"] == "optic_disc in 2 parts"


def test_photographs_of_one_name_have_pictures_of_their_own(tmp_path):
    masks = {}
    for folder in ("left", "right"):
        image = write(tmp_path / folder / "eye.png", np.full((30, 30, 3), 90, np.uint8))
        masks[str(image)] = [str(write(tmp_path / "masks" / f"{folder}_vessel_000.png", dots(1)[:30, :30]))]
    (tmp_path / "image2label_val.json").write_text(json.dumps(masks))
    assert run_command(script, [str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out/pictures").iterdir()} == {"eye.png", "right__eye.png"}


def test_a_cup_of_another_name_that_is_known_not_to_be_there_is_measured_as_one(tmp_path):
    data = tmp_path / "data"
    write(data / "images/eye.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    write(data / "masks/eye_disc_000.png", ellipse((200, 200), (50, 50)))
    (data / "label2image_test.json").write_text(json.dumps({"masks/eye_disc_000.png": "images/eye.png"}))
    (data / "index.csv").write_text("image,dataset,absent\nimages/eye.png,x,cup\n")
    flags = ["--disc", "disc", "--cup", "cup", "--pictures", "False"]
    assert run_command(script, [str(data), "--out", str(tmp_path), *flags]) == 0
    (row,) = csv.DictReader((tmp_path / "measurements.csv").open())
    assert row["cup_area_px"] == "0" and row["notes"] == "optic_cup not found" and "cup_count" not in row


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent"], "absent is no folder"),
        (["."], "has no map, such as label2image_test.json: give the masks with --masks"),
        (["data_demo", "--masks", "absent"], "--masks: absent is no folder"),
        (["data_demo", "--masks", "docs"], "--masks: no picture in docs has the name of a photograph's mask"),
        (["data_demo", "--mm_per_pixel", "0"], "--mm_per_pixel 0.0: give a positive number"),
        (["data_demo", "--mm_per_pixel", "nan"], "--mm_per_pixel nan: give a positive number"),
        (["data_demo", "--disc", "d", "--cup", "d"], "--disc d and --cup d: give two names"),
        (["data_demo", "--disc", "optic_cup"], "--disc optic_cup and --cup optic_cup: give two names"),
        (["data_demo", "--disc", "od"], "--disc od: no mask shows it; there are haemorrhage, hard_exudate, "),
        (["data_demo", "--disc", ""], "--disc is empty: give the structure's name, such as optic_disc"),
        (["data_demo", "--cup", " "], "--cup is empty: give the structure's name, such as optic_cup"),
    ],
)
def test_bad_flags_end_with_one_message(words, message, capsys, tmp_path):
    assert run_command(script, [*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_all_problems_of_the_files_are_listed_and_nothing_is_written(tmp_path, capsys):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for name in ("a", "b"):
        write(photos / f"{name}.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    write(masks / "a_optic_disc_000.png", dots(1)[:100])
    write(masks / "a_optic_cup_000.png", np.arange(SIZE**2, dtype=np.uint8).reshape(SIZE, SIZE))
    (masks / "b_vessel_000.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert run_command(script, [str(photos), "--masks", str(masks), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in ("a_optic_disc_000.png", "a_optic_cup_000.png", "b_vessel_000.png"))
    assert not list(out.iterdir())


@pytest.mark.photographs
def test_cup_to_disc_ratios_of_real_records_in(fundus):
    """Every drawn pair gives a ratio that an eye can have."""
    records = [r for r in load_index(fundus, "val") if {"optic_disc", "optic_cup"} <= {m.structure for m in r.masks}]
    rows = [measure(load(record)[1], np.ones(read_image(record.image).shape[:2], bool)) for record in records[:20]]
    assert rows and all(0.1 < row["vertical_cdr"] < 1 and 0 < row["area_cdr"] < 1 for row in rows)
