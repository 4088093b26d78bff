"""index.csv is read in one way, whoever asks."""

import json
import re
from pathlib import Path

import pytest

from sam_med2d.data.index_table import ABSENT, DATA_SET, PATIENT, IndexTable, IndexTables, listed_structures
from sam_med2d.data.records import load_index
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS


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
    assert [table.find(tmp_path / row["image"]) for row in rows] == rows


def test_a_folder_without_a_table_has_an_empty_one(tmp_path):
    table = IndexTable.read(tmp_path)
    assert (table.columns, table.rows, table.find(tmp_path / "a.png")) == ([], [], {})


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


# spellings of one table, in which healthy.png lacks drusen and hard_exudate
SPELLINGS = {
    "documented": "image,dataset,absent\nimages/healthy.png,clinic,drusen hard_exudate\n",
    "semicolons": "image;dataset;absent\nimages/healthy.png;clinic;drusen hard_exudate\n",
    "tabs": "image\tdataset\tabsent\nimages/healthy.png\tclinic\tdrusen hard_exudate\n",
    "Excel's first line": "sep=;\nimage;dataset;absent\nimages/healthy.png;clinic;drusen, hard_exudate\n",
    "headings in another case": "Image,DataSet,ABSENT\nimages/healthy.png,clinic,drusen hard_exudate\n",
    "headings with spaces": " image , dataset , absent\n images/healthy.png , clinic , drusen hard_exudate \n",
    "quotes after spaces": 'image, dataset, absent\n"images/healthy.png", "clinic", "drusen, hard_exudate"\n',
    "without the folder": "image,dataset,absent\nhealthy.png,clinic,drusen hard_exudate\n",
    "without the suffix": "image,dataset,absent\nhealthy,clinic,drusen hard_exudate\n",
    "with a dot": "image,dataset,absent\n./images/healthy.png,clinic,drusen hard_exudate\n",
    "back-slashes": "image,dataset,absent\nimages\\healthy.png,clinic,drusen hard_exudate\n",
    "another machine": "image,dataset,absent\nC:\\set\\images\\healthy.png,clinic,drusen hard_exudate\n",
    "without the data set": "image,absent\nimages/healthy.png,drusen hard_exudate\n",
    "an empty data set": "image,dataset,absent\nimages/healthy.png,,drusen hard_exudate\n",
    "other columns between": "age;image;absent;note\n7;images/healthy.png;drusen hard_exudate;\n;;;\n",
    "a list with commas": 'image,dataset,absent\nimages/healthy.png,clinic,"drusen,hard_exudate"\n',
    "a list without quotes": "image,dataset,absent\nimages/healthy.png,clinic,drusen,hard_exudate\n",
    "a list with semicolons, without quotes": "image;dataset;absent\nimages/healthy.png;clinic;drusen;hard_exudate;\n",
    "a list with semicolons": "image,dataset,absent\nimages/healthy.png,clinic,drusen; hard_exudate;\n",
    "a list of Python": "image;absent\nimages/healthy.png;\"['drusen', 'hard_exudate']\"\n",
    "another case of structures": "image,absent\nimages/healthy.png,Drusen Hard-Exudate\n",
    "a structure of two words": "image;absent\nimages/healthy.png;drusen, hard exudate\n",
    "line ends of Windows": "image;absent\r\nimages/healthy.png;drusen hard_exudate\r\n",
    "decimal commas": "orig_w;image;absent\n12,5;images/healthy.png;drusen hard_exudate\n",
    "lines that end early": "image;absent;note\nimages/eye.png\nimages/healthy.png;drusen hard_exudate\n",
}
# tables that are refused, and what of each is named
REFUSED = {
    "image,image,absent\na.png,b.png,x\n": "has the column image several times",
    "Image;image;absent\na.png;b.png;x\n": "has the column image several times",
    "patient\n7\n": r"has no column image \(patient\)",
    "photo;absent\nimages/healthy.png;drusen\n": r"has no column image \(photo, absent\)",
    "image,absent,note\nimages/healthy.png,drusen,exudate,x\n": "line 2: it has 4 cells, the headings are 3",
    "image,absent\nimages/eye.png,\n,drusen\n": "line 3: it names no image",
    "image,absent\nimages/healthy.png,drusen\nimages/healthy.png,exudate\n": "line 3: line 2 is of images/healthy.png",
    "sep=;\nimage;note\nimages/healthy.png;a;b\n": "line 3: it has 3 cells, the headings are 2",
}


@pytest.fixture
def clinic(tmp_path) -> Path:
    """A data set with a photograph that has masks, and a healthy one."""
    for name in ("images/eye.png", "images/healthy.png", "masks/eye_drusen_000.png", "masks/eye_hard_exudate_000.png"):
        (tmp_path / "clinic" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clinic" / name).touch()
    masks = ["masks/eye_drusen_000.png", "masks/eye_hard_exudate_000.png"]
    content = json.dumps({"images/eye.png": masks, "images/healthy.png": []})
    (tmp_path / "clinic/image2label_train.json").write_text(content)
    return tmp_path / "clinic"


def test_every_spelling_of_a_table_is_read(clinic, caplog):
    wrong = {}
    for what, text in SPELLINGS.items():
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            (clinic / "index.csv").write_bytes(text.encode(encoding))
            records = load_index(clinic, "train", without_masks=True)
            if [(one.data_set, one.absent) for one in records] != [
                ("clinic", ()),
                ("clinic", ("drusen", "hard_exudate")),
            ]:
                wrong[what, encoding] = records
    assert not wrong and not caplog.text


def test_what_can_mean_two_things_is_named_with_its_line(clinic):
    wrong = []
    for text, says in REFUSED.items():
        (clinic / "index.csv").write_text(text)
        with pytest.raises(DataError) as raised:
            load_index(clinic, "train")
        wrong += [(text, raised.value)] if not re.search(rf"index\.csv.*{says}", str(raised.value)) else []
    assert not wrong


def test_a_name_that_two_photographs_have_is_named(clinic):
    (clinic / "other").mkdir()
    (clinic / "other/healthy.png").touch()
    (clinic / "image2label_train.json").write_text('{"images/healthy.png": [], "other/healthy.png": []}')
    (clinic / "index.csv").write_text("image,absent\nhealthy.png,drusen\n")
    with pytest.raises(DataError, match=r"line 2: healthy.png may be .*images/healthy.png or .*other/healthy.png"):
        load_index(clinic, "train")


def test_rows_whose_photograph_is_not_there_are_told(clinic, caplog):
    (clinic / "index.csv").write_text("image,absent\nimages/gone.png,drusen\nhealthy.png,drusen\nlost,drusen\n")
    assert load_index(clinic, "train", without_masks=True)[1].absent == ("drusen",)
    assert "rows of photographs that are not there are not used" in caplog.text
    assert "line 2: images/gone.png, line 4: lost" in caplog.text


def test_slips_in_headings_and_in_absent_structures_are_told(clinic, caplog):
    wrong = []
    for text, expected in (
        ("image,absents\nhealthy.png,drusen\n", "absents (is absent meant?)"),
        ("image,absent,Patients\nhealthy.png,drusen,4\n", "Patients (is patient meant?)"),
        ("image,absent,data_set\nhealthy.png,drusen,a\n", "data_set (is dataset meant?)"),
        ("image,absent,patient,patient_id\nhealthy.png,drusen,4,5\n", None),
        ("image,absent,patient_age,images_seen\nhealthy.png,drusen,40,1\n", None),
        ("image,absent\nhealthy.png,drusen\n", None),
        ("image,absent\nhealthy.png,drusens\n", "drusens, and masks show drusen"),
        ("image,absent\nhealthy.png,haemorrhage\n", None),
    ):
        (clinic / "index.csv").write_text(text)
        caplog.clear()
        REMARKS.forget()
        load_index(clinic, "train", without_masks=True)
        wrong += [] if (expected in caplog.text if expected else not caplog.text) else [(text, caplog.text)]
    assert not wrong


def test_a_row_may_give_the_path_from_the_current_folder(clinic, caplog, monkeypatch):
    """As a map may, whose paths are copied into tables."""
    monkeypatch.chdir(clinic.parent)
    (clinic / "index.csv").write_text("image,absent\nclinic/images/healthy.png,drusen\nclinic\\images\\eye.png,\n")
    assert load_index("clinic", "train", without_masks=True)[1].absent == ("drusen",)
    assert not caplog.text


def test_a_table_of_something_else_is_left_alone(clinic, caplog):
    (clinic / "index.csv").write_text("name,size\nimages/healthy.png,3\n")
    assert [record.absent for record in load_index(clinic, "train", without_masks=True)[:1]] == [()]
    assert "a table without a column image is not used" in caplog.text and "name, size" in caplog.text


def test_lists_of_structures():
    known = {"hard_exudate", "Drusen"}
    lists = {
        "": [],
        "-": [],
        "none": [],
        "a b": ["a", "b"],
        "a, b;c": ["a", "b", "c"],
        "drusen": ["Drusen"],
        "hard exudate": ["hard_exudate"],
        "hard exudate drusen": ["hard", "exudate", "Drusen"],
        "drusen hard_exudate,": ["Drusen", "hard_exudate"],
        "drusen hard_exudate, x": ["Drusen", "hard_exudate", "x"],
        "cotton wool, x": ["cotton_wool", "x"],
        "a a": ["a"],
    }
    assert {cell: listed_structures(cell, known) for cell in lists} == lists
