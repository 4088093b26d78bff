"""JSON files: NaN is written as null."""

import json
import math
from pathlib import Path
from typing import Any

from segment_anything.utils.atomic import write_text


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """The summary as JSON; NaN becomes null."""
    write_text(path, json.dumps(_without_nan(summary), indent=1) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
