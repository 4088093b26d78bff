"""What the columns of a replayed prompt file are called, and what it lacks."""

from pathlib import Path

import pytest

from sam_med2d.errors import UsageError
from sam_med2d.evaluation.batch_prediction import parse_mode
from sam_med2d.evaluation.replayed_prompts import missing_prompts, modes_for_prompts


def entry(points: int, *, box: bool = True) -> dict:
    return {"boxes": [[0, 0, 4, 4]] * box, "point_coords": [[1, 1]] * points, "point_labels": [1] * points}


MODES = [parse_mode(name) for name in ("structure", "box", "1", "3")]


@pytest.mark.parametrize(("points", "names"), [(1, ["1", "3"]), (2, ["2", "4"]), (0, ["1", "3"])])
def test_columns_count_the_points_of_the_opening(points, names):
    found = modes_for_prompts(MODES, {"a": entry(points), "vanished": entry(0)})
    assert [mode.name for mode in found] == ["structure", "box", *names]
    assert [mode.clicks for mode in found] == [mode.clicks for mode in MODES]


def test_openings_of_several_lengths_have_no_name():
    prompts = {"a": entry(1), "b": entry(3)}
    with pytest.raises(UsageError, match="its entries have 1, 3 points"):
        modes_for_prompts(MODES, prompts)
    assert modes_for_prompts(MODES[:2], prompts) == MODES[:2]


def test_only_what_a_column_needs_of_a_mask_that_is_there_is_missing():
    own = {"a": entry(1), "vanished": entry(0, box=False)}
    empty = {name: entry(0, box=False) for name in own}
    found = missing_prompts(Path("p.json"), empty, own, MODES)
    assert sorted(found) == [
        f"--prompt_path p.json: the entry of a has no {kind}" for kind in ("boxes", "point_labels")
    ]
    assert len(missing_prompts(Path("p.json"), empty, own, MODES[:2])) == 1
    assert not missing_prompts(Path("p.json"), empty, own, MODES[:1]) + missing_prompts(Path("p.json"), own, own, MODES)
