"""What masks of one photograph give together, and what the command makes of tables, scales and other prompts."""

import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.records import load_index
from sam_med2d.data.synthetic_fundus import synthetic_fundus
from sam_med2d.measurement.photograph_measurement import columns, load, measure
from sam_med2d.measurement.retina_measurement import RETINA_COLUMNS, in_mm, measure_retina, mm_name
from sam_med2d.measurement.retinal_equivalents import ARTERY, VEIN, trunk_width
from scripts import measure as script
from scripts import prepare_dataset
from segment_anything.utils.field_of_view import FieldOfView, find_field_of_view
from tests.helpers.commands import run_command
from tests.helpers.predicting import STRUCTURES, write_picture, write_weights
from tests.helpers.shapes import ellipse, spokes

SIDE = 600
FIELD = FieldOfView((SIDE, SIDE), (0, 0, SIDE, SIDE), (300, 300), 290)
DISC_AT = (380.0, 300.0)
ARTERIES, VEINS = [5, 5.5, 6, 6.5, 7, 7.5], [7, 8, 8.5, 9, 9.5, 10, 11]
NOTHING = np.zeros((SIDE, SIDE), bool)


def eye() -> dict[str, np.ndarray]:
    """A right eye: six arteries and seven veins that leave its disc, and a cup towards its upper rim."""
    arteries = spokes(SIDE, DISC_AT, ARTERIES, start=20, end=150, turn=4)
    veins = spokes(SIDE, DISC_AT, VEINS, start=20, end=150, turn=24)
    masks = {"optic_disc": ellipse(SIDE, DISC_AT, (40, 40)), "optic_cup": ellipse(SIDE, (380, 290), (20, 20))}
    return masks | {"artery": arteries, "vein": veins}


def test_all_values_of_an_eye():
    masks = eye()
    values, notes = measure_retina(masks, FIELD)
    assert (values["laterality"], values["laterality_source"]) == ("R", "disc position") and not notes
    assert (values["disc_centre_x"], values["disc_centre_y"]) == pytest.approx(DISC_AT, abs=0.05)
    assert values["disc_diameter_px"] == pytest.approx(80, abs=0.1)
    assert (values["zone_b_arteries"], values["zone_b_veins"]) == (6, 7)
    crae, crve = trunk_width(ARTERIES, ARTERY), trunk_width(VEINS, VEIN)
    assert (values["crae_px"], values["crve_px"]) == pytest.approx((crae, crve), rel=0.02)
    assert values["avr"] == pytest.approx(crae / crve, rel=0.03)
    assert values["artery_width_mean_px"] == pytest.approx(np.mean(ARTERIES), abs=0.1)
    assert values["vein_width_mean_px"] == pytest.approx(np.mean(VEINS), abs=0.1)
    assert values["artery_tortuosity"] == pytest.approx(1, abs=2e-3)
    zone_b = math.pi * (120**2 - 80**2)
    assert values["artery_density_zone_b"] == pytest.approx(40 * sum(ARTERIES) / zone_b, rel=0.02)
    assert values["vein_density_zone_b"] == pytest.approx(40 * sum(VEINS) / zone_b, rel=0.02)
    rims = {name: values[f"rim_to_disc_{name}"] for name in ("superior", "nasal", "inferior", "temporal")}
    assert rims["superior"] < rims["nasal"] < rims["inferior"]
    assert rims["nasal"] == pytest.approx(rims["temporal"], abs=0.003)
    assert values["zone_b_visible"] == pytest.approx(1, abs=0.01) and 0.5 < values["zone_c_visible"] < 1


def test_arterioles_and_venules_are_arteries_and_veins():
    masks = eye()
    other = {"arteriole": masks["artery"], "retinal_venules": masks["vein"]}
    others = {name: mask for name, mask in masks.items() if name not in ("artery", "vein")} | other
    values, _ = measure_retina(others, FIELD)
    assert values["crae_px"] > 0 and values == measure_retina(masks, FIELD)[0]
    assert "arteriole_fraction" in measure(others, FIELD.mask()) and "arteriole_count" not in measure(
        others, FIELD.mask()
    )


def test_columns_depend_on_the_structures_alone():
    """What is found and what is not have the same columns, all of which the table knows."""
    masks = eye()
    whole, _ = measure_retina(masks, FIELD)
    empty, notes = measure_retina(dict.fromkeys(masks, NOTHING), FIELD)
    assert set(whole) == set(empty) <= set(RETINA_COLUMNS) and not notes
    assert columns([measure(masks, FIELD.mask()) | whole]) == columns([measure(masks, FIELD.mask()) | empty])
    known = {name for name, value in empty.items() if value not in ("",) and not math.isnan(value)}
    assert not known
    assert measure_retina({}, FIELD) == ({}, [])
    assert not any(name.startswith(("zone", "crae")) for name in measure_retina({"vessel": masks["vein"]}, FIELD)[0])


def test_the_eye_of_the_table_decides_and_a_contradiction_is_noted():
    masks = eye()
    masks["optic_cup"] = ellipse(SIDE, (390, 300), (20, 20))
    right, _ = measure_retina(masks, FIELD)
    left, notes = measure_retina(masks, FIELD, eye="L")
    assert right["rim_to_disc_nasal"] == left["rim_to_disc_temporal"] < right["rim_to_disc_temporal"]
    assert (left["laterality"], left["laterality_source"]) == ("L", "index.csv")
    assert notes == ["laterality L in index.csv, but disc position says R"]


def test_rims_of_an_unknown_eye_have_no_side():
    masks = {"optic_disc": ellipse(SIDE, (300, 300), (40, 40)), "optic_cup": ellipse(SIDE, (300, 300), (20, 20))}
    values, _ = measure_retina(masks, FIELD)
    assert values["laterality"] == "" and values["rim_to_disc_superior"] == pytest.approx(0.25, abs=0.005)
    assert math.isnan(values["rim_to_disc_nasal"]) and math.isnan(values["rim_to_disc_temporal"])


def test_too_few_vessels_give_no_equivalent_and_a_note():
    masks = eye()
    masks["artery"] = spokes(SIDE, DISC_AT, [6] * 4, start=20, end=150)
    values, notes = measure_retina(masks, FIELD)
    assert values["zone_b_arteries"] == 4 and math.isnan(values["crae_px"]) and math.isnan(values["avr"])
    assert values["crve_px"] > 0 and notes == ["4 arteries in zone B, 6 needed"]


def test_a_zone_that_leaves_the_field_of_view_is_told():
    field = FieldOfView((SIDE, SIDE), (0, 0, SIDE, 430))
    values, notes = measure_retina(eye(), field)
    assert 0.6 < values["zone_b_visible"] < 0.9 and f"{values['zone_b_visible']:.0%} of zone B in view" in notes
    assert values["zone_b_visible"] > values["zone_c_visible"] > 0


@pytest.mark.parametrize(
    "disc", [ellipse(SIDE, (5, 300), (40, 40)), NOTHING, eye()["optic_disc"] | ellipse(SIDE, (90, 90), (9, 9))]
)
def test_a_disc_that_is_no_circle_leaves_zones_and_rims_empty(disc):
    values, _ = measure_retina(eye() | {"optic_disc": disc}, FIELD)
    for name in (
        "disc_diameter_px",
        "zone_b_visible",
        "vein_density_zone_b",
        "crae_px",
        "zone_b_arteries",
        "rim_to_disc_superior",
    ):
        assert math.isnan(values[name]), name
    assert values["vein_width_mean_px"] == pytest.approx(np.mean(VEINS), abs=0.3)


def test_distances_from_the_fovea():
    masks = eye() | {"haemorrhage": ellipse(SIDE, (180, 330), (5, 5)), "hard_exudate": NOTHING}
    values, _ = measure_retina(masks, FIELD)
    assert not [name for name in values if "fovea" in name]
    values, _ = measure_retina(masks, FIELD, fovea=(180, 300))
    assert values["disc_fovea_px"] == pytest.approx(200, abs=0.1) and values["haemorrhage_fovea_px"] == 25
    assert math.isnan(values["hard_exudate_fovea_px"]) and values["laterality_source"] == "fovea"
    of_mask, _ = measure_retina(masks | {"fovea": ellipse(SIDE, (180, 300), (3, 3))}, FIELD)
    assert of_mask == values


def test_millimetres():
    values = {"crae_px": 10.0, "haemorrhage_area_px": 200, "vein_curvature_per_px": 0.02, "avr": 0.7, "laterality": "R"}
    found = in_mm(values, 0.01)
    assert found == pytest.approx({"crae_mm": 0.1, "haemorrhage_area_mm2": 0.02, "vein_curvature_per_mm": 2})
    assert mm_name("image") == mm_name("avr") == ""


def test_a_photograph_of_twice_the_size_has_the_same_shape():
    """Lengths double; ratios, densities and the dimension stay."""
    small, large = (synthetic_fundus(height=side, width=side, seed=3, lesions=False)[1] for side in (384, 768))
    one, two = (
        measure_retina(masks, FieldOfView((side, side), (0, 0, side, side), (side / 2, side / 2), 0.48 * side))[0]
        for side, masks in ((384, small), (768, large))
    )
    for name in ("disc_diameter_px", "vessel_width_mean_px"):
        assert two[name] / one[name] == pytest.approx(2, rel=0.06), name
    for name in ("vessel_density_zone_b", "vessel_density_zone_c", "vessel_fractal_dimension", "rim_to_disc_superior"):
        assert two[name] == pytest.approx(one[name], rel=0.06), name


# --- the command ----------------------------------------------------------------------------------------------


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture.astype(np.uint8) * 255 if picture.dtype == bool else picture)


def data_set(folder: Path, index: str = "") -> Path:
    """Photographs a and b of the same eye, and a map of their masks."""
    found = {}
    for name in "ab":
        write(folder / f"images/{name}.png", np.full((SIDE, SIDE, 3), 90, np.uint8))
        for structure, mask in eye().items():
            write(folder / f"masks/{name}_{structure}_000.png", mask)
        found[f"images/{name}.png"] = [f"masks/{name}_{structure}_000.png" for structure in eye()]
    (folder / "image2label_val.json").write_text(json.dumps(found))
    if index:
        (folder / "index.csv").write_text(index)
    return folder


def measured(folder: Path, out: Path, *flags: str) -> list[dict[str, str]]:
    assert run_command(script, [str(folder), "--out", str(out), "--pictures", "False", *flags]) == 0
    return list(csv.DictReader((out / "measurements.csv").open()))


def test_scales_eyes_and_foveas_of_index_csv(tmp_path):
    index = "image,laterality,pixel_spacing_x,pixel_spacing_y,fovea_x,fovea_y\n"
    index += "images/a.png,R,0.01,0.01,180,300\nimages/b.png,,,,,\n"
    first, second = measured(data_set(tmp_path / "data", index), tmp_path / "out")
    assert float(first["disc_diameter_mm"]) == pytest.approx(0.8, abs=0.002)
    assert float(first["disc_fovea_mm"]) == pytest.approx(2, abs=0.002)
    assert (first["laterality_source"], first["scale_source"]) == ("index.csv", "index.csv")
    assert (second["laterality_source"], second["scale_source"]) == ("disc position", "")
    empty = [name for name in second if name.endswith(("_mm", "_mm2", "_per_mm"))]
    assert len(empty) > 10 and not any(second[name] for name in empty) and second["disc_fovea_px"] == ""


def test_from_dicom_files_to_millimetres(tmp_path):
    """What prepare_dataset.py writes of Pixel Spacing and laterality; its maps have photographs without masks."""
    pytest.importorskip("pydicom", reason="pip install -r requirements-dicom.txt")
    from tests.helpers.dicom_files import dataset, written

    (tmp_path / "in").mkdir()
    about = {"PatientID": "P1", "ImageLaterality": "L", "PixelSpacing": [0.011, 0.011]}
    (tmp_path / "in/IM1").write_bytes(written(dataset(np.full((SIDE, SIDE, 3), 90, np.uint8), **about)))
    words = ["dicom", str(tmp_path / "in"), str(tmp_path / "data"), "--num_workers", "1"]
    assert run_command(prepare_dataset, words) == 0
    (photograph,) = (tmp_path / "data/images").iterdir()
    write(tmp_path / f"masks/{photograph.stem}_optic_disc_000.png", eye()["optic_disc"])
    (row,) = measured(tmp_path / "data", tmp_path / "out", "--masks", str(tmp_path / "masks"))
    assert float(row["disc_diameter_mm"]) == pytest.approx(80 * 0.011, abs=0.002)
    assert (row["scale_source"], row["laterality"], row["laterality_source"]) == ("index.csv", "L", "index.csv")
    assert row["notes"] == "laterality L in index.csv, but disc position says R"


def test_a_scale_for_each_photograph(tmp_path, capsys):
    data = data_set(tmp_path / "data")
    (tmp_path / "scales.csv").write_text("image,um_per_pixel\na.png,10\nother.png,9\n")
    first, second = measured(data, tmp_path / "out", "--scale_csv", str(tmp_path / "scales.csv"))
    assert float(first["crae_mm"]) == pytest.approx(float(first["crae_px"]) * 0.01, rel=1e-4)
    assert second["crae_mm"] == "" and float(second["crae_px"]) == float(first["crae_px"])
    out = capsys.readouterr().out
    assert "1 of 2 photographs have no scale: their cells in mm are empty" in out
    assert "1 rows of" in out and "are of other photographs" in out


def test_masks_of_a_map_and_of_a_folder_have_the_same_columns_and_values(tmp_path):
    data = data_set(tmp_path / "data")
    of_map = measured(data, tmp_path / "map")
    of_folder = measured(data / "images", tmp_path / "folder", "--masks", str(data / "masks"))
    assert list(of_map[0]) == list(of_folder[0])
    assert [{**row, "image": ""} for row in of_map] == [{**row, "image": ""} for row in of_folder]


def test_what_weights_predict_is_measured(tmp_path, tiny_type):
    """As predict.py writes it; drusen are predicted absent, and no photograph of the map needs masks."""
    weights, folder = write_weights(tmp_path / "tiny.safetensors"), tmp_path / "photographs"
    for seed in range(2):
        write_picture(folder / f"{seed}.png", seed=seed)
    rows = measured(folder, tmp_path / "out", "--predict", str(weights))
    masks = sorted((tmp_path / "out/predictions/masks").rglob("0_*.png"))
    assert [path.stem for path in masks] == [f"0_{structure}_000" for structure in sorted(STRUCTURES)]
    areas = {path.stem: int((cv2.imread(str(path), 0) > 0).sum()) for path in masks}
    assert int(rows[0]["disc_area_px"]) == areas["0_optic_disc_000"] and rows[0]["drusen_count"] == "0"
    of_folder = measured(folder, tmp_path / "again", "--masks", str(tmp_path / "out/predictions/masks"))
    assert of_folder == rows


def test_masks_are_given_or_predicted(tmp_path, capsys):
    data = data_set(tmp_path / "data")
    assert run_command(script, [str(data), "--predict", "--masks", str(data / "masks")]) == 2
    assert "--masks and --predict: give one" in capsys.readouterr().err
    flags = ["--predict", "--mm_per_pixel", "6.5", "--out", str(tmp_path / "out")]
    assert run_command(script, [str(data), *flags]) == 2 and not (tmp_path / "out").exists()  # nothing is predicted
    assert "--mm_per_pixel 6.5: give mm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("image,laterality\nimages/a.png,rihgt\n", "laterality of"),
        ("image,pixel_spacing_x,pixel_spacing_y\nimages/a.png,x,0.01\n", "pixel_spacing_x of images/a.png is x"),
        ("image,fovea_x,fovea_y\nimages/a.png,10,\n", "fovea_x '10' and fovea_y '' of images/a.png: give two numbers"),
        ("image,laterality\nimages/a.png,R\nimages/a.png,L\n", "line 3: line 2 is of images/a.png, too: join them"),
        ("image,Fovea_X,FOVEA Y\nimages/a.png,1200,90\n", "images/a.png lies outside its 600 x 600 pixels"),
        ("image,fovea_x,fovea_y\nimages/a.png,1200,90\n", "images/a.png lies outside its 600 x 600 pixels"),
    ],
)
def test_cells_that_cannot_be_meant_end_the_command(tmp_path, capsys, index, message):
    data = data_set(tmp_path / "data", index)
    assert run_command(script, [str(data), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err and not list((tmp_path / "out").glob("*"))


def test_a_table_of_other_photographs_ends_the_command(tmp_path, capsys):
    data = data_set(tmp_path / "data")
    (tmp_path / "scales.csv").write_text("image,um_per_pixel\nother.png,9\n")
    flags = ["--scale_csv", str(tmp_path / "scales.csv"), "--out", str(tmp_path / "out")]
    assert run_command(script, [str(data), *flags]) == 2
    assert "none of its rows is of a photograph" in capsys.readouterr().err


def test_the_picture_shows_the_zones(tmp_path):
    data = data_set(tmp_path / "data")
    assert run_command(script, [str(data), "--out", str(tmp_path / "out")]) == 0
    picture = cv2.imread(str(tmp_path / "out/pictures/a.png"))
    scale = 1024 / SIDE
    for radius in (80, 120):
        ring = picture[round(300.5 * scale) - 3 : round(300.5 * scale) + 4, round((380.5 - radius) * scale)]
        assert (ring > 120).all(-1).any(), radius  # the photograph is 90


@pytest.mark.photographs
def test_vessels_of_real_photographs_are_as_vessels_are(fundus):
    """Calibres of 60 to 200 micrometres are 1 to 8 pixels here; trees are nearly straight, between lines and planes."""
    records = [r for r in load_index(fundus, "val") if any(mask.structure == "vessel" for mask in r.masks)]
    assert records
    for record in records[:8]:
        image, masks = load(record)
        values, _ = measure_retina(masks, find_field_of_view(image))
        assert 1 < values["vessel_width_mean_px"] < 8 and 1 < values["vessel_tortuosity"] < 1.1, record.image
        assert 1.1 < values["vessel_fractal_dimension"] < 1.7, record.image
