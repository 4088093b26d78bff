"""index.csv is read in one way, whoever asks."""

from pathlib import Path

import pytest

from sam_med2d.data.index_table import ABSENT, DATA_SET, PATIENT, IndexTable, IndexTables
from sam_med2d.errors import DataError


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "index.csv").write_text(text, encoding="utf-8")
    return folder


def test_all_columns_and_rows_are_kept(tmp_path):
    table = IndexTable.read(write(tmp_path, '\ufeffimage,dataset,note\n"a, b.png",x,1\n\nc.png,y\n'))
    assert table.columns == ["image", "dataset", "note"]
    rows = [
        {"image": "a, b.png", "dataset": "x", "note": "1"},
        {"image": "c.png", "dataset": "y", "note": ""},
    ]
    assert table.rows == rows
    assert table.by_image() == {str(tmp_path / row["image"]): row for row in rows}


def test_a_folder_without_a_table_has_an_empty_one(tmp_path):
    table = IndexTable.read(tmp_path)
    assert (table.columns, table.rows, table.by_image()) == ([], [], {})


def test_the_map_s_folder_comes_before_the_data_set_s(tmp_path):
    data = write(tmp_path / "data", "image,dataset,absent\nimages/a.png,clinic,drusen\n")
    maps = write(tmp_path / "maps", "image,patient\n../data/images/a.png,7\n")
    find = IndexTables().find
    assert find(data / "images/a.png", maps, PATIENT)[DATA_SET] == "maps"
    assert find(data / "images/a.png", maps, (ABSENT,)) == {
        "image": "images/a.png",
        "dataset": "clinic",
        "absent": "drusen",
    }
    assert find(data / "images/b.png", maps, PATIENT) == {}


@pytest.mark.parametrize("content", [b"image\n\xe9\n", b'image\n"a\n', b"image\n" + b"x" * 200_000])
def test_what_is_no_table_is_named(tmp_path, content):
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.csv cannot be read as a table \(.*save it as CSV UTF-8"):
        IndexTable.read(tmp_path)
