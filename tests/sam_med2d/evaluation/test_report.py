"""report.md: its sections, from the summary alone."""

import math

import pytest

from sam_med2d.evaluation.case_row import CEILING
from sam_med2d.evaluation.report import number, write_report
from sam_med2d.evaluation.summary import summarise
from tests.helpers.case_rows import case_row

RUN = {"images": 3, "failed": [], "fps": 4.0, "fps_covers": "images per second", "windows": "", "nsd_tolerance": 2.0}
RUN |= {"preprocessing": {"image_size": 64}}


def make_report(folder, metrics=("dice", "hd95"), **flags) -> str:
    rows = []
    for i in range(3):
        place = {"image": f"{i}.jpg", "data_set": "d", "prompt": "structure", "ceiling": 0.9}
        scores = {"dice": 0.25 * (i + 1), "hd95": 2.0 * i}
        rows.append(case_row(place | scores | {"mask": f"{i}_vessel.png", "structure": "vessel"}))
        nothing = dict.fromkeys(scores, math.nan) | {"ceiling": math.nan, "absent": True, "predicted_area": i}
        rows.append(case_row(place | nothing | {"mask": f"no {i}", "structure": "exudate"}))
    flags = {"run_name": "demo", "data_path": ["a", "b"], "sam_checkpoint": "w", "metrics": list(metrics)} | flags
    summary = summarise(rows, [*metrics, CEILING]) | RUN | {"flags": flags}
    write_report(folder / "report.md", summary, ["boxes.png"])
    return (folder / "report.md").read_text()


def test_the_sections_of_a_report(tmp_path):
    text = make_report(tmp_path)
    assert text.startswith("# demo\n\nData: a, b. Weights: w.\n") and "over the 3 photographs" in text
    assert "| demo | 64x64 | 50.00 | 4.0 |" in text
    assert "| Structure | Masks | structure | Resolution limit |" in text and "Resolution limit: Dice of the" in text
    assert "## HD95 in pixels by structure" in text and "| vessel | 3 | 2.00 [" in text
    assert text.endswith("## Pictures\n\n![boxes](boxes.png)\n")


def test_false_positives_are_those_of_photographs_without_the_structure(tmp_path):
    section = make_report(tmp_path).split("## False positives on photographs without the structure")[1]
    assert "| exudate | 3 | 66.67 [" in section and "vessel" not in section


def test_a_report_without_dice_leads_with_the_first_metric(tmp_path):
    text = make_report(tmp_path, ("hd95",), data_path="a")
    assert "## HD95 in pixels\n" in text and "Data: a." in text and "Resolution limit" not in text


@pytest.mark.parametrize(
    ("value", "metric", "text"), [(0.5, "dice", "50.00"), (3.25, "hd95", "3.25"), (math.nan, "nsd", "-")]
)
def test_numbers_are_in_percent_or_pixels(value, metric, text):
    assert number(value, metric) == text
