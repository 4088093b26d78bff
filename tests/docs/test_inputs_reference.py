"""docs/reference/inputs.md says what the commands make of each form of photograph; none is read wrong silently."""

import pytest

from docs.make_inputs_reference import PAGE
from tests.helpers.input_table import WRONG, render


@pytest.mark.slow
def test_the_page_is_up_to_date():
    page = render()
    assert WRONG not in page, "\n".join(line for line in page.splitlines() if WRONG in line)
    assert PAGE.read_text(encoding="utf-8") == page, "run: python docs/make_inputs_reference.py"
