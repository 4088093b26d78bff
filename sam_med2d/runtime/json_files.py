"""JSON files of results, which other programs read: NaN, which is no JSON, becomes null."""

import json
import math
from pathlib import Path
from typing import Any

from segment_anything.utils.atomic import write_text


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, atomically.

    Args:
        path: the file.
        content: JSON values and NaN.
    """
    write_text(path, json.dumps(_without_nan(content), indent=1) + "\n")


def _without_nan(value: Any) -> Any:
    """The value with None for each NaN in it."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
