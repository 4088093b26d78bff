"""One finder of photographs: what has the name of one, in a folder and below it."""

from sam_med2d.data.mask_folder import records_in
from sam_med2d.data.photographs import SUFFIXES, find_photographs, photographs_in
from sam_med2d.dataset_conversion.formats.folder_layout import is_picture

OTHERS = (".hidden.png", "notes.txt", "map.json", "mask.gif", "noext")


def test_photographs_of_a_folder_and_below(tmp_path):
    names = [f"eye{i}{suffix}" for i, suffix in enumerate((*SUFFIXES, ".JPG"))]
    for name in (*names, *OTHERS, "left/eye.png", "left/.cache/eye.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    own = [tmp_path / name for name in sorted(names)]
    assert photographs_in(tmp_path, below=False) == own
    assert photographs_in(tmp_path) == [*own, tmp_path / "left/eye.png"]
    assert [record.image for record in records_in(tmp_path)] == own
    assert {photograph.path for photograph in find_photographs([str(tmp_path)])} == set(photographs_in(tmp_path))


def test_whatever_is_a_photograph_is_a_picture_of_a_data_set():
    assert all(is_picture(f"eye{suffix}") and is_picture(f"eye{suffix}.gz") for suffix in (*SUFFIXES, ".gif", ".pgm"))
    assert not any(map(is_picture, ("map.json", "notes.txt", "png", "eye.png.txt")))
