"""JSON files of annotation programs."""

import json
from pathlib import Path
from typing import Any

from sam_med2d.errors import DataError


def read_json(path: Path) -> Any:
    """Content of a file. Raises DataError where it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
