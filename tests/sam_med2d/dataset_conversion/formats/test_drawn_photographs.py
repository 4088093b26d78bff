"""What all tools' files have in common: splits of folders, photographs of one name, sizes, and what is said."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sam_med2d.dataset_conversion.dataset_spec import FoundSamples
from sam_med2d.dataset_conversion.formats.coco import COCO
from sam_med2d.dataset_conversion.formats.cvat import CVAT
from sam_med2d.dataset_conversion.formats.geojson import GEOJSON
from sam_med2d.dataset_conversion.formats.labelme import LABELME
from sam_med2d.dataset_conversion.formats.labelstudio import LABELSTUDIO
from sam_med2d.dataset_conversion.formats.via import VIA
from sam_med2d.errors import DataError
from scripts import prepare_dataset
from tests.helpers.annotation_files import SIZE, found, photograph
from tests.helpers.commands import run_command

HEIGHT, WIDTH = SIZE
FORMS = {"coco": COCO, "cvat": CVAT, "labelme": LABELME, "labelstudio": LABELSTUDIO, "via": VIA}
CORNERS = [10, 10, 20, 10, 20, 20]


def coco(path: Path, *names: str, size: tuple[Any, Any] = SIZE, label: str = "Disc") -> None:
    images = [{"id": i, "file_name": name, "height": size[0], "width": size[1]} for i, name in enumerate(names)]
    drawn = [{"id": i, "image_id": i, "category_id": 1, "segmentation": [CORNERS]} for i in range(len(names))]
    categories = [{"id": 1, "name": label}]
    path.write_text(json.dumps({"images": images, "annotations": drawn, "categories": categories}))


def cvat(path: Path, *names: str, size: tuple[Any, Any] = SIZE, label: str = "Disc") -> None:
    shape = f'<polygon label="{label}" points="10,10;20,10;20,20"/>'
    about = f'width="{size[1]}" height="{size[0]}"'
    images = (f'<image id="{i}" name="{name}" {about}>{shape}</image>' for i, name in enumerate(names))
    path.write_text(f"<annotations>{''.join(images)}</annotations>")


def labelme(path: Path, *names: str, size: tuple[Any, Any] = SIZE, label: str = "Disc") -> None:
    points = [CORNERS[i : i + 2] for i in range(0, 6, 2)]
    shape = {"label": label, "shape_type": "polygon", "points": points, "group_id": None}
    for i, name in enumerate(names):
        content = {"shapes": [shape], "imagePath": name, "imageHeight": size[0], "imageWidth": size[1]}
        path.with_name(f"{path.stem}_{i}.json").write_text(json.dumps(content))


def labelstudio(path: Path, *names: str, size: tuple[Any, Any] = SIZE, label: str = "Disc") -> None:
    value = {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": [label]}
    drawn = {"type": "polygonlabels", "original_height": size[0], "original_width": size[1], "value": value}
    tasks = [{"id": i, "data": {"image": name}, "annotations": [{"result": [drawn]}]} for i, name in enumerate(names)]
    path.write_text(json.dumps(tasks))


def via(path: Path, *names: str, label: str = "Disc") -> None:
    shape = {"name": "polygon", "all_points_x": CORNERS[::2], "all_points_y": CORNERS[1::2]}
    regions = [{"shape_attributes": shape, "region_attributes": {"type": label}}]
    path.write_text(json.dumps({name: {"filename": name, "size": 1, "regions": regions} for name in names}))


WRITE = {"coco": coco, "cvat": cvat, "labelme": labelme, "labelstudio": labelstudio, "via": via}


def offered(form: str, source: Path, *names: str, **about: Any) -> FoundSamples:
    """What is found of these names, written in one file of a tool (but labelme's)."""
    WRITE[form](source / ("a.xml" if form == "cvat" else "a.json"), *names, **about)
    return found(FORMS[form], source)


@pytest.mark.parametrize("form", FORMS)
def test_the_photographs_folders_are_the_split(form, tmp_path):
    for name in ("photos/train/a.png", "photos/test/b.png", "photos/c.png"):
        photograph(tmp_path / "in" / name)
    offer = offered(form, tmp_path / "in", "photos/train/a.png", "photos/test/b.png")
    assert {sample.name: sample.split for sample in offer.samples} == {"a": "train", "b": "test"}
    [note] = offer.notes
    assert note.startswith("1 picture(s) of SOURCE have no annotations and are left out (first: ")
    assert note.endswith("photos/c.png)")


@pytest.mark.parametrize("form", ["cvat", "coco", "labelstudio", "via"])
def test_names_without_folders_have_the_split_of_where_they_lie(form, tmp_path):
    for name in ("train/a.png", "test/b.png"):
        photograph(tmp_path / "in" / name)
    offer = offered(form, tmp_path / "in", "a.png", "b.png")
    assert {sample.name: sample.split for sample in offer.samples} == {"a": "train", "b": "test"}


@pytest.mark.parametrize("form", FORMS)
def test_photographs_of_one_name_in_two_folders(form, tmp_path):
    for name in ("left/eye.png", "right/eye.png"):
        photograph(tmp_path / "in" / name)
    names = [sample.name for sample in offered(form, tmp_path / "in", "left/eye.png", "right/eye.png").samples]
    assert names == ["left_eye", "right_eye"]


@pytest.mark.parametrize("form", ["coco", "labelme", "labelstudio"])
@pytest.mark.parametrize("kind", [str, float])
def test_sizes_are_numbers_of_any_kind(form, kind, tmp_path):
    """A photograph of another size is told, whether the file says 48, "48" or 48.0."""
    photograph(tmp_path / "in/eye.png")
    [sample] = offered(form, tmp_path / "in", "eye.png", size=(kind(HEIGHT), kind(WIDTH))).samples
    assert sample.masks[0].decode(sample.masks[0].path, SIZE).any()
    offer = offered(form, tmp_path / "in", "eye.png", size=(kind(WIDTH), kind(HEIGHT)))
    if not offer.problems:
        with pytest.raises(DataError, match=f"drawn on {HEIGHT} x {WIDTH} pixels"):
            offer.samples[0].masks[0].decode(tmp_path, SIZE)
    else:
        assert f"drawn on {HEIGHT} x {WIDTH} pixels" in offer.problems[0]


def test_labels_that_become_one_structure_are_noted(tmp_path):
    photograph(tmp_path / "in/eye.png")
    coco(tmp_path / "in/a.json", "eye.png", label="MA+")
    coco(tmp_path / "in/b.json", "eye.png", label="ma")
    merged, twice = found(COCO, tmp_path / "in").notes
    assert merged == "labels MA+, ma are all ma: see --classes"
    assert twice.startswith("1 mask(s) unite what several files draw: if persons drew the same, give one of the files")
    assert twice.endswith(f"ma of {tmp_path}/in/eye.png in {tmp_path}/in/a.json and {tmp_path}/in/b.json)")
    assert len(found(COCO, tmp_path / "in", classes="MA+=microaneurysm,ma=microaneurysm").notes) == 1


def test_tasks_with_photographs_of_one_name_each_use_their_own(tmp_path):
    for task in ("one", "two"):
        photograph(tmp_path / "in" / task / "images/eye.png")
        cvat(tmp_path / "in" / task / "annotations.xml", "eye.png" if task == "one" else "images/eye.png")
    offer = found(CVAT, tmp_path / "in")
    assert sorted(sample.image.parts[-3] for sample in offer.samples) == ["one", "two"]


def test_files_of_labelme_in_folders_like_those_below_the_root(tmp_path):
    for place in ("a", "b"):
        photograph(tmp_path / "photos" / place / "eye.png")
        (tmp_path / "in" / place).mkdir(parents=True)
        labelme(tmp_path / "in" / place / "x.json", "eye.png")
    offer = found(LABELME, tmp_path / "in", image_root=tmp_path / "photos")
    assert [sample.image.parent.name for sample in offer.samples] == ["a", "b"]


def test_one_file_may_not_list_a_photograph_twice(tmp_path):
    photograph(tmp_path / "in/eye.png")
    with pytest.raises(DataError, match=r"the images 0 and 1 are both .*eye\.png: keep one of them"):
        offered("coco", tmp_path / "in", "eye.png", "eye.png")


def test_addresses_of_local_files(tmp_path):
    names = ("a+b 1.png", "c%20d.png", "e&f.png")
    written = ("a+b 1.png", "c%2520d.png", "e%26f.png")
    for name in names:
        photograph(tmp_path / "in" / name)
    photograph(tmp_path / "in/g.png")
    addresses = [f"/data/local-files/?d={name}" for name in written] + ["https://here/g.png?token=1&d=2"]
    offer = offered("labelstudio", tmp_path / "in", *addresses)
    assert sorted(sample.image.name for sample in offer.samples) == sorted([*names, "g.png"]) and not offer.problems


def test_what_is_left_out_and_what_has_no_split_is_told(tmp_path, capsys):
    for name in ("train/a.png", "b.png", "test/c.png"):
        photograph(tmp_path / "in" / name)
    via(tmp_path / "in/v.json", "a.png", "b.png", "c.png")
    content = json.loads((tmp_path / "in/v.json").read_text())
    content["c.png"]["regions"] = []
    (tmp_path / "in/v.json").write_text(json.dumps(content))
    words = ["via", tmp_path / "in", tmp_path / "out", "--num_workers", 1, "--leave_out"]
    assert run_command(prepare_dataset, words) == 0
    printed = capsys.readouterr().out
    assert (
        "note: nothing says the split of 1 photograph(s): train (first: " in printed and "c.png has no mask" in printed
    )
    assert sorted(path.name for path in (tmp_path / "out").glob("image2label_*")) == ["image2label_train.json"]


@pytest.mark.parametrize("form", ["coco", "labelme", "geojson"])
def test_shapes_that_leave_a_photograph_whose_size_no_file_tells(form, tmp_path):
    """They were drawn in a larger copy of it."""
    photograph(tmp_path / "in/eye.png", (18, 18))
    if form == "geojson":
        ring = [CORNERS[i : i + 2] for i in (0, 2, 4, 0)]
        drawn = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
        (tmp_path / "in/eye.geojson").write_text(json.dumps({**drawn, "properties": {"classification": {"name": "x"}}}))
        problems = found(GEOJSON, tmp_path / "in").problems
    else:
        problems = offered(form, tmp_path / "in", "eye.png", size=(None, None)).problems
    assert "(20, 10) lies outside of the photograph of 18 x 18 pixels: give the file that was annotated" in problems[0]


@pytest.mark.parametrize("name", ["C:\\Users\\Test\\eye.png", "/home/test/eye.png", "file:///home/test/eye.png"])
def test_folders_on_another_machine_are_no_split(name, tmp_path):
    photograph(tmp_path / "in/eye.png")
    for form in ("via", "labelstudio", "labelme"):
        for path in (tmp_path / "in").glob("*.json"):
            path.unlink()
        [sample] = offered(form, tmp_path / "in", name).samples
        assert sample.split == "", form


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_accents_are_found_however_they_are_written(forms, tmp_path):
    on_disk, written = (unicodedata.normalize(form, "Auge \u00e4.png") for form in forms)
    path = photograph(tmp_path / "in" / on_disk)
    for form in FORMS:
        [sample] = offered(form, tmp_path / "in", f"photos/{written}" if form == "via" else written).samples
        assert sample.image == path, form
    drawn = {"type": "FeatureCollection", "features": []}
    (tmp_path / "in" / f"{written[:-4]}.geojson").write_text(json.dumps(drawn))
    assert [sample.image for sample in found(GEOJSON, tmp_path / "in").samples] == [path]


def test_what_is_left_out_counts_as_absent_and_that_is_said(tmp_path, capsys):
    for name in ("a", "b"):
        photograph(tmp_path / f"in/{name}.png")
    via(tmp_path / "in/v.json", "a.png", "b.png")
    content = json.loads((tmp_path / "in/v.json").read_text())
    content["b.png"]["regions"][0]["shape_attributes"]["all_points_x"] = [1]
    (tmp_path / "in/v.json").write_text(json.dumps(content))
    words = ["via", tmp_path / "in", tmp_path / "out", "--num_workers", 1, "--leave_out", "--missing", "absent"]
    assert run_command(prepare_dataset, words) == 0
    assert "note: --missing absent: what was left out counts as absent, too" in capsys.readouterr().out
