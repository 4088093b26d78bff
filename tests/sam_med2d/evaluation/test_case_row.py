"""A row of an evaluation: its columns, and back from a journal's JSON."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import pytest

from sam_med2d.evaluation.case_row import CEILING, CaseRow
from tests.helpers.case_rows import case_row

PLACE = {"mask": "a_vessel_000.png", "image": "a.jpg", "data_set": "d", "structure": "vessel", "prompt": "box"}
ROW = case_row(PLACE | {"hd95": 3.5, "dice": 0.5, "presence": 0.9})


def test_columns_are_in_the_order_of_cases_csv():
    columns = list(replace(ROW, ceiling=0.8, seconds=0.1).as_columns())
    assert columns[:7] == [*PLACE, "hd95", "dice"]
    assert columns[7:12] == ["predicted_iou", "area", "vanished", "predicted_area", "presence"]
    assert columns[12:] == ["absent", "ceiling", "missed", "seconds"]


def test_what_was_not_computed_has_no_column():
    assert not {"ceiling", "seconds"} & ROW.as_columns().keys()


@pytest.mark.parametrize("more", [{}, {"ceiling": 0.75, "seconds": 1 / 3}])
def test_a_row_returns_from_json(more):
    row = replace(ROW, scores={"dice": 1 / 3, "vcdr": math.nan}, **more)
    again = CaseRow.from_columns(json.loads(json.dumps(row.as_columns())))
    assert json.dumps(again.as_columns()) == json.dumps(row.as_columns())
    assert again.scores["dice"] == 1 / 3 and math.isnan(again.score("vcdr"))


def test_the_ceiling_is_read_like_a_score():
    assert replace(ROW, ceiling=0.75).score(CEILING) == 0.75 and ROW.score("dice") == 0.5
    for metric in (CEILING, "nsd"):
        with pytest.raises(KeyError):
            ROW.score(metric)


def test_a_row_cannot_be_changed_and_needs_its_columns():
    with pytest.raises(FrozenInstanceError):
        ROW.mask = "b.png"
    with pytest.raises(TypeError, match="mask"):
        CaseRow.from_columns({name: value for name, value in ROW.as_columns().items() if name != "mask"})
