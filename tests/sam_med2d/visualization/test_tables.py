"""Tables as Markdown and as CSV."""

import csv
import math

import pytest

from sam_med2d.visualization.tables import markdown_table, write_csv


def test_a_markdown_table():
    table = markdown_table(["Structure", "Dice"], [["vessel", "0.8"], ["all", "-"]])
    assert table.splitlines() == ["| Structure | Dice |", "| --- | --- |", "| vessel | 0.8 |", "| all | - |"]


def test_a_csv_file_to_the_byte(tmp_path):
    rows = [{"a": 1, "b": 1 / 3}, {"b": math.nan, "a": 'x, "y"\nz'}, {"a": True}, {"b": None}]
    write_csv(tmp_path / "new" / "t.csv", ["a", "b"], iter(rows))
    content = (tmp_path / "new" / "t.csv").read_bytes()
    assert content == b'a,b\n1,0.3333333333333333\n"x, ""y""\nz",nan\nTrue,\n,\n'
    with (tmp_path / "new" / "t.csv").open(newline="") as file:
        assert [row["a"] for row in csv.DictReader(file)] == ["1", 'x, "y"\nz', "True", ""]


def test_a_table_that_fails_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "t.csv"
    write_csv(path, ["a"], [{"a": 1}])
    with pytest.raises(ValueError, match="'c'"):
        write_csv(path, ["a"], [{"a": 2}, {"c": 3}])
    assert path.read_bytes() == b"a\n1\n" and list(tmp_path.iterdir()) == [path]
