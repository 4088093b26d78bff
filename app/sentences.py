"""What is wrong with a request, in one sentence for the user."""

import reprlib
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError

SHORT = reprlib.Repr()  # values of a sentence
SHORT.maxstring = SHORT.maxother = 60


def sentence_of(error: RequestValidationError) -> str:
    """The first fault of a request: its field, as in clicks.0.x, its value and what it should be."""
    first, *more = error.errors()
    rest = f" (and {len(more)} more)" if more else ""
    return f"{_told(first)}{rest}."


def _told(fault: Mapping[str, Any]) -> str:
    part, *path = fault["loc"]
    if fault["type"] == "json_invalid":
        return f"The {part} is not valid JSON: {fault['ctx']['error']} at character {path[0]}"
    field = ".".join(map(str, path)) or f"the {part}"
    if fault["type"] == "missing":
        return f"{field} is missing: give it"
    return f"{field} = {SHORT.repr(fault['input'])}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
