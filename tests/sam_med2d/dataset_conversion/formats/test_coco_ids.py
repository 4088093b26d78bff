"""Ids in COCO files: fixed ones, those of names that are not listed, and those of a given file."""

import json
from pathlib import Path

import pytest

from sam_med2d.dataset_conversion.formats.coco_ids import ids_of_file, own_ids
from sam_med2d.errors import DataError, UsageError

FIXED = {"optic_disc": 1, "optic_cup": 2, "vessel": 3, "artery": 4, "vein": 5}
FIXED |= {"microaneurysm": 6, "haemorrhage": 7, "hard_exudate": 8, "soft_exudate": 9}


def write(path: Path, images: list[dict], names: dict[int, str]) -> Path:
    categories = [{"id": number, "name": name} for number, name in names.items()]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return path


def test_each_structure_has_its_id_whatever_else_is_there():
    assert own_ids([], FIXED).categories == FIXED
    for name, number in FIXED.items():
        assert own_ids([], [name]).categories == {name: number}
    assert own_ids([], ["Optic Disc"]).categories == {"Optic Disc": 1}
    assert own_ids([], ["drusen", "object"]).categories == {"drusen": 1995405417, "object": 1452111044}
    assert [category["name"] for category in own_ids([], ["vein", "cup"]).listed_categories()] == ["cup", "vein"]


def numbers_of(*paths: str, content: str = "digest") -> list[int | str]:
    """Ids of photographs of one file."""
    ids = own_ids([Path(path) for path in paths], [])
    return [ids.image(Path(path), content) for path in paths]


def test_a_photograph_has_its_id_wherever_it_lies():
    [number] = numbers_of("/clinic/eye.jpg")
    assert number == 7789825920998448
    assert numbers_of("/other/images/eye.jpg", "/other/images/b.jpg")[0] == number < 2**53
    sides = [f"/{root}/{side}/eye.jpg" for root in ("a", "b") for side in ("left", "right")]
    assert numbers_of(*sides[:2]) == numbers_of(*sides[2:])
    assert len({number, *numbers_of(*sides)}) == 5


def test_two_photographs_of_one_name_have_two_ids():
    """In two files, where the other one is not known."""
    assert numbers_of("/a/eye.jpg", content="one") != numbers_of("/b/eye.jpg", content="another")


def test_what_would_have_one_id_is_refused():
    with pytest.raises(DataError, match=r"Optic Disc and optic_disc would have the same COCO category id"):
        own_ids([], ["optic_disc", "vessel", "Optic Disc"])
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.jpg would have the same COCO image id"):
        own_ids([Path("/x/a.jpg"), Path("/x/../x/a.jpg")], [])


def test_ids_of_a_file(tmp_path):
    images = [
        {"id": 40, "file_name": "left/eye.png", "width": 9, "height": 7},
        {"id": "r", "file_name": "C:\\photos\\right\\eye.png"},
        {"id": 3, "file_name": "far/third.png"},
    ]
    file = write(tmp_path / "gt.json", images, {12: "Optic Disc", 5: "vessel"})
    paths = [tmp_path / name for name in ("left/eye.png", "right/eye.png", "third.png")]
    ids = ids_of_file(file, paths, ["vessel", "optic_disc"])
    assert [ids.image(path, "digest") for path in paths] == [40, "r", 3]
    assert ids.categories == {"optic_disc": 12, "vessel": 5}
    ids.check_size(paths[0], (7, 9))
    with pytest.raises(UsageError, match=r"eye.png has 7 x 9 pixels, and 9 x 7 in that file"):
        ids.check_size(paths[0], (9, 7))


def test_names_that_are_not_in_the_file_once_are_listed(tmp_path):
    images = [{"id": i, "file_name": name} for i, name in enumerate(("a/eye.png", "b/eye.png", "one.png"))]
    file = write(tmp_path / "gt.json", images, {1: "vessel", 2: "Vessel"})
    with pytest.raises(UsageError) as error:
        ids_of_file(file, [tmp_path / "eye.png", tmp_path / "none.png"], ["vessel", "drusen"])
    for part in (f"2 images fit {tmp_path / 'eye.png'}", f"0 images fit {tmp_path / 'none.png'}"):
        assert part in str(error.value)
    for part in ("--coco_gt", "0 categories are called drusen", "2 categories are called vessel"):
        assert part in str(error.value)
    with pytest.raises(UsageError, match=r"its image one.png fits 2 of the photographs"):
        ids_of_file(file, [tmp_path / "x/one.png", tmp_path / "y/one.png"], [])
