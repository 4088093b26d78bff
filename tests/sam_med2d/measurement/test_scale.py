"""Scales of photographs: where they come from, which wins, and what the axial length does to them."""

from pathlib import Path

import pytest

from sam_med2d.errors import DataError, UsageError
from sam_med2d.measurement.scale import Scale, Scales, for_axial_length
from sam_med2d.notes import REMARKS

SPACING = {"image": "images/a.png", "pixel_spacing_x": "0.012", "pixel_spacing_y": "0.012"}


def scales(tmp_path: Path, text: str, **more) -> Scales:
    (tmp_path / "scales.csv").write_text(text)
    return Scales(tmp_path / "scales.csv", **more)


def test_a_table_in_mm_or_um(tmp_path):
    for head, cell in (("mm_per_pixel", "0.0065"), ("um_per_pixel", "6.5"), ("MM_per_pixel".lower(), " 0.0065 ")):
        found = scales(tmp_path, f"image,{head}\nphotos/a.png,{cell}\nphotos/b.png,\n")
        scale = found.of(tmp_path / "photos/a.png", {})
        assert scale.mm_per_pixel == pytest.approx(0.0065) and scale.source == "--scale_csv"
        assert found.of(tmp_path / "photos/b.png", {}) is None and found.of(tmp_path / "photos/c.png", {}) is None


def test_a_photograph_is_found_by_its_name_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").touch()
    assert scales(tmp_path, "image,mm_per_pixel\na,0.01\n").of(tmp_path / "photos/a.png", {}).mm_per_pixel == 0.01


def test_the_table_comes_before_the_spacing_of_dicom_files(tmp_path):
    found = scales(tmp_path, "image,mm_per_pixel\na.png,0.01\n")
    assert found.of(tmp_path / "a.png", SPACING) == Scale(0.01, "--scale_csv")
    assert found.of(tmp_path / "b.png", SPACING) == Scale(0.012, "index.csv")
    assert Scales().of(tmp_path / "b.png", SPACING) == Scale(0.012, "index.csv")
    assert Scales(None, 0.02).of(tmp_path / "b.png", SPACING) == Scale(0.02, "--mm_per_pixel")
    assert Scales().of(tmp_path / "b.png", {}) is None


def test_pixels_that_are_not_square_give_no_scale(tmp_path, caplog):
    REMARKS.forget()
    assert Scales().of(tmp_path / "a.png", SPACING | {"pixel_spacing_x": "0.02"}) is None
    assert "not square: nothing in mm: images/a.png (0.02 by 0.012 mm)" in caplog.text


def test_bennetts_formula():
    """k' = axial length - 1.82 mm (Bennett, Rudnicka and Edgar 1994): 21 and 28 mm against 24 mm."""
    assert for_axial_length(0.01, 24, 24) == 0.01
    assert for_axial_length(0.01, 24, 21) / 0.01 == pytest.approx(19.18 / 22.18)
    assert for_axial_length(0.01, 24, 28) / 0.01 == pytest.approx(26.18 / 22.18)


def test_the_axial_length_corrects_any_scale(tmp_path):
    text = "image,axial_length\na.png,28\nb.png,\n"
    found = scales(tmp_path, text, axial_length=24)
    scale = found.of(tmp_path / "a.png", SPACING)
    assert scale.mm_per_pixel == pytest.approx(0.012 * 26.18 / 22.18) and scale.source == "index.csv, axial_length"
    assert found.of(tmp_path / "b.png", SPACING) == Scale(0.012, "index.csv")
    with pytest.raises(DataError, match="axial_length of a.png: say with --scale_axial_length for which eye"):
        scales(tmp_path, text).of(tmp_path / "a.png", SPACING)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo,mm_per_pixel\na.png,1\n", "has the columns photo, mm_per_pixel: head them image and mm_per_pixel"),
        ("image,scale\na.png,1\n", "has the columns image, scale: head them image and mm_per_pixel, um_per_pixel or"),
        ("image,mm_per_pixel,um_per_pixel\na.png,1,1\n", "mm_per_pixel and um_per_pixel: leave one out"),
        ("image,mm_per_pixel\na.png,1\na.png,1\n", "has several rows of a.png: leave one"),
        ("image,mm_per_pixel\na.png,1\na.png,2\n", "line 3: line 2 is of a.png, too: join them"),
        ("image,mm_per_pixel\na.png,1\n./a.png,2\n", "line 3: line 2 is of ./a.png, too: join them"),
        ("image,mm_per_pixel,MM per pixel\na.png,1,2\n", "has the column mm_per_pixel several times: join them"),
    ],
)
def test_tables_that_can_mean_two_things_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        scales(tmp_path, text)


def test_rows_that_find_the_same_photograph_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").touch()
    for cells in ("a.png,0.01\na,0.02\n", "photos/a.png,0.01\na.png,0.02\n"):
        with pytest.raises(DataError, match=r"line [23]: line [23] is of .*photos/a.png, too: join them"):
            scales(tmp_path, f"image,mm_per_pixel\n{cells}").of(tmp_path / "photos/a.png", {})
    assert scales(tmp_path, "image,mm_per_pixel\na.png,0.01\na,0.01\n").of(tmp_path / "photos/a.png", {})


def test_headings_in_any_case(tmp_path):
    text = "Image;MM per Pixel;Axial_Length\na.png;0.01;28\n"
    found = scales(tmp_path, text, axial_length=24).of(tmp_path / "a.png", {})
    assert found == Scale(pytest.approx(0.01 * 26.18 / 22.18), "--scale_csv, axial_length")


def test_sizes_that_no_pixel_on_the_retina_has(tmp_path, caplog):
    for head, cell, limits in (("mm", "6.5", "0.0005 to 0.25"), ("um", "0.0065", "0.5 to 250")):
        with pytest.raises(DataError, match=f"{head}_per_pixel of a.png is {cell}: give the size on .*, {limits}"):
            scales(tmp_path, f"image,{head}_per_pixel\na.png,{cell}\n").of(tmp_path / "a.png", {})
    with pytest.raises(UsageError, match="--mm_per_pixel 6.5: give mm on the retina, 0.0005 to 0.25"):
        Scales(mm_per_pixel=6.5)
    REMARKS.forget()
    assert Scales().of(tmp_path / "a.png", dict.fromkeys(SPACING, "1") | {"image": "a.png"}) is None
    assert "a size that none on the retina has: nothing in mm: a.png (1 mm)" in caplog.text


def test_what_a_scale_lacks_is_told(tmp_path, capsys):
    with pytest.raises(UsageError, match="--scale_axial_length 24: .* in a column axial_length"):
        Scales(mm_per_pixel=0.01, axial_length=24)
    with pytest.raises(UsageError, match="--scale_axial_length 24: .* in a column axial_length"):
        scales(tmp_path, "image,mm_per_pixel\na.png,0.01\n", axial_length=24)
    found = scales(tmp_path, "image,mm_per_pixel,axial_length\na.png,0.01,28\nb.png,0.01,\n", axial_length=24)
    assert found.of(tmp_path / "a.png", {}) and found.of(tmp_path / "b.png", {})
    found.tell_unused(0, 2)
    assert "note: 1 photographs have no axial_length: their scale is taken as it is told" in capsys.readouterr().out
    found = scales(tmp_path, "image,axial_length\na.png,28\n", axial_length=24)
    assert found.of(tmp_path / "a.png", {}) is None
    found.tell_unused(1, 1)
    assert "note: 1 of 1 photographs have no scale" in capsys.readouterr().out
    with pytest.raises(DataError, match="mm_per_pixel of a.png is 0,01: give a positive number with a decimal point"):
        scales(tmp_path, "image;mm_per_pixel\na.png;0,01\n").of(tmp_path / "a.png", {})


@pytest.mark.parametrize("cell", ["0", "-1", "inf", "nan", "a", "0;01"])
def test_cells_that_are_no_scale_are_refused(tmp_path, cell):
    found = scales(tmp_path, f"image,mm_per_pixel\na.png,{cell}\n")
    with pytest.raises(DataError, match=f"mm_per_pixel of a.png is {cell}: give a positive number"):
        found.of(tmp_path / "a.png", {})


def test_axial_lengths_of_no_eye_are_refused(tmp_path):
    with pytest.raises(DataError, match="axial_length of a.png is 2.4: give mm, from 15 to 40"):
        scales(tmp_path, "image,axial_length\na.png,2.4\n", axial_length=24).of(tmp_path / "a.png", SPACING)
    with pytest.raises(UsageError, match="--scale_axial_length 2.4: give mm, from 15 to 40"):
        Scales(axial_length=2.4)


def test_flags_that_contradict_each_other(tmp_path):
    with pytest.raises(UsageError, match="--scale_csv and --mm_per_pixel: give the scale once"):
        scales(tmp_path, "image,mm_per_pixel\na.png,1\n", mm_per_pixel=0.01)
    with pytest.raises(UsageError, match="--scale_csv: .*absent.csv is no file"):
        Scales(tmp_path / "absent.csv")
