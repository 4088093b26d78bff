"""Rows of an evaluation, made by hand."""

import math
from typing import Any

from sam_med2d.evaluation.case_row import CaseRow

USUAL = {"predicted_iou": 0.5, "area": 7, "vanished": False, "predicted_area": 7, "presence": math.nan}
USUAL |= {"absent": False, "missed": False}


def case_row(columns: dict[str, Any]) -> CaseRow:
    """The row of some columns; those that a test does not care for have usual values."""
    return CaseRow.from_columns(USUAL | columns)
